/* pycontain-monitor: the parent of one detached container, for as long as that is meant to run. ADR 15.
 *
 *   pycontain-monitor DATA_DIR RUN_DIR LAUNCHER [WORD...]
 *
 *   tty                the Plan makes a terminal       stdin, stdin-once  its standard input is a pipe; ends with the first client
 *   restart=no | on-failure[:N] | always | unless-stopped
 *   log=json-file | none   max-size=BYTES   max-file=N
 *   journal=SOCKET     each line goes to systemd's journal
 *   cgroup=PATH        killed and removed at the very end; may be given often
 *   remove=PATH        a directory or file to be removed after that; may be given often
 *   events=PATH        the directory of the journal (monitor_event.c)
 *   destroy=PATH       as remove, of a container that removes itself; not when it is stopped to be started again
 *   health=INTERVAL:TIMEOUT:START_PERIOD:START_INTERVAL:RETRIES   the Plan "health-plan" checks it; nanoseconds
 *
 * fd 3 is a socket that keeps messages whole. The first message comes from the starter: a byte for each of the Plan's slots after
 * the three streams, '+' for the next of the descriptors that come with it, '-' for an empty one; then 'k' for each that is only
 * kept open, for its lock; 'e' for pycontain-enter, sealed, when there are health checks; last of all perhaps '@' for a socket,
 * which is then a client from the beginning, attached to both streams. The slots are kept for restarts: what a template, an id map or a translated layer is costs nothing while the
 * container's own mounts hold it anyway. One message goes back, a struct pc_launch_answer: it runs, or why not.
 *
 * The process that is executed ends at once; its child is nobody's but init's. Without libc: start.h.
 */
#include "start.h"

#include "monitor.h"
#include "tree.h"

#include <errno.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mman.h>

/* Where its own set-up can fail: the report's `arg`. */
enum place { WORDS, SLOTS, DATA_DIR, RUN_DIR, LOCK, LOG, SOCKET, SIGNALS, LAUNCHER };

/* SIGTERM, as at a shutdown, stops the container; all other signals are blocked. */
enum { TERM_GRACE_S = 10 };

/* --- words ------------------------------------------------------------------------------------------------------ */

/* What follows `name`, or NULL. */
static const char *value_of(const char *word, const char *name)
{
	while (*name != '\0')
		if (*word++ != *name++)
			return NULL;
	return word;
}

static bool is(const char *word, const char *name)
{
	const char *rest = value_of(word, name);

	return rest != NULL && *rest == '\0';
}

static bool number(const char *s, uint64_t *out)
{
	*out = 0;
	if (*s == '\0')
		return false;
	for (; *s >= '0' && *s <= '9' && *out < 1ull << 59; s++)
		*out = *out * 10 + (uint64_t)(*s - '0');
	return *s == '\0';
}

static bool set_policy(struct monitor *m, const char *s)
{
	static const char *const names[PC_POLICIES] = {"no", "on-failure", "always", "unless-stopped"};
	const char *limit = value_of(s, "on-failure:");
	uint64_t max;

	for (m->policy = 0; m->policy < PC_POLICIES; m->policy++)
		if (is(s, names[m->policy]))
			return true;
	if (limit == NULL || !number(limit, &max) || max > UINT32_MAX)
		return false;
	m->policy = PC_POLICY_ON_FAILURE;
	m->max_restarts = (uint32_t)max;
	return true;
}

static bool set_word(struct monitor *m, const char *word, bool *no_log)
{
	const char *value;
	uint64_t n = 0;

	if (is(word, "tty"))
		return m->tty = true;
	if (is(word, "stdin"))
		return m->open_stdin = true;
	if (is(word, "stdin-once"))
		return m->open_stdin = m->stdin_once = true;
	if ((value = value_of(word, "destroy=")) != NULL)
		return (m->destroys = *value == '/');
	if ((value = value_of(word, "restart=")) != NULL)
		return set_policy(m, value);
	if ((value = value_of(word, "log=")) != NULL) {
		*no_log = is(value, "none");
		return *no_log || is(value, "json-file");
	}
	if ((value = value_of(word, "journal=")) != NULL) {
		m->journal = value;
		return *value == '/';
	}
	if ((value = value_of(word, "max-size=")) != NULL)
		return number(value, &m->log.max_size);
	if ((value = value_of(word, "max-file=")) != NULL) {
		bool good = number(value, &n) && n >= 1 && n <= 1000;
		m->log.max_file = (uint32_t)n;
		return good;
	}
	if ((value = value_of(word, "events=")) != NULL) {
		m->events = value;
		return *value == '/';
	}
	if ((value = value_of(word, "health=")) != NULL)
		return pc_health_ask(&m->health, value);
	return ((value = value_of(word, "remove=")) != NULL || (value = value_of(word, "cgroup=")) != NULL) && *value == '/';
}

/* --- set-up ----------------------------------------------------------------------------------------------------- */

static int receive_slots(struct monitor *m)
{
	enum { MOST = 253 }; /* the kernel's SCM_MAX_FD */
	union {
		char bytes[CMSG_SPACE(MOST * sizeof(int))];
		struct cmsghdr align;
	} control;
	char marks[256];
	struct iovec iov = {marks, sizeof marks};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	long n;

	while ((n = sys_recvmsg(m->starter, &msg, MSG_CMSG_CLOEXEC)) == -EINTR)
		;
	if (n < 0)
		return (int)n;
	struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);
	const size_t given = cm != NULL && cm->cmsg_type == SCM_RIGHTS ? (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
	size_t used = 0;
	for (long i = 0; i < n; i++) {
		int fd = -1;
		if (marks[i] != '-') {
			if (used == given)
				return -EBADMSG;
			__builtin_memcpy(&fd, CMSG_DATA(cm) + sizeof fd * used++, sizeof fd);
		}
		if (marks[i] == '@')
			pc_clients_first(m, fd);
		else if (marks[i] == 'e')
			m->health.enter = fd;
		else if (marks[i] != 'k')
			m->slots[m->n_slots++] = fd;
	}
	return used == given && n > 0 ? 0 : -EBADMSG;
}

static int open_dir(const char *path)
{
	return sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
}

/* Who asks whether a monitor lives takes the lock for a moment: that is none yet. */
static int take_lock(struct monitor *m)
{
	m->lock = sys_openat(m->run, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int err = m->lock < 0 ? m->lock : sys_flock(m->lock, LOCK_EX | LOCK_NB);
	for (int tries = 0; err == -EAGAIN && tries < 100; tries++) {
		sys_sleep_ns(2000000);
		err = sys_flock(m->lock, LOCK_EX | LOCK_NB);
	}
	return err;
}

static int take_signals(struct monitor *m)
{
	const uint64_t wanted = 1ull << (SIGCHLD - 1) | 1ull << (SIGTERM - 1);

	m->signals = sys_signalfd4(-1, &wanted, O_CLOEXEC | O_NONBLOCK);
	return m->signals;
}

/* 0, or -errno with *place */
static int set_up(struct monitor *m, int argc, char **argv, enum place *place)
{
	bool no_log = false;
	int err;

	*place = SLOTS; /* first: a message that nobody has read would cost the starter the answer */
	if ((err = receive_slots(m)) < 0)
		return err;
	*place = WORDS;
	if (argc < 4)
		return -EINVAL;
	for (int i = 4; i < argc; i++)
		if (!set_word(m, argv[i], &no_log))
			return -EINVAL;
	m->remove = argv + 4;
	*place = DATA_DIR;
	if ((m->data = open_dir(argv[1])) < 0)
		return m->data;
	*place = RUN_DIR;
	if ((m->run = open_dir(argv[2])) < 0)
		return m->run;
	*place = LOCK;
	if ((err = take_lock(m)) < 0)
		return err;
	*place = LOG;
	if (!no_log && (err = pc_log_open(&m->log, m->data)) < 0)
		return err;
	if (m->journal != NULL && (err = pc_journal_open(&m->log, m->data, m->journal)) < 0)
		return err;
	*place = SIGNALS;
	if ((err = take_signals(m)) < 0)
		return err;
	*place = LAUNCHER; /* held open: a restart is by this very program, whatever is installed meanwhile */
	if ((m->launcher_file = sys_openat(AT_FDCWD, argv[3], O_PATH | O_CLOEXEC, 0)) < 0)
		return m->launcher_file;
	*place = SOCKET;
	return pc_clients_listen(m);
}

/* fd 3 stays taken, by /dev/null: in a launcher it is the answer's socket, and no slot may be there. */
static void clear(struct monitor *m)
{
	m->data = m->run = m->lock = m->listener = m->signals = m->launcher_file = m->answer = m->in = m->log.fd = m->log.journal = -1;
	m->out[0] = m->out[1] = -1;
	m->health.enter = m->health.answer = m->health.out = -1;
	m->health.due_at = m->health.kill_at = FOREVER;
	for (int i = 0; i < CLIENTS; i++)
		m->clients[i].fd = -1;
	m->kill_at = m->restart_at = m->state_at = FOREVER;
	m->log.max_file = 1;
	m->self = sys_getpid();
	m->starter = sys_fcntl(3, F_DUPFD_CLOEXEC, 10);
	m->null = sys_openat(AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
	if (m->null != 3)
		(void)sys_dup3(m->null, 3, O_CLOEXEC);
}

/* --- the loop --------------------------------------------------------------------------------------------------- */

void pc_stop(struct monitor *m, uint32_t signal, uint64_t grace_ns)
{
	m->ends = true;
	m->stop_signal = signal;
	m->grace_ns = grace_ns;
	if (m->pid > 0) {
		pc_event_kill(m, signal);
		(void)sys_kill(m->pid, (int)signal);
		m->kill_at = grace_ns == FOREVER || signal == SIGKILL ? FOREVER : sys_now_ns() + grace_ns;
		m->stop_signal = 0;
	} else if (m->phase == WAITING) {
		pc_life_over(m);
	}
}

static void hear_signals(struct monitor *m)
{
	struct {
		uint32_t number;
		uint8_t rest[124];
	} got;

	while (sys_read(m->signals, &got, sizeof got) == sizeof got)
		if (got.number == SIGTERM)
			pc_stop(m, SIGTERM, TERM_GRACE_S * SECOND);
	pc_life_reap(m);
}

enum { SIGNALS_AT, LISTENER_AT, ANSWER_AT, HEALTH_ANSWER_AT, HEALTH_OUT_AT, OUT_AT, IN_AT = OUT_AT + STREAMS, CLIENTS_AT, POLLED = CLIENTS_AT + CLIENTS };

static void choose(const struct monitor *m, struct pollfd *fds)
{
	const bool owed = pc_clients_owed(m), feeding = m->feed_at < m->feed_n;

	fds[SIGNALS_AT] = (struct pollfd){.fd = m->signals, .events = POLLIN};
	fds[LISTENER_AT] = (struct pollfd){.fd = m->phase == OVER ? -1 : m->listener, .events = POLLIN};
	fds[ANSWER_AT] = (struct pollfd){.fd = owed ? -1 : m->answer, .events = POLLIN};
	fds[HEALTH_ANSWER_AT] = (struct pollfd){.fd = m->health.answer, .events = POLLIN};
	fds[HEALTH_OUT_AT] = (struct pollfd){.fd = m->health.out, .events = POLLIN};
	for (int s = 0; s < STREAMS; s++)
		fds[OUT_AT + s] = (struct pollfd){.fd = owed ? -1 : m->out[s], .events = POLLIN};
	fds[IN_AT] = (struct pollfd){.fd = feeding ? m->in : -1, .events = POLLOUT};
	for (int i = 0; i < CLIENTS; i++) {
		const struct client *c = &m->clients[i];
		const short events = c->owed ? POLLOUT : POLLIN;
		fds[CLIENTS_AT + i] = (struct pollfd){.fd = c->stdin_left > 0 && feeding && !c->owed ? -1 : c->fd, .events = events};
	}
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t next_deadline(const struct monitor *m)
{
	uint64_t at = sooner(sooner(sooner(m->kill_at, m->restart_at), m->state_at), pc_health_deadline(m));

	for (int i = 0; i < CLIENTS; i++)
		if (m->clients[i].fd >= 0 && m->clients[i].owed)
			at = sooner(at, m->clients[i].stall_at);
	return at;
}

static void keep_time(struct monitor *m, uint64_t now)
{
	for (struct client *c = m->clients; c < m->clients + CLIENTS; c++)
		if (c->fd >= 0 && c->owed && now >= c->stall_at)
			pc_client_drop(m, c);
	if (now >= m->kill_at) {
		m->kill_at = FOREVER;
		if (m->pid > 0) {
			pc_event_kill(m, SIGKILL);
			(void)sys_kill(m->pid, SIGKILL);
		}
	}
	if (now >= m->state_at)
		pc_state_write(m);
	pc_life_go_on(m, now);
	pc_health_go_on(m, now);
}

/* Memory that a busy time has used is given back when there is nothing to do: not needed while waiting. */
static void wait_for_something(struct monitor *m, struct pollfd *fds)
{
	const uint64_t at = next_deadline(m);
	const struct timespec none = {0, 0};

	if (m->dirty && !pc_clients_owed(m)) {
		if (sys_ppoll(fds, POLLED, &none) != 0)
			return;
		(void)sys_madvise(&pc_chunk, sizeof pc_chunk & ~4095ul, MADV_DONTNEED);
		pc_log_release();
		m->dirty = false;
	}
	const uint64_t now = at == FOREVER ? 0 : sys_now_ns(), left = at > now ? at - now : 0;
	const struct timespec ts = {.tv_sec = (time_t)(left / SECOND), .tv_nsec = (long)(left % SECOND)};
	if (sys_ppoll(fds, POLLED, at == FOREVER ? NULL : &ts) < 0)
		for (int i = 0; i < POLLED; i++)
			fds[i].revents = 0; /* interrupted: by a debugger, since all signals are blocked */
}

static void serve(struct monitor *m, const struct pollfd *fds)
{
	for (int s = 0; s < STREAMS; s++)
		if (fds[OUT_AT + s].revents && m->out[s] >= 0 && !pc_clients_owed(m))
			(void)pc_stream_read(m, s);
	if (fds[IN_AT].revents)
		pc_stdin_push(m);
	for (int i = 0; i < CLIENTS; i++) {
		struct client *c = &m->clients[i];
		if (c->fd != fds[CLIENTS_AT + i].fd || c->fd < 0 || !fds[CLIENTS_AT + i].revents)
			continue;
		if (c->owed)
			pc_client_send(m, c);
		else if (c->stdin_left == 0 || m->feed_at == m->feed_n)
			pc_client_read(m, c);
	}
	if (fds[LISTENER_AT].revents)
		pc_clients_accept(m);
	if (fds[ANSWER_AT].revents && !pc_clients_owed(m))
		pc_life_answer(m);
	if (fds[HEALTH_OUT_AT].revents)
		pc_health_read(m);
	if (fds[HEALTH_ANSWER_AT].revents)
		pc_health_answer(m);
	if (fds[SIGNALS_AT].revents)
		hear_signals(m);
}

static void attend(struct monitor *m)
{
	struct pollfd fds[POLLED];

	while (m->phase != OVER || pc_clients_owed(m)) {
		choose(m, fds);
		wait_for_something(m, fds);
		serve(m, fds);
		keep_time(m, sys_now_ns());
	}
}

/* --- the end ---------------------------------------------------------------------------------------------------- */

static const char gone[] = ".gone";

/* Under another name first: whoever is killed meanwhile leaves nothing that looks like a container. What has that name and no monitor
 * the engine removes. */
static int destroy(const char *path)
{
	char aside[4096];
	size_t n = 0;

	for (; path[n] != '\0' && n < sizeof aside - sizeof gone; n++)
		aside[n] = path[n];
	for (size_t i = 0; i < sizeof gone; i++)
		aside[n + i] = gone[i];
	return sys_renameat(AT_FDCWD, path, AT_FDCWD, aside) < 0 ? pc_tree_remove(path) : pc_tree_remove(aside);
}

/* The socket first: who comes now finds nobody, and reads the state. */
static void end(struct monitor *m)
{
	const bool destroys = m->destroys && !m->keeps;
	struct about about = pc_event_about(m);

	(void)sys_unlinkat(m->run, "attach", 0);
	for (char **word = m->remove; *word != NULL; word++) {
		const char *path = value_of(*word, "cgroup=");
		if (path != NULL && pc_cgroup_remove(path) == 0)
			pc_parent_remove(path);
	}
	for (char **word = m->remove; *word != NULL; word++) {
		const char *path = value_of(*word, "remove=");
		if (path != NULL && pc_tree_remove(path) < 0 && m->dead == NULL)
			m->dead = path;
		path = destroys ? value_of(*word, "destroy=") : NULL;
		if (path != NULL && destroy(path) < 0 && m->dead == NULL)
			m->dead = path;
	}
	if (m->dead != NULL || m->state_at != FOREVER)
		pc_state_write(m); /* a last try */
	if (destroys && m->dead == NULL)
		pc_event_of(m, &about, "destroy", "");
	pc_event_forget(&about);
}

int program(int argc, char **argv, char **envp)
{
	static struct monitor m;
	const uint64_t all = ~0ULL;
	struct clone_args args = {.exit_signal = SIGCHLD};
	enum place place;

	(void)envp;
	(void)sys_sigprocmask(SIG_BLOCK, &all);
	long pid = sys_clone3(&args);
	if (pid != 0)
		return pid < 0;
	clear(&m);
	int err = set_up(&m, argc, argv, &place);
	if (err < 0) {
		const struct pc_launch_answer a = {
			.err = -err, .pid = -1, .report = {.step = PC_STEP_MONITOR, .err = -err, .arg = place}};
		(void)sys_send(m.starter, &a, sizeof a, MSG_NOSIGNAL);
		return 1;
	}
	pc_life_begin(&m);
	attend(&m);
	end(&m);
	return 0;
}
