/* Ops at which the child asks its parent, and processes that take a child's place: pc_start with Plans made by hand. */
#include "look.h"
#include "hand_plan.h"
#include "sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static struct hand_plan plan;
static struct pc_process process;

/* What the callback saw, and what it is to do. */
struct caller {
	int calls;
	uint32_t what;
	int32_t pid;
	int32_t fd;
	int32_t answer;
	void (*act)(struct caller *c);
	int pipe[2];
	pid_t forked;
};

static int32_t caller_sync(void *context, uint32_t what, int32_t pid, int32_t fd)
{
	struct caller *c = context;

	c->calls++;
	c->what = what;
	c->pid = pid;
	c->fd = fd;
	if (c->act != NULL)
		c->act(c);
	return c->answer;
}

static int32_t stub = -1; /* the sealed one */

static int start_within(struct hand_plan *p, struct pc_process *out, struct caller *c, uint64_t ns)
{
	struct pc_start_args args = {.plan_len = hand_pack(p), .plan = p->bytes, .deadline_ns = sys_now_ns() + ns};

	args.fds = &stub;
	args.n_fds = p->head.n_given;

	args.sync = caller_sync;
	args.context = c;
	return pc_start(&args, out);
}

static int start(struct caller *c)
{
	return start_within(&plan, &process, c, 20000000000u);
}

static void ends_with(struct pc_process *p, int code, int status)
{
	struct pc_exit ended = {0};

	CHECK_EQ(pc_reap(p->pidfd, 1, &ended), 1);
	CHECK_EQ(ended.code, code);
	CHECK_EQ(ended.status, status);
	(void)close(p->pidfd);
}

/* A Plan whose child asks for its caller once. */
static void asking(struct hand_plan *p)
{
	hand_begin(p, "/bin/true");
	hand_op(p, PC_CHILD, PC_OP_UMASK)->x = 022;
	hand_op(p, PC_CHILD, PC_OP_SYNC)->x = PC_SYNC_CREATE_RUNTIME;
	hand_op(p, PC_CHILD, PC_OP_CLOSE_FDS)->x = 3;
}

/* One whose program the sealed stub executes, from our own memory: our end of the conversation stays open for long. */
static void asking_by_stub(struct hand_plan *p)
{
	asking(p);
	p->head.flags = PC_PLAN_SHARE_VM | PC_PLAN_STUB;
	p->head.clone_flags = CLONE_NEWPID;
	p->head.n_given = p->head.n_slots = 1;
	p->head.stub_slot = 0;
}

static bool cannot_share(void)
{
#ifdef PC_SANITIZED
	return true; /* a child in our memory writes to what the sanitizer believes to be ours alone */
#else
	if (geteuid() != 0)
		SKIP("a new pid namespace needs root");
	return geteuid() != 0;
#endif
}

static void failed(int found, int err, enum pc_step step, uint32_t arg)
{
	CHECK_EQ(found, -err);
	CHECK_EQ(process.report.step, step);
	CHECK_EQ(process.report.err, err);
	CHECK_EQ(process.report.arg, arg);
	CHECK(process.pidfd == -1 && process.tty_fd == -1 && process.gate_fd == -1);
}

static void the_caller_does_its_part(void)
{
	struct caller c = {0};

	asking(&plan);
	CHECK_EQ(start(&c), 0);
	CHECK(c.calls == 1 && c.what == PC_SYNC_CREATE_RUNTIME && c.pid == process.pid && c.fd == -1);
	ends_with(&process, CLD_EXITED, 0);
}

static void an_error_of_the_caller_ends_the_start_and_is_asked_for_once(void)
{
	struct caller c = {.answer = -ECANCELED};

	asking(&plan);
	failed(start(&c), ECANCELED, PC_STEP_OP, 1);
	CHECK_EQ(c.calls, 1);
	asking(&plan);
	struct pc_start_args nobody = {.plan_len = hand_pack(&plan), .plan = plan.bytes};
	failed(pc_start(&nobody, &process), ENOSYS, PC_STEP_OP, 1);
}

static void what_the_parent_cannot_write_is_reported(void)
{
	hand_begin(&plan, "/bin/true");
	struct pc_op *op = hand_op(&plan, PC_CHILD, PC_OP_PARENT_WRITE);
	op->s1 = hand_string(&plan, "no_such_file");
	op->s2 = hand_string(&plan, "0");
	failed(start(NULL), ENOENT, PC_STEP_OP, 0);
	op->s1 = hand_string(&plan, "oom_score_adj");
	op->s2 = hand_string(&plan, "no number");
	failed(start(NULL), EINVAL, PC_STEP_OP, 0);
}

static void kill_child(struct caller *c)
{
	(void)kill(c->pid, SIGKILL);
	struct pollfd fds = {.fd = sys_pidfd_open(c->pid, 0), .events = POLLIN};
	(void)poll(&fds, 1, 10000); /* ended, so that the answer finds nobody */
	(void)close(fds.fd);
}

static void a_child_killed_while_it_asks_is_reported(void)
{
	struct caller c = {.act = kill_child};

	asking(&plan);
	failed(start(&c), ECHILD, PC_STEP_KILLED, 0);
}

/* Most programs have not ignored SIGPIPE: an answer that nobody hears must not end them. */
static void an_unheard_answer_raises_no_signal(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		check_failures = 0;
		(void)signal(SIGPIPE, SIG_DFL);
		a_child_killed_while_it_asks_is_reported();
		_exit(check_failures != 0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

static void outlast_the_deadline(struct caller *c)
{
	(void)c;
	sys_sleep_ns(300000000);
}

/* Hooks may take as long as they like: the deadline is the child's. */
static void the_callers_own_time_does_not_count(void)
{
	struct caller c = {.act = outlast_the_deadline};

	asking(&plan);
	CHECK_EQ(start_within(&plan, &process, &c, 200000000), 0);
	ends_with(&process, CLD_EXITED, 0);
}

static int has_ended(pid_t pid)
{
	struct pollfd fds = {.fd = sys_pidfd_open(pid, 0), .events = POLLIN};
	int ended = fds.fd < 0 || poll(&fds, 1, 10000) == 1;

	if (fds.fd >= 0)
		(void)close(fds.fd);
	return ended;
}

static void tell_and_die(struct caller *c)
{
	(void)!write(c->pipe[1], &c->pid, sizeof c->pid);
	(void)kill(getpid(), SIGKILL);
}

/* The child of a killed parent that still had to answer: it sees the end of the conversation, and ends. */
static void a_child_does_not_outlive_a_parent_that_owes_an_answer(void)
{
	struct caller c = {.act = tell_and_die};
	int32_t orphan = 0;

	CHECK_EQ(pipe2(c.pipe, O_CLOEXEC), 0);
	CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	pid_t pid = fork();
	if (pid == 0) {
		asking(&plan);
		(void)start(&c);
		_exit(1);
	}
	(void)close(c.pipe[1]);
	CHECK_EQ(read(c.pipe[0], &orphan, sizeof orphan), sizeof orphan);
	(void)close(c.pipe[0]);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	CHECK(has_ended(orphan));
	(void)kill(orphan, SIGKILL);
	CHECK_EQ(waitpid(orphan, NULL, 0), orphan);
	CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}

static void fork_a_holder(struct caller *c)
{
	c->forked = fork();
	if (c->forked == 0)
		for (;;)
			(void)pause();
}

/* A process forked meanwhile has copies of both ends: it must not keep the start from hearing that the program runs. */
static void a_fork_does_not_hold_a_start_up(void)
{
	struct caller c = {.act = fork_a_holder};

	if (cannot_share())
		return;
	asking_by_stub(&plan);
	CHECK_EQ(start_within(&plan, &process, &c, 3000000000u), 0);
	ends_with(&process, CLD_EXITED, 0);
	(void)kill(c.forked, SIGKILL);
	CHECK_EQ(waitpid(c.forked, NULL, 0), c.forked);
}

struct other {
	struct hand_plan plan;
	struct pc_process process;
	pthread_t thread;
	int asks[2];   /* it has come to its question */
	int answer[2]; /* it may have its answer */
	int result;
};

static struct other slow;

static void wait_for_answer(struct caller *c)
{
	char byte;

	(void)c;
	(void)!write(slow.asks[1], "", 1);
	(void)!read(slow.answer[0], &byte, 1);
}

static void *start_slow(void *arg)
{
	struct caller c = {.act = wait_for_answer};

	(void)arg;
	slow.result = start_within(&slow.plan, &slow.process, &c, 20000000000u);
	return NULL;
}

static void begin_slow(struct caller *c)
{
	char byte;

	(void)c;
	CHECK_EQ(pthread_create(&slow.thread, NULL, start_slow, NULL), 0);
	CHECK_EQ(read(slow.asks[0], &byte, 1), 1);
}

/* A container that waits for its hooks was cloned while another start's socket was open, and must not keep it open. */
static void a_child_that_waits_does_not_hold_another_start_up(void)
{
	struct caller c = {.act = begin_slow};

	if (cannot_share())
		return;
	asking(&slow.plan);
	CHECK(pipe2(slow.asks, O_CLOEXEC) == 0 && pipe2(slow.answer, O_CLOEXEC) == 0);
	asking_by_stub(&plan);
	CHECK_EQ(start_within(&plan, &process, &c, 3000000000u), 0);
	ends_with(&process, CLD_EXITED, 0);
	CHECK_EQ(write(slow.answer[1], "", 1), 1);
	CHECK_EQ(pthread_join(slow.thread, NULL), 0);
	CHECK_EQ(slow.result, 0);
	ends_with(&slow.process, CLD_EXITED, 0);
	for (int i = 0; i < 2; i++)
		(void)(close(slow.asks[i]) + close(slow.answer[i]));
}

static void another_process_goes_on(void)
{
	struct caller c = {0};

	hand_begin(&plan, "/bin/sh");
	(void)hand_string(&plan, "-c");
	(void)hand_string(&plan, "exit 7");
	plan.head.argc = 3;
	(void)hand_op(&plan, PC_CHILD, PC_OP_FORK);
	hand_op(&plan, PC_CHILD, PC_OP_SYNC)->x = PC_SYNC_CREATE_RUNTIME;
	(void)hand_op(&plan, PC_CHILD, PC_OP_FORK);
	CHECK_EQ(start(&c), 0);
	CHECK(c.calls == 1 && c.pid > 0 && c.pid != process.pid);
	ends_with(&process, CLD_EXITED, 7);
	hand_op(&plan, PC_CHILD, PC_OP_CHDIR)->s1 = hand_string(&plan, "/no/such/directory");
	failed(start(&c), ENOENT, PC_STEP_OP, 3);
}

static void faults_in_both_processes(void)
{
	static const uint32_t kinds[] = {1, 2};

	for (uint32_t op = 0; op < 3; op++)
		for (size_t i = 0; i < 2; i++) {
			struct caller c = {0};
			hand_begin(&plan, "/bin/true");
			(void)hand_op(&plan, PC_CHILD, PC_OP_FORK);
			hand_op(&plan, PC_CHILD, PC_OP_SYNC)->x = PC_SYNC_CREATE_RUNTIME;
			hand_op(&plan, PC_CHILD, PC_OP_UMASK)->x = 022;
			struct pc_start_args args = {
				.plan_len = hand_pack(&plan), .plan = plan.bytes, .sync = caller_sync, .context = &c,
				.deadline_ns = sys_now_ns() + 20000000000u, .fault = {kinds[i], PC_CHILD, op, EIO}};
			CHECK_EQ(pc_start(&args, &process), kinds[i] == 1 ? -EIO : -ECHILD);
			CHECK_EQ(process.report.step, kinds[i] == 1 ? PC_STEP_OP : PC_STEP_KILLED);
		}
}

/* --- who may look ------------------------------------------------------------------------------------------------- */

static void let_peer_look(struct caller *c)
{
	c->answer = peer_can_look(c->pid) == 0 ? 0 : -EPERM;
}

/* Whoever has the id of a user namespace's maker has every capability in it: a child of ours that was born in one, and
 * has our memory or a copy of it, is open to him until it is hidden (2016-9962). */
static void a_child_born_in_a_user_namespace_cannot_be_looked_at(void)
{
	static const struct {
		uint32_t flags;
		uint64_t clone;
	} kinds[] = {{0, CLONE_NEWUSER}, {PC_PLAN_SHARE_VM, CLONE_NEWUSER | CLONE_NEWPID}};

	if (geteuid() != 0) {
		SKIP("a peer with the maker's id and without capabilities needs root");
		return;
	}
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		struct caller c = {.act = let_peer_look};
		if ((kinds[i].flags & PC_PLAN_SHARE_VM) && cannot_share())
			continue;
		asking(&plan);
		plan.head.flags = kinds[i].flags;
		plan.head.clone_flags = kinds[i].clone;
		CHECK_EQ(start(&c), 0);
		CHECK_EQ(c.answer, 0);
		if (process.pidfd >= 0)
			ends_with(&process, CLD_EXITED, 0);
		CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
	}
}

/* The peer's part: to catch the helper process of a thread of `engine`. Exit status 1: it could be looked at. */
static int catch_helper(int engine, int self)
{
	char path[64], target[64];

	for (int seen = 0; seen < 20;) {
		DIR *d = opendir("/proc");
		for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
			int pid = atoi(e->d_name), parent = 0;
			if (pid <= engine || pid == self)
				continue;
			(void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
			FILE *f = fopen(path, "re");
			if (f == NULL || fscanf(f, "%*d %*s %*c %d", &parent) != 1)
				parent = 0;
			if (f != NULL)
				(void)fclose(f);
			if (parent != engine)
				continue;
			seen++;
			(void)snprintf(path, sizeof path, "/proc/%d/root", pid);
			if (readlink(path, target, sizeof target) >= 0)
				return 1;
		}
		if (d != NULL)
			(void)closedir(d);
	}
	return 0;
}

static void the_maker_of_an_id_map_cannot_be_looked_at(void)
{
	int status = -1;

	if (geteuid() != 0) {
		SKIP("a peer with the maker's id and without capabilities needs root");
		return;
	}
	pid_t engine = getpid(), peer = fork();
	if (peer == 0) {
		struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
		struct __user_cap_data_struct none[2] = {{0}};
		_exit(syscall(SYS_capset, &head, none) < 0 ? 2 : catch_helper(engine, getpid()));
	}
	uint64_t until = sys_now_ns() + 20000000000u;
	while (waitpid(peer, &status, WNOHANG) == 0 && sys_now_ns() < until) {
		int ns = pc_make_userns("0 100000 65536\n", "0 100000 65536\n");
		CHECK(ns >= 0);
		(void)close(ns);
	}
	if (sys_now_ns() >= until) {
		(void)kill(peer, SIGKILL);
		(void)waitpid(peer, NULL, 0);
	}
	CHECK_EQ(status, 0);
	CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
}

/* usage: test_asks PYCONTAIN-EXEC */
int main(int argc, char **argv)
{
	if (argc != 2 || (stub = pc_sealed_copy(argv[1])) < 0)
		return 2;
	(void)signal(SIGPIPE, SIG_IGN);
	int before = count_fds();
	RUN(the_caller_does_its_part);
	RUN(an_error_of_the_caller_ends_the_start_and_is_asked_for_once);
	RUN(what_the_parent_cannot_write_is_reported);
	RUN(a_child_killed_while_it_asks_is_reported);
	RUN(an_unheard_answer_raises_no_signal);
	RUN(the_callers_own_time_does_not_count);
	RUN(a_child_does_not_outlive_a_parent_that_owes_an_answer);
	RUN(a_fork_does_not_hold_a_start_up);
	RUN(a_child_that_waits_does_not_hold_another_start_up);
	RUN(another_process_goes_on);
	RUN(faults_in_both_processes);
	RUN(a_child_born_in_a_user_namespace_cannot_be_looked_at);
	RUN(the_maker_of_an_id_map_cannot_be_looked_at);
	check_test = "the end";
	CHECK_EQ(count_fds(), before);
	CHECK(waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
	return check_result();
}
