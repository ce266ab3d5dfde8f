/* The journal of events, as the monitor writes it: what happens to a container when no engine is there. ADR 18.
 *
 * A line is `"\n" JSON "\n"`, written at once to the newest segment `journal.N` with O_APPEND. Who finds that his line begins at
 * SEGMENT or beyond knows that it does not count, makes the next segment and writes it again there; readers pass over it. So
 * nobody takes a lock, and nobody who was stopped or killed is waited for. pycontain/journal.py does the same.
 *
 * The line's middle, who it is about, is a file that the engine leaves in the container's directory and replaces by rename.
 */
#include "monitor.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/uio.h>

enum { SEGMENT = 1 << 20, KEPT = 4, TRIES = 16, ABOUT_MOST = 1 << 20 };

static const char prefix[] = "journal.";

struct entry { /* linux_dirent64 */
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

/* --- segments --------------------------------------------------------------------------------------------------- */

/* 0: it is none */
static uint64_t number_of(const char *name)
{
	uint64_t n = 0;

	for (const char *p = prefix; *p != '\0'; p++, name++)
		if (*name != *p)
			return 0;
	if (*name < '1' || *name > '9')
		return 0;
	for (; *name >= '0' && *name <= '9' && n < 1ull << 50; name++)
		n = n * 10 + (uint64_t)(*name - '0');
	return *name == '\0' ? n : 0;
}

static const char *segment_name(char out[32], uint64_t n)
{
	char *at = out;

	for (const char *p = prefix; *p != '\0';)
		*at++ = *p++;
	at += pc_digits(at, n);
	*at = '\0';
	return out;
}

/* The newest one's number, 0 for none. What is `old` or older goes. */
static uint64_t look_through(int dir, uint64_t old)
{
	char buf[1024] __attribute__((aligned(8)));
	uint64_t newest = 0;
	scoped_fd int fd = sys_openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	for (long n; fd >= 0 && (n = sys_getdents64(fd, buf, sizeof buf)) > 0;)
		for (long at = 0; at < n;) {
			const struct entry *e = (const struct entry *)(const void *)(buf + at);
			const uint64_t number = number_of(e->name);
			at += e->reclen;
			if (number > newest)
				newest = number;
			if (number != 0 && number <= old)
				(void)sys_unlinkat(dir, e->name, 0);
		}
	return newest;
}

static void begin_segment(int dir, uint64_t n)
{
	char name[32];

	(void)sys_close(sys_openat(dir, segment_name(name, n), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
	if (n > KEPT)
		(void)look_through(dir, n - KEPT);
}

/* 1: it counts; 0: it is to be written to the next one; or -errno */
static int append_to(int dir, uint64_t n, const struct iovec *iov, int count)
{
	char name[32];
	size_t all = 0;
	scoped_fd int fd = sys_openat(dir, segment_name(name, n), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0);

	if (fd < 0)
		return fd;
	for (int i = 0; i < count; i++)
		all += iov[i].iov_len;
	const long wrote = sys_writev(fd, iov, count), end = wrote < 0 ? wrote : sys_lseek(fd, 0, SEEK_CUR);
	if (end < 0)
		return (int)end;
	if ((size_t)wrote < all)
		return -ENOSPC; /* a torn line: readers pass over it */
	return end - wrote < SEGMENT;
}

static void append(int dir, const struct iovec *iov, int count)
{
	for (int tries = 0; tries < TRIES; tries++) {
		const uint64_t n = look_through(dir, 0);
		const int done = n == 0 ? 0 : append_to(dir, n, iov, count);
		if (done == 0)
			begin_segment(dir, n + 1);
		else if (done != -ENOENT) /* removed since we looked: it is old */
			return;
	}
}

/* --- events ----------------------------------------------------------------------------------------------------- */

struct about pc_event_about(const struct monitor *m)
{
	struct about about = {NULL, 0};
	struct statx st;
	scoped_fd int fd = m->events == NULL ? -1 : sys_openat(m->data, "about", O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);

	if (fd < 0 || sys_statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &st) < 0 || st.stx_size == 0 || st.stx_size > ABOUT_MOST)
		return about;
	void *at = sys_mmap(st.stx_size, PROT_READ, MAP_PRIVATE, fd);
	if ((unsigned long)at < -4095ul)
		about = (struct about){at, st.stx_size};
	return about;
}

void pc_event_forget(struct about *about)
{
	if (about->text != NULL)
		(void)sys_munmap((void *)(uintptr_t)about->text, about->n);
	about->text = NULL;
}

static size_t put(char *to, size_t at, const char *text)
{
	while (*text != '\0')
		to[at++] = *text++;
	return at;
}

void pc_event_of(struct monitor *m, const struct about *about, const char *action, const char *more)
{
	char head[128], tail[] = "}}}\n";
	struct timespec now;

	/* opened each time: it may have been removed, and be another one by now */
	scoped_fd int dir = about->text == NULL ? -1 : sys_openat(AT_FDCWD, m->events, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (dir < 0)
		return;
	(void)sys_clock_gettime(CLOCK_REALTIME, &now);
	size_t n = put(head, 0, "\n{\"timeNano\":");
	n += pc_digits(head + n, (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec);
	n = put(head, n, ",\"Type\":\"container\",\"Action\":\"");
	n = put(head, n, action); /* one of ours, of at most 40 letters */
	n = put(head, n, "\",");
	const struct iovec iov[] = {
		{head, n},
		{(void *)(uintptr_t)about->text, about->n},
		{(void *)(uintptr_t)more, pc_length(more)},
		{tail, sizeof tail - 1},
	};
	append(dir, iov, 4);
}

void pc_event(struct monitor *m, const char *action, const char *more)
{
	struct about about = pc_event_about(m);

	pc_event_of(m, &about, action, more);
	pc_event_forget(&about);
}

static size_t put_number(char *to, size_t at, const char *name, uint64_t v)
{
	at = put(to, at, ",\"");
	at = put(to, at, name);
	at = put(to, at, "\":\"");
	at += pc_digits(to + at, v);
	return put(to, at, "\"");
}

void pc_event_kill(struct monitor *m, uint32_t signal)
{
	char more[64];

	more[put_number(more, 0, "signal", signal)] = '\0';
	pc_event(m, "kill", more);
}

void pc_event_die(struct monitor *m)
{
	char more[96];
	size_t n = put_number(more, 0, "exitCode", m->exit_code);

	n = put_number(more, n, "execDuration", (m->finished.at_ns - m->started.at_ns) / SECOND);
	more[n] = '\0';
	pc_event(m, "die", more);
}
