/* The state file: what has become of the container, for whoever asks, now or when nobody lives any more to be asked.
 *
 * Written beside, synced, renamed. On a full disk the old one is overwritten, which needs no room: it fits into one block.
 */
#include "monitor.h"

#include <errno.h>

enum { ROOM = 1536, RETRY_S = 5 };

struct text {
	char bytes[ROOM];
	size_t n;
};

size_t pc_digits(char *out, uint64_t v)
{
	char reversed[20];
	size_t n = 0;

	do {
		reversed[n++] = (char)('0' + v % 10);
		v /= 10;
	} while (v != 0);
	for (size_t i = 0; i < n; i++)
		out[i] = reversed[n - 1 - i];
	return n;
}

static uint8_t *two(uint8_t *to, int64_t v)
{
	*to++ = (uint8_t)('0' + v / 10 % 10);
	*to++ = (uint8_t)('0' + v % 10);
	return to;
}

/* Days to a date: years that begin in March have their odd day at the end, and 400 of them 146097 days. */
void pc_stamp(uint8_t out[STAMP], const struct timespec *t)
{
	const int64_t days = t->tv_sec / 86400, second = t->tv_sec % 86400;
	const int64_t shifted = days + 719468, era = shifted / 146097, of_era = shifted % 146097;
	const int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	const int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	const int64_t from_march = (5 * of_year + 2) / 153, day = of_year - (153 * from_march + 2) / 5 + 1;
	const int64_t month = from_march < 10 ? from_march + 3 : from_march - 9;
	const int64_t year = year_of_era + era * 400 + (month <= 2);
	uint8_t *to = two(two(out, year / 100), year % 100);

	*to++ = '-';
	to = two(to, month);
	*to++ = '-';
	to = two(to, day);
	*to++ = 'T';
	to = two(to, second / 3600);
	*to++ = ':';
	to = two(to, second / 60 % 60);
	*to++ = ':';
	to = two(to, second % 60);
	*to++ = '.';
	for (int64_t unit = 100000000; unit > 0; unit /= 10)
		*to++ = (uint8_t)('0' + t->tv_nsec / unit % 10);
	*to = 'Z';
}

void pc_instant_now(struct instant *t)
{
	t->at_ns = sys_now_ns();
	(void)sys_clock_gettime(CLOCK_REALTIME, &t->real); /* cannot fail for this clock */
}

/* Far more than the names of all fields and all numbers need; what did not fit would be no JSON, and is noticed by a reader. */
static void add(struct text *t, const char *s)
{
	while (*s != '\0' && t->n < ROOM)
		t->bytes[t->n++] = *s++;
}

static void add_number(struct text *t, const char *name, uint64_t v)
{
	char digits[21];

	digits[pc_digits(digits, v)] = '\0';
	add(t, ",\"");
	add(t, name);
	add(t, "\":");
	add(t, digits);
}

static void add_bool(struct text *t, const char *name, bool v)
{
	add(t, ",\"");
	add(t, name);
	add(t, v ? "\":true" : "\":false");
}

static void add_instant(struct text *t, const char *name, const struct instant *at)
{
	char stamp[STAMP + 1] = "";

	if (at->real.tv_sec != 0)
		pc_stamp((uint8_t *)stamp, &at->real);
	stamp[STAMP] = '\0';
	add(t, ",\"");
	add(t, name);
	add(t, "\":\"");
	add(t, stamp);
	add(t, "\"");
}

static void add_byte(struct text *t, uint8_t c)
{
	static const char hex[] = "0123456789abcdef";
	const char escaped[7] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15], '\0'}, itself[2] = {(char)c, '\0'};

	add(t, c < 0x20 || c >= 0x7f || c == '"' || c == '\\' ? escaped : itself);
}

/* A path that could not be removed, or a step's name. */
static void add_text(struct text *t, const char *name, const char *value)
{
	add(t, ",\"");
	add(t, name);
	add(t, "\":\"");
	for (; *value != '\0' && t->n + 200 < ROOM; value++)
		add_byte(t, (uint8_t)*value);
	add(t, "\"");
}

static const char *status_of(const struct monitor *m)
{
	switch (m->phase) {
	case STARTING:
		return m->ran ? "restarting" : "created";
	case RUNNING:
	case DRAINING:
	case FINISHING:
		return m->paused ? "paused" : "running";
	case WAITING:
		return "restarting";
	case OVER:
		return m->dead ? "dead" : m->ran ? "exited" : "created";
	}
	return "dead";
}

static const char *const health_names[] = {"starting", "healthy", "unhealthy"};

static void describe(struct monitor *m, struct text *t)
{
	add(t, "{\"format\":1,\"status\":\"");
	add(t, status_of(m));
	add(t, "\"");
	add_number(t, "monitor_pid", (uint64_t)m->self);
	add_number(t, "pid", (uint64_t)m->pid);
	add_number(t, "pid_started", m->pid_started);
	add_instant(t, "started_at", &m->started);
	add_instant(t, "finished_at", &m->finished);
	add_number(t, "exit_code", m->exit_code);
	add_number(t, "signal", m->end_signal);
	add_bool(t, "oom_killed", m->oom_killed);
	add_number(t, "restart_count", m->restarts);
	add_bool(t, "stopped_by_request", m->asked);
	add_number(t, "lost_log_bytes", m->log.lost);
	add_text(t, "health", m->health.wanted && m->ran ? health_names[m->health.status] : "");
	add_text(t, "error_step", m->failed.err ? pc_step_name(m->failed.step) : "");
	add_number(t, "error_errno", (uint64_t)(uint32_t)m->failed.err);
	add_number(t, "error_section", m->failed.section);
	add_number(t, "error_arg", m->failed.arg);
	add_number(t, "finish_errno", (uint64_t)(uint32_t)m->finish_err);
	add_text(t, "not_removed", m->dead ? m->dead : "");
	add(t, "}\n");
}

static int write_all(int fd, const struct text *t)
{
	long n = sys_write(fd, t->bytes, t->n);
	int err = n < 0 ? (int)n : (size_t)n < t->n ? -ENOSPC : 0;

	return err < 0 ? err : sys_fsync(fd);
}

static int write_beside(struct monitor *m, const struct text *t)
{
	scoped_fd int fd = sys_openat(m->data, "state.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int err = fd < 0 ? fd : write_all(fd, t);

	if (err == 0)
		err = sys_renameat(m->data, "state.new", m->data, "state");
	if (err < 0)
		(void)sys_unlinkat(m->data, "state.new", 0);
	return err;
}

static int write_over(struct monitor *m, const struct text *t)
{
	scoped_fd int fd = sys_openat(m->data, "state", O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0);
	int err = fd < 0 ? fd : write_all(fd, t);

	return err < 0 ? err : sys_ftruncate(fd, t->n);
}

void pc_state_write(struct monitor *m)
{
	struct text t;

	t.n = 0;
	describe(m, &t);
	m->state_at = write_beside(m, &t) < 0 && write_over(m, &t) < 0 ? sys_now_ns() + RETRY_S * SECOND : FOREVER;
}

/* --- results of health checks ------------------------------------------------------------------------------------- */

static int pour(int fd, struct text *t)
{
	long n = sys_write(fd, t->bytes, t->n);
	int err = n < 0 ? (int)n : (size_t)n < t->n ? -ENOSPC : 0;

	t->n = 0;
	return err;
}

static int write_result(int fd, const struct health *h, const struct health_result *r, const uint8_t *output)
{
	struct text t;
	int err = 0;

	t.n = 0;
	add(&t, "{\"format\":1");
	add_number(&t, "number", h->number);
	add_instant(&t, "start", &h->began);
	add_instant(&t, "end", &r->ended);
	add_number(&t, "exit_code", (uint64_t)(uint32_t)r->exit_code);
	add_number(&t, "failing_streak", h->streak);
	add_bool(&t, "timed_out", r->timed_out);
	add_bool(&t, "cut", h->cut);
	add_text(&t, "error_step", r->why.err ? pc_step_name(r->why.step) : "");
	add_number(&t, "error_errno", (uint64_t)(uint32_t)r->why.err);
	add_number(&t, "error_section", r->why.section);
	add_number(&t, "error_arg", r->why.arg);
	add(&t, ",\"output\":\"");
	for (uint32_t i = 0; i < h->got && err == 0; i++) {
		add_byte(&t, output[i]);
		if (t.n + 10 > ROOM)
			err = pour(fd, &t);
	}
	add(&t, "\"}\n");
	return err < 0 ? err : pour(fd, &t);
}

/* Not synced: what it has changed of the state is, and the next one is not far. On a full disk there is none. */
void pc_health_write(struct monitor *m, const struct health_result *r, const uint8_t *output)
{
	char name[] = "health.0";
	scoped_fd int fd = sys_openat(m->data, "health.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	name[sizeof name - 2] = (char)('0' + m->health.number % HEALTH_RESULTS);
	int err = fd < 0 ? fd : write_result(fd, &m->health, r, output);
	if (err == 0)
		err = sys_renameat(m->data, "health.new", m->data, name);
	if (err < 0)
		(void)sys_unlinkat(m->data, "health.new", 0);
}
