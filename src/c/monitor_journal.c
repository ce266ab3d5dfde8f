/* The log driver journald: each line is one datagram of the journal's native protocol (systemd, "Native Journal Protocol"), with the
 * fields that Docker's driver gives it. Those that are the same for every line are in the file "journal", the engine's.
 *
 * The journal takes a datagram at once or makes the sender wait. The monitor waits for a second, once; from then on it does not until
 * the journal has taken something again: what cannot be sent is counted as lost, as with a full disk.
 */
#include "monitor.h"

#include <errno.h>
#include <sys/un.h>

enum { FIELDS = 4096 };

static struct {
	uint8_t fields[FIELDS];
	size_t n;
	struct sockaddr_un at;
	bool stalled;
} journal;

int pc_journal_open(struct log *l, int dir, const char *path)
{
	const struct timeval patience = {.tv_sec = 1};
	const size_t n = pc_length(path);
	scoped_fd int fd = sys_openat(dir, "journal", O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);

	if (fd < 0)
		return fd;
	if (n >= sizeof journal.at.sun_path)
		return -ENAMETOOLONG;
	long got = sys_read(fd, journal.fields, FIELDS);
	if (got < 0 || got == FIELDS)
		return got < 0 ? (int)got : -EFBIG;
	journal.n = (size_t)got;
	journal.at.sun_family = AF_UNIX;
	for (size_t i = 0; i < n; i++)
		journal.at.sun_path[i] = path[i];
	l->journal = sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (l->journal < 0)
		return l->journal;
	return sys_setsockopt(l->journal, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

static struct iovec text(const char *s)
{
	return (struct iovec){(void *)(uintptr_t)s, pc_length(s)};
}

/* A message may hold anything, so its length comes before it: little-endian, 64 bits. */
void pc_journal_send(struct log *l, int stream, const uint8_t *data, size_t n, bool partial)
{
	uint8_t length[8];
	struct iovec iov[] = {
		{journal.fields, journal.n},
		text(stream == 0 ? "PRIORITY=6\n" : "PRIORITY=3\n"),
		text(partial ? "CONTAINER_PARTIAL_MESSAGE=true\n" : ""),
		text("MESSAGE\n"),
		{length, sizeof length},
		{(void *)(uintptr_t)data, n},
		text("\n"),
	};
	const struct msghdr msg = {.msg_name = &journal.at, .msg_namelen = sizeof journal.at, .msg_iov = iov,
				   .msg_iovlen = sizeof iov / sizeof *iov};

	for (size_t i = 0; i < sizeof length; i++)
		length[i] = (uint8_t)((uint64_t)n >> 8 * i);
	long sent = sys_sendmsg(l->journal, &msg, MSG_NOSIGNAL | (journal.stalled ? MSG_DONTWAIT : 0));
	journal.stalled = sent < 0;
	if (sent < 0) {
		l->lost += n;
		l->err = (int)sent;
	}
}
