/* The root: an overlay assembled as a detached mount in the parent, attached in the child.
 *
 * Parent half: may look up host paths. Child half: assumes a mount namespace of its own.
 */
#include "job.h"

#include <errno.h>
#include <linux/mount.h>
#include <stdio.h>

/* --- parent half ------------------------------------------------------------------------------------------------ */

#define LAYER_DIR (O_PATH | O_DIRECTORY | O_CLOEXEC)

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

/* Before "lowerdir+" (6.5) all lower layers go in one string of at most 255 bytes. */
static int set_lower_classic(int fs, const int *fds, uint32_t n)
{
	char list[256];
	size_t used = 0;

	for (uint32_t i = 0; i < n; i++) {
		int len = snprintf(list + used, sizeof list - used, "%s/proc/self/fd/%d", i ? ":" : "", fds[i]);
		if (len < 0 || (used += (size_t)len) >= sizeof list)
			return -E2BIG;
	}
	return sys_fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir", list, 0);
}

#define MAX_LAYERS 128

static int set_layers(const struct pc_job *job, const struct pc_op *op, int fs, int *own)
{
	bool by_fd = op->flags & PC_F_LAYER_FDS, plus = by_fd || (op->flags & PC_F_LAYER_PLUS);
	const char *layer = pc_str(&job->plan, op->s3);
	int fds[MAX_LAYERS];

	if (op->n > MAX_LAYERS)
		return -E2BIG;
	for (uint32_t i = 0; i < op->n; i++, layer = pc_next(layer)) {
		fds[i] = open_layer(job, layer, &own[i]);
		if (fds[i] < 0)
			return fds[i];
		int err = plus ? set_dir(fs, "lowerdir+", fds[i], by_fd) : 0;
		if (err < 0)
			return err;
	}
	return plus ? 0 : set_lower_classic(fs, fds, op->n);
}

static int create_overlay(const struct pc_job *job, const struct pc_op *op, int *own)
{
	bool by_fd = op->flags & PC_F_LAYER_FDS;
	scoped_fd int fs = sys_fsopen("overlay", FSOPEN_CLOEXEC);
	scoped_fd int upper = -1, work = -1;

	if (fs < 0)
		return fs;
	int err = sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", "overlay", 0);
	if (err == 0)
		err = set_layers(job, op, fs, own);
	if (err < 0)
		return err;
	if (pc_str(&job->plan, op->s1)[0] != '\0') {
		upper = sys_openat(AT_FDCWD, pc_str(&job->plan, op->s1), LAYER_DIR, 0);
		work = sys_openat(AT_FDCWD, pc_str(&job->plan, op->s2), LAYER_DIR, 0);
		if (upper < 0 || work < 0)
			return upper < 0 ? upper : work;
		if ((err = set_dir(fs, "upperdir", upper, by_fd)) < 0 || (err = set_dir(fs, "workdir", work, by_fd)) < 0)
			return err;
		if (op->flags & PC_F_VOLATILE)
			err = sys_fsconfig(fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0);
	}
	if (err == 0)
		err = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	return err < 0 ? err : sys_fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)op->x);
}

int pc_make_overlay(const struct pc_job *job, const struct pc_op *op)
{
	int own[MAX_LAYERS];

	for (int i = 0; i < MAX_LAYERS; i++)
		own[i] = -1;
	int mount = create_overlay(job, op, own);
	for (int i = 0; i < MAX_LAYERS; i++)
		fd_close(&own[i]);
	return mount;
}

int pc_clone_tree(const char *source, const struct pc_op *op)
{
	unsigned recursive = op->flags & PC_F_RECURSIVE ? AT_RECURSIVE : 0;
	struct mount_attr attr = {.attr_set = op->x, .attr_clr = op->y, .propagation = op->z};
	scoped_fd int tree = sys_open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive);

	if (tree < 0)
		return tree;
	int err = sys_mount_setattr(tree, "", AT_EMPTY_PATH | recursive, &attr, sizeof attr);
	return err < 0 ? err : fd_take(&tree);
}

/* --- child half ------------------------------------------------------------------------------------------------- */

/* From a lean namespace (one empty read-only tmpfs) chroot is enough: whoever breaks out of it finds that tmpfs, and
 * setns to this namespace lands on what is mounted over it, the container's root. Otherwise the host's mounts are
 * below us, and only pivot_root with an unmount takes them away. */
int pc_do_root_attach(struct pc_child *c, const struct pc_op *op)
{
	int root = op_slot(c, op->slot);
	int err = sys_move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH);

	if (err < 0 || (err = sys_fchdir(root)) < 0)
		return err;
	if (op->flags & PC_F_PIVOT) {
		if ((err = sys_pivot_root(".", ".")) < 0 || (err = sys_umount2(".", 2 /* MNT_DETACH */)) < 0)
			return err;
		err = sys_chdir("/");
	} else {
		err = sys_chroot(".");
	}
	c->root_fd = root;
	return err;
}

/* Through the fd, never by a path: what the image put at "/proc/self/fd" or "/." must not redirect it (2026-115521). */
int pc_do_root_readonly(struct pc_child *c, const struct pc_op *op)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};

	(void)op;
	return sys_mount_setattr(c->root_fd, "", AT_EMPTY_PATH, &attr, sizeof attr);
}
