/* Directories, device nodes, links and files that a start makes in the container's root. Child half.
 *
 * Assumes: ROOT_ATTACH has run. Every path is resolved once, by pc_resolve; then only its fd is used.
 */
#include "job.h"

#include <errno.h>
#include <sys/stat.h>

#define PATH_ROOM 4096

int pc_do_make_dir(struct pc_child *c, const struct pc_op *op)
{
	scoped_fd int fd = pc_resolve(c, op_s1(c, op), op->flags & PC_F_NOSYMLINK, PC_TARGET_DIR);

	return fd < 0 ? fd : 0;
}

/* Splits `path` at its last slash: the parent's fd, and the name. */
static int open_parent(struct pc_child *c, const struct pc_op *op, const char **name)
{
	const char *path = op_s1(c, op);
	char dir[PATH_ROOM];
	size_t n = pc_strlen(path), cut = n;

	while (cut > 0 && path[cut - 1] != '/')
		cut--;
	if (n >= PATH_ROOM || cut == n)
		return -EINVAL;
	for (size_t i = 0; i < cut; i++)
		dir[i] = path[i];
	dir[cut] = '\0';
	*name = path + cut;
	int parent = pc_resolve(c, cut ? dir : "/", op->flags & PC_F_NOSYMLINK, PC_TARGET_DIR);
	int err = parent >= 0 && (op->flags & PC_F_DEVICES) ? at_step(c, PC_STEP_RESOLVE, pc_on_dev(c, parent)) : 0;
	if (err < 0) {
		fd_close(&parent);
		return err;
	}
	return parent;
}

static bool is_node(int fd, const struct pc_op *op)
{
	struct statx st;

	if (sys_statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) < 0)
		return false;
	uint64_t number = (st.stx_rdev_minor & 0xffu) | st.stx_rdev_major << 8 | (uint64_t)(st.stx_rdev_minor & ~0xffu) << 12;
	return (st.stx_mode & S_IFMT) == (op->x & S_IFMT) && number == op->y;
}

/* What an image has there may stay when it is just this device; anything else under its name is a trap (2026-88265). */
static bool same_node(int dir, const char *name, const struct pc_op *op)
{
	scoped_fd int node = sys_openat2(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0, RESOLVE_BENEATH);

	return node >= 0 && is_node(node, op);
}

int pc_do_make_node(struct pc_child *c, const struct pc_op *op)
{
	const char *name;
	scoped_fd int dir = open_parent(c, op, &name);

	if (dir < 0)
		return dir;
	/* the mode as the node is made: a name that is looked up again may lead to another file by then, on a volume that
	 * another container writes to */
	unsigned mask = sys_umask(0);
	int err = sys_mknodat(dir, name, (unsigned)op->x, (unsigned)op->y);
	(void)sys_umask(mask);
	if (err == -EEXIST)
		return same_node(dir, name, op) ? 0 : err;
	if (err < 0)
		return err;
	if (op->z == 0)
		return 0;
	scoped_fd int node = sys_openat2(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0, RESOLVE_BENEATH);
	if (node < 0)
		return node;
	if (!is_node(node, op))
		return -EEXIST; /* exchanged since */
	return sys_fchownat(node, "", (uint32_t)(op->z >> 32), (uint32_t)op->z, AT_EMPTY_PATH);
}

int pc_do_make_link(struct pc_child *c, const struct pc_op *op)
{
	const char *name;
	scoped_fd int dir = open_parent(c, op, &name);

	if (dir < 0)
		return dir;
	int err = sys_symlinkat(op_s2(c, op), dir, name);
	return err == -EEXIST ? 0 : err; /* inside the container's root it is the image's to choose */
}

/* Replaces a file of the image by a new one: the old name is unlinked, so that a link there leads nowhere. */
int pc_do_write_file(struct pc_child *c, const struct pc_op *op)
{
	const char *name, *bytes = op_s3(c, op);
	scoped_fd int dir = open_parent(c, op, &name);
	size_t left = op->n;

	if (dir < 0)
		return dir;
	int err = sys_unlinkat(dir, name, 0);
	if (err < 0 && err != -ENOENT)
		return err;
	scoped_fd int fd = sys_openat2(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, op->x, RESOLVE_BENEATH);
	if (fd < 0)
		return fd;
	while (left > 0) {
		long n = sys_write(fd, bytes, left);
		if (n < 0)
			return (int)n;
		bytes += n;
		left -= (size_t)n;
	}
	return sys_fchmod(fd, (unsigned)op->x);
}
