/* A start from end to end, parent side: decode, prepare, clone by a spawner, read the report; and the end: reap, finish.
 *
 * Whatever fails, pc_start leaves nothing: made fds are closed, the child is reaped, the finish section has run.
 */
#include "job.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

static int fill_pointers(const struct pc_plan *plan, uint32_t off, uint32_t count, char **out)
{
	const char *s = pc_str(plan, off);

	for (uint32_t i = 0; i < count; i++, s = pc_next(s))
		out[i] = (char *)(uintptr_t)s;
	out[count] = NULL;
	return 0;
}

/* One allocation: job, the Plan's bytes (8-byte aligned), argv, envp, room for a path to execute. */
static struct pc_job *new_job(const struct pc_start_args *a, struct pc_report *report)
{
	struct pc_plan_header head;
	uint32_t where = 0;

	report->step = PC_STEP_DECODE;
	report->err = EBADMSG;
	if (a->plan_len < sizeof head || a->plan_len > PC_PLAN_MAX)
		return NULL;
	memcpy(&head, a->plan, sizeof head);
	if (head.argc > a->plan_len || head.envc > a->plan_len) {
		report->arg = offsetof(struct pc_plan_header, argv_off);
		return NULL;
	}
	size_t pointers = ((size_t)head.argc + head.envc + 2) * sizeof(char *);
	size_t bytes = (a->plan_len + 7) & ~(size_t)7;
	/* a path to execute: an entry of PATH, '/', argv[0], NUL; twice the Plan since both may be the same string */
	struct pc_job *job = calloc(1, sizeof *job + bytes + pointers + 2 * a->plan_len + 2);
	if (job == NULL) {
		*report = (struct pc_report){.step = PC_STEP_ALLOCATE, .err = ENOMEM};
		return NULL;
	}
	uint8_t *copy = (uint8_t *)(job + 1);
	memcpy(copy, a->plan, a->plan_len);
	int err = pc_plan_decode(copy, a->plan_len, &job->plan, &where);
	if (err < 0) {
		report->arg = where;
		free(job);
		return NULL;
	}
	job->argv = (char **)(void *)(copy + bytes);
	job->envp = job->argv + head.argc + 1;
	job->exec_path = (char *)(job->envp + head.envc + 1);
	(void)fill_pointers(&job->plan, head.argv_off, head.argc, job->argv);
	(void)fill_pointers(&job->plan, head.env_off, head.envc, job->envp);
	for (uint32_t i = 0; i < head.envc; i++)
		if (strncmp(job->envp[i], "PATH=", 5) == 0)
			job->search_path = job->envp[i] + 5;
	return job;
}

static int fill_slots(struct pc_job *job, const struct pc_start_args *a, struct pc_report *report)
{
	for (uint32_t i = 0; i < PC_MAX_SLOTS; i++)
		job->slots[i] = -1;
	if (a->n_fds != job->plan.head.n_given) {
		*report = (struct pc_report){.step = PC_STEP_SLOTS, .err = EINVAL, .arg = a->n_fds};
		return -EINVAL;
	}
	for (uint32_t i = 0; i < a->n_fds; i++)
		job->slots[i] = a->fds[i];
	return 0;
}

static void close_made_slots(struct pc_job *job)
{
	for (uint32_t i = job->plan.head.n_given; i < job->plan.head.n_slots; i++)
		fd_close(&job->slots[i]);
}

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
	if (n <= 0)
		return n == 0 || n == -EAGAIN ? 0 : (int)n;
	if (n != sizeof *r)
		return -EBADMSG;
	struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);
	if (cm != NULL && cm->cmsg_type == SCM_RIGHTS && cm->cmsg_len == CMSG_LEN(sizeof(int))) {
		fd_close(fd);
		memcpy(fd, CMSG_DATA(cm), sizeof *fd);
	}
	return 1;
}

/* Until the child's next message. A child in shared memory has already sent all it had to say. */
static int wait_for_message(int sock, uint64_t deadline_ns)
{
	struct pollfd fds = {.fd = sock, .events = POLLIN};

	for (;;) {
		uint64_t now = sys_now_ns(), left = deadline_ns > now ? deadline_ns - now : 0;
		struct timespec ts = {.tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u)};
		int n = sys_ppoll(&fds, 1, deadline_ns ? &ts : NULL);
		if (n != -EINTR)
			return n == 0 ? -ETIMEDOUT : n;
	}
}

/* Reads the child's messages. 0: READY was said and no error followed. A gated child says no more until let go. */
static int read_report(struct pc_job *job, int sock, uint64_t deadline_ns, struct pc_process *out)
{
	bool shared = job->plan.head.flags & PC_PLAN_SHARE_VM, gated = job->plan.head.flags & PC_PLAN_GATED;
	bool ready = false;

	for (;;) {
		struct pc_report r = {0};
		int got = shared ? 0 : wait_for_message(sock, deadline_ns);
		if (got == -ETIMEDOUT) {
			out->report = (struct pc_report){.step = PC_STEP_DEADLINE, .err = ETIMEDOUT};
			return got;
		}
		if (got >= 0)
			got = receive(sock, &r, &out->tty_fd, !shared);
		if (got < 0) {
			out->report = (struct pc_report){.step = PC_STEP_PROTOCOL, .err = -got, .section = PC_CHILD};
			return got;
		}
		if (got == 0)
			break;
		if (r.step == PC_STEP_READY) {
			ready = true;
			if (gated)
				return 0;
		} else if (r.step == PC_STEP_NONE && job->fault.kind == 3) {
			(void)sys_kill(sys_getpid(), SIGKILL);
		} else if (r.step != PC_STEP_TTY) {
			out->report = r;
			return r.err > 0 ? -r.err : -EBADMSG;
		}
	}
	if (ready)
		return 0;
	/* end of file before READY: success is said, never inferred */
	out->report = (struct pc_report){.step = PC_STEP_KILLED, .err = ECHILD, .section = PC_CHILD};
	return -ECHILD;
}

static void reap_quietly(int pidfd)
{
	siginfo_t info;

	(void)sys_pidfd_send_signal(pidfd, SIGKILL);
	while (sys_waitid(P_PIDFD, pidfd, &info, WEXITED | __WALL, NULL) == -EINTR)
		;
}

static int clone_and_listen(struct pc_job *job, const struct pc_start_args *a, struct pc_process *out)
{
	int pair[2];
	int err = sys_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);

	if (err < 0) {
		out->report = (struct pc_report){.step = PC_STEP_SOCKET, .err = -err};
		return err;
	}
	/* in the child STDIO and TTY would replace 0, 1 or 2 */
	scoped_fd int ours = pc_above_stdio(pair[0]), theirs = pc_above_stdio(pair[1]);
	if (ours < 0 || theirs < 0) {
		err = ours < 0 ? ours : theirs;
		out->report = (struct pc_report){.step = PC_STEP_SOCKET, .err = -err};
		return err;
	}
	job->sock = theirs;
	job->parent_sock = ours;
	job->pidfd = -1;
	job->pid = -ECHILD;
	err = pc_spawn_run(job, a->deadline_ns, &out->report);
	fd_close(&theirs);
	scoped_fd int pidfd = job->pidfd;
	if (err == 0)
		err = read_report(job, ours, a->deadline_ns, out);
	if (err == 0 && !(job->plan.head.flags & (PC_PLAN_SHARE_VM | PC_PLAN_GATED)))
		job->execed_ns = sys_now_ns(); /* the end of file came from execve, which closed the child's end */
	if (err < 0) {
		if (pidfd >= 0)
			reap_quietly(pidfd);
		fd_close(&out->tty_fd);
		return err;
	}
	out->pid = job->pid;
	out->pidfd = fd_take(&pidfd);
	if (job->plan.head.flags & PC_PLAN_GATED)
		out->gate_fd = fd_take(&ours);
	return 0;
}

PC_EXPORT int pc_start(const struct pc_start_args *a, struct pc_process *out)
{
	struct pc_usage usage;
	struct pc_report ignored;

	*out = (struct pc_process){.pid = -1, .pidfd = -1, .tty_fd = -1, .gate_fd = -1, .begun_ns = sys_now_ns()};
	struct pc_job *job = new_job(a, &out->report);
	if (job == NULL)
		return -out->report.err;
	job->fault = a->fault;
	job->trace_ns = a->trace_ns;
	job->n_trace = a->n_trace;
	int err = fill_slots(job, a, &out->report);
	bool made = false;
	if (err == 0)
		err = pc_prepare(job, &made, &out->report);
	out->prepared_ns = sys_now_ns();
	if (err == 0)
		err = clone_and_listen(job, a, out);
	out->cloned_ns = job->cloned_ns;
	out->execed_ns = job->execed_ns;
	close_made_slots(job);
	if (err < 0 && made) { /* else what the finish section would remove is someone else's */
		memset(&usage, 0, sizeof usage);
		(void)pc_finish_plan(&job->plan, NULL, &usage, &ignored); /* the first failure is the one to tell */
	}
	free(job);
	return err;
}

PC_EXPORT int pc_finish(const uint8_t *bytes, uint64_t len, const struct pc_fault *fault, struct pc_usage *usage,
			struct pc_report *report)
{
	struct pc_plan plan;
	uint32_t where = 0;

	memset(usage, 0, sizeof *usage);
	memset(report, 0, sizeof *report);
	if (len > PC_PLAN_MAX)
		return -EBADMSG;
	uint8_t *copy = malloc(len ? len : 1);
	if (copy == NULL)
		return -ENOMEM;
	if (len > 0)
		memcpy(copy, bytes, len);
	int err = pc_plan_decode(copy, len, &plan, &where);
	if (err == 0)
		err = pc_finish_plan(&plan, fault, usage, report);
	else
		*report = (struct pc_report){.step = PC_STEP_DECODE, .err = -err, .arg = where};
	free(copy);
	return err;
}

static uint64_t ns_of(struct timeval tv)
{
	return (uint64_t)tv.tv_sec * 1000000000u + (uint64_t)tv.tv_usec * 1000u;
}

PC_EXPORT int pc_reap(int32_t pidfd, int32_t block, struct pc_exit *out)
{
	siginfo_t info;
	struct rusage ru;
	int err;

	memset(&info, 0, sizeof info);
	do
		err = sys_waitid(P_PIDFD, pidfd, &info, WEXITED | __WALL | (block ? 0 : WNOHANG), &ru);
	while (err == -EINTR);
	if (err < 0)
		return err;
	if (info.si_pid == 0)
		return 0;
	*out = (struct pc_exit){
		.code = info.si_code,
		.status = info.si_status,
		.user_ns = ns_of(ru.ru_utime),
		.system_ns = ns_of(ru.ru_stime),
		.max_rss_bytes = (uint64_t)ru.ru_maxrss * 1024u,
	};
	return 1;
}

PC_EXPORT uint64_t *pc_trace_alloc(uint32_t count)
{
	void *p = mmap(NULL, count * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

PC_EXPORT void pc_trace_free(uint64_t *trace, uint32_t count)
{
	(void)munmap(trace, count * sizeof(uint64_t));
}
