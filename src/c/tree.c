/* Recursive removal through directory fds. What lies there may be hostile: links are removed, never followed; another
 * file system is never entered; a tree of any depth needs a bounded stack and a bounded number of fds.
 *
 * Free of libc: the guardian is linked with this file alone.
 */
#include "tree.h"

#include <errno.h>
#include <stdbool.h>

/* Deeper than this, a directory is first moved up to the top, so that depth is paid in renames and not in fds. */
#define MAX_DEPTH 48

struct dirent64 {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

struct removal {
	int top;
	uint32_t moved; /* names of moved directories: unique within this removal */
};

static int remove_entries(struct removal *r, int dir, int depth);

static bool is_dot(const char *s)
{
	return s[0] == '.' && (s[1] == '\0' || (s[1] == '.' && s[2] == '\0'));
}

/* Gone already is what we want: someone else may be removing the same tree. */
static int unless_gone(int err)
{
	return err == -ENOENT ? 0 : err;
}

/* A name may be taken, by an earlier removal that was killed or by a tree that means harm: then the next one. */
static int move_up(struct removal *r, int dir, const char *name)
{
	for (;;) {
		char to[] = ".pycontain-removing-00000000";
		uint32_t n = r->moved++;

		for (size_t i = sizeof to - 2; n != 0; i--, n >>= 4)
			to[i] = "0123456789abcdef"[n & 15];
		int err = sys_renameat(dir, name, r->top, to);
		if (err != -ENOTEMPTY && err != -EEXIST && err != -ENOTDIR)
			return unless_gone(err);
	}
}

static int remove_one(struct removal *r, int dir, const char *name, int depth)
{
	const int unlinked = sys_unlinkat(dir, name, 0);

	if (unlinked != -EISDIR && unlinked != -EPERM)
		return unless_gone(unlinked);
	int err = sys_unlinkat(dir, name, AT_REMOVEDIR);
	if (err == -ENOTDIR)
		return unlinked; /* a file that may not be removed, such as an immutable one */
	if (err != -ENOTEMPTY && err != -EEXIST)
		return unless_gone(err);
	if (depth >= MAX_DEPTH)
		return move_up(r, dir, name);
	/* NO_XDEV: -EXDEV for a mount, even one of the same file system, which a look at st_dev would enter */
	int sub = sys_openat2(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0,
			      RESOLVE_BENEATH | RESOLVE_NO_XDEV);
	if (sub < 0)
		return unless_gone(sub);
	err = remove_entries(r, sub, depth + 1);
	(void)sys_close(sub);
	return err < 0 ? err : unless_gone(sys_unlinkat(dir, name, AT_REMOVEDIR));
}

/* Reads from the start again after each round: removal may disturb a directory's own order of entries. */
static int remove_entries(struct removal *r, int dir, int depth)
{
	char buf[1024] __attribute__((aligned(8)));
	bool again = true;

	while (again) {
		again = false;
		if (PC_SYS3(SYS_lseek, dir, 0, 0) < 0)
			return -EIO;
		for (;;) {
			long n = sys_getdents64(dir, buf, sizeof buf);
			if (n < 0)
				return unless_gone((int)n); /* ENOENT: this directory itself has gone */
			if (n == 0)
				break;
			for (long at = 0; at < n;) {
				struct dirent64 *d = (struct dirent64 *)(void *)(buf + at);
				at += d->reclen;
				if (is_dot(d->name))
					continue;
				int err = remove_one(r, dir, d->name, depth);
				if (err < 0)
					return err;
				again = true;
			}
		}
	}
	return 0;
}

int pc_tree_remove_at(int dirfd, const char *name)
{
	int err = sys_unlinkat(dirfd, name, AT_REMOVEDIR);

	if (err == 0 || err == -ENOENT)
		return 0;
	if (err == -ENOTDIR)
		return unless_gone(sys_unlinkat(dirfd, name, 0));
	if (err != -ENOTEMPTY && err != -EEXIST)
		return err;
	int top = sys_openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	if (top < 0)
		return unless_gone(top);
	struct removal r = {.top = top};
	err = remove_entries(&r, top, 0);
	(void)sys_close(top);
	return err < 0 ? err : unless_gone(sys_unlinkat(dirfd, name, AT_REMOVEDIR));
}

int pc_tree_remove(const char *path)
{
	return pc_tree_remove_at(AT_FDCWD, path);
}

/* --- cgroups ---------------------------------------------------------------------------------------------------- */

static long parse_pid(const char **s)
{
	long v = 0;

	while (**s >= '0' && **s <= '9')
		v = v * 10 + (*(*s)++ - '0');
	while (**s == '\n')
		(*s)++;
	return v;
}

static void write_if_there(int dir, const char *file, const char *text, size_t n)
{
	int fd = sys_openat(dir, file, O_WRONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return;
	(void)sys_write(fd, text, n);
	(void)sys_close(fd);
}

static void signal_members(int dir)
{
	char buf[4096];
	int fd = sys_openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return;
	long n = sys_read(fd, buf, sizeof buf - 1);
	(void)sys_close(fd);
	if (n <= 0)
		return;
	while (n > 0 && buf[n - 1] != '\n') /* a cut number would be another process */
		n--;
	buf[n] = '\0';
	for (const char *s = buf; *s != '\0';) {
		long pid = parse_pid(&s);
		if (pid <= 0)
			break; /* 0: a process of another pid namespace, which we cannot name */
		(void)sys_kill((int)pid, SIGKILL);
	}
}

/* In v1 nobody dies frozen, and a frozen process holds its cgroups in every hierarchy: the signal first, so that it runs
 * nothing more of its program, then the thaw. In v2 a frozen process dies at once. */
static void kill_members(int dir)
{
	write_if_there(dir, "cgroup.kill", "1", 1); /* cgroup v2, 5.14 */
	signal_members(dir);
	write_if_there(dir, "freezer.state", "THAWED", 6);
}

static int remove_cgroup_at(int parent, const char *name, int depth)
{
	char buf[1024] __attribute__((aligned(8)));
	int err = sys_unlinkat(parent, name, AT_REMOVEDIR);

	if (err == 0 || err == -ENOENT)
		return 0;
	if (err != -EBUSY && err != -ENOTEMPTY)
		return err;
	int dir = sys_openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	if (dir < 0)
		return dir == -ENOENT ? 0 : dir;
	kill_members(dir); /* before those below, which stay frozen as long as this one is */
	if (depth < MAX_DEPTH)
		for (long n; (n = sys_getdents64(dir, buf, sizeof buf)) > 0;)
			for (long at = 0; at < n;) {
				struct dirent64 *d = (struct dirent64 *)(void *)(buf + at);
				at += d->reclen;
				if (d->type == 4 /* DT_DIR */ && !is_dot(d->name))
					(void)remove_cgroup_at(dir, d->name, depth + 1);
			}
	/* A killed process leaves its cgroup when it is reaped, which nothing reports on v1: ask again, for 2 s at most. */
	err = sys_unlinkat(parent, name, AT_REMOVEDIR);
	for (int tries = 0; err == -EBUSY && tries < 200; tries++) {
		kill_members(dir);
		sys_sleep_ns(tries < 20 ? 500000 : 10000000);
		err = sys_unlinkat(parent, name, AT_REMOVEDIR);
	}
	(void)sys_close(dir);
	return err == -ENOENT ? 0 : err;
}

int pc_cgroup_remove(const char *path)
{
	return remove_cgroup_at(AT_FDCWD, path, 0);
}

void pc_parent_remove(const char *path)
{
	char parent[4096];
	size_t n = 0, slash = 0;

	for (; path[n] && n < sizeof parent - 1; n++) {
		parent[n] = path[n];
		if (path[n] == '/')
			slash = n;
	}
	parent[slash] = '\0';
	(void)sys_unlinkat(AT_FDCWD, parent, AT_REMOVEDIR);
}
