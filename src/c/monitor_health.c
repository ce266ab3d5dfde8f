/* Health checks: an exec Plan on a timer, one at a time; what each has come to, and what that makes of the container's health.
 *
 * A launcher starts the check, as it starts a container: the check is this process's child. The Plan, in the file "health-plan",
 * has a cgroup for it below the container's, where there is one: a check is over when its process has ended or its time is up, and
 * then a launcher executes the Plan's finish section, which ends whatever it has left behind. What the check says is read to the
 * end, so that it does not stop at a full pipe, and the first HEALTH_OUTPUT bytes are kept until it ends.
 *
 * The rules are Docker's: failures in the start period do not count unless it has been healthy before; so many in a row make it
 * unhealthy, one success healthy.
 */
#include "monitor.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* More than a pipe can hold: what still comes then is from a process that the check has left behind. */
enum { LAST_READS = 32, CHECK_GIVEN = 9, STUB_SLOT = 3, UNWANTED = 4096 };

#define LATER_NS (SECOND / 2) /* while somebody else holds the container still */
#define PF_EXITING 4u

/* Behind what is kept, room for what is not: given back with it, which a page of the stack would never be. */
static uint8_t output[HEALTH_OUTPUT + UNWANTED] __attribute__((aligned(4096)));

bool pc_health_ask(struct health *h, const char *numbers)
{
	uint64_t found[5] = {0};
	size_t at = 0;

	for (; *numbers != '\0'; numbers++) {
		if (*numbers == ':' && at < 4)
			at++;
		else if (*numbers >= '0' && *numbers <= '9' && found[at] < 1ull << 60)
			found[at] = found[at] * 10 + (uint64_t)(*numbers - '0');
		else
			return false;
	}
	h->interval_ns = found[0];
	h->timeout_ns = found[1];
	h->start_period_ns = found[2];
	h->start_interval_ns = found[3];
	h->retries = (uint32_t)found[4];
	h->wanted = true;
	return at == 4 && found[0] > 0 && found[1] > 0 && found[3] > 0 && found[4] > 0 && found[4] <= UINT32_MAX;
}

static void schedule(struct monitor *m)
{
	struct health *h = &m->health;
	const uint64_t now = sys_now_ns();
	const bool young = now - m->started.at_ns < h->start_period_ns && h->status == HEALTH_STARTING;

	h->due_at = now + (young ? h->start_interval_ns : h->interval_ns);
}

void pc_health_begin(struct monitor *m)
{
	struct health *h = &m->health;
	char name[] = "health.0";

	if (!h->wanted)
		return;
	for (int i = 0; i < HEALTH_RESULTS; i++) {
		name[sizeof name - 2] = (char)('0' + i);
		(void)sys_unlinkat(m->data, name, 0);
	}
	h->status = HEALTH_STARTING;
	h->streak = h->number = 0;
	schedule(m);
}

/* --- what a check has come to ----------------------------------------------------------------------------------------- */

/* Whether the container's first process is about to end, and takes the check with it. */
static bool container_ends(const struct monitor *m)
{
	return m->pid == 0 || pc_stat_field(m->pid, 9) & PF_EXITING;
}

static void judge(struct monitor *m, const struct health_result *r)
{
	struct health *h = &m->health;

	if (r->exit_code == 0) {
		h->streak = 0;
		h->status = HEALTH_GOOD;
	} else if (h->status != HEALTH_STARTING || h->began.at_ns - m->started.at_ns >= h->start_period_ns) {
		if (h->streak < UINT32_MAX)
			h->streak++;
		if (h->streak >= h->retries)
			h->status = HEALTH_BAD;
	}
}

/* The check is over for whoever asks. */
static void conclude(struct monitor *m, struct health_result *r)
{
	struct health *h = &m->health;
	const enum health_status before = h->status;

	fd_close(&h->out);
	h->kill_at = FOREVER;
	if (!h->voided) {
		pc_instant_now(&r->ended);
		judge(m, r);
		pc_health_write(m, r, output);
		h->number++;
		if (h->status != before) {
			pc_state_write(m);
			pc_event(m, h->status == HEALTH_GOOD ? "health_status: healthy" : "health_status: unhealthy", "");
		}
	}
	if (h->got > 0)
		(void)sys_madvise(output, sizeof output, MADV_DONTNEED);
	h->check = CHECK_ENDED;
	schedule(m);
}

static void not_started(struct monitor *m, const struct pc_report *why)
{
	struct health_result r = {.exit_code = -1, .why = *why};

	if (r.why.err == 0)
		r.why = (struct pc_report){.step = PC_STEP_LAUNCHER, .err = ECHILD};
	m->health.voided = m->health.voided || container_ends(m);
	conclude(m, &r);
}

static void kill_check(struct health *h)
{
	if (h->pid > 0) {
		(void)sys_kill(-h->pid, SIGKILL); /* the session that it leads */
		(void)sys_kill(h->pid, SIGKILL);
	}
}

/* A launcher that is killed leaves a process that finds nobody to report to, and ends. */
static void drop_launcher(struct health *h)
{
	if (h->launcher > 0)
		(void)sys_kill(h->launcher, SIGKILL);
	h->launcher = 0;
	fd_close(&h->answer);
}

static void time_out(struct monitor *m)
{
	struct health_result r = {.exit_code = -1, .timed_out = true};

	drop_launcher(&m->health);
	kill_check(&m->health);
	conclude(m, &r);
}

/* --- from its start to its end ---------------------------------------------------------------------------------------- */

/* -errno with nothing left open, or 0 */
static int launch(struct monitor *m)
{
	struct health *h = &m->health;
	int pair[2], err;

	scoped_fd int null = sys_fcntl(m->null, F_DUPFD_CLOEXEC, 10);
	scoped_fd int pidfd = sys_pidfd_open(m->pid, 0);
	if (null < 0 || pidfd < 0)
		return null < 0 ? null : pidfd;
	if ((err = sys_pipe2(pair, O_CLOEXEC)) < 0)
		return err;
	h->out = pair[0];
	scoped_fd int theirs = pair[1];
	(void)sys_fcntl(h->out, F_SETFL, O_NONBLOCK);
	const int fds[CHECK_GIVEN] = {null, theirs, theirs, -1, -1, -1, m->n_slots > STUB_SLOT ? m->slots[STUB_SLOT] : -1, h->enter, pidfd};
	h->launcher = pc_launch(m, "check", "health-plan", fds, CHECK_GIVEN, &h->answer);
	if (h->launcher >= 0)
		return 0;
	err = h->launcher;
	h->launcher = 0;
	fd_close(&h->out);
	return err;
}

static void begin(struct monitor *m)
{
	struct health *h = &m->health;

	h->got = 0;
	h->cut = h->voided = false;
	pc_instant_now(&h->began);
	h->kill_at = h->began.at_ns + h->timeout_ns;
	h->check = CHECK_STARTING;
	int err = launch(m);
	if (err < 0) {
		const struct pc_report why = {.step = PC_STEP_LAUNCHER, .err = -err};
		not_started(m, &why);
	}
}

static void clean(struct monitor *m)
{
	struct health *h = &m->health;
	int pid = pc_launch(m, "finish", "health-plan", NULL, 0, &h->answer);

	h->check = CHECK_CLEANING;
	if (pid > 0)
		h->launcher = pid;
	else if (h->pid == 0)
		h->check = CHECK_NONE; /* the next one finds what is left, and says so */
}

static void started(struct monitor *m, const struct pc_launch_answer *a)
{
	struct health *h = &m->health;

	if (a->err == EAGAIN && a->report.err == 0) {
		fd_close(&h->out);
		h->check = CHECK_NONE;
		h->due_at = sys_now_ns() + LATER_NS;
		h->kill_at = FOREVER;
	} else if (a->err != 0) {
		not_started(m, &a->report);
	} else {
		h->pid = a->pid;
		h->check = CHECK_RUNNING;
		if (h->voided)
			time_out(m);
	}
	pc_life_reap(m); /* it may have ended before we knew that it is the one */
}

void pc_health_answer(struct monitor *m)
{
	struct health *h = &m->health;
	struct pc_launch_answer a;
	struct iovec iov = {&a, sizeof a};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (h->answer < 0)
		return;
	long n = sys_recvmsg(h->answer, &msg, MSG_CMSG_CLOEXEC);
	if (n == -EINTR)
		return;
	fd_close(&h->answer);
	if (n != sizeof a)
		a = (struct pc_launch_answer){.err = ECHILD, .pid = -1, .report = {.step = PC_STEP_LAUNCHER, .err = ECHILD}};
	if (h->check == CHECK_STARTING)
		started(m, &a);
	else if (h->check == CHECK_CLEANING && h->pid == 0)
		h->check = CHECK_NONE;
}

/* false: there is no more now */
static bool read_some(struct health *h)
{
	const bool full = h->got == HEALTH_OUTPUT;
	long n = sys_read(h->out, output + h->got, full ? UNWANTED : HEALTH_OUTPUT - h->got);

	if (n == -EAGAIN || n == -EINTR)
		return false;
	if (n <= 0) {
		fd_close(&h->out);
		return false;
	}
	if (full)
		h->cut = true;
	else
		h->got += (uint32_t)n;
	return true;
}

void pc_health_read(struct monitor *m)
{
	if (m->health.out >= 0)
		(void)read_some(&m->health);
}

bool pc_health_reaped(struct monitor *m, const siginfo_t *info)
{
	struct health *h = &m->health;
	const bool exited = info->si_code == CLD_EXITED;
	struct health_result r = {.exit_code = exited ? info->si_status : 128 + info->si_status};

	if (h->launcher > 0 && info->si_pid == h->launcher) {
		h->launcher = 0;
		return true;
	}
	if (h->pid == 0 || info->si_pid != h->pid)
		return false;
	h->pid = 0;
	if (h->check == CHECK_RUNNING) {
		for (int i = 0; i < LAST_READS && h->out >= 0 && read_some(h); i++)
			;
		h->voided = h->voided || (!exited && container_ends(m));
		conclude(m, &r);
	} else if (h->check == CHECK_CLEANING && h->answer < 0) {
		h->check = CHECK_NONE;
	}
	return true;
}

/* --- the container ends, or stands still ------------------------------------------------------------------------------ */

/* Its finish section ends whatever is in its cgroups, the check's among them. */
void pc_health_end(struct monitor *m)
{
	struct health *h = &m->health;

	drop_launcher(h);
	kill_check(h);
	fd_close(&h->out);
	h->check = h->pid > 0 ? CHECK_CLEANING : CHECK_NONE;
	h->due_at = h->kill_at = FOREVER;
}

/* The check under way does not count; frozen, it ends when the container goes on. */
void pc_health_pause(struct monitor *m)
{
	struct health *h = &m->health;

	if (!h->wanted || m->phase != RUNNING)
		return;
	h->voided = true;
	if (m->paused && h->check == CHECK_RUNNING)
		time_out(m);
	schedule(m);
}

void pc_health_go_on(struct monitor *m, uint64_t now)
{
	struct health *h = &m->health;

	if (!h->wanted || m->phase != RUNNING)
		return;
	if (now >= h->kill_at)
		time_out(m);
	if (h->check == CHECK_NONE && now >= h->due_at && !m->paused)
		begin(m);
	if (h->check == CHECK_ENDED && !m->paused) /* nothing else will wake us for it */
		clean(m);
}

uint64_t pc_health_deadline(const struct monitor *m)
{
	const struct health *h = &m->health;

	if (h->check == CHECK_STARTING || h->check == CHECK_RUNNING)
		return h->kill_at;
	return h->check == CHECK_NONE && m->phase == RUNNING && !m->paused ? h->due_at : FOREVER;
}
