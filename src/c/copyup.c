/* tmpcopyup: the files of a directory into a new tmpfs. Child half: raw calls, a bounded stack, and hostile names: every
 * step goes by directory fds, no link is followed, no other file system is entered.
 */
#include "job.h"

#include <errno.h>
#include <sys/stat.h>

#define MAX_DEPTH 32

/* Of what holds a big buffer: in the frame of copy_level it would be on the stack once for each level (depths of ten were
 * enough to run over the child's stack, and past its guard into the engine's memory). */
#define FRAME_OF_ITS_OWN __attribute__((noinline))

struct dirent64 {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

struct level {
	int from;
	int to;
	struct statx st;
};

static int set_owner_and_times(int dir, const char *name, const struct statx *st)
{
	const struct timespec times[2] = {{st->stx_atime.tv_sec, st->stx_atime.tv_nsec}, {st->stx_mtime.tv_sec, st->stx_mtime.tv_nsec}};
	int err = sys_fchownat(dir, name, st->stx_uid, st->stx_gid, AT_SYMLINK_NOFOLLOW);

	if (err == 0 && !S_ISLNK(st->stx_mode)) /* a change of owner clears set-user-ID: the mode comes after it */
		err = sys_fchmodat(dir, name, st->stx_mode & 07777u);
	if (err == 0)
		err = (int)PC_SYS4(SYS_utimensat, dir, name, times, AT_SYMLINK_NOFOLLOW);
	return err;
}

FRAME_OF_ITS_OWN static int copy_bytes(int from, int to)
{
	char buffer[16384];

	for (;;) {
		long n = sys_read(from, buffer, sizeof buffer);
		if (n <= 0)
			return (int)n;
		for (long done = 0; done < n;) {
			long written = sys_write(to, buffer + done, (size_t)(n - done));
			if (written < 0)
				return (int)written;
			done += written;
		}
	}
}

FRAME_OF_ITS_OWN static int copy_file(const struct level *l, const char *name)
{
	scoped_fd int from = sys_openat2(l->from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0, RESOLVE_BENEATH);
	scoped_fd int to = from < 0 ? from : sys_openat2(l->to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600, RESOLVE_BENEATH);

	return to < 0 ? to : copy_bytes(from, to);
}

FRAME_OF_ITS_OWN static int copy_link(const struct level *l, const char *name)
{
	char target[4096];
	int n = sys_readlinkat(l->from, name, target, sizeof target - 1);

	if (n < 0)
		return n;
	target[n] = '\0';
	return sys_symlinkat(target, l->to, name);
}

/* One entry; a directory is made and opened as the level *below. 1: go down there. */
static int copy_entry(const struct level *l, const char *name, struct level *below)
{
	struct statx st;
	int err = sys_statx(l->from, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st);

	if (err < 0)
		return err;
	if (S_ISDIR(st.stx_mode)) {
		if (st.stx_dev_major != l->st.stx_dev_major || st.stx_dev_minor != l->st.stx_dev_minor)
			return 0; /* another file system is mounted there */
		if ((err = sys_mkdirat(l->to, name, 0700)) < 0)
			return err;
		below->st = st;
		below->from = sys_openat2(l->from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0, RESOLVE_BENEATH);
		below->to = sys_openat2(l->to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0, RESOLVE_BENEATH);
		return below->from < 0 ? below->from : below->to < 0 ? below->to : 1;
	}
	if (S_ISREG(st.stx_mode))
		err = copy_file(l, name);
	else if (S_ISLNK(st.stx_mode))
		err = copy_link(l, name);
	else
		err = sys_mknodat(l->to, name, st.stx_mode, st.stx_rdev_major << 8 | (st.stx_rdev_minor & 0xff) | (st.stx_rdev_minor & ~0xffu) << 12);
	return err < 0 ? err : set_owner_and_times(l->to, name, &st);
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* All of one directory; it calls itself for those below, MAX_DEPTH times at most. */
static int copy_level(const struct level *l, int depth)
{
	char entries[2048] __attribute__((aligned(8)));

	if (depth > MAX_DEPTH)
		return -ELOOP;
	for (;;) {
		long n = sys_getdents64(l->from, entries, sizeof entries);
		if (n <= 0)
			return (int)n;
		for (long at = 0; at < n;) {
			const struct dirent64 *e = (const struct dirent64 *)(const void *)(entries + at);
			struct level below = {.from = -1, .to = -1};
			at += e->reclen;
			if (is_dots(e->name))
				continue;
			int err = copy_entry(l, e->name, &below);
			if (err == 1) {
				err = copy_level(&below, depth + 1);
				if (err == 0)
					err = set_owner_and_times(l->to, e->name, &below.st);
			}
			fd_close(&below.from);
			fd_close(&below.to);
			if (err < 0)
				return err;
		}
	}
}

int pc_copy_tree(int from, int to)
{
	/* reopened for reading: what is mounted over has been resolved as a path only */
	scoped_fd int readable = sys_openat2(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, RESOLVE_BENEATH);
	struct level top = {.from = readable, .to = to};

	if (readable < 0)
		return readable;
	int err = sys_statx(readable, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &top.st);
	return err < 0 ? err : copy_level(&top, 0);
}
