/* Mounts inside the container's root, and the paths they need. Child half.
 *
 * Assumes: ROOT_ATTACH has run, so the root directory of this process is the container's and no path can name
 * anything outside it. What is *inside* may be hostile all the same: every path is resolved once, by openat2 with
 * RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS, and then only its fd is used.
 */
#include "job.h"

#include <errno.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <sys/sysmacros.h>

#define PATH_ROOM 4096

static uint64_t resolve_flags(bool nosymlink)
{
	return RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (nosymlink ? RESOLVE_NO_SYMLINKS : 0);
}

/* EAGAIN: the kernel saw a rename or a mount somewhere while it walked a "..", which other starts cause all the time. */
static int open_in_root(struct pc_child *c, const char *path, bool nosymlink)
{
	int fd = -EAGAIN;

	for (int tries = 0; fd == -EAGAIN && tries < 128; tries++)
		fd = sys_openat2(c->root_fd, path, O_PATH | O_CLOEXEC, 0, resolve_flags(nosymlink));
	return fd;
}

int pc_mount_id(int fd, uint64_t *id)
{
	struct statx st;
	int err = sys_statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st);

	if (err == 0 && !(st.stx_mask & STATX_MNT_ID))
		err = -ENOSYS;
	if (err == 0)
		*id = st.stx_mnt_id;
	return err;
}

/* Whoever may rename in the root can exchange /dev for a volume, each a mount of the container's, while things are made. */
int pc_on_dev(const struct pc_child *c, int dir)
{
	uint64_t found = 0;
	int err = pc_mount_id(dir, &found);

	return err < 0 ? err : found == c->dev_mount ? 0 : -EXDEV;
}

static bool in_dev(const char *path)
{
	return path[0] == '/' && path[1] == 'd' && path[2] == 'e' && path[3] == 'v' && path[4] == '/';
}

/* Makes the missing part of `path` below the root, one component after the other, each by its parent's fd. */
static int make_target(struct pc_child *c, const char *path, bool nosymlink, enum pc_target make)
{
	char part[PATH_ROOM];
	scoped_fd int parent = sys_openat2(c->root_fd, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0, RESOLVE_IN_ROOT);
	size_t i = 0;

	while (parent >= 0) {
		while (path[i] == '/')
			i++;
		size_t start = i;
		while (path[i] != '\0' && path[i] != '/')
			i++;
		if (i + 1 >= PATH_ROOM)
			return -ENAMETOOLONG;
		for (size_t k = 0; k < i; k++)
			part[k] = path[k];
		part[i] = '\0';
		bool last = path[i] == '\0' || path[i + 1] == '\0';
		int fd = open_in_root(c, part, nosymlink);
		if (fd == -ENOENT) {
			int err = c->dev_mount && start == 5 && in_dev(path) ? pc_on_dev(c, parent) : 0;
			if (err < 0)
				return err;
			err = last && make == PC_TARGET_FILE ? sys_mknodat(parent, part + start, S_IFREG | 0644, 0)
							      : sys_mkdirat(parent, part + start, 0755);
			/* EEXIST: a dangling symbolic link; it is not ours to follow or to replace */
			if (err < 0)
				return err;
			fd = sys_openat2(parent, part + start, O_PATH | O_CLOEXEC | O_NOFOLLOW, 0, RESOLVE_BENEATH);
		}
		if (fd < 0 || last)
			return fd;
		fd_close(&parent);
		parent = fd;
	}
	return parent;
}

int pc_resolve(struct pc_child *c, const char *path, bool nosymlink, enum pc_target make)
{
	int fd = open_in_root(c, path, nosymlink);

	if (fd == -ENOENT && make != PC_TARGET_EXISTS)
		return at_step(c, PC_STEP_MAKE_TARGET, make_target(c, path, nosymlink, make));
	return at_step(c, PC_STEP_RESOLVE, fd);
}

static int target_of(struct pc_child *c, const struct pc_op *op, enum pc_target kind)
{
	return pc_resolve(c, op_s1(c, op), op->flags & PC_F_NOSYMLINK, op->flags & PC_F_CREATE ? kind : PC_TARGET_EXISTS);
}

/* What guards /proc or /sys must lie on the file system that has been mounted there, whatever its directory is called by now:
 * the root may be a directory of the host in which another container renames, and a path that is absent is skipped. */
static int guarded(struct pc_child *c, const struct pc_op *op)
{
	const char *path = op_s1(c, op);
	char first[8];
	struct statfs st;
	size_t n = 0;

	if (!(op->flags & PC_F_KERNEL_TREE))
		return target_of(c, op, PC_TARGET_DIR);
	for (path++; path[n] != '\0' && path[n] != '/' && n < sizeof first - 1; n++)
		first[n] = path[n];
	first[n] = '\0';
	scoped_fd int top = open_in_root(c, first, true);
	int err = top < 0 ? top : sys_fstatfs(top, &st);
	if (err < 0 || (st.f_type != PROC_SUPER_MAGIC && st.f_type != SYSFS_MAGIC) || path[n] != '/')
		return at_step(c, PC_STEP_RESOLVE, err < 0 && err != -ENOENT ? err : -EXDEV);
	int fd = sys_openat2(top, path + n + 1, O_PATH | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	return at_step(c, PC_STEP_RESOLVE, fd);
}

/* A mount on /proc would cover what guards it. The Plan's own paths there were looked at when it was made; by any other
 * path only a link of the image leads there. */
static int not_on_proc(struct pc_child *c, const struct pc_op *op, int at)
{
	const char *path = op_s1(c, op), *proc = "/proc";
	struct statfs st;

	while (*proc != '\0' && *path == *proc) {
		path++;
		proc++;
	}
	if (*proc == '\0' && (*path == '/' || *path == '\0'))
		return 0;
	int err = sys_fstatfs(at, &st);
	if (err == 0 && st.f_type == PROC_SUPER_MAGIC)
		err = -ELOOP;
	return at_step(c, PC_STEP_RESOLVE, err);
}

#define OVERFLOW_ID 65534 /* what stat(2) shows for an owner that this user namespace has no number for */

/* A directory's owner and mode on another; an owner without a number here is not taken over: nobody could write there. */
static int like(int to, int from)
{
	struct statx st;
	int err = sys_statx(from, "", AT_EMPTY_PATH, STATX_MODE | STATX_UID | STATX_GID, &st);

	if (err == 0 && st.stx_uid != OVERFLOW_ID && st.stx_gid != OVERFLOW_ID)
		err = sys_fchownat(to, "", st.stx_uid, st.stx_gid, AT_EMPTY_PATH);
	if (err == 0) /* by name: fchmod knows no O_PATH descriptors */
		err = sys_fchmodat(to, ".", st.stx_mode & 07777u);
	return err == -EINVAL || err == -EOVERFLOW ? 0 : err; /* a smaller map than that */
}

/* The first of mount(2)'s options into `out`, without its quotes, within which a comma belongs to the value; the rest. */
static const char *next_option(const char *from, char *out, size_t room, const char **value)
{
	bool quoted = false;
	size_t n = 0;

	*value = NULL;
	for (; *from != '\0' && (quoted || *from != ','); from++) {
		if (*from == '"') {
			quoted = !quoted;
			continue;
		}
		if (n == room - 1)
			return NULL;
		out[n] = *from == '=' && *value == NULL && n > 0 ? '\0' : *from;
		if (out[n++] == '\0')
			*value = out + n;
	}
	out[n] = '\0';
	return *from == ',' ? from + 1 : from;
}

/* A tmpfs that begins with the owner and mode of the directory that it covers, or (`files`) as a copy of it: made ready while
 * nobody else can see it. Once mounted it could only be found again by its path, which may lead elsewhere by then. */
static int mount_like(int dir, const char *type, const char *source, uint64_t attributes, const char *data,
		      bool files, bool owner, uint64_t *id)
{
	char option[1024];
	const char *from = data;
	scoped_fd int fs = sys_fsopen(type, FSOPEN_CLOEXEC);
	int err;

	if (fs < 0)
		return fs;
	if ((err = sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0)) < 0)
		return err;
	while (*from != '\0') {
		const char *value;
		from = next_option(from, option, sizeof option, &value);
		if (from == NULL)
			return -ENAMETOOLONG;
		err = value ? sys_fsconfig(fs, FSCONFIG_SET_STRING, option, value, 0)
			    : sys_fsconfig(fs, FSCONFIG_SET_FLAG, option, NULL, 0);
		if (err < 0)
			return err;
	}
	if ((err = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)) < 0)
		return err;
	scoped_fd int mount = sys_fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attributes);
	if (mount < 0)
		return mount;
	if ((files && (err = pc_copy_tree(dir, mount)) < 0) || (owner && (err = like(mount, dir)) < 0))
		return err;
	if (id && (err = pc_mount_id(mount, id)) < 0)
		return err;
	return sys_move_mount(mount, "", dir, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static bool is_there(struct pc_child *c, const struct pc_op *op)
{
	scoped_fd int at = open_in_root(c, op_s1(c, op), op->flags & PC_F_NOSYMLINK);

	return at >= 0;
}

/* mount(2) is cheaper than fsopen for a fresh file system; "." after fchdir keeps the path from a second look-up. */
int pc_do_mount(struct pc_child *c, const struct pc_op *op)
{
	const bool files = op->flags & PC_F_COPY_UP, owner = files || ((op->flags & PC_F_LIKE_BELOW) && is_there(c, op));
	scoped_fd int dir = target_of(c, op, PC_TARGET_DIR);
	const char *data = op_s3(c, op), *named = pc_str(&c->job->plan, op->n);
	const char *source = *named ? named : op_s2(c, op);

	if (dir < 0)
		return dir;
	int err = not_on_proc(c, op, dir);
	if (err < 0)
		return err;
	if (op->flags & (PC_F_COPY_UP | PC_F_LIKE_BELOW | PC_F_DEVICES)) {
		uint64_t *id = op->flags & PC_F_DEVICES ? &c->dev_mount : NULL;
		err = mount_like(dir, op_s2(c, op), source, op->x, data, files, owner, id);
		return files ? at_step(c, PC_STEP_COPY_UP, err) : err;
	}
	if ((err = sys_fchdir(dir)) < 0)
		return err;
	err = sys_mount(source, ".", op_s2(c, op), op->x, *data ? data : NULL);
	int back = sys_fchdir(c->root_fd);
	return err < 0 ? err : back;
}

/* The path is resolved again. In an overlay it names the mount's own root now; in a directory of the host somebody may have
 * renamed meanwhile, and then attributes of another of this container's own mounts change, never a mount outside. */
int pc_do_mount_attr(struct pc_child *c, const struct pc_op *op)
{
	const unsigned recursive = op->flags & PC_F_RECURSIVE ? AT_RECURSIVE : 0;
	struct mount_attr attr = {.attr_set = op->x, .attr_clr = op->y, .propagation = op->z};
	scoped_fd int at = target_of(c, op, PC_TARGET_DIR);

	if (at < 0)
		return at;
	return op->flags & PC_F_REMOUNT ? pc_remount(c, at, op)
					: sys_mount_setattr(at, "", AT_EMPTY_PATH | recursive, &attr, sizeof attr);
}

int pc_do_mount_tree(struct pc_child *c, const struct pc_op *op)
{
	scoped_fd int at = target_of(c, op, op->x ? PC_TARGET_FILE : PC_TARGET_DIR);

	if (at < 0)
		return at;
	int err = not_on_proc(c, op, at);
	return err < 0 ? err : sys_move_mount(op_slot(c, op->slot), "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* The cover of a masked file is the container's own /dev/null, after a look that it is one (2025-31133). */
static int clone_dev_null(struct pc_child *c)
{
	struct statx st;
	scoped_fd int null = sys_openat2(c->root_fd, "dev/null", O_PATH | O_CLOEXEC, 0,
					 RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);

	if (null < 0) /* ENOENT would say that there is nothing to mask */
		return at_step(c, PC_STEP_NOT_CHAR_NULL, null == -ENOENT ? -ENODEV : null);
	int err = sys_statx(null, "", AT_EMPTY_PATH, STATX_TYPE, &st);
	if (err < 0)
		return at_step(c, PC_STEP_NOT_CHAR_NULL, err);
	if (!S_ISCHR(st.stx_mode) || st.stx_rdev_major != 1 || st.stx_rdev_minor != 3)
		return at_step(c, PC_STEP_NOT_CHAR_NULL, -ENODEV);
	return sys_open_tree(null, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
}

static int mask_classic(struct pc_child *c, int at, bool directory)
{
	if (directory) {
		int err = sys_fchdir(at);
		if (err < 0)
			return err;
		err = sys_mount("tmpfs", ".", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,mode=555");
		int back = sys_fchdir(c->root_fd);
		return err < 0 ? err : back;
	}
	scoped_fd int cover = clone_dev_null(c);
	if (cover < 0)
		return cover;
	return sys_move_mount(cover, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* Covers a directory by the template's "empty", anything else by its "null"; the template's superblock is read-only. */
int pc_do_mask(struct pc_child *c, const struct pc_op *op)
{
	struct statx st;
	scoped_fd int at = guarded(c, op);

	if (at < 0)
		return at;
	int err = sys_statx(at, "", AT_EMPTY_PATH, STATX_TYPE, &st);
	if (err < 0)
		return err;
	if (op->flags & PC_F_CLASSIC)
		return mask_classic(c, at, S_ISDIR(st.stx_mode));
	scoped_fd int cover = sys_open_tree(op_slot(c, op->slot), S_ISDIR(st.stx_mode) ? "empty" : "null",
					    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (cover < 0)
		return cover;
	return sys_move_mount(cover, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* A copy of the mount and all below it, of which the first, or with RECURSIVE every one, becomes read-only. */
int pc_do_readonly(struct pc_child *c, const struct pc_op *op)
{
	struct mount_attr attr = {.attr_set = op->x};
	const unsigned flags = AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
	const unsigned all = op->flags & PC_F_RECURSIVE ? AT_RECURSIVE : 0;
	const bool late = op->flags & PC_F_REMOUNT, two_steps = late || (op->flags & PC_F_CLASSIC) || !all;
	scoped_fd int at = guarded(c, op);

	if (at < 0)
		return at;
	scoped_fd int copy = two_steps ? sys_open_tree(at, "", flags) : sys_open_tree_attr(at, "", flags, &attr, sizeof attr);
	if (copy < 0)
		return copy;
	int err = two_steps && !late ? sys_mount_setattr(copy, "", AT_EMPTY_PATH | all, &attr, sizeof attr) : 0;
	if (err == 0)
		err = sys_move_mount(copy, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	return err == 0 && late ? pc_remount(c, copy, op) : err;
}
