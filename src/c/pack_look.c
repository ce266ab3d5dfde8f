/* One name of a directory, looked at: opened without acting on it, its attributes, and what overlayfs has marked it with.
 *
 * First O_PATH, which acts on nothing; what that shows to be a regular file or a directory is then opened for reading
 * through /proc/self/fd: the same inode, whatever has the name by now.
 */
#include "pack.h"

#include <dirent.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/xattr.h>

#define ANY_READ (O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

/* Not O_NOFOLLOW: the link of /proc is what leads to the inode. */
static int open_again(struct pc_pack *p, int fd, int flags)
{
	char number[16];

	(void)snprintf(number, sizeof number, "%d", fd);
	for (;;) {
		int again = sys_openat(p->proc_fd, number, flags | ANY_READ | (p->keep_atime ? O_NOATIME : 0), 0);
		if (again == -EPERM && p->keep_atime)
			p->keep_atime = false; /* someone else's file, and no CAP_FOWNER: its atime is not ours to keep */
		else if ((again != -EMFILE && again != -ENFILE) || !pc_dirs_spare(p))
			return again;
	}
}

static bool is_whiteout_node(const struct statx *st)
{
	return S_ISCHR(st->stx_mode) && st->stx_rdev_major == 0 && st->stx_rdev_minor == 0;
}

/* What out->fd shows; `readable`: it is open for reading, and not as a path only. */
static int look_through(struct pc_pack *p, struct pc_look *out, bool readable)
{
	int err = sys_statx(out->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &out->st);

	if (err < 0)
		return err;
	out->whiteout = is_whiteout_node(&out->st) && !(p->flags & PC_PACK_TREE);
	if (readable || (!S_ISREG(out->st.stx_mode) && !S_ISDIR(out->st.stx_mode)))
		return 0;
	int again = open_again(p, out->fd, S_ISDIR(out->st.stx_mode) ? O_RDONLY | O_DIRECTORY : O_RDONLY);
	if (again < 0)
		return again;
	fd_close(&out->fd);
	out->fd = again;
	return 0;
}

static int look(struct pc_pack *p, uint32_t member, const char *name, uint8_t type, struct pc_look *out)
{
	/* O_DIRECTORY opens nothing but directories */
	int fd = type == DT_DIR ? pc_dirs_open(p, member, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK) : -ENOTDIR;
	const bool readable = fd >= 0;

	if (fd == -ENOTDIR || fd == -ELOOP)
		fd = pc_dirs_open(p, member, name, O_PATH | O_NOFOLLOW);
	if (fd < 0)
		return fd;
	out->fd = fd;
	return look_through(p, out, readable);
}

int pc_look_at(struct pc_pack *p, uint32_t member, const char *name, uint8_t type, struct pc_look *out)
{
	*out = (struct pc_look){.fd = -1};
	int err = look(p, member, name, type, out);
	if (err < 0) {
		pc_look_close(out);
		return pc_has_vanished(err) ? err : pc_pack_fail(p, PC_PACK_STEP_OPEN, err);
	}
	return 0;
}

int pc_look_at_root(struct pc_pack *p, struct pc_look *out)
{
	*out = (struct pc_look){.fd = sys_fcntl(p->root_fds[0], F_DUPFD_CLOEXEC, 3)};
	int err = out->fd < 0 ? out->fd : look_through(p, out, false);
	if (err < 0) {
		pc_look_close(out);
		return pc_pack_fail(p, PC_PACK_STEP_OPEN, err);
	}
	return 0;
}

/* What reading it does, and what is in it, is the kernel's to say, not the container's. */
static const uint64_t kernels_own[] = {
	PROC_SUPER_MAGIC,  SYSFS_MAGIC,	      CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEVPTS_SUPER_MAGIC, DEBUGFS_MAGIC,
	TRACEFS_MAGIC,	   SECURITYFS_MAGIC,  BPF_FS_MAGIC,	  PSTOREFS_MAGIC,      BINFMTFS_MAGIC,	   EFIVARFS_MAGIC,
	AUTOFS_SUPER_MAGIC, NSFS_MAGIC,	      SELINUX_MAGIC,	  SMACK_MAGIC,	       RDTGROUP_SUPER_MAGIC,
	0x19800202 /* mqueue */, 0x62656570 /* configfs */, 0x65735543 /* fusectl */,
};

int pc_look_is_kernels(const struct pc_look *look)
{
	struct statfs fs;
	int err = sys_fstatfs(look->fd, &fs);

	if (err < 0)
		return err;
	for (size_t i = 0; i < sizeof kernels_own / sizeof *kernels_own; i++)
		if ((uint64_t)fs.f_type == kernels_own[i])
			return 1;
	return 0;
}

/* --- extended attributes ---------------------------------------------------------------------------------------- */

/* The inode's names: through the fd, or where that is O_PATH through /proc. Links have none that go into a tar. */
static int64_t list_names(struct pc_pack *p, const struct pc_look *l, char path[32])
{
	(void)snprintf(path, 32, "/proc/self/fd/%d", l->fd);
	if (S_ISLNK(l->st.stx_mode))
		return 0;
	ssize_t n = S_ISREG(l->st.stx_mode) || S_ISDIR(l->st.stx_mode)
			    ? flistxattr(l->fd, p->xattr_names, sizeof p->xattr_names)
			    : listxattr(path, p->xattr_names, sizeof p->xattr_names);
	if (n < 0 && errno == EOPNOTSUPP)
		return 0;
	return n < 0 ? -errno : n;
}

/* Into p->value. -ENODATA when it has just been removed. */
static int get_value(struct pc_pack *p, const struct pc_look *l, const char *path, const char *name)
{
	const bool by_fd = S_ISREG(l->st.stx_mode) || S_ISDIR(l->st.stx_mode);

	p->value.n = 0;
	int err = pc_bytes_reserve(&p->value, 65536); /* XATTR_SIZE_MAX */
	if (err < 0)
		return err;
	ssize_t n = by_fd ? fgetxattr(l->fd, name, p->value.data, p->value.room)
			  : getxattr(path, name, p->value.data, p->value.room);
	if (n < 0)
		return -errno;
	p->value.n = (size_t)n;
	return 0;
}

static bool value_is(const struct pc_pack *p, char c)
{
	return p->value.n == 1 && p->value.data[0] == (uint8_t)c;
}

/* A mark of the kind of overlay that this tree was an upper directory of; those of the other kind mean nothing to it: a
 * container can set them. */
static int take_mark(struct pc_pack *p, struct pc_look *l, const char *path, const char *name)
{
	const char *prefix = p->flags & PC_PACK_USERXATTR ? "user.overlay." : "trusted.overlay.";
	const size_t len = strlen(prefix);

	if (strncmp(name, prefix, len) != 0)
		return 0;
	const char *mark = name + len;
	if (strcmp(mark, "metacopy") == 0 || strcmp(mark, "redirect") == 0)
		return pc_pack_fail(p, PC_PACK_STEP_OVERLAY, -EOPNOTSUPP);
	if (strcmp(mark, "whiteout") == 0 && S_ISREG(l->st.stx_mode) && l->st.stx_size == 0)
		l->whiteout = true;
	if (strcmp(mark, "opaque") != 0 || !S_ISDIR(l->st.stx_mode))
		return 0;
	int err = get_value(p, l, path, name);
	if (err < 0)
		return err == -ENODATA ? 0 : pc_pack_fail(p, PC_PACK_STEP_XATTR, err);
	l->opaque = value_is(p, 'y');
	l->xwhiteouts = value_is(p, 'x');
	return 0;
}

static bool is_private(const char *name)
{
	return strncmp(name, "user.overlay.", 13) == 0 || strncmp(name, "trusted.overlay.", 16) == 0;
}

/* Others steer the host's own security modules, or overlayfs. */
static bool is_carried(const char *name)
{
	return (strncmp(name, "user.", 5) == 0 && !is_private(name)) || strcmp(name, "security.capability") == 0 ||
	       strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, "system.posix_acl_default") == 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A pax key ends at the first '=': a name with one is written as GNU tar writes and reads it, "%3D", and "%" as "%25". */
static int add_key(struct pc_bytes *key, const char *name)
{
	const bool plain = strchr(name, '=') == NULL;

	key->n = 0;
	int err = pc_bytes_add(key, "SCHILY.xattr.", 13);
	for (; err == 0 && *name != '\0'; name++) {
		if (plain || (*name != '=' && *name != '%'))
			err = pc_bytes_add(key, name, 1);
		else
			err = pc_bytes_add(key, *name == '=' ? "%3D" : "%25", 3);
	}
	return err;
}

static int add_record(struct pc_pack *p, const struct pc_look *l, const char *path, const char *name, bool mapped)
{
	struct pc_bytes key = {0};
	int err = get_value(p, l, path, name);

	if (err < 0)
		return err == -ENODATA ? 0 : pc_pack_fail(p, PC_PACK_STEP_XATTR, err);
	if (mapped) {
		int64_t len = pc_ids_xattr(p, name, p->value.data, p->value.n);
		if (len == -EOVERFLOW && p->flags & PC_PACK_TREE)
			return 0; /* the container could not see it, either */
		if (len < 0)
			return pc_pack_fail(p, PC_PACK_STEP_OWNER, (int)len);
		p->value.n = (size_t)len;
	}
	err = add_key(&key, name);
	if (err == 0)
		err = pc_tar_pax(&p->xattrs, (const char *)key.data, key.n, p->value.data, p->value.n);
	pc_bytes_free(&key);
	if (err < 0)
		return pc_pack_fail(p, PC_PACK_STEP_MEMORY, err);
	return p->xattrs.n > PC_PACK_META_MAX ? pc_pack_fail(p, PC_PACK_STEP_XATTR, -E2BIG) : 0;
}

static int add_records(struct pc_pack *p, const struct pc_look *l, const char *path, int64_t size, bool mapped)
{
	size_t n = 0, room = 0;
	const char **sorted = NULL;
	int err = 0;

	for (const char *name = p->xattr_names; err == 0 && name < p->xattr_names + size; name += strlen(name) + 1) {
		if (!is_carried(name))
			continue;
		err = pc_pack_grow((void **)&sorted, &room, n + 1, sizeof *sorted);
		if (err == 0)
			sorted[n++] = name;
		else
			(void)pc_pack_fail(p, PC_PACK_STEP_MEMORY, err);
	}
	if (n > 1)
		qsort(sorted, n, sizeof *sorted, compare_names);
	for (size_t i = 0; err == 0 && i < n; i++)
		err = add_record(p, l, path, sorted[i], mapped);
	free(sorted);
	return err;
}

int pc_look_xattrs(struct pc_pack *p, struct pc_look *l, bool all, bool mapped)
{
	char path[32];
	int64_t size = list_names(p, l, path);
	int err = 0;

	p->xattrs.n = 0;
	if (size < 0)
		return pc_pack_fail(p, PC_PACK_STEP_XATTR, (int)size);
	const int64_t marks = p->flags & PC_PACK_TREE ? 0 : size;
	for (const char *name = p->xattr_names; err == 0 && name < p->xattr_names + marks; name += strlen(name) + 1)
		err = take_mark(p, l, path, name);
	return err == 0 && all && size > 0 && !l->whiteout ? add_records(p, l, path, size, mapped) : err;
}
