/* The socket: who may come, what is asked, what is sent.
 *
 * A client is owed the chunk until it has taken it; meanwhile its requests wait, so that answers never fall into the middle of a
 * frame. One that takes nothing for ten seconds is dropped: the others and the container have waited for it.
 */
#include "monitor.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/un.h>
#include <termios.h>

static const char no_terminal[] = "the container has no terminal", not_running[] = "the container is not running";

/* By its name in the working directory: a path of any length would not fit. */
int pc_clients_listen(struct monitor *m)
{
	const struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "attach"};
	int err;

	m->listener = sys_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (m->listener < 0)
		return m->listener;
	(void)sys_unlinkat(m->run, "attach", 0); /* a dead one's: the lock is ours */
	if ((err = sys_fchdir(m->run)) < 0)
		return err;
	const unsigned before = sys_umask(0177);
	err = sys_bind(m->listener, &at, sizeof at);
	(void)sys_umask(before);
	(void)sys_chdir("/"); /* holds no one's directory busy */
	return err < 0 ? err : sys_listen(m->listener, CLIENTS);
}

static bool may_come(int fd)
{
	struct ucred who;
	unsigned n = sizeof who;

	return sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0 && (who.uid == 0 || who.uid == sys_geteuid());
}

static void say(struct monitor *m, struct client *c, enum pc_frame type, const void *payload, uint32_t n)
{
	uint8_t frame[8 + 64] = {(uint8_t)type};

	pc_put32(frame + 4, n);
	for (uint32_t i = 0; i < n; i++)
		frame[8 + i] = ((const uint8_t *)payload)[i];
	if (sys_send(c->fd, frame, 8 + n, MSG_NOSIGNAL | MSG_DONTWAIT) != (long)(8 + n))
		pc_client_drop(m, c); /* it has gone, or its buffer is full of answers that it does not read */
}

static void refuse(struct monitor *m, struct client *c, const char *why)
{
	say(m, c, PC_FRAME_ERROR, why, (uint32_t)pc_length(why));
}

void pc_clients_accept(struct monitor *m)
{
	scoped_fd int fd = sys_accept4(m->listener, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 || !may_come(fd))
		return;
	for (struct client *c = m->clients; c < m->clients + CLIENTS; c++)
		if (c->fd < 0) {
			*c = (struct client){.fd = fd_take(&fd)};
			return;
		}
	struct client late = {.fd = fd};
	refuse(m, &late, "too many clients are attached to this container");
	if (late.fd < 0)
		(void)fd_take(&fd);
}

void pc_clients_first(struct monitor *m, int fd)
{
	(void)sys_fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
	m->clients[0] = (struct client){.fd = fd, .streams = 1u << PC_FRAME_STDOUT | 1u << PC_FRAME_STDERR};
}

void pc_client_drop(struct monitor *m, struct client *c)
{
	fd_close(&c->fd);
	c->owed = false;
	if (c->feeds && m->stdin_once)
		pc_stdin_end(m);
	c->feeds = false;
}

bool pc_clients_owed(const struct monitor *m)
{
	for (int i = 0; i < CLIENTS; i++)
		if (m->clients[i].fd >= 0 && m->clients[i].owed)
			return true;
	return false;
}

void pc_client_send(struct monitor *m, struct client *c)
{
	const uint32_t all = 8 + pc_get32(pc_chunk.head + 4);

	while (c->sent < all) {
		long n = sys_send(c->fd, pc_chunk.head + c->sent, all - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n == -EINTR)
			continue;
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			pc_client_drop(m, c);
			return;
		}
		c->sent += (uint32_t)n;
		c->stall_at = sys_now_ns() + STALL_NS;
	}
	c->owed = false;
}

void pc_clients_tell(struct monitor *m, enum pc_frame type, uint32_t n, bool all)
{
	uint64_t now = 0;

	pc_put32(pc_chunk.head, (uint32_t)type << 24);
	pc_put32(pc_chunk.head + 4, n);
	for (struct client *c = m->clients; c < m->clients + CLIENTS; c++) {
		if (c->fd < 0 || !(all || c->streams & 1u << type))
			continue;
		if (c->owed) { /* two ends of the container one upon the other, and it has not even taken the first */
			pc_client_drop(m, c);
			continue;
		}
		now = now ? now : sys_now_ns();
		c->owed = true;
		c->sent = 0;
		c->stall_at = now + STALL_NS;
		pc_client_send(m, c);
	}
}

/* --- requests --------------------------------------------------------------------------------------------------- */

static void done(struct monitor *m, struct client *c, enum pc_frame type)
{
	uint8_t which[4] = {0}; /* for the analyzer's sake */

	pc_put32(which, type);
	say(m, c, PC_FRAME_DONE, which, sizeof which);
}

static const char *resize(struct monitor *m, uint32_t rows, uint32_t columns)
{
	struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};

	if (!m->tty)
		return no_terminal;
	if (m->in < 0)
		return not_running;
	return sys_ioctl(m->in, TIOCSWINSZ, &size) < 0 ? "the terminal takes no such size" : NULL;
}

static const char *kill_it(struct monitor *m, uint32_t signal, uint32_t ends)
{
	if (m->pid == 0)
		return not_running;
	if (signal < 1 || signal > 64 || sys_kill(m->pid, (int)signal) < 0)
		return "no such signal";
	pc_event_kill(m, signal);
	if (ends)
		m->ends = m->asked = true;
	return NULL;
}

static const char *set_policy(struct monitor *m, uint32_t policy, uint32_t max)
{
	if (policy >= PC_POLICIES)
		return "no such restart policy";
	m->policy = policy;
	m->max_restarts = max;
	if (m->phase == WAITING && !pc_life_may_restart(m))
		pc_life_over(m);
	return NULL;
}

static const char *stop(struct monitor *m, uint32_t wanted, uint32_t grace_s)
{
	const uint32_t signal = wanted & ~(uint32_t)(SHUTDOWN | KEEP);

	if (signal < 1 || signal > 64)
		return "no such signal";
	if (!(wanted & SHUTDOWN))
		m->asked = true;
	m->keeps = (wanted & KEEP) != 0;
	m->stopping = signal != SIGKILL || grace_s != 0;
	pc_stop(m, signal, grace_s == ~0u ? FOREVER : grace_s * SECOND);
	return NULL;
}

static void obey(struct monitor *m, struct client *c)
{
	const enum pc_frame type = c->head[0];
	const uint32_t a = pc_get32(c->ask), b = pc_get32(c->ask + 4);
	const char *refused = NULL;

	switch (type) {
	case PC_ASK_ATTACH:
		c->streams = a & (1u << PC_FRAME_STDOUT | 1u << PC_FRAME_STDERR);
		break;
	case PC_ASK_STDIN_END:
		pc_stdin_end(m);
		break;
	case PC_ASK_RESIZE:
		refused = resize(m, a, b);
		break;
	case PC_ASK_STOP:
		/* the answer first: by the time that this returns the end may have been told */
		if ((a & ~(uint32_t)(SHUTDOWN | KEEP)) >= 1 && (a & ~(uint32_t)(SHUTDOWN | KEEP)) <= 64)
			done(m, c, type);
		refused = stop(m, a, b);
		if (refused == NULL)
			return;
		break;
	case PC_ASK_KILL:
		refused = kill_it(m, a, b);
		break;
	case PC_ASK_POLICY:
		refused = set_policy(m, a, b);
		break;
	case PC_ASK_PAUSED:
		m->paused = a != 0 && m->pid != 0;
		pc_health_pause(m);
		pc_state_write(m);
		break;
	case PC_ASK_DETACH:
		pc_client_drop(m, c);
		return;
	case PC_FRAME_STDIN: case PC_FRAME_STDOUT: case PC_FRAME_STDERR: case PC_FRAME_ERROR: case PC_FRAME_ENDED:
	case PC_FRAME_DONE:
		refused = "no such request";
		break;
	}
	if (refused)
		refuse(m, c, refused);
	else if (c->fd >= 0)
		done(m, c, type);
}

static bool is_request(uint8_t type)
{
	return type >= PC_ASK_ATTACH && type <= PC_ASK_DETACH;
}

/* One read each time: others have their turn. */
void pc_client_read(struct monitor *m, struct client *c)
{
	if (c->stdin_left > 0) {
		pc_stdin_take(m, c);
		return;
	}
	const uint32_t head = sizeof c->head, payload = c->got >= head ? pc_get32(c->head + 4) : 0;
	uint8_t *to = c->got < head ? c->head + c->got : c->ask + (c->got - head);
	long n = sys_read(c->fd, to, c->got < head ? head - c->got : head + payload - c->got);
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		pc_client_drop(m, c);
		return;
	}
	c->got += (uint32_t)n;
	if (c->got < head)
		return;
	const uint32_t len = pc_get32(c->head + 4);
	if (c->head[0] == PC_FRAME_STDIN) {
		c->stdin_left = len;
		c->feeds = true; /* an empty one says so: its end is the input's, whether or not there was any */
		c->got = 0;
		return;
	}
	if (!is_request(c->head[0]) || len > ASK_BYTES) {
		refuse(m, c, "no such request"); /* what follows cannot be understood any more */
		pc_client_drop(m, c);
		return;
	}
	if (c->got < head + len)
		return;
	for (uint32_t i = len; i < ASK_BYTES; i++)
		c->ask[i] = 0;
	c->got = 0;
	obey(m, c);
}
