/* Everything between clone3 and execve: execute the child ops, say READY, find the program, become it.
 *
 * Assumes: all signals blocked; memory possibly shared with a threaded process (CLONE_VM). So raw system calls only:
 * no libc call, no malloc, no errno, no thread-local storage; the report is one write of a fixed-size struct.
 */
#include "job.h"

#include <errno.h>
#include <stddef.h>

static pc_child_executor do_chdir, do_close_fds;

static pc_child_executor *const executors[PC_OP_COUNT] = {
	[PC_OP_CGROUP_JOIN] = pc_do_cgroup_join,
	[PC_OP_UNSHARE] = pc_do_unshare,
	[PC_OP_SETNS] = pc_do_setns,
	[PC_OP_PROPAGATION] = pc_do_propagation,
	[PC_OP_ROOT_ATTACH] = pc_do_root_attach,
	[PC_OP_ROOT_READONLY] = pc_do_root_readonly,
	[PC_OP_MOUNT] = pc_do_mount,
	[PC_OP_MOUNT_TREE] = pc_do_mount_tree,
	[PC_OP_MASK] = pc_do_mask,
	[PC_OP_READONLY] = pc_do_readonly,
	[PC_OP_MAKE_DIR] = pc_do_make_dir,
	[PC_OP_MAKE_NODE] = pc_do_make_node,
	[PC_OP_MAKE_LINK] = pc_do_make_link,
	[PC_OP_WRITE_FILE] = pc_do_write_file,
	[PC_OP_PROC_WRITE] = pc_do_proc_write,
	[PC_OP_HOSTNAME] = pc_do_hostname,
	[PC_OP_DOMAINNAME] = pc_do_domainname,
	[PC_OP_LOOPBACK_UP] = pc_do_loopback_up,
	[PC_OP_RLIMIT] = pc_do_rlimit,
	[PC_OP_SESSION] = pc_do_session,
	[PC_OP_STDIO] = pc_do_stdio,
	[PC_OP_TTY] = pc_do_tty,
	[PC_OP_PDEATHSIG] = pc_do_pdeathsig,
	[PC_OP_UMASK] = pc_do_umask,
	[PC_OP_CAP_BOUND] = pc_do_cap_bound,
	[PC_OP_IDS] = pc_do_ids,
	[PC_OP_CAPS] = pc_do_caps,
	[PC_OP_CAP_AMBIENT] = pc_do_cap_ambient,
	[PC_OP_NO_NEW_PRIVS] = pc_do_no_new_privs,
	[PC_OP_SECCOMP] = pc_do_seccomp,
	[PC_OP_CHDIR] = do_chdir,
	[PC_OP_CLOSE_FDS] = do_close_fds,
};

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

/* The working directory must lie inside the root: an inherited fd or a magic link could lead out (2024-21626). */
static int do_chdir(struct pc_child *c, const struct pc_op *op)
{
	char where[4096];
	int err = sys_chdir(op_s1(c, op));

	if (err < 0)
		return err;
	long n = sys_getcwd(where, sizeof where);
	if (n < 0)
		return at_step(c, PC_STEP_OUTSIDE_ROOT, (int)n);
	if (where[0] != '/')
		return at_step(c, PC_STEP_OUTSIDE_ROOT, -EXDEV);
	return 0;
}

static int do_close_fds(struct pc_child *c, const struct pc_op *op)
{
	const unsigned from = (unsigned)op->x, sock = (unsigned)c->job->sock;

	/* Closed, not only marked: a gated child may wait for hours and must not hold open what others close meanwhile,
	 * such as the gate of another container; and the caller's files would count against the program's RLIMIT_NOFILE in
	 * the look-up. The socket is close-on-exec. */
	c->root_fd = c->proc_fd = -1;
	int err = sock > from ? sys_close_range(from, sock - 1, 0) : 0;
	return err < 0 ? err : sys_close_range(sock >= from ? sock + 1 : from, ~0U, 0);
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

/* What ends an interpreter's name for the kernel; every other byte, above 127 or below ' ', belongs to it. */
static bool ends_name(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\0';
}

/* The interpreter that a script names in its first line, into `out`; 0 when it is no script. */
static int read_interpreter(int fd, char *out, size_t room)
{
	char line[256]; /* as far as the kernel looks */
	long n = sys_read(fd, line, sizeof line);
	size_t from = 2, to;

	if (n < 3 || line[0] != '#' || line[1] != '!')
		return 0;
	while (from < (size_t)n && (line[from] == ' ' || line[from] == '\t'))
		from++;
	for (to = from; to < (size_t)n && !ends_name(line[to]) && to - from < room - 1; to++)
		out[to - from] = line[to];
	out[to - from] = '\0';
	return to > from;
}

/* Until execve this process is the engine's own program, and /proc/self/exe a way to it: a program or an interpreter line
 * that goes there would run it, and could later write to it (2019-5736). No path to what is executed may lead through
 * such a link. -ELOOP when one does. */
static int no_way_to_engine(const char *path)
{
	char interpreter[256];

	for (int depth = 0; depth < 8; depth++) {
		scoped_fd int seen = sys_openat2(AT_FDCWD, path, O_PATH | O_CLOEXEC, 0, RESOLVE_NO_MAGICLINKS);
		if (seen == -EPERM || seen == -ENOSYS) /* the caller's own seccomp profile, not the image, forbids openat2 */
			return 0;
		if (seen < 0) /* an absent interpreter is execve's to report */
			return seen == -ELOOP || depth == 0 ? seen : 0;
		scoped_fd int fd = sys_openat2(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0, RESOLVE_NO_MAGICLINKS);
		if (fd < 0) /* who may execute and not read may not write to the engine either */
			return 0;
		if (!read_interpreter(fd, interpreter, sizeof interpreter))
			return 0;
		path = interpreter;
	}
	return -ELOOP; /* deeper than the kernel follows */
}

static int executable(const char *path)
{
	struct statx st;
	int err = sys_statx(AT_FDCWD, path, 0, STATX_TYPE, &st);

	if (err < 0)
		return err;
	if (S_ISDIR(st.stx_mode))
		return -EISDIR;
	if (!S_ISREG(st.stx_mode))
		return -EACCES;
	err = sys_faccessat(AT_FDCWD, path, 1 /* X_OK */);
	return err < 0 ? err : no_way_to_engine(path);
}

/* Like execvp: a name without a slash is looked for in PATH; a candidate that may not be run is remembered. */
static int find_program(struct pc_job *job, const char **found)
{
	const char *name = job->argv[0], *p = job->search_path;
	int denied = 0;

	*found = name;
	if (name[0] == '\0')
		return -ENOENT;
	for (const char *s = name; *s; s++)
		if (*s == '/')
			return executable(name);
	if (p == NULL)
		return -ENOENT;
	for (;;) {
		char *out = job->exec_path;
		while (*p != '\0' && *p != ':')
			*out++ = *p++;
		if (out != job->exec_path) /* an empty entry would mean the working directory: never */ {
			*out++ = '/';
			for (const char *s = name; *s; s++)
				*out++ = *s;
			*out = '\0';
			int err = executable(job->exec_path);
			if (err == 0) {
				*found = job->exec_path;
				return 0;
			}
			if (err == -EACCES || err == -ELOOP)
				denied = err;
		}
		if (*p++ == '\0')
			return denied ? denied : -ENOENT;
	}
}

static void wait_at_gate(struct pc_child *c)
{
	char byte;

	(void)sys_close(c->job->parent_sock); /* CLOSE_FDS may have done so already */
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
		int err = executors[ops[c->op].code](c, &ops[c->op]);
		if (err < 0 && !((ops[c->op].flags & PC_F_OPTIONAL) && err == -ENOENT))
			fail(c, (enum pc_step)c->step, err);
		if (job->trace_ns && first_trace + c->op < job->n_trace)
			job->trace_ns[first_trace + c->op] = sys_now_ns();
	}
}

/* The order: ops (which end with the credentials and seccomp), look-up as the user who will run it, READY, the gate,
 * the signal mask last of all so that no handlerless default action can hit half-way. */
void pc_child_main(void *arg)
{
	struct pc_job *job = arg;
	struct pc_child c = {.job = job, .root_fd = -1, .proc_fd = -1};
	const uint64_t no_signals = 0;
	const char *program;

	job->cloned_ns = sys_now_ns();
	int err = reset_signals();
	if (err < 0)
		fail(&c, PC_STEP_SIGNALS, err);
	run_ops(&c);
	err = find_program(job, &program);
	if (err < 0)
		fail(&c, PC_STEP_LOOKUP, err);
	if (pc_child_send(&c, PC_STEP_READY, 0, -1) < 0)
		sys_exit_group(127); /* the parent has gone */
	if (job->plan.head.flags & PC_PLAN_GATED)
		wait_at_gate(&c);
	(void)sys_sigprocmask(SIG_SETMASK, &no_signals); /* cannot fail with these arguments */
	err = sys_execve(program, job->argv, job->envp);
	fail(&c, PC_STEP_EXEC, err);
}
