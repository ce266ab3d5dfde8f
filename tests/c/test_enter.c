/* pycontain-enter: a Plan's child ops in memory that is not ours. What reaches it, what it keeps open, and what it
 * refuses. Into a container it goes in tests/kernel/test_exec.py.
 */
#include "look.h"
#include "hand_plan.h"
#include "sys.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static int32_t enter;
static struct hand_plan plan;
static struct pc_process process;

static int start(struct pc_fault fault)
{
	struct pc_start_args args = {.plan_len = hand_pack(&plan), .plan = plan.bytes, .fault = fault};

	args.fds = &enter;
	args.n_fds = 1;
	args.deadline_ns = sys_now_ns() + 20000000000u;
	return pc_start(&args, &process);
}

/* sh -c `script` */
static void by_enter(const char *script)
{
	hand_begin(&plan, "/bin/sh");
	(void)hand_string(&plan, "-c");
	(void)hand_string(&plan, script);
	plan.head.argc = 3;
	plan.head.flags = PC_PLAN_ENTER;
	plan.head.n_given = plan.head.n_slots = 1;
	plan.head.enter_slot = 0;
}

static const struct pc_fault none = {0};

static void exits_with(int status)
{
	struct pc_exit ended = {0};

	CHECK_EQ(pc_reap(process.pidfd, 1, &ended), 1);
	CHECK_EQ(ended.code, CLD_EXITED);
	CHECK_EQ(ended.status, status);
	(void)close(process.pidfd);
}

static void programs_start_by_it(void)
{
	by_enter("exit 7");
	CHECK_EQ(start(none), 0);
	exits_with(7);
}

static void another_process_goes_on(void)
{
	by_enter("exit 8");
	(void)hand_op(&plan, PC_CHILD, PC_OP_FORK);
	hand_op(&plan, PC_CHILD, PC_OP_PDEATHSIG)->x = SIGKILL;
	CHECK_EQ(start(none), 0);
	exits_with(8);
}

/* Not the caller's: open without close-on-exec, as those of a program that uses us may be. */
static void nothing_is_left_open(void)
{
	int open_fd = dup(enter);

	by_enter("n=3; while [ $n -lt 100 ]; do [ ! -e /proc/$$/fd/$n ] || exit $n; n=$((n + 1)); done; exit 0");
	hand_op(&plan, PC_CHILD, PC_OP_CLOSE_FDS)->x = 3;
	CHECK_EQ(start(none), 0);
	exits_with(0);
	(void)close(open_fd);
}

static void fails_at(int err, uint32_t step)
{
	CHECK_EQ(start(none), -err);
	CHECK_EQ(process.report.step, step);
	CHECK_EQ(process.report.err, err);
	CHECK(waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno == ECHILD);
}

static void what_it_cannot_do_is_said(void)
{
	by_enter("exit 0");
	hand_op(&plan, PC_CHILD, PC_OP_HOSTNAME)->s1 = hand_string(&plan, "other");
	fails_at(EBADMSG, PC_STEP_ENTER); /* a start's op, not an exec's */
	by_enter("exit 0");
	hand_op(&plan, PC_CHILD, PC_OP_CHDIR)->s1 = hand_string(&plan, "/nowhere");
	fails_at(ENOENT, PC_STEP_OP);
	by_enter("exit 0");
	plan.head.argv_off = hand_string(&plan, "/nowhere/sh");
	plan.head.argc = 1;
	fails_at(ENOENT, PC_STEP_LOOKUP);
}

static void no_program_to_enter_by(void)
{
	int32_t kept = enter;

	enter = -1;
	by_enter("exit 0");
	fails_at(EBADF, PC_STEP_ENTER);
	enter = kept;
}

static void faults_reach_it(void)
{
	for (uint32_t op = 0; op < 3; op++) {
		by_enter("exit 0");
		hand_op(&plan, PC_CHILD, PC_OP_UMASK)->x = 022;
		(void)hand_op(&plan, PC_CHILD, PC_OP_FORK);
		hand_op(&plan, PC_CHILD, PC_OP_UMASK)->x = 022;
		CHECK_EQ(start((struct pc_fault){.kind = 1, .section = PC_CHILD, .op = op, .err = EXDEV}), -EXDEV);
		CHECK_EQ(process.report.arg, op);
		CHECK_EQ(start((struct pc_fault){.kind = 2, .section = PC_CHILD, .op = op}), -ECHILD);
		CHECK_EQ(process.report.step, PC_STEP_KILLED);
		CHECK(waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno == ECHILD);
	}
}

/* usage: test_enter PYCONTAIN-ENTER */
int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	(void)signal(SIGPIPE, SIG_IGN);
	enter = pc_sealed_copy(argv[1]);
	CHECK(enter > 2);
	by_enter("exit 0");
	CHECK_EQ(start(none), 0); /* the spawner's descriptors are open from now on */
	exits_with(0);
	int before = count_fds();
	RUN(programs_start_by_it);
	RUN(another_process_goes_on);
	RUN(nothing_is_left_open);
	RUN(what_it_cannot_do_is_said);
	RUN(no_program_to_enter_by);
	RUN(faults_reach_it);
	check_test = "the end";
	CHECK_EQ(count_fds(), before);
	CHECK(waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
	return check_result();
}
