/* pc_start from end to end with Plans made by hand, without namespaces and without root where possible.
 *
 * In fork mode: without PC_PLAN_SHARE_VM the child has a copy of our memory. A child in our own memory (CLONE_VM) would
 * write to the stack and the shadow that a sanitizer believes to be this process's alone; that path is covered by the
 * kernel tests through Python, and here in builds without a sanitizer.
 */
#include "look.h"
#include "hand_plan.h"
#include "sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct hand_plan plan;
static struct pc_process process;

static uint64_t now_ns(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int start(const struct pc_start_args *with)
{
	struct pc_start_args args = with ? *with : (struct pc_start_args){0};

	args.plan_len = hand_pack(&plan);
	args.plan = plan.bytes;
	if (args.deadline_ns == 0)
		args.deadline_ns = now_ns() + 20000000000u; /* a test must not hang */
	return pc_start(&args, &process);
}

static void failed(int err, enum pc_step step, uint32_t section, uint32_t arg)
{
	int found = start(NULL);

	CHECK_EQ(found, -err);
	CHECK_EQ(process.report.step, step);
	CHECK_EQ(process.report.err, err);
	CHECK_EQ(process.report.section, section);
	CHECK_EQ(process.report.arg, arg);
	CHECK(process.pidfd == -1 && process.gate_fd == -1 && process.tty_fd == -1);
}

static void ends_with(int code, int status)
{
	struct pc_exit ended = {0};

	CHECK_EQ(pc_reap(process.pidfd, 1, &ended), 1);
	CHECK_EQ(ended.code, code);
	CHECK_EQ(ended.status, status);
	CHECK_EQ(pc_reap(process.pidfd, 1, &ended), -ECHILD);
	(void)close(process.pidfd);
}

static void shell(const char *script)
{
	hand_begin(&plan, "/bin/sh");
	(void)hand_string(&plan, "-c");
	(void)hand_string(&plan, script);
	plan.head.argc = 3;
}

static void runs_and_ends(void)
{
	hand_begin(&plan, "/bin/true");
	hand_op(&plan, PC_CHILD, PC_OP_CHDIR)->s1 = hand_string(&plan, "/");
	hand_op(&plan, PC_CHILD, PC_OP_CLOSE_FDS)->x = 3;
	CHECK_EQ(start(NULL), 0);
	CHECK(process.pid > 0 && process.gate_fd == -1);
	CHECK(process.begun_ns <= process.prepared_ns && process.prepared_ns <= process.cloned_ns);
	CHECK(process.cloned_ns < process.execed_ns);
	ends_with(CLD_EXITED, 0);
	shell("exit 7");
	CHECK_EQ(start(NULL), 0);
	ends_with(CLD_EXITED, 7);
	shell("kill -KILL $$");
	CHECK_EQ(start(NULL), 0);
	ends_with(CLD_KILLED, SIGKILL);
}

static void environment_and_streams(void)
{
	int pair[2];
	char buf[64] = "";

	shell("printf '%s,%s' \"$A\" \"$(pwd)\"");
	plan.head.env_off = hand_string(&plan, "A=b c");
	plan.head.envc = 1;
	CHECK_EQ(pipe2(pair, O_CLOEXEC), 0);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	plan.head.n_given = plan.head.n_slots = 3;
	struct pc_op *op = hand_op(&plan, PC_CHILD, PC_OP_STDIO);
	op->slot = 0;
	op->slot2 = 1;
	op->n = 2;
	hand_op(&plan, PC_CHILD, PC_OP_CHDIR)->s1 = hand_string(&plan, "/etc");
	CHECK_EQ(start(&(struct pc_start_args){.fds = (int32_t[]){null, pair[1], null}, .n_fds = 3}), 0);
	(void)close(pair[1]);
	CHECK(read(pair[0], buf, sizeof buf - 1) > 0);
	CHECK(strcmp(buf, "b c,/etc") == 0);
	(void)close(pair[0]);
	(void)close(null);
	ends_with(CLD_EXITED, 0);
}

/* With 0 to 2 closed the report socket would be one of them, and STDIO would replace it. */
static void standard_streams_are_closed(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		hand_begin(&plan, "/bin/true");
		plan.head.n_given = plan.head.n_slots = 1;
		struct pc_op *op = hand_op(&plan, PC_CHILD, PC_OP_STDIO);
		op->slot = op->slot2 = 0;
		op->n = 0;
		int32_t null = fcntl(open("/dev/null", O_RDWR), F_DUPFD, 10);
		for (int fd = 0; fd < 3; fd++)
			(void)close(fd);
		int err = start(&(struct pc_start_args){.fds = &null, .n_fds = 1});
		struct pc_exit ended = {0};
		if (err == 0)
			err = pc_reap(process.pidfd, 1, &ended);
		_exit(err == 1 && ended.code == CLD_EXITED && ended.status == 0 ? 0 : 1);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

static void programs_that_are_none(void)
{
	char script[] = "/tmp/pycontain-script-XXXXXX";

	hand_begin(&plan, "/no/such/program");
	failed(ENOENT, PC_STEP_LOOKUP, PC_CHILD, 0);
	hand_begin(&plan, "");
	failed(ENOENT, PC_STEP_LOOKUP, PC_CHILD, 0);
	hand_begin(&plan, "/etc");
	failed(EISDIR, PC_STEP_LOOKUP, PC_CHILD, 0);
	hand_begin(&plan, "/etc/passwd");
	failed(EACCES, PC_STEP_LOOKUP, PC_CHILD, 0);
	hand_begin(&plan, "/dev/null");
	failed(EACCES, PC_STEP_LOOKUP, PC_CHILD, 0);
	int fd = mkostemp(script, O_CLOEXEC);
	CHECK_EQ(write(fd, "no program\n", 11), 11);
	CHECK_EQ(fchmod(fd, 0700), 0);
	(void)close(fd);
	hand_begin(&plan, script);
	failed(ENOEXEC, PC_STEP_EXEC, PC_CHILD, 0);
	(void)unlink(script);
}

/* Until execve /proc/self/exe is the engine: neither a program nor an interpreter may lead there (2019-5736). In an
 * interpreter's name only blank, tab and the line's end are special to the kernel: any other byte belongs to it. */
static void no_way_to_the_engine(void)
{
	static const char *const names[] = {"plain", "\303\251", "\001x", "\r"};
	char dir[] = "/tmp/pycontain-engine-XXXXXX", link[64], script[64], line[128];

	if (mkdtemp(dir) == NULL)
		abort();
	(void)snprintf(script, sizeof script, "%s/script", dir);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		(void)snprintf(link, sizeof link, "%s/%s", dir, names[i]);
		(void)snprintf(line, sizeof line, "#! %s/exe\n", link);
		CHECK_EQ(symlink("/proc/self", link), 0);
		int fd = open(script, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
		CHECK_EQ(write(fd, line, strlen(line)), strlen(line));
		(void)close(fd);
		hand_begin(&plan, script);
		failed(ELOOP, PC_STEP_LOOKUP, PC_CHILD, 0);
		CHECK_EQ(unlink(link), 0);
	}
	CHECK_EQ(unlink(script), 0);
	CHECK_EQ(rmdir(dir), 0);
	hand_begin(&plan, "/proc/self/exe");
	failed(ELOOP, PC_STEP_LOOKUP, PC_CHILD, 0);
}

static void look_up_in_path(void)
{
	hand_begin(&plan, "true");
	failed(ENOENT, PC_STEP_LOOKUP, PC_CHILD, 0); /* no PATH */
	plan.head.env_off = hand_string(&plan, "PATH=:/etc:/no/where:/usr/bin:/bin");
	plan.head.envc = 1;
	CHECK_EQ(start(NULL), 0);
	ends_with(CLD_EXITED, 0);
	hand_begin(&plan, "passwd");
	plan.head.env_off = hand_string(&plan, "PATH=/no/where:/etc");
	plan.head.envc = 1;
	failed(EACCES, PC_STEP_LOOKUP, PC_CHILD, 0);
}

/* argv[0] and the variable PATH are one string of the table: entry and name together are longer than the Plan was. */
static void argv_and_env_overlap(void)
{
	char name[700];

	memset(name, 'a', sizeof name - 1);
	memcpy(name, "PATH=", 5);
	name[sizeof name - 1] = '\0';
	hand_begin(&plan, name);
	plan.head.env_off = plan.head.argv_off;
	plan.head.envc = 1;
	CHECK_EQ(start(NULL), -ENAMETOOLONG == process.report.err ? -ENAMETOOLONG : -ENOENT);
	CHECK_EQ(process.report.step, PC_STEP_LOOKUP);
}

static void an_op_that_fails_is_named(void)
{
	hand_begin(&plan, "/bin/true");
	hand_op(&plan, PC_CHILD, PC_OP_UMASK)->x = 022;
	hand_op(&plan, PC_CHILD, PC_OP_CHDIR)->s1 = hand_string(&plan, "/no/such/directory");
	failed(ENOENT, PC_STEP_OP, PC_CHILD, 1);
	plan.ops[PC_CHILD][1].flags = PC_F_OPTIONAL;
	CHECK_EQ(start(NULL), 0);
	ends_with(CLD_EXITED, 0);
	hand_begin(&plan, "/bin/true");
	hand_op(&plan, PC_CHILD, PC_OP_SETNS)->slot = 0; /* a slot that nobody has filled */
	plan.head.n_slots = 1;
	failed(EBADF, PC_STEP_OP, PC_CHILD, 0);
}

static void faults(void)
{
	hand_begin(&plan, "/bin/true");
	hand_op(&plan, PC_CHILD, PC_OP_UMASK)->x = 022;
	CHECK_EQ(start(&(struct pc_start_args){.fault = {1, PC_CHILD, 0, EIO}}), -EIO);
	CHECK(process.report.step == PC_STEP_OP && process.report.section == PC_CHILD);
	CHECK_EQ(start(&(struct pc_start_args){.fault = {2, PC_CHILD, 0, 0}}), -ECHILD);
	CHECK_EQ(process.report.step, PC_STEP_KILLED);
}

static void slots_that_do_not_match(void)
{
	int32_t fds[2] = {0, 1};

	hand_begin(&plan, "/bin/true");
	plan.head.n_given = plan.head.n_slots = 1;
	CHECK_EQ(start(&(struct pc_start_args){.fds = fds, .n_fds = 2}), -EINVAL);
	CHECK(process.report.step == PC_STEP_SLOTS && process.report.arg == 2);
	CHECK_EQ(start(NULL), -EINVAL);
	CHECK_EQ(process.report.step, PC_STEP_SLOTS);
}

static void malformed_plans(void)
{
	struct pc_start_args args = {.plan = plan.bytes};

	hand_begin(&plan, "/bin/true");
	args.plan_len = hand_pack(&plan);
	plan.bytes[0] ^= 1;
	CHECK_EQ(pc_start(&args, &process), -EBADMSG);
	CHECK_EQ(process.report.step, PC_STEP_DECODE);
	(void)hand_pack(&plan);
	uint32_t huge = 0x7fffffff; /* header fields of an unchecked Plan must not size an allocation */
	memcpy(plan.bytes + offsetof(struct pc_plan_header, argc), &huge, sizeof huge);
	memcpy(plan.bytes + offsetof(struct pc_plan_header, total_len), &(uint32_t){UINT32_MAX}, 4);
	CHECK_EQ(pc_start(&args, &process), -EBADMSG);
	args.plan_len = 10;
	CHECK_EQ(pc_start(&args, &process), -EBADMSG);
}

/* A start that fails before it has made anything removes nothing: what lies there is someone else's. */
static void existing_directory_survives(void)
{
	char dir[] = "/tmp/pycontain-start-XXXXXX", file[64];
	struct pc_usage usage;
	struct pc_report report;

	if (mkdtemp(dir) == NULL)
		abort();
	(void)snprintf(file, sizeof file, "%s/file", dir);
	(void)close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	hand_begin(&plan, "/bin/true");
	struct pc_op *op = hand_op(&plan, PC_PREPARE, PC_OP_DIR_MAKE);
	op->s1 = hand_string(&plan, dir);
	op->x = 0700;
	hand_op(&plan, PC_FINISH, PC_OP_TREE_REMOVE)->s1 = op->s1;
	failed(EEXIST, PC_STEP_OP, PC_PREPARE, 0);
	CHECK_EQ(access(file, F_OK), 0);
	CHECK_EQ(pc_finish(plan.bytes, hand_pack(&plan), NULL, &usage, &report), 0);
	CHECK(access(dir, F_OK) < 0);
	/* and one that fails later removes what it made */
	hand_op(&plan, PC_CHILD, PC_OP_CHDIR)->s1 = hand_string(&plan, "/no/such/directory");
	failed(ENOENT, PC_STEP_OP, PC_CHILD, 0);
	CHECK(access(dir, F_OK) < 0);
}

static void gate_opens(void)
{
	struct pc_exit ended;

	hand_begin(&plan, "/bin/true");
	plan.head.flags = PC_PLAN_GATED;
	CHECK_EQ(start(NULL), 0);
	CHECK(process.gate_fd >= 0);
	CHECK_EQ(pc_reap(process.pidfd, 0, &ended), 0);
	CHECK_EQ(write(process.gate_fd, "", 1), 1);
	ends_with(CLD_EXITED, 0);
	(void)close(process.gate_fd);
}

static void gate_closed_kills(void)
{
	hand_begin(&plan, "/bin/true");
	plan.head.flags = PC_PLAN_GATED;
	CHECK_EQ(start(NULL), 0);
	(void)close(process.gate_fd);
	ends_with(CLD_EXITED, 127);
}

/* The second child was cloned while the first one's gate was open: it must not hold a copy of it. */
static void gates_are_independent(void)
{
	hand_begin(&plan, "/bin/true");
	plan.head.flags = PC_PLAN_GATED;
	hand_op(&plan, PC_CHILD, PC_OP_CLOSE_FDS)->x = 3;
	CHECK_EQ(start(NULL), 0);
	struct pc_process first = process;
	CHECK_EQ(start(NULL), 0);
	struct pc_process second = process;
	(void)close(first.gate_fd);
	process = first;
	ends_with(CLD_EXITED, 127);
	CHECK_EQ(write(second.gate_fd, "", 1), 1);
	(void)close(second.gate_fd);
	process = second;
	ends_with(CLD_EXITED, 0);
}

static void *run_one(void *result)
{
	struct hand_plan own;
	struct pc_process p;
	struct pc_exit ended = {0};

	hand_begin(&own, "/bin/true");
	struct pc_start_args args = {.plan_len = hand_pack(&own), .plan = own.bytes, .deadline_ns = now_ns() + 20000000000u};
	int err = pc_start(&args, &p);
	if (err == 0 && pc_reap(p.pidfd, 1, &ended) == 1 && ended.status == 0)
		(void)close(p.pidfd);
	else
		*(int *)result = err ? err : -1;
	return NULL;
}

static void starts_at_once(void)
{
	pthread_t threads[8];
	int results[8] = {0};

	for (int i = 0; i < 8; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, run_one, &results[i]), 0);
	for (int i = 0; i < 8; i++) {
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
		CHECK_EQ(results[i], 0);
	}
}

/* The child hangs before READY. */
static void deadline(void)
{
	uint64_t begun = now_ns();

	hand_begin(&plan, "/bin/true");
	hand_op(&plan, PC_CHILD, PC_OP_UMASK);
	/* a kind of fault that holds the child for ever; the parent is not killed since the child's memory is a copy */
	CHECK_EQ(start(&(struct pc_start_args){.fault = {4, PC_CHILD, 0, 0}, .deadline_ns = begun + 200000000}), -ETIMEDOUT);
	CHECK_EQ(process.report.step, PC_STEP_DEADLINE);
	CHECK_EQ(process.pidfd, -1);
	CHECK(now_ns() - begun < 10000000000u);
}

static void a_child_without_capabilities_cannot_be_looked_at(void)
{
	hand_begin(&plan, "/bin/sleep");
	(void)hand_string(&plan, "60");
	plan.head.argc = 2;
	plan.head.flags = PC_PLAN_GATED;
	(void)hand_op(&plan, PC_CHILD, PC_OP_CAPS);
	CHECK_EQ(start(NULL), 0);
	CHECK_EQ(peer_can_look(process.pid), 0);
	(void)close(process.gate_fd);
	ends_with(CLD_EXITED, 127);
}

/* The same ids changed in our own memory: while it lasts we are not dumpable, afterwards as before. */
static void engine_stays_dumpable(void)
{
#ifndef PC_SANITIZED
	if (geteuid() != 0) {
		SKIP("a new pid namespace needs root");
		return;
	}
	hand_begin(&plan, "/bin/true");
	plan.head.flags = PC_PLAN_SHARE_VM;
	plan.head.clone_flags = CLONE_NEWPID;
	struct pc_op *op = hand_op(&plan, PC_CHILD, PC_OP_IDS);
	op->x = op->y = 65534;
	(void)hand_op(&plan, PC_CHILD, PC_OP_CAPS);
	CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
	CHECK_EQ(start(NULL), 0);
	CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
	ends_with(CLD_EXITED, 0);
#endif
}

int main(int argc, char **argv)
{
	(void)argv;
	if (argc > 1)
		return 99; /* no_way_to_the_engine has found one: this is it, as the interpreter of a script */
	(void)signal(SIGPIPE, SIG_IGN);
	int before = count_fds();
	RUN(starts_at_once); /* first: the pool sets itself up under all of them */
	RUN(runs_and_ends);
	RUN(environment_and_streams);
	RUN(standard_streams_are_closed);
	RUN(programs_that_are_none);
	RUN(no_way_to_the_engine);
	RUN(look_up_in_path);
	RUN(argv_and_env_overlap);
	RUN(an_op_that_fails_is_named);
	RUN(faults);
	RUN(slots_that_do_not_match);
	RUN(malformed_plans);
	RUN(existing_directory_survives);
	RUN(gate_opens);
	RUN(gate_closed_kills);
	RUN(gates_are_independent);
	RUN(deadline);
	RUN(a_child_without_capabilities_cannot_be_looked_at);
	RUN(engine_stays_dumpable);
	check_test = "the end";
	CHECK_EQ(count_fds(), before);
	CHECK(waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
	return check_result();
}
