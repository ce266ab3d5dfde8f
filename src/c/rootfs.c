/* The root: an overlay assembled as a detached mount in the parent, attached in the child.
 *
 * Parent half: may look up host paths. Child half: assumes a mount namespace of its own.
 */
#include "job.h"

#include <errno.h>
#include <linux/mount.h>
#include <pthread.h>
#include <stdio.h>

/* --- parent half ------------------------------------------------------------------------------------------------ */

#define LAYER_DIR (O_PATH | O_DIRECTORY | O_CLOEXEC)

/* A copy of the mount with its owners translated by the user namespace `userns`. */
static int map_layer(int fd, int userns)
{
	scoped_fd int tree = sys_open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

	if (tree < 0)
		return tree;
	int err = pc_mount_attributes(tree, 0, 0, userns, 0);
	return err < 0 ? err : fd_take(&tree);
}

/* A lower layer is a path, or "@N" for the directory in slot N. The answer is an fd; *own when it must be closed. */
static int open_layer(const struct pc_job *job, const char *layer, int *own)
{
	if (layer[0] == '@') {
		uint32_t slot = 0;
		for (const char *s = layer + 1; *s >= '0' && *s <= '9'; s++)
			slot = slot * 10 + (uint32_t)(*s - '0');
		return slot < job->plan.head.n_slots ? job->slots[slot] : -EINVAL;
	}
	*own = sys_openat(AT_FDCWD, layer, LAYER_DIR, 0);
	return *own;
}

static int set_dir(int fs, const char *key, int fd, bool by_fd)
{
	char path[32];

	if (by_fd)
		return sys_fsconfig(fs, FSCONFIG_SET_FD, key, NULL, fd);
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return sys_fsconfig(fs, FSCONFIG_SET_STRING, key, path, 0);
}

/* Before "lowerdir+" (6.5) all lower layers go in one string: of at most 255 bytes for fsconfig, of a page for mount(2). */
static int list_layers(char *list, size_t room, const char *before, const int *fds, uint32_t n)
{
	size_t used = 0;

	for (uint32_t i = 0; i < n; i++) {
		int len = snprintf(list + used, room - used, "%s%s%d", i ? ":" : "", before, fds[i]);
		if (len < 0 || (used += (size_t)len) >= room)
			return -E2BIG;
	}
	return (int)used;
}

static int set_lower_classic(int fs, const int *fds, uint32_t n)
{
	char list[256];
	int err = list_layers(list, sizeof list, "/proc/self/fd/", fds, n);

	return err < 0 ? err : sys_fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir", list, 0);
}

#define MAX_LAYERS 128

/* The directory of `fd`, which is of the mount namespace that we come from, as the same path names it in ours: a copy,
 * where overlay asks for a mount of this very namespace. */
static int reopen_here(int fd)
{
	char link[32], path[4096];
	struct statx was, is;

	(void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	int n = sys_readlinkat(AT_FDCWD, link, path, sizeof path - 1);
	if (n < 0)
		return n;
	path[n] = '\0';
	scoped_fd int again = sys_openat(AT_FDCWD, path, LAYER_DIR, 0);
	if (again < 0)
		return again;
	int err = sys_statx(fd, "", AT_EMPTY_PATH, STATX_INO, &was);
	if (err == 0)
		err = sys_statx(again, "", AT_EMPTY_PATH, STATX_INO, &is);
	if (err < 0)
		return err;
	if (was.stx_ino != is.stx_ino || was.stx_dev_major != is.stx_dev_major || was.stx_dev_minor != is.stx_dev_minor)
		return -ESTALE;
	return fd_take(&again);
}

/* The layer's fd, as it is or translated; `apart`: we are in a mount namespace of this overlay's own; `attach_at` >= 0: the
 * translated mount is attached there. A tmpfs cannot be
 * translated before 6.3: the template has the container's owners already when layers are attached. */
static int take_layer(const struct pc_job *job, const struct pc_op *op, const char *layer, bool apart, int attach_at, int *own)
{
	int fd = open_layer(job, layer, own);

	if (fd >= 0 && apart && layer[0] == '@')
		return *own = reopen_here(fd);
	if (fd < 0 || op->slot2 < 0)
		return fd;
	int mapped = map_layer(fd, job->slots[op->slot2]);
	if (mapped < 0)
		return mapped;
	fd_close(own);
	*own = mapped;
	int err = attach_at < 0 ? 0 : sys_move_mount(mapped, "", attach_at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	return err < 0 ? err : mapped;
}

static int take_layers(const struct pc_job *job, const struct pc_op *op, bool apart, int attach_at, int *fds, int *own)
{
	const char *layer = pc_str(&job->plan, op->s3);

	if (op->n > MAX_LAYERS)
		return -E2BIG;
	for (uint32_t i = 0; i < op->n; i++, layer = pc_next(layer)) {
		fds[i] = take_layer(job, op, layer, apart, attach_at, &own[i]);
		if (fds[i] < 0)
			return fds[i];
	}
	return 0;
}

static bool one_by_one(const struct pc_op *op)
{
	return op->flags & (PC_F_LAYER_FDS | PC_F_LAYER_PLUS);
}

static int set_layers(const struct pc_op *op, int fs, const int *fds)
{
	if (!one_by_one(op))
		return set_lower_classic(fs, fds, op->n);
	for (uint32_t i = 0; i < op->n; i++) {
		int err = set_dir(fs, "lowerdir+", fds[i], op->flags & PC_F_LAYER_FDS);
		if (err < 0)
			return err;
	}
	return 0;
}

/* A kernel may be built, or its module told, to rename directories by a redirect and to copy up no more than attributes.
 * Then an upper directory is no changeset: what it says is elsewhere, and a layer cannot say so. With user.* attributes
 * the kernel has neither. */
static int set_marks(const struct pc_op *op, int fs)
{
	if (op->flags & PC_F_USERXATTR)
		return sys_fsconfig(fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0);
	int err = sys_fsconfig(fs, FSCONFIG_SET_STRING, "redirect_dir", "nofollow", 0);
	return err < 0 ? err : sys_fsconfig(fs, FSCONFIG_SET_STRING, "metacopy", "off", 0);
}

/* More layers than fsconfig's string has room for, on a kernel without "lowerdir+". */
#define CLASSIC_LAYERS 13

static bool is_long(const struct pc_op *op)
{
	return !one_by_one(op) && op->n > CLASSIC_LAYERS;
}

/* By mount(2), and a detached copy of that: in a mount namespace that only this thread is in, with a working directory of its
 * own, in which a layer's name is the number of its fd. Over /proc, for translated layers cover the container's directory. */
static int mount_classic(const struct pc_op *op, const int *fds, int upper, int work)
{
	char data[4096];
	const int head = upper < 0 ? snprintf(data, sizeof data, "lowerdir=")
				   : snprintf(data, sizeof data, "upperdir=%d,workdir=%d,%s%s", upper, work,
					      op->flags & PC_F_VOLATILE ? "volatile," : "",
					      op->flags & PC_F_USERXATTR ? "userxattr,lowerdir=" : "redirect_dir=nofollow,metacopy=off,lowerdir=");
	int err = list_layers(data + head, sizeof data - (size_t)head, "", fds, op->n);

	if (err >= 0)
		err = sys_chdir("/proc/self/fd");
	if (err >= 0)
		err = sys_mount("overlay", "/proc", "overlay", 0, data);
	if (err < 0)
		return err;
	scoped_fd int tree = sys_open_tree(AT_FDCWD, "/proc", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0 || !op->x)
		return fd_take(&tree);
	err = pc_mount_attributes(tree, op->x, 0, -1, 0);
	return err < 0 ? err : fd_take(&tree);
}

static int create_overlay(const struct pc_job *job, const struct pc_op *op, bool attach, int *own)
{
	bool by_fd = op->flags & PC_F_LAYER_FDS, writable = pc_str(&job->plan, op->s1)[0] != '\0';
	scoped_fd int fs = sys_fsopen("overlay", FSOPEN_CLOEXEC);
	scoped_fd int upper = -1, work = -1, parent = -1;
	int fds[MAX_LAYERS];

	if (fs < 0)
		return fs;
	if (writable) {
		upper = sys_openat(AT_FDCWD, pc_str(&job->plan, op->s1), LAYER_DIR, 0);
		work = sys_openat(AT_FDCWD, pc_str(&job->plan, op->s2), LAYER_DIR, 0);
		if (upper < 0 || work < 0)
			return upper < 0 ? upper : work;
	}
	if (attach && (parent = sys_openat(upper, "..", LAYER_DIR, 0)) < 0)
		return parent;
	int err = sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", "overlay", 0);
	if (err == 0)
		err = take_layers(job, op, attach || is_long(op), parent, fds, own);
	if (err == 0 && is_long(op))
		return mount_classic(op, fds, upper, work);
	if (err == 0)
		err = set_layers(op, fs, fds);
	if (err < 0)
		return err;
	if (writable) {
		if ((err = set_dir(fs, "upperdir", upper, by_fd)) < 0 || (err = set_dir(fs, "workdir", work, by_fd)) < 0)
			return err;
		if (op->flags & PC_F_VOLATILE)
			err = sys_fsconfig(fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0);
	}
	if (err == 0)
		err = set_marks(op, fs);
	if (err == 0)
		err = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	return err < 0 ? err : sys_fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)op->x);
}

static int make_overlay(const struct pc_job *job, const struct pc_op *op, bool attach)
{
	int own[MAX_LAYERS];

	for (int i = 0; i < MAX_LAYERS; i++)
		own[i] = -1;
	int mount = create_overlay(job, op, attach, own);
	for (int i = 0; i < MAX_LAYERS; i++)
		fd_close(&own[i]);
	return mount;
}

struct attached {
	const struct pc_job *job;
	const struct pc_op *op;
	bool attach;
	int result;
};

static void *attached_main(void *arg)
{
	struct attached *a = arg;

	a->result = sys_unshare(CLONE_NEWNS);
	if (a->result == 0)
		a->result = sys_mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	if (a->result == 0)
		a->result = make_overlay(a->job, a->op, a->attach);
	return NULL;
}

/* Before 6.15 a detached mount cannot be a layer, and a translated layer is one: it is attached for a moment in a mount
 * namespace that only a thread of this purpose is in. */
static int make_overlay_apart(const struct pc_job *job, const struct pc_op *op, bool attach)
{
	struct attached a = {.job = job, .op = op, .attach = attach};
	pthread_t thread;
	sigset_t all, old;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &old);
	int err = pthread_create(&thread, NULL, attached_main, &a);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err == 0)
		(void)pthread_join(thread, NULL);
	return err ? -err : a.result;
}

int pc_make_overlay(const struct pc_job *job, const struct pc_op *op)
{
	bool attach = op->slot2 >= 0 && (op->flags & PC_F_CLASSIC);

	return attach || is_long(op) ? make_overlay_apart(job, op, attach) : make_overlay(job, op, false);
}

PC_EXPORT int pc_mount_attributes(int32_t fd, uint64_t set, uint64_t clear, int32_t userns_fd, int32_t recursive)
{
	struct mount_attr attr = {
		.attr_set = set | (userns_fd >= 0 ? (uint64_t)MOUNT_ATTR_IDMAP : 0),
		.attr_clr = clear,
		.userns_fd = userns_fd >= 0 ? (unsigned)userns_fd : 0u,
	};
	return sys_mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof attr);
}

int pc_tree_attributes(const struct pc_job *job, const struct pc_op *op, int tree)
{
	unsigned recursive = op->flags & PC_F_RECURSIVE ? AT_RECURSIVE : 0;
	struct mount_attr attr = {.attr_set = op->x, .attr_clr = op->y, .propagation = op->z};

	if (op->slot2 >= 0) {
		attr.attr_set |= MOUNT_ATTR_IDMAP;
		attr.userns_fd = (unsigned)job->slots[op->slot2];
	}
	return sys_mount_setattr(tree, "", AT_EMPTY_PATH | recursive, &attr, sizeof attr);
}

int pc_clone_tree(const struct pc_job *job, const struct pc_op *op)
{
	const char *path = pc_str(&job->plan, op->s1);
	unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (op->flags & PC_F_RECURSIVE ? AT_RECURSIVE : 0);
	scoped_fd int at = AT_FDCWD;

	/* A volume's own directory: whoever has put a link there, or exchanges what lies below, would choose what is mounted. */
	if (op->flags & PC_F_NOSYMLINK) {
		at = sys_openat2(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS);
		if (at < 0)
			return at;
		path = "";
		flags |= AT_EMPTY_PATH;
	}
	scoped_fd int tree = sys_open_tree(at, path, flags);
	if (tree < 0)
		return tree;
	int err = op->x | op->y | op->z || op->slot2 >= 0 ? pc_tree_attributes(job, op, tree) : 0;
	return err < 0 ? err : fd_take(&tree);
}

/* Options are "key=value" or "key". */
int pc_make_file_system(const struct pc_job *job, const struct pc_op *op)
{
	const char *option = pc_str(&job->plan, op->s3);
	scoped_fd int fs = sys_fsopen(pc_str(&job->plan, op->s1), FSOPEN_CLOEXEC);

	if (fs < 0)
		return fs;
	for (uint32_t i = 0; i < op->n; i++, option = pc_next(option)) {
		char key[64];
		size_t n = 0;
		while (option[n] != '\0' && option[n] != '=' && n < sizeof key - 1) {
			key[n] = option[n];
			n++;
		}
		key[n] = '\0';
		int err = option[n] == '=' ? sys_fsconfig(fs, FSCONFIG_SET_STRING, key, option + n + 1, 0)
					   : sys_fsconfig(fs, FSCONFIG_SET_FLAG, key, NULL, 0);
		if (err < 0)
			return err;
	}
	int err = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	return err < 0 ? err : sys_fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)op->x);
}

/* --- child half ------------------------------------------------------------------------------------------------- */

/* From a lean namespace (one empty read-only tmpfs) chroot is enough: whoever breaks out of it finds that tmpfs, and
 * setns to this namespace lands on what is mounted over it, the container's root. Where there is more below us (a procfs
 * of the host's, another container's mounts), ROOT_PIVOT takes it away at the end. */
int pc_do_root_attach(struct pc_child *c, const struct pc_op *op)
{
	int root = op_slot(c, op->slot);
	int err;

	if (op->flags & PC_F_PIVOT) {
		c->old_root_fd = sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
		if (c->old_root_fd < 0)
			return c->old_root_fd;
		/* a joined namespace may be a peer of the host's: what is mounted here would appear there, and pivot_root refuses */
		if ((err = sys_mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL)) < 0)
			return err;
	}
	const char *over = op_s1(c, op);
	if ((err = sys_move_mount(root, "", AT_FDCWD, *over ? over : "/", MOVE_MOUNT_F_EMPTY_PATH)) < 0 || (err = sys_fchdir(root)) < 0 ||
	    (err = sys_chroot(".")) < 0)
		return err;
	c->root_fd = root;
	return 0;
}

/* The old root must be this process's root when pivot_root looks for it; it is moved over the new one and unmounted. */
int pc_do_root_pivot(struct pc_child *c, const struct pc_op *op)
{
	int err;

	(void)op;
	if ((err = sys_fchdir(c->old_root_fd)) < 0 || (err = sys_chroot(".")) < 0 || (err = sys_fchdir(c->root_fd)) < 0 ||
	    (err = sys_pivot_root(".", ".")) < 0 || (err = sys_umount2(".", 2 /* MNT_DETACH */)) < 0)
		return err;
	fd_close(&c->old_root_fd);
	return sys_chdir("/");
}

/* Through the fd, never by a path: what the image put at "/proc/self/fd" or "/." must not redirect it (2026-115521). */
int pc_do_root_readonly(struct pc_child *c, const struct pc_op *op)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
	const struct pc_op late = {.x = MOUNT_ATTR_RDONLY};

	if (op->flags & PC_F_REMOUNT)
		return pc_remount(c, c->root_fd, &late);
	return sys_mount_setattr(c->root_fd, "", AT_EMPTY_PATH, &attr, sizeof attr);
}
