/* Files, directories, symbolic links and nodes. Each is made anew under its last component, which is never followed; what
 * the layer had put there before is removed.
 */
#include "unpack.h"

#include <errno.h>
#include <string.h>

#define HOLE ((size_t)64 << 10) /* what is as long and zero is not written */
#define FILE_FLAGS (O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC)

static const char *name_of(const struct pc_unpack *u)
{
	return u->path.text + u->path.name;
}

/* --- directories -------------------------------------------------------------------------------------------------- */

/* Gives the directory behind `fd` what its entry says; its time comes last of all. */
static int describe_directory(struct pc_unpack *u, const struct tar_entry *e, int fd, bool made, bool opaque)
{
	struct statx st;
	int err = unpack_settle(u, fd, e, made);

	if (err == 0 && opaque)
		err = unpack_set_opaque(u, fd);
	if (err == 0)
		err = sys_statx(fd, "", AT_EMPTY_PATH, STATX_INO, &st);
	return err < 0 ? err : unpack_time(u, u->path.n > 0 ? unpack_whole(&u->path) : ".", st.stx_ino, e->mtime);
}

int unpack_root(struct pc_unpack *u, const struct tar_entry *e)
{
	int err = u->o.flags & PC_UNPACK_PLAIN ? 0 : unpack_shift(u, e);

	return err < 0 || u->o.flags & PC_UNPACK_PLAIN ? err : describe_directory(u, e, u->root, false, false);
}

/* 1: made; 0: it is there already, and keeps what is in it. *opaque when it takes the place of a whiteout. */
static int make_directory(struct pc_unpack *u, int parent, const char *name, uint32_t mode, bool *opaque)
{
	struct statx st;
	int err = sys_mkdirat(parent, name, mode);

	if (err != -EEXIST)
		return err < 0 ? err : 1;
	err = sys_statx(parent, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st);
	if (err < 0 || S_ISDIR(st.stx_mode))
		return err;
	if (u->o.flags & PC_UNPACK_PLAIN)
		return tar_fault(&u->error, PC_UNPACK_OVER_FILE, 0, 0);
	*opaque = unpack_is_whiteout(&st); /* the directory of the layers below was removed, then made anew */
	err = unpack_clear(u, parent, name);
	if (err == 0)
		err = sys_mkdirat(parent, name, mode);
	return err < 0 ? err : 1;
}

int unpack_directory(struct pc_unpack *u, const struct tar_entry *e, int parent)
{
	const char *name = name_of(u);
	bool opaque = false;
	int made = make_directory(u, parent, name, unpack_first_mode(u, e, 0700), &opaque);

	if (made < 0)
		return made;
	scoped_fd int fd = sys_openat(parent, name, UNPACK_DIR | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	int err = describe_directory(u, e, fd, made, opaque);
	if (err < 0)
		return err;
	err = unpack_remember_parent(u, &u->path, &fd); /* what is in it comes next, most often */
	return err < 0 ? err : 0;
}

/* --- links and nodes ---------------------------------------------------------------------------------------------- */

static int set_link_owner_and_time(const struct pc_unpack *u, const struct tar_entry *e, int parent, const char *name)
{
	const struct timespec times[2] = {e->mtime, e->mtime};
	int err = sys_fchownat(parent, name, u->uid, u->gid, AT_SYMLINK_NOFOLLOW);

	return err < 0 ? err : sys_utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW);
}

int unpack_symlink(struct pc_unpack *u, const struct tar_entry *e, int parent)
{
	const char *name = name_of(u);
	char target[4096]; /* PATH_MAX: the kernel takes no longer one */

	if (e->link.n == 0)
		return tar_fault(&u->error, PC_UNPACK_SYMLINK_EMPTY, 0, 0);
	if (e->link.n >= sizeof target)
		return -ENAMETOOLONG;
	memcpy(target, e->link.at, e->link.n);
	target[e->link.n] = '\0';
	int err = sys_symlinkat(target, parent, name);
	if (err == -EEXIST) {
		err = unpack_clear(u, parent, name);
		if (err == 0)
			err = sys_symlinkat(target, parent, name);
	}
	unpack_skip_xattrs(u, e);
	return err < 0 ? err : set_link_owner_and_time(u, e, parent, name);
}

static uint32_t node_type(enum tar_kind kind)
{
	return kind == TAR_CHAR ? S_IFCHR : kind == TAR_BLOCK_DEVICE ? S_IFBLK : S_IFIFO;
}

static int describe_node(const struct pc_unpack *u, const struct tar_entry *e, int parent, const char *name)
{
	scoped_fd int fd = sys_openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
	int err = fd < 0 ? fd : set_link_owner_and_time(u, e, parent, name);

	if (err == 0 && u->default_acls)
		err = unpack_drop_inherited_of_node(fd);
	return err < 0 ? err : unpack_chmod(fd, e->mode);
}

int unpack_node(struct pc_unpack *u, const struct tar_entry *e, int parent)
{
	const char *name = name_of(u);
	unsigned device = (e->minor & 0xffu) | e->major << 8 | (e->minor & ~0xffu) << 12;

	if (e->kind != TAR_FIFO && u->o.in_user_namespace) { /* nobody may make one there, and nothing could open it */
		u->stats.skipped_nodes++;
		return unpack_clear(u, parent, name);
	}
	int err = sys_mknodat(parent, name, node_type(e->kind) | 0600u, device);
	if (err == -EEXIST) {
		err = unpack_clear(u, parent, name);
		if (err == 0)
			err = sys_mknodat(parent, name, node_type(e->kind) | 0600u, device);
	}
	if (err < 0)
		return err;
	unpack_skip_xattrs(u, e);
	return describe_node(u, e, parent, name);
}

/* --- files -------------------------------------------------------------------------------------------------------- */

int unpack_open_file(struct pc_unpack *u, const struct tar_entry *e, int parent)
{
	const char *name = name_of(u);
	uint32_t mode = unpack_first_mode(u, e, 0600);
	int fd = sys_openat(parent, name, FILE_FLAGS, mode);

	if (fd == -EEXIST) {
		int err = unpack_clear(u, parent, name);
		if (err < 0)
			return err;
		fd = sys_openat(parent, name, FILE_FLAGS, mode);
	}
	if (fd < 0)
		return fd;
	u->file = fd;
	u->file_end = 0;
	return e->sparse ? sys_ftruncate(fd, e->size) : 0;
}

static int write_all(struct pc_unpack *u, uint64_t offset, const uint8_t *bytes, size_t n)
{
	while (n > 0) {
		long written = sys_pwrite(u->file, bytes, n, offset);
		if (written == -EINTR)
			continue;
		if (written <= 0)
			return written < 0 ? (int)written : -EIO;
		bytes += written;
		offset += (uint64_t)written;
		n -= (size_t)written;
		u->file_end = u->file_end > offset ? u->file_end : offset;
	}
	return 0;
}

/* The length of the piece at `bytes`, up to the next multiple of HOLE in the file; whether it stays a hole: beyond the first,
 * and all zeros. */
static size_t piece(uint64_t offset, const uint8_t *bytes, size_t n, bool *hole)
{
	size_t left = HOLE - (size_t)(offset % HOLE), m = n < left ? n : left;

	*hole = offset >= HOLE && bytes[0] == 0 && memcmp(bytes, bytes + 1, m - 1) == 0;
	return m;
}

/* Long runs of zeros stay holes. A tar has no other way to say what a sparse file is, image-spec wants none, and a terabyte of
 * them is a megabyte compressed: it would fill the disk at each start of a container that has it on a volume. */
int unpack_write(struct pc_unpack *u, uint64_t offset, const uint8_t *bytes, size_t n)
{
	while (n > 0) {
		size_t data = 0, m = 0;
		bool hole = false;
		while (data < n && !hole) {
			m = piece(offset + data, bytes + data, n - data, &hole);
			data += hole ? 0 : m;
		}
		int err = write_all(u, offset, bytes, data);
		if (err < 0)
			return err;
		data += hole ? m : 0;
		offset += data;
		bytes += data;
		n -= data;
	}
	return 0;
}

int unpack_close_file(struct pc_unpack *u, const struct tar_entry *e)
{
	const struct timespec times[2] = {e->mtime, e->mtime};
	int err = u->file_end < e->size ? sys_ftruncate(u->file, e->size) : 0;

	if (err == 0)
		err = unpack_settle(u, u->file, e, true);
	if (err == 0)
		err = sys_utimensat(u->file, NULL, times, 0);
	if (err == 0)
		u->stats.file_bytes += e->stored;
	fd_close(&u->file);
	return err;
}
