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

static void free_job(struct pc_job *job)
{
	free(job->stub_argv);
	free(job);
}

/* In one piece: job, the Plan's bytes (8-byte aligned), room for a path to execute. */
static struct pc_job *new_job(const struct pc_start_args *a, struct pc_report *report)
{
	uint32_t where = 0;

	report->step = PC_STEP_DECODE;
	report->err = EBADMSG;
	if (a->plan_len < sizeof(struct pc_plan_header) || a->plan_len > PC_PLAN_MAX)
		return NULL;
	size_t bytes = (a->plan_len + 7) & ~(size_t)7;
	/* a path to execute: an entry of PATH, '/', argv[0], NUL; twice the Plan since both may be the same string */
	struct pc_job *job = calloc(1, sizeof *job + bytes + 2 * a->plan_len + 2);
	if (job == NULL) {
		*report = (struct pc_report){.step = PC_STEP_ALLOCATE, .err = ENOMEM};
		return NULL;
	}
	uint8_t *copy = (uint8_t *)(job + 1);
	memcpy(copy, a->plan, a->plan_len);
	if (pc_plan_decode(copy, a->plan_len, &job->plan, &where) < 0) {
		report->arg = where;
		free(job);
		return NULL;
	}
	char **room = calloc(pc_words_room(&job->plan), sizeof *room);
	if (room == NULL) {
		*report = (struct pc_report){.step = PC_STEP_ALLOCATE, .err = ENOMEM};
		free(job);
		return NULL;
	}
	pc_fill_words(job, room);
	job->exec_path = (char *)(copy + bytes);
	job->told_fd = -1;
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

/* What is not ours to reap must have ended all the same, before the finish section removes what it uses. */
static void end_quietly(int pidfd, bool sibling)
{
	struct pollfd ended = {.fd = pidfd, .events = POLLIN};
	siginfo_t info;

	(void)sys_pidfd_send_signal(pidfd, SIGKILL);
	while (sibling && sys_ppoll(&ended, 1, NULL) == -EINTR)
		;
	if (sibling)
		return;
	while (sys_waitid(P_PIDFD, pidfd, &info, WEXITED | __WALL, NULL) == -EINTR)
		;
}

/* The child's end is closed as soon as nobody in this process writes to it any more, so that its own can be heard. */
static int clone_and_talk(struct pc_job *job, uint64_t deadline_ns, struct pc_process *out)
{
	bool shared = job->plan.head.flags & PC_PLAN_SHARE_VM, ready = false;
	struct pc_report spawning = {0};
	struct spawner *spawner;
	int err = pc_spawn_begin(job, &spawner, &out->report), talk = 0;

	if (err < 0)
		return err;
	if (shared && job->plan.asks) {
		talk = pc_talk(job, PC_TALK_SERVE, deadline_ns, &ready, out);
		if (talk < 0 && job->pidfd >= 0)
			(void)sys_pidfd_send_signal(job->pidfd, SIGKILL); /* it may still wait for an answer */
	}
	err = pc_spawn_end(spawner, job, pc_deadline(job, deadline_ns), &spawning);
	pc_close_childs_end(job);
	if (talk < 0)
		return talk;
	if (err < 0) {
		out->report = spawning;
		return err;
	}
	return pc_talk(job, shared && !job->stubbed ? PC_TALK_DRAIN : PC_TALK_WAIT, deadline_ns, &ready, out);
}

static int clone_and_listen(struct pc_job *job, const struct pc_start_args *a, struct pc_process *out)
{
	int err = pc_open_conversation(job);

	if (err < 0) {
		out->report = (struct pc_report){.step = PC_STEP_SOCKET, .err = -err};
		return err;
	}
	err = job->plan.head.flags & PC_PLAN_ENTER ? pc_tell_enter(job) : 0;
	scoped_fd int told = job->told_fd;
	(void)told; /* only closed here */
	if (err < 0) {
		int ours = pc_end_conversation(job);
		fd_close(&ours);
		out->report = (struct pc_report){.step = PC_STEP_ENTER, .err = -err};
		return err;
	}
	job->pidfd = -1;
	job->pid = -ECHILD;
	err = clone_and_talk(job, a->deadline_ns, out);
	scoped_fd int pidfd = job->pidfd, ours = pc_end_conversation(job);
	if (err == 0 && !(job->plan.head.flags & (PC_PLAN_SHARE_VM | PC_PLAN_GATED)))
		job->execed_ns = sys_now_ns(); /* the end of file came from execve, which closed the child's end */
	if (err < 0) {
		if (pidfd >= 0)
			end_quietly(pidfd, job->sibling);
		fd_close(&out->tty_fd);
		return err;
	}
	out->pid = job->pid;
	out->pidfd = fd_take(&pidfd);
	if (job->plan.head.flags & PC_PLAN_GATED)
		out->gate_fd = fd_take(&ours);
	return 0;
}

PC_EXPORT int pc_plan_check(const uint8_t *bytes, uint64_t len, uint32_t *where)
{
	struct pc_plan plan;
	uint8_t *copy;

	if (len > PC_PLAN_MAX) {
		*where = 0;
		return -EBADMSG;
	}
	/* the caller's buffer may lie anywhere; ops are read in place and must be aligned */
	copy = malloc(len ? len : 1);
	if (copy == NULL)
		return -ENOMEM;
	if (len > 0) /* cffi passes NULL for an empty buffer, and memcpy must not see it */
		memcpy(copy, bytes, len);
	int err = pc_plan_decode(copy, len, &plan, where);
	free(copy);
	return err;
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
	job->sibling = a->sibling;
	job->trace_ns = a->trace_ns;
	job->n_trace = a->n_trace;
	job->sync = a->sync;
	job->sync_context = a->context;
	int err = fill_slots(job, a, &out->report);
	bool made = false;
	if (err == 0)
		err = pc_prepare(job, &made, &out->report);
	out->prepared_ns = sys_now_ns();
	if (err == 0)
		err = clone_and_listen(job, a, out);
	out->cloned_ns = job->cloned_ns;
	out->execed_ns = job->execed_ns;
	pc_end_network(job, err < 0);
	close_made_slots(job);
	if (err < 0 && made) { /* else what the finish section would remove is someone else's */
		memset(&usage, 0, sizeof usage);
		(void)pc_finish_plan(&job->plan, NULL, &usage, &ignored); /* the first failure is the one to tell */
	}
	free_job(job);
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
