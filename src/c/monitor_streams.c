/* The container's standard streams: pipes, or the pty's master. What it says goes to the log and then, from the same buffer, to
 * every client that wants it; nothing more is read until all have it, so that no reader loses anything and a slow one slows the
 * container down. What clients say to it waits in one small buffer, and they with it.
 */
#include "monitor.h"

#include <errno.h>

struct chunk pc_chunk __attribute__((aligned(4096)));
static uint8_t feed[4096];

/* Of so much even a log of empty lines takes no more than three pages: not worth giving back. */
enum { SMALL = 128 };

static int open_pipes(struct monitor *m, int theirs[3])
{
	int pair[2], err;

	for (int s = 0; s < STREAMS; s++) {
		if ((err = sys_pipe2(pair, O_CLOEXEC)) < 0)
			return err;
		m->out[s] = pair[0];
		theirs[1 + s] = pair[1];
		if ((err = sys_fcntl(pair[0], F_SETFL, O_NONBLOCK)) < 0)
			return err;
	}
	if (!m->open_stdin) {
		theirs[0] = sys_fcntl(m->null, F_DUPFD_CLOEXEC, 10);
		return theirs[0] < 0 ? theirs[0] : 0;
	}
	if ((err = sys_pipe2(pair, O_CLOEXEC)) < 0)
		return err;
	theirs[0] = pair[0];
	m->in = pair[1];
	return sys_fcntl(pair[1], F_SETFL, O_NONBLOCK);
}

/* With a terminal the Plan takes none of them: its pty comes with the launcher's answer. */
int pc_streams_open(struct monitor *m, int theirs[3])
{
	for (int i = 0; i < 3; i++)
		theirs[i] = -1;
	m->grown[0] = m->grown[1] = false;
	m->feed_n = m->feed_at = 0;
	m->feed_end = false;
	int err = m->tty ? 0 : open_pipes(m, theirs);
	if (err < 0) {
		for (int i = 0; i < 3; i++)
			fd_close(&theirs[i]);
		pc_streams_close(m);
	}
	return err < 0 ? err : 0;
}

void pc_streams_close(struct monitor *m)
{
	for (int s = 0; s < STREAMS; s++)
		fd_close(&m->out[s]);
	fd_close(&m->in);
}

/* As much as one may have, for a container that fills the pipe: each read then finds more. A limit for the user's pipes in all
 * is no failure. */
static void grow(struct monitor *m, int stream)
{
	if (!m->grown[stream] && !m->tty)
		(void)sys_fcntl(m->out[stream], F_SETPIPE_SZ, 1 << 20);
	m->grown[stream] = true;
}

bool pc_stream_read(struct monitor *m, int stream)
{
	long n = sys_read(m->out[stream], pc_chunk.data, CHUNK);

	if (n == -EAGAIN || n == -EINTR)
		return false;
	if (n <= 0) { /* a pty says EIO when the last user of the other side has closed it */
		fd_close(&m->out[stream]);
		return false;
	}
	if (n == CHUNK)
		grow(m, stream);
	if (n > SMALL)
		m->dirty = true;
	pc_log_write(&m->log, stream, pc_chunk.data, (size_t)n);
	pc_clients_tell(m, stream == 0 ? PC_FRAME_STDOUT : PC_FRAME_STDERR, (uint32_t)n, false);
	return true;
}

/* --- standard input --------------------------------------------------------------------------------------------- */

void pc_stdin_push(struct monitor *m)
{
	while (m->feed_at < m->feed_n && m->in >= 0) {
		long n = sys_write(m->in, feed + m->feed_at, m->feed_n - m->feed_at);
		if (n == -EAGAIN)
			return;
		if (n < 0 && n != -EINTR)
			fd_close(&m->in); /* it has closed its own end: as a shell's pipe would, what follows goes nowhere */
		if (n > 0)
			m->feed_at += (uint32_t)n;
	}
	m->feed_at = m->feed_n = 0;
	if (m->feed_end)
		fd_close(&m->in);
}

/* Only called while nothing waits. */
void pc_stdin_take(struct monitor *m, struct client *c)
{
	const size_t most = c->stdin_left < sizeof feed ? c->stdin_left : sizeof feed;
	long n = sys_read(c->fd, feed, most);

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		pc_client_drop(m, c);
		return;
	}
	c->stdin_left -= (uint32_t)n;
	if (m->in < 0)
		return;
	m->feed_at = 0;
	m->feed_n = (uint32_t)n;
	pc_stdin_push(m);
}

/* A terminal has no end of input but the character that its user types. */
void pc_stdin_end(struct monitor *m)
{
	if (m->tty)
		return;
	m->feed_end = true;
	pc_stdin_push(m);
}
