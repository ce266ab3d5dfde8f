/* Attributes of a mount without mount_setattr (Linux 5.12): by mount(2), which takes a path and only a mount that is attached.
 * The path is the magic link of its fd, in a procfs that is this process's own. Child half.
 */
#include "job.h"

#include <errno.h>
#include <linux/mount.h>

#define PATH_ROOM 4096
#define LINE_ROOM 16384
#define MOST_MOUNTS 1024

static int private_link(struct pc_child *c, int fd, char *out)
{
	static const char prefix[] = "self/fd/";
	char digits[12];
	size_t n = 0, at = sizeof prefix - 1;
	int err = c->proc_fd < 0 ? pc_open_private_proc(c) : 0;

	if (err < 0 || fd < 0)
		return err < 0 ? err : -EBADF;
	__builtin_memcpy(out, prefix, at);
	do {
		digits[n++] = (char)('0' + fd % 10);
	} while ((fd /= 10) > 0);
	while (n > 0)
		out[at++] = digits[--n];
	out[at] = '\0';
	return 0;
}

/* What statfs(2) says of a mount, as MOUNT_ATTR_*. */
static uint64_t attributes_of(const struct statfs *st)
{
	const uint64_t f = (uint64_t)st->f_flags; /* ST_RDONLY, NOSUID, NODEV, NOEXEC have the same values */

	return (f & 0xf) | (f & 1024 /* ST_NOATIME */ ? MOUNT_ATTR_NOATIME : f & 4096 /* ST_RELATIME */ ? 0 : MOUNT_ATTR_STRICTATIME) |
	       (f & 2048 /* ST_NODIRATIME */ ? MOUNT_ATTR_NODIRATIME : 0) | (f & 8192 /* ST_NOSYMFOLLOW */ ? MOUNT_ATTR_NOSYMFOLLOW : 0);
}

static unsigned long mount_flags(uint64_t attributes)
{
	const uint64_t time = attributes & MOUNT_ATTR__ATIME;

	return (unsigned long)(attributes & 0xf) |
	       (time == MOUNT_ATTR_NOATIME ? MS_NOATIME : time == MOUNT_ATTR_STRICTATIME ? MS_STRICTATIME : MS_RELATIME) |
	       (attributes & MOUNT_ATTR_NODIRATIME ? MS_NODIRATIME : 0) | (attributes & MOUNT_ATTR_NOSYMFOLLOW ? 256ul /* MS_NOSYMFOLLOW */ : 0);
}

static int remount_one(struct pc_child *c, int fd, uint64_t set, uint64_t clear, unsigned long propagation)
{
	char link[32];
	struct statfs st;
	int err = private_link(c, fd, link);

	if (err == 0 && (set | clear))
		err = sys_fstatfs(fd, &st);
	if (err == 0)
		err = sys_fchdir(c->proc_fd);
	if (err < 0)
		return err;
	if (set | clear) /* all of a mount's flags are given anew */
		err = sys_mount(NULL, link, NULL, MS_REMOUNT | MS_BIND | mount_flags((attributes_of(&st) & ~clear) | set), NULL);
	if (err == 0 && propagation)
		err = sys_mount(NULL, link, NULL, propagation, NULL);
	int back = sys_fchdir(c->root_fd);
	return err < 0 ? err : back;
}

/* One line of mountinfo: "ID PARENT MAJOR:MINOR ROOT POINT ..."; POINT in place, its escapes undone. */
static char *parse_line(char *line, uint64_t *id, uint64_t *parent)
{
	uint64_t *const numbers[] = {id, parent};
	char *point, *to;

	for (int i = 0; i < 2; i++) {
		for (*numbers[i] = 0; *line >= '0' && *line <= '9'; line++)
			*numbers[i] = *numbers[i] * 10 + (uint64_t)(*line - '0');
		if (*line++ != ' ')
			return NULL;
	}
	for (int skipped = 0; skipped < 2; line++)
		if (*line == '\0')
			return NULL;
		else if (*line == ' ')
			skipped++;
	for (point = to = line; *line != ' ' && *line != '\0'; line++, to++) {
		*to = *line;
		if (line[0] == '\\' && line[1] >= '0' && line[1] <= '3') { /* three octal digits */
			*to = (char)((line[1] - '0') << 6 | (line[2] - '0') << 3 | (line[3] - '0'));
			line += 3;
		}
	}
	*to = '\0';
	return point;
}

/* What is mounted at `point`, when that is the mount `id`: by no link, and not what has been mounted over it since. */
static int open_mount(struct pc_child *c, const char *point, uint64_t id)
{
	uint64_t found = 0;
	int fd = pc_resolve(c, point, true, PC_TARGET_EXISTS);

	if (fd < 0)
		return fd;
	int err = pc_mount_id(fd, &found);
	if (err < 0 || found != id) {
		fd_close(&fd);
		return err < 0 ? err : -EBUSY;
	}
	return fd;
}

struct below {
	uint64_t ids[MOST_MOUNTS]; /* the mount, and what is below it so far */
	size_t n;
	char line[LINE_ROOM];
};

static int one_below(struct pc_child *c, struct below *b, uint64_t set, uint64_t clear)
{
	uint64_t id, parent;
	size_t i = 0;
	const char *point = parse_line(b->line, &id, &parent);

	if (point == NULL)
		return -EBADMSG;
	while (i < b->n && b->ids[i] != parent)
		i++;
	if (i == b->n)
		return 0;
	if (b->n == MOST_MOUNTS)
		return -E2BIG;
	b->ids[b->n++] = id;
	scoped_fd int fd = open_mount(c, point, id);
	return fd < 0 ? fd : remount_one(c, fd, set, clear, 0);
}

/* Mounts come after what they are mounted on: each was attached later. */
static int remount_below(struct pc_child *c, int top, uint64_t set, uint64_t clear)
{
	struct below b;
	char chunk[PATH_ROOM];
	size_t used = 0;
	long n;
	scoped_fd int table = sys_openat(c->proc_fd, "self/mountinfo", O_RDONLY | O_CLOEXEC, 0);
	int err = table < 0 ? table : pc_mount_id(top, &b.ids[0]);

	b.n = 1;
	if (err < 0)
		return err;
	while ((n = sys_read(table, chunk, sizeof chunk)) > 0)
		for (long i = 0; i < n; i++) {
			if (used == sizeof b.line)
				return -ENAMETOOLONG;
			b.line[used++] = chunk[i];
			if (chunk[i] != '\n')
				continue;
			b.line[used - 1] = '\0';
			used = 0;
			if ((err = one_below(c, &b, set, clear)) < 0)
				return err;
		}
	return (int)n;
}

int pc_remount(struct pc_child *c, int fd, const struct pc_op *op)
{
	const bool recursive = op->flags & PC_F_RECURSIVE;
	const unsigned long propagation = op->z ? (unsigned long)op->z | (recursive ? MS_REC : 0) : 0;
	int err = remount_one(c, fd, op->x, op->y, propagation);

	if (err == 0 && recursive && (op->x | op->y))
		err = remount_below(c, fd, op->x, op->y);
	return err;
}

/* Of a mount that a TREE_CLONE made and an op before this one attached; its fd goes where it went. */
int pc_do_tree_attr(struct pc_child *c, const struct pc_op *op)
{
	return pc_remount(c, op_slot(c, op->slot), op);
}
