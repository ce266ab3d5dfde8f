/* Everything between clone3 and execve: execute the child ops, say READY, find the program, become it.
 *
 * Assumes: all signals blocked; memory possibly shared with a threaded process (CLONE_VM). So raw system calls only:
 * no libc call, no malloc, no errno, no thread-local storage; the report is one write of a fixed-size struct.
 */
#include "job.h"
#include "stub.h"

#include <errno.h>
#include <linux/prctl.h>
#include <stdbool.h>
#include <stddef.h>

/* One message; with `fd` >= 0 it carries that fd. Plain write where it can: a seccomp profile may deny sendmsg. */
int pc_child_send(struct pc_child *c, enum pc_step step, int err, int fd)
{
	struct pc_report r = {.step = step, .err = err, .section = PC_CHILD, .arg = c->op};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {.bytes = {0}};

	if (fd < 0)
		return (int)sys_write(c->job->sock, &r, sizeof r);
	control.align.cmsg_len = CMSG_LEN(sizeof(int));
	control.align.cmsg_level = SOL_SOCKET;
	control.align.cmsg_type = SCM_RIGHTS;
	__builtin_memcpy(CMSG_DATA(&control.align), &fd, sizeof fd);
	struct iovec iov = {&r, sizeof r};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	return (int)sys_sendmsg(c->job->sock, &msg, MSG_NOSIGNAL);
}

static void __attribute__((noreturn)) fail(struct pc_child *c, enum pc_step step, int err)
{
	(void)pc_child_send(c, step, -err, -1); /* nobody left to tell when this fails: the end of file says it */
	sys_exit_group(127);
}

static int hear_answer(struct pc_child *c)
{
	int32_t answer;
	long n;

	do
		n = sys_read(c->job->sock, &answer, sizeof answer);
	while (n == -EINTR);
	if (n != sizeof answer)
		sys_exit_group(127); /* the parent has gone, or gives up and kills us */
	return answer;
}

/* The parent does its part of this op; its answer is an error or 0. Only write and read: a filter may be loaded already. */
static int ask(struct pc_child *c, int value)
{
	struct pc_report r = {.step = PC_STEP_ASK, .err = value, .section = PC_CHILD, .arg = c->op};
	long n = sys_write(c->job->sock, &r, sizeof r);

	return n < 0 ? (int)n : hear_answer(c);
}

int pc_close_all_but(unsigned from, const int *kept, size_t n)
{
	for (;;) {
		unsigned next = ~0U;
		for (size_t i = 0; i < n; i++)
			if (kept[i] >= 0 && (unsigned)kept[i] >= from && (unsigned)kept[i] < next)
				next = (unsigned)kept[i];
		int err = next > from ? sys_close_range(from, next == ~0U ? next : next - 1, 0) : 0;
		if (err < 0 || next == ~0U)
			return err;
		from = next + 1;
	}
}

/* The caller may take its time, for hooks: what this process has of other starts must not stay open so long, for the end
 * of a report socket is how their callers hear that the program runs. */
int pc_close_what_is_others(struct pc_child *c)
{
	const struct pc_job *job = c->job;
	int kept[PC_MAX_SLOTS + 4] = {job->sock, c->root_fd, c->proc_fd, c->old_root_fd};

	for (uint32_t i = 0; i < job->plan.head.n_slots; i++)
		kept[4 + i] = job->slots[i];
	return pc_close_all_but(3, kept, 4 + job->plan.head.n_slots);
}

/* A failure is the op's own: a message that says ASK is a question. */
int pc_do_ask(struct pc_child *c, const struct pc_op *op)
{
	int err = op->code == PC_OP_SYNC ? pc_close_what_is_others(c) : 0;

	return err < 0 ? err : ask(c, 0);
}

/* The parent takes the listener out of this process (pidfd_getfd): passing it on would need a call that the filter itself
 * may hold up. */
int pc_do_listener(struct pc_child *c, const struct pc_op *op)
{
	int fd = pc_load_filter(c, op);

	if (fd < 0)
		return fd;
	int err = ask(c, fd);
	(void)sys_close(fd);
	return err;
}

/* What setns(pid) and a new pid namespace inside a joined user namespace mean holds for children only. The new process is
 * the engine's child like this one was, and takes its place; this one ends. Memory is copied, never shared. */
int pc_do_fork(struct pc_child *c, const struct pc_op *op)
{
	int pidfd = -1;
	struct clone_args args = {
		.flags = op->x | CLONE_PARENT | CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
	};
	/* many a filter, loaded by then in an exec, does not know clone3 */
	long pid = op->x == 0 ? sys_clone(args.flags | SIGCHLD, &pidfd) : sys_clone3(&args);

	if (pid < 0)
		return at_step(c, PC_STEP_CLONE, (int)pid);
	if (pid == 0)
		return hear_answer(c); /* when we have been adopted: until then the parent takes the other one for us */
	if (pc_child_send(c, PC_STEP_FORKED, (int)pid, pidfd) < 0)
		(void)sys_pidfd_send_signal(pidfd, SIGKILL); /* the parent has gone */
	sys_exit_group(0);
}

/* The working directory must lie inside the root: an inherited fd or a magic link could lead out (2024-21626).
 * Two ops: as root (optional), then as the user who runs there, who need not be able to enter it by himself. */
int pc_do_chdir(struct pc_child *c, const struct pc_op *op)
{
	char where[4096];
	int err = sys_chdir(op_s1(c, op));

	if (err == -EACCES && ((op->flags & PC_F_OPTIONAL) || c->in_cwd))
		err = 0;
	else if (err == 0)
		c->in_cwd = true;
	if (err < 0)
		return err;
	long n = sys_getcwd(where, sizeof where);
	if (n == -EACCES) /* a parent that this user may not read; the first op has looked */
		return c->in_cwd ? 0 : at_step(c, PC_STEP_OUTSIDE_ROOT, (int)n);
	if (n < 0)
		return at_step(c, PC_STEP_OUTSIDE_ROOT, (int)n);
	if (where[0] != '/')
		return at_step(c, PC_STEP_OUTSIDE_ROOT, -EXDEV);
	return 0;
}

/* Closed, not only marked: a gated child may wait for hours and must not hold open what others close meanwhile, such as
 * the gate of another container; and the caller's files would count against the program's RLIMIT_NOFILE in the look-up.
 * The socket and the stub are close-on-exec. */
int pc_do_close_fds(struct pc_child *c, const struct pc_op *op)
{
	const int kept[] = {
		c->job->sock, op_slot(c, c->job->plan.head.stub_slot), c->labelled ? c->proc_fd : -1,
		c->hook ? op_slot(c, c->hook->slot) : -1, c->hook ? op_slot(c, c->hook->slot2) : -1,
	};

	c->root_fd = c->old_root_fd = -1;
	if (!c->labelled)
		c->proc_fd = -1;
	return pc_close_all_but((unsigned)op->x, kept, sizeof kept / sizeof *kept);
}

/* Ignored signals stay ignored over CLONE_CLEAR_SIGHAND and execve; Python ignores SIGPIPE and SIGXFSZ. */
static int reset_signals(void)
{
	const struct pc_ksigaction dfl = {0};

	for (int sig = 1; sig <= 64; sig++) {
		int err = sys_sigaction(sig, &dfl);
		if (err < 0 && sig != SIGKILL && sig != SIGSTOP)
			return err;
	}
	return 0;
}

static void wait_at_gate(struct pc_child *c)
{
	char byte;

	if (sys_read(c->job->sock, &byte, 1) != 1)
		sys_exit_group(127); /* whoever held the gate has gone */
}

static void hold_for_test(struct pc_child *c)
{
	const struct pc_fault *f = &c->job->fault;

	if (f->kind == 1)
		fail(c, PC_STEP_OP, -f->err);
	if (f->kind == 2)
		(void)sys_kill(sys_getpid(), SIGKILL); /* pid 1 cannot kill itself: the exit below stands for it */
	if (f->kind == 2)
		sys_exit_group(137);
	while (f->kind == 4)
		sys_sleep_ns(1000000);
	/* The owner kills itself when it sees this. Then go on like any child whose owner has just died: a child that has
	 * not joined a cgroup yet is out of the guardian's sight, and must come to its end by itself. */
	c->job->held = 1;
	if (!(c->job->plan.head.flags & PC_PLAN_SHARE_VM)) /* then nobody sees `held` */
		(void)pc_child_send(c, PC_STEP_NONE, 0, -1);
	for (int i = 0; i < 300; i++)
		sys_sleep_ns(1000000);
}

static void run_ops(struct pc_child *c)
{
	struct pc_job *job = c->job;
	const struct pc_op *ops = job->plan.ops[PC_CHILD];
	uint32_t first_trace = job->plan.head.n_ops[PC_PREPARE];

	for (c->op = 0; c->op < job->plan.head.n_ops[PC_CHILD]; c->op++) {
		if (job->fault.kind && job->fault.section == PC_CHILD && job->fault.op == c->op)
			hold_for_test(c);
		c->step = PC_STEP_OP;
		int err = pc_child_executors[ops[c->op].code](c, &ops[c->op]);
		if (err < 0 && !((ops[c->op].flags & PC_F_OPTIONAL) && err == -ENOENT))
			fail(c, (enum pc_step)c->step, err);
		if (job->trace_ns && first_trace + c->op < job->n_trace)
			job->trace_ns[first_trace + c->op] = sys_now_ns();
	}
}

/* Whatever lies on one of the numbers and is not meant to goes above them all first. */
int pc_leave_open(const struct pc_left *left, size_t n, int *stub)
{
	struct pc_left moved[4];
	int last = 2, err = 0;

	for (size_t i = 0; i < n; i++) {
		moved[i] = left[i];
		if (left[i].as > last)
			last = left[i].as;
	}
	for (size_t i = 0; i < n && err >= 0; i++)
		if (moved[i].fd >= 0 && moved[i].fd <= last && moved[i].fd != moved[i].as)
			err = moved[i].fd = sys_fcntl(moved[i].fd, F_DUPFD_CLOEXEC, last + 1);
	if (err >= 0 && *stub <= last)
		err = *stub = sys_fcntl(*stub, F_DUPFD_CLOEXEC, last + 1);
	for (size_t i = 0; i < n && err >= 0; i++)
		if (moved[i].fd >= 0)
			err = moved[i].fd == moved[i].as ? sys_fcntl(moved[i].as, F_SETFD, 0) : sys_dup3(moved[i].fd, moved[i].as, 0);
	return err < 0 ? err : 0;
}

/* By the stub the report socket is left open, so that it can still say why the program did not start, and what it needs for
 * a label and for hooks. */
static int execute(struct pc_child *c, const char *program, bool by_stub)
{
	struct pc_job *job = c->job;
	const struct pc_left left[] = {
		{job->sock, PC_STUB_REPORT},
		{c->labelled ? c->proc_fd : -1, c->labelled ? PC_STUB_PROCFS : -1},
		{c->hook ? op_slot(c, c->hook->slot) : -1, c->hook ? PC_STUB_STATE : -1},
		{c->hook ? op_slot(c, c->hook->slot2) : -1, c->hook ? PC_STUB_SAID : -1},
	};

	if (!by_stub && !c->labelled && !c->hook)
		return sys_execve(program, job->argv, job->envp);
	if (job->plan.head.stub_slot < 0)
		return -ENOEXEC; /* a Plan of ours always has one */
	int stub = job->slots[job->plan.head.stub_slot];
	int err = pc_leave_open(left, sizeof left / sizeof *left, &stub);
	if (err < 0)
		return err;
	job->argv[-1] = (char *)(uintptr_t)program;
	job->stubbed = 1;
	return sys_execveat(stub, "", job->stub_argv, job->envp, AT_EMPTY_PATH);
}

/* The order: ops (which end with the credentials and seccomp), look-up as the user who will run it, READY, the gate,
 * the signal mask last of all so that no handlerless default action can hit half-way. */
void pc_child_main(void *arg)
{
	struct pc_job *job = arg;
	struct pc_child c = {.job = job, .root_fd = -1, .proc_fd = -1, .old_root_fd = -1};
	const uint64_t no_signals = 0;
	const char *program;
	bool by_stub;

	job->cloned_ns = sys_now_ns();
	/* or this process would wait for ever, at an op that asks or at its gate, for a parent that is no more */
	(void)sys_close(job->parent_sock);
	/* Memory of its own is a copy of the engine's: nobody in a namespace that it is about to join may look at it
	 * (2016-9962). Shared memory is only ever in a new pid namespace. */
	int err = job->plan.head.flags & PC_PLAN_SHARE_VM ? 0 : sys_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (err == 0)
		err = reset_signals();
	if (err < 0)
		fail(&c, PC_STEP_SIGNALS, err);
	run_ops(&c);
	err = pc_find_program(job, &program, &by_stub);
	if (err < 0)
		fail(&c, PC_STEP_LOOKUP, err);
	if (pc_child_send(&c, PC_STEP_READY, 0, -1) < 0)
		sys_exit_group(127); /* the parent has gone */
	if (job->plan.head.flags & PC_PLAN_GATED)
		wait_at_gate(&c);
	(void)sys_sigprocmask(SIG_SETMASK, &no_signals); /* cannot fail with these arguments */
	err = execute(&c, program, by_stub || (job->plan.head.flags & PC_PLAN_STUB));
	fail(&c, PC_STEP_EXEC, err);
}
