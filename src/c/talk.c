/* The parent's side of the report socket: messages of the child, and the parent's part of what the child cannot do.
 *
 * A child in shared memory is heard after the fact: when clone3 returns to its spawner, it has said all it had to say. Only
 * when its Plan has ops that ask does the caller's thread listen meanwhile, and the spawner says END when it goes on.
 */
#include "job.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* One message. 1: got it; 0: end of file or (not blocking) none there; a passed fd lands in *fd. */
static int receive(int sock, struct pc_report *r, int *fd, bool block)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {r, sizeof *r};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	long n;

	do
		n = sys_recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | (block ? 0 : MSG_DONTWAIT));
	while (n == -EINTR);
	if (n <= 0) /* ECONNRESET: it has ended before it read an answer */
		return n == 0 || n == -EAGAIN || n == -ECONNRESET ? 0 : (int)n;
	if (n != sizeof *r)
		return -EBADMSG;
	struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);
	if (cm != NULL && cm->cmsg_type == SCM_RIGHTS && cm->cmsg_len == CMSG_LEN(sizeof(int))) {
		fd_close(fd);
		memcpy(fd, CMSG_DATA(cm), sizeof *fd);
	}
	return 1;
}

static int call_back(struct pc_job *job, uint32_t what, int fd)
{
	if (job->sync == NULL)
		return -ENOSYS;
	uint64_t begun = sys_now_ns();
	int answer = job->sync(job->sync_context, what, job->tid, fd);
	job->called_back_ns += sys_now_ns() - begun;
	return answer;
}

static int wait_for_message(struct pc_job *job, uint64_t deadline_ns)
{
	struct pollfd fds = {.fd = job->parent_sock, .events = POLLIN};

	for (;;) {
		uint64_t now = sys_now_ns(), left = deadline_ns > now ? deadline_ns - now : 0;
		if (job->fault.kind == 3 && (left > 500000 || deadline_ns == 0))
			left = 500000;
		struct timespec ts = {.tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u)};
		int n = sys_ppoll(&fds, 1, deadline_ns || job->fault.kind == 3 ? &ts : NULL);
		if (job->held && job->fault.kind == 3)
			(void)sys_kill(sys_getpid(), SIGKILL);
		if (n == 0 && job->fault.kind == 3 && (deadline_ns == 0 || sys_now_ns() < deadline_ns))
			continue;
		if (n != -EINTR)
			return n == 0 ? -ETIMEDOUT : n;
		int err = job->sync ? call_back(job, PC_SYNC_SIGNAL, -1) : 0; /* a hook may have all the time there is */
		if (err < 0)
			return err;
	}
}

/* By the child's pid in the caller's own /proc, looked at again once the directory is open: someone else in this process
 * may reap every child, and then the number can be another's. */
static int open_proc(const struct pc_job *job)
{
	char path[32];

	(void)snprintf(path, sizeof path, "/proc/%d", job->tid);
	scoped_fd int dir = sys_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (dir < 0)
		return dir;
	int err = sys_pidfd_send_signal(job->pidfd, 0);
	return err < 0 ? err : fd_take(&dir);
}

static int write_file(int dir, const char *file, const char *value)
{
	scoped_fd int fd = sys_openat(dir, file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0);

	if (fd < 0)
		return fd;
	long n = sys_write(fd, value, pc_strlen(value));
	return n < 0 ? (int)n : 0;
}

static int write_proc(const struct pc_job *job, const char *file, const char *value)
{
	scoped_fd int dir = open_proc(job);

	return dir < 0 ? dir : write_file(dir, file, value);
}

static int write_maps(const struct pc_job *job, const char *uid_map, const char *gid_map)
{
	scoped_fd int dir = open_proc(job);

	if (dir < 0)
		return dir;
	int err = write_file(dir, "uid_map", uid_map);
	return err < 0 ? err : write_file(dir, "gid_map", gid_map);
}

static int give_device(struct pc_job *job, const char *host_name, const char *name)
{
	scoped_fd int dir = open_proc(job);
	scoped_fd int ns = dir < 0 ? dir : sys_openat(dir, "ns/net", O_RDONLY | O_CLOEXEC, 0);

	return ns < 0 ? ns : pc_move_device(job, ns, host_name, name);
}

/* A child that is no more is no failure here: the end of the conversation tells. And no SIGPIPE, which few ignore. */
static int send_answer(const struct pc_job *job, int32_t answer)
{
	struct iovec iov = {&answer, sizeof answer};
	const struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	long n = sys_sendmsg(job->parent_sock, &msg, MSG_NOSIGNAL);

	return n < 0 && n != -EPIPE && n != -ECONNRESET ? (int)n : 0;
}

/* The parent's part of the child's op; the answer goes back to the child, which fails with it. */
static int serve(struct pc_job *job, const struct pc_report *r)
{
	int32_t answer = -EBADMSG;

	if (r->arg < job->plan.head.n_ops[PC_CHILD]) {
		const struct pc_op *op = &job->plan.ops[PC_CHILD][r->arg];
		if (op->code == PC_OP_PARENT_WRITE) {
			answer = write_proc(job, pc_str(&job->plan, op->s1), pc_str(&job->plan, op->s2));
		} else if (op->code == PC_OP_ID_MAPS) {
			answer = write_maps(job, pc_str(&job->plan, op->s1), pc_str(&job->plan, op->s2));
		} else if (op->code == PC_OP_NET_DEVICE) {
			answer = give_device(job, pc_str(&job->plan, op->s1), pc_str(&job->plan, op->s2));
		} else if (op->code == PC_OP_SYNC) {
			answer = call_back(job, (uint32_t)op->x, -1);
		} else if (op->code == PC_OP_LISTENER) {
			scoped_fd int fd = sys_pidfd_getfd(job->pidfd, r->err);
			answer = fd < 0 ? fd : call_back(job, PC_SYNC_LISTENER, fd);
		}
	}
	return send_answer(job, answer);
}

/* Another process goes on in the child's place; the first one has ended, or is about to. */
static int adopt(struct pc_job *job, const struct pc_report *r, int *passed)
{
	siginfo_t info;

	if (*passed < 0)
		return -EBADMSG;
	while (!job->sibling && sys_waitid(P_PIDFD, job->pidfd, &info, WEXITED | __WALL, NULL) == -EINTR)
		;
	fd_close(&job->pidfd);
	job->pidfd = fd_take(passed);
	job->pid = job->tid = r->err;
	return send_answer(job, 0);
}

static bool is_the_stubs(uint32_t step)
{
	return step == PC_STEP_EXEC || step == PC_STEP_END || step == PC_STEP_LABEL || step == PC_STEP_HOOK_RUN ||
	       step == PC_STEP_HOOK_STATUS || step == PC_STEP_HOOK_TIMEOUT;
}

/* What one message means. 1: go on listening; 0: enough heard; else the start has failed. */
static int understand(struct pc_job *job, struct pc_report *r, enum pc_talk how, int *passed, bool *ready,
		      struct pc_process *out)
{
	int err;

	/* whatever holds the socket now is no longer ours alone to run: it can only say why the program does not */
	if (*ready && !is_the_stubs(r->step)) {
		out->report = (struct pc_report){.step = PC_STEP_PROTOCOL, .err = EBADMSG, .section = PC_CHILD, .arg = r->arg};
		return -EBADMSG;
	}
	switch (r->step) {
	case PC_STEP_READY:
		*ready = true;
		return how == PC_TALK_SERVE || (job->plan.head.flags & PC_PLAN_GATED) ? 0 : 1;
	case PC_STEP_END:
		return how == PC_TALK_SERVE ? 0 : 1;
	case PC_STEP_TTY:
		fd_close(&out->tty_fd);
		out->tty_fd = fd_take(passed);
		return 1;
	case PC_STEP_ASK:
	case PC_STEP_FORKED:
		err = r->step == PC_STEP_ASK ? serve(job, r) : adopt(job, r, passed);
		if (err < 0)
			out->report = (struct pc_report){.step = PC_STEP_PROTOCOL, .err = -err, .section = PC_CHILD, .arg = r->arg};
		return err < 0 ? err : 1;
	case PC_STEP_NONE:
		if (job->fault.kind == 3)
			(void)sys_kill(sys_getpid(), SIGKILL);
		break;
	}
	out->report = *r;
	return r->err > 0 ? -r->err : -EBADMSG;
}

int pc_talk(struct pc_job *job, enum pc_talk how, uint64_t deadline_ns, bool *ready, struct pc_process *out)
{
	for (;;) {
		struct pc_report r = {0};
		scoped_fd int passed = -1;
		int got = how == PC_TALK_DRAIN ? 0 : wait_for_message(job, pc_deadline(job, deadline_ns));
		if (got == -ETIMEDOUT) {
			out->report = (struct pc_report){.step = PC_STEP_DEADLINE, .err = ETIMEDOUT};
			return got;
		}
		if (got >= 0)
			got = receive(job->parent_sock, &r, &passed, how != PC_TALK_DRAIN);
		if (got < 0) {
			out->report = (struct pc_report){.step = PC_STEP_PROTOCOL, .err = -got, .section = PC_CHILD};
			return got;
		}
		if (got == 0)
			break;
		int more = understand(job, &r, how, &passed, ready, out);
		if (more < 0)
			return more;
		if (more == 0 && (*ready || how == PC_TALK_SERVE))
			return 0;
	}
	if (*ready || how == PC_TALK_SERVE)
		return 0;
	/* end of file before READY: success is said, never inferred */
	out->report = (struct pc_report){.step = PC_STEP_KILLED, .err = ECHILD, .section = PC_CHILD};
	return -ECHILD;
}
