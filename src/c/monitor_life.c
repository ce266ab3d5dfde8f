/* From start to start and to the end: launchers are run, the container is reaped, its restart policy followed.
 *
 * The container is a child of this process like its launcher, so that its number cannot become another's before it is reaped
 * here. While a launcher is at it, only that is reaped: which of the others is the container, its answer says.
 */
#include "monitor.h"

#include <errno.h>
#include <sys/wait.h>

/* Docker's: doubled from start to start, from the beginning again after ten seconds of running. */
#define BACKOFF_FIRST_NS (SECOND / 10)
#define BACKOFF_MOST_NS (60 * SECOND)
#define RAN_WELL_NS (10 * SECOND)

/* More than a pipe can hold: what still comes then is from a process outside the container that goes on writing. */
enum { LAST_READS = 256 };

/* Of /proc/PID/stat: together with the pid it names a process for good. */
enum { STARTED_FIELD = 22 };

static void write_number(char out[12], int v)
{
	size_t n = 0;

	if (v < 0)
		out[n++] = '-';
	n += pc_digits(out + n, (uint64_t)(v < 0 ? -v : v));
	out[n] = '\0';
}

/* fd 3 is the monitor's placeholder: none of the slots is there. */
static void __attribute__((noreturn)) become_launcher(struct monitor *m, const char *verb, const char *plan, const int *fds, int given,
						      int answer)
{
	static char name[] = "pycontain-launch";
	static char numbers[3 + 256][12];
	static char *words[3 + 3 + 256 + 1] = {name};
	char *const no_env[] = {NULL};
	size_t n = 3;

	/* should this monitor die, the launcher brings to an end what it has begun, and the lock is its for so long */
	if (sys_fchdir(m->data) < 0 || sys_dup3(answer, PC_LAUNCH_ANSWER, 0) < 0 || sys_fcntl(m->lock, F_SETFD, 0) < 0)
		sys_exit_group(127);
	words[1] = (char *)(uintptr_t)verb;
	words[2] = (char *)(uintptr_t)plan;
	for (int i = 0; i < given; i++) {
		if (fds[i] >= 0 && sys_fcntl(fds[i], F_SETFD, 0) < 0)
			sys_exit_group(127);
		write_number(numbers[i], fds[i]);
		words[n++] = numbers[i];
	}
	words[n] = NULL;
	(void)sys_execveat(m->launcher_file, "", words, no_env, AT_EMPTY_PATH);
	sys_exit_group(127);
}

int pc_launch(struct monitor *m, const char *verb, const char *plan, const int *fds, int n, int *answer)
{
	struct clone_args args = {.exit_signal = SIGCHLD};
	int pair[2], err = sys_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);

	if (err < 0)
		return err;
	long pid = sys_clone3(&args);
	if (pid == 0)
		become_launcher(m, verb, plan, fds, n, pair[1]);
	(void)sys_close(pair[1]);
	if (pid < 0) {
		(void)sys_close(pair[0]);
		return (int)pid;
	}
	*answer = pair[0];
	return (int)pid;
}

/* 0, or -errno with nothing under way */
static int run_launcher(struct monitor *m, bool start, const int theirs[3])
{
	int fds[3 + 256], n = 0;

	for (; start && n < 3 + m->n_slots; n++)
		fds[n] = n < 3 ? theirs[n] : m->slots[n - 3];
	int pid = pc_launch(m, start ? "start" : "finish", "plan", fds, n, &m->answer);
	if (pid < 0)
		return pid;
	m->launcher = pid;
	return 0;
}

/* To whoever has started this monitor, once. */
static void tell_starter(struct monitor *m, const struct pc_launch_answer *a)
{
	if (m->starter >= 0)
		(void)sys_send(m->starter, a, sizeof *a, MSG_NOSIGNAL); /* who has not waited does not want to know */
	fd_close(&m->starter);
}

static void start_failed(struct monitor *m, const struct pc_launch_answer *a)
{
	m->failed = a->report;
	pc_streams_close(m);
	pc_log_end(&m->log);
	pc_life_over(m);
	tell_starter(m, a);
}

static void failed_here(struct monitor *m, enum pc_step step, int err)
{
	const struct pc_launch_answer a = {.err = -err, .pid = -1, .report = {.step = step, .err = -err}};

	start_failed(m, &a);
}

void pc_life_begin(struct monitor *m)
{
	int theirs[3];

	m->phase = STARTING;
	m->failed = (struct pc_report){.err = 0};
	int err = pc_streams_open(m, theirs);
	if (err < 0) {
		failed_here(m, PC_STEP_STREAMS, err);
		return;
	}
	err = run_launcher(m, true, theirs);
	for (int i = 0; i < 3; i++)
		fd_close(&theirs[i]);
	if (err < 0)
		failed_here(m, PC_STEP_LAUNCHER, err);
}

uint64_t pc_stat_field(int pid, int field)
{
	char path[32] = "/proc/", stat[1024];
	size_t n = 6 + pc_digits(path + 6, (uint64_t)pid);
	uint64_t value = 0;

	for (const char *s = "/stat"; *s != '\0';)
		path[n++] = *s++;
	path[n] = '\0';
	scoped_fd int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	long got = fd < 0 ? 0 : sys_read(fd, stat, sizeof stat - 1), at = got;
	while (at > 0 && stat[at - 1] != ')') /* a name may hold anything, this too */
		at--;
	for (int spaces = 0; at < got && spaces < field - 2; at++) /* behind ")": field 3 and on */
		spaces += stat[at] == ' ';
	for (; at < got && stat[at] >= '0' && stat[at] <= '9'; at++)
		value = value * 10 + (uint64_t)(stat[at] - '0');
	return value;
}

static void started(struct monitor *m, const struct pc_launch_answer *a, int tty)
{
	if (m->tty && tty >= 0) {
		(void)sys_fcntl(tty, F_SETFL, O_RDWR | O_NONBLOCK);
		m->in = sys_fcntl(tty, F_DUPFD_CLOEXEC, 10);
		m->out[0] = tty;
	}
	m->phase = RUNNING;
	m->pid = a->pid;
	m->pid_started = pc_stat_field(m->pid, STARTED_FIELD);
	m->ran = true;
	m->paused = false;
	m->oom_killed = false;
	m->exit_code = m->end_signal = 0;
	m->finish_err = 0;
	pc_instant_now(&m->started);
	m->finished = (struct instant){.at_ns = 0};
	pc_event(m, "start", "");
	pc_health_begin(m);
	pc_state_write(m);
	tell_starter(m, a);
	if (m->stop_signal)
		pc_stop(m, m->stop_signal, m->grace_ns);
	pc_life_reap(m); /* it may have ended before we knew that it is the one */
}

bool pc_life_may_restart(const struct monitor *m)
{
	switch ((enum pc_policy)m->policy) {
	case PC_POLICY_NO:
	case PC_POLICIES:
		return false;
	case PC_POLICY_ON_FAILURE:
		return m->exit_code != 0 && (m->max_restarts == 0 || m->restarts < m->max_restarts);
	case PC_POLICY_ALWAYS:
	case PC_POLICY_UNLESS_STOPPED:
		return true;
	}
	return false;
}

static void tell_end(struct monitor *m, bool again)
{
	pc_put32(pc_chunk.data, m->exit_code);
	pc_put32(pc_chunk.data + 4, m->end_signal);
	pc_put32(pc_chunk.data + 8, again);
	pc_clients_tell(m, PC_FRAME_ENDED, 12, true);
}

void pc_life_over(struct monitor *m)
{
	m->phase = OVER;
	m->restart_at = m->kill_at = FOREVER;
	if (m->stopping)
		pc_event(m, "stop", "");
	pc_state_write(m);
	tell_end(m, false);
}

static void finished(struct monitor *m, const struct pc_launch_answer *a)
{
	if (m->failed.err) { /* of a start whose launcher has died: its traces are gone now */
		const struct pc_launch_answer why = {.err = m->failed.err, .pid = -1, .report = m->failed};
		start_failed(m, &why);
		return;
	}
	m->oom_killed = a->usage.oom_kills > 0;
	m->finish_err = a->err;
	if (m->oom_killed)
		pc_event(m, "oom", "");
	pc_event_die(m);
	if (m->ends || !pc_life_may_restart(m)) {
		pc_life_over(m);
		return;
	}
	const bool ran_well = m->finished.at_ns - m->started.at_ns >= RAN_WELL_NS;
	m->backoff_ns = ran_well || m->backoff_ns == 0 ? BACKOFF_FIRST_NS : 2 * m->backoff_ns;
	if (m->backoff_ns > BACKOFF_MOST_NS)
		m->backoff_ns = BACKOFF_MOST_NS;
	m->phase = WAITING;
	m->restart_at = sys_now_ns() + m->backoff_ns;
	pc_state_write(m);
	tell_end(m, true);
}

static void answered(struct monitor *m, const struct pc_launch_answer *a, int *tty)
{
	if (m->phase == FINISHING)
		finished(m, a);
	else if (a->err == 0)
		started(m, a, fd_take(tty));
	else
		start_failed(m, a);
}

static void finish(struct monitor *m)
{
	pc_streams_close(m); /* what a process outside the container still holds open, it holds for itself */
	pc_log_end(&m->log);
	m->phase = FINISHING;
	int err = run_launcher(m, false, NULL);
	if (err < 0) {
		const struct pc_launch_answer a = {.err = -err, .pid = -1};
		finished(m, &a);
	}
}

void pc_life_answer(struct monitor *m)
{
	struct pc_launch_answer a;
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {&a, sizeof a};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	scoped_fd int tty = -1;
	long n = sys_recvmsg(m->answer, &msg, MSG_CMSG_CLOEXEC);

	if (n == -EINTR)
		return;
	fd_close(&m->answer);
	struct cmsghdr *cm = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (cm != NULL && cm->cmsg_type == SCM_RIGHTS && cm->cmsg_len == CMSG_LEN(sizeof tty))
		__builtin_memcpy(&tty, CMSG_DATA(cm), sizeof tty);
	if (n == sizeof a) {
		answered(m, &a, &tty);
		return;
	}
	/* killed, or it could not be executed: its end of the socket has closed without a word */
	a = (struct pc_launch_answer){.err = ECHILD, .pid = -1, .report = {.step = PC_STEP_LAUNCHER, .err = ECHILD}};
	if (m->phase == STARTING) {
		m->failed = a.report;
		finish(m); /* there may be a cgroup, and a container in it */
	} else {
		finished(m, &a);
	}
}

static void container_ended(struct monitor *m, const siginfo_t *info)
{
	const bool exited = info->si_code == CLD_EXITED;

	m->exit_code = (uint32_t)(exited ? info->si_status : 128 + info->si_status);
	m->end_signal = exited ? 0 : (uint32_t)info->si_status;
	m->pid = 0;
	m->pid_started = 0;
	m->paused = false;
	m->kill_at = FOREVER;
	m->phase = DRAINING;
	m->last_reads = LAST_READS;
	pc_instant_now(&m->finished);
	pc_health_end(m);
}

/* Who has ended, `pid` or (0) anybody, and is not reaped yet; 0: nobody. */
static int ended(int pid)
{
	siginfo_t info = {.si_pid = 0};
	int err = sys_waitid(pid ? P_PID : P_ALL, pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL, NULL);

	return err < 0 ? 0 : info.si_pid;
}

/* Of those whom we know by now: while a launcher is at it, one of the others is what it has started. */
static int next_ended(const struct monitor *m)
{
	if (m->phase == STARTING && m->answer >= 0)
		return m->launcher ? ended(m->launcher) : 0;
	if (m->health.check != CHECK_STARTING)
		return ended(0);
	int pid = m->health.launcher ? ended(m->health.launcher) : 0;
	return pid || !m->pid ? pid : ended(m->pid);
}

void pc_life_reap(struct monitor *m)
{
	for (int pid; (pid = next_ended(m)) > 0;) {
		siginfo_t info = {.si_pid = 0};
		if (pid == m->health.pid) /* as long as it is not reaped its number is that of its own process group only */
			(void)sys_kill(-pid, SIGKILL);
		if (sys_waitid(P_PID, pid, &info, WEXITED | WNOHANG | __WALL, NULL) < 0)
			return;
		if (pid == m->launcher)
			m->launcher = 0;
		else if (pid == m->pid)
			container_ended(m, &info);
		else
			(void)pc_health_reaped(m, &info);
		/* else the child of a start that has failed, or one that another has gone on for (FORK) */
	}
}

/* Its last words: until there is nothing more, or a client has to take some first. */
static bool drained(struct monitor *m)
{
	for (int s = 0; s < STREAMS; s++)
		while (m->out[s] >= 0) {
			if (pc_clients_owed(m))
				return false;
			if (m->last_reads == 0 || !pc_stream_read(m, s))
				break;
			m->last_reads--;
		}
	return !pc_clients_owed(m);
}

void pc_life_go_on(struct monitor *m, uint64_t now)
{
	if (m->phase == DRAINING && drained(m))
		finish(m);
	if (m->phase == WAITING && now >= m->restart_at) {
		m->restart_at = FOREVER;
		m->restarts++;
		pc_life_begin(m);
	}
}
