/* Names of a layer: normalised as text, then the parent directory as an fd. */
#include "tree.h"
#include "unpack.h"

#include <errno.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>

#define IN_ROOT (RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
/* openat2 gives up (EAGAIN) when some rename or mount of the host passes while it follows a ".." of a link. */
#define MAX_TRIES 1000

bool unpack_is_whiteout_name(const char *name)
{
	return strncmp(name, ".wh.", 4) == 0;
}

static int escapes(struct pc_unpack *u, struct tar_text path)
{
	tar_say(&u->error, "", path);
	return tar_fault(&u->error, PC_UNPACK_ESCAPES, 0, 0);
}

/* Takes the last component off text[0, n). */
static size_t cut(const char *text, size_t n)
{
	while (n > 0 && text[n - 1] != '/')
		n--;
	return n > 0 ? n - 1 : 0;
}

/* The whole path as one string, for as long as the parent's is not asked for. */
const char *unpack_whole(struct unpack_path *p)
{
	if (p->parent_n > 0)
		p->text[p->parent_n] = '/';
	return p->text;
}

static const char *parent_of(struct unpack_path *p)
{
	if (p->parent_n == 0)
		return ".";
	p->text[p->parent_n] = '\0';
	return p->text;
}

/* ".." is applied to the text, as Docker does: it never asks what a link before it leads to. */
int unpack_split(struct pc_unpack *u, struct tar_text path, struct unpack_path *out)
{
	size_t n = 0, depth = 0;

	if (path.n == 0)
		return tar_fault(&u->error, PC_UNPACK_NAME_EMPTY, 0, 0);
	if (path.n > u->o.max_path_bytes)
		return tar_fault(&u->error, PC_UNPACK_PATH_BYTES, path.n, u->o.max_path_bytes);
	for (size_t from = 0; from < path.n;) {
		const uint8_t *part = path.at + from, *slash = memchr(part, '/', path.n - from);
		size_t m = slash != NULL ? (size_t)(slash - part) : path.n - from;
		from += m + 1;
		if (m == 0 || (m == 1 && part[0] == '.'))
			continue;
		if (m == 2 && part[0] == '.' && part[1] == '.') {
			if (depth-- == 0)
				return escapes(u, path);
			n = cut(out->text, n);
			continue;
		}
		if (n > 0)
			out->text[n++] = '/';
		memcpy(out->text + n, part, m); /* never longer than the path itself */
		n += m;
		depth++;
	}
	if (depth > u->o.max_depth)
		return tar_fault(&u->error, PC_UNPACK_DEPTH, depth, u->o.max_depth);
	out->text[n] = '\0';
	out->n = n;
	out->parent_n = cut(out->text, n);
	out->name = out->parent_n > 0 ? out->parent_n + 1 : 0;
	(void)parent_of(out);
	return 0;
}

int unpack_open(const struct pc_unpack *u, const char *path, int flags)
{
	int fd = -EAGAIN;

	for (int i = 0; i < MAX_TRIES && (fd == -EAGAIN || fd == -EINTR); i++)
		fd = sys_openat2(u->root, path, (uint64_t)flags, 0, IN_ROOT);
	return fd;
}

/* --- directories remembered by their path ------------------------------------------------------------------------ */

static void drop(struct unpack_parent *p)
{
	fd_close(&p->fd);
	p->n = 0;
	p->used = 0;
}

void unpack_forget_parents(struct pc_unpack *u)
{
	for (size_t i = 0; i < UNPACK_PARENTS; i++)
		drop(&u->parents[i]);
	u->stale = false;
}

static struct unpack_parent *find(struct pc_unpack *u, const char *path, size_t n)
{
	for (size_t i = 0; i < UNPACK_PARENTS; i++) {
		struct unpack_parent *p = &u->parents[i];
		if (p->fd >= 0 && p->n == n && memcmp(p->path, path, n) == 0)
			return p;
	}
	return NULL;
}

static struct unpack_parent *oldest(struct pc_unpack *u)
{
	struct unpack_parent *found = &u->parents[0];

	for (size_t i = 1; i < UNPACK_PARENTS; i++)
		if (u->parents[i].used < found->used) /* an empty one was never used */
			found = &u->parents[i];
	return found;
}

/* *fd is taken over, also on failure; the answer is a loan. */
static int remember(struct pc_unpack *u, const char *path, size_t n, int *fd)
{
	scoped_fd int given = fd_take(fd);
	struct unpack_parent *p = find(u, path, n);

	if (p == NULL)
		p = oldest(u);
	char *copy = tar_grow(p->path, &p->room, n + 1, 1);
	if (copy == NULL)
		return -ENOMEM;
	drop(p);
	p->path = copy;
	memcpy(copy, path, n);
	p->n = n;
	p->fd = fd_take(&given);
	p->used = ++u->n_lookups;
	return p->fd;
}

/* EEXIST from here: a link to nowhere, which is not followed to make things. */
static int make_directory(struct pc_unpack *u, int above, const char *path, const char *name)
{
	struct unpack_kept kept;
	int err = unpack_keep_time(u, above, &kept);

	if (err == 0)
		err = sys_mkdirat(above, name, 0700);
	if (err == 0)
		err = unpack_restore_time(&kept);
	if (err < 0)
		return err;
	scoped_fd int fd = unpack_open(u, path, UNPACK_DIR);
	err = fd < 0 ? fd : unpack_settle_implied(u, fd);
	return err < 0 ? err : fd_take(&fd);
}

/* Directories that the layer implies but does not list: root's, mode 0755, as Docker makes them. */
static int make_parents(struct pc_unpack *u, char *path, size_t n)
{
	scoped_fd int above = unpack_open(u, ".", UNPACK_DIR);

	if (above < 0)
		return above;
	for (size_t from = 0, to = 0; from < n; from = to + 1) {
		for (to = from; to < n && path[to] != '/'; to++)
			;
		char end = path[to];
		path[to] = '\0';
		int fd = unpack_open(u, path, UNPACK_DIR);
		if (fd == -ENOENT)
			fd = make_directory(u, above, path, path + from);
		path[to] = end;
		if (fd < 0)
			return fd;
		fd_close(&above);
		above = fd;
	}
	return fd_take(&above);
}

int unpack_open_parent(struct pc_unpack *u, struct unpack_path *p, bool make)
{
	const char *path = parent_of(p);
	size_t n = p->parent_n;

	if (u->stale)
		unpack_forget_parents(u);
	struct unpack_parent *known = find(u, path, n);
	if (known != NULL) {
		known->used = ++u->n_lookups;
		return known->fd;
	}
	int fd = unpack_open(u, path, UNPACK_DIR);
	if (fd == -ENOENT && make)
		fd = make_parents(u, p->text, n);
	return fd < 0 ? fd : remember(u, path, n, &fd);
}

int unpack_remember_parent(struct pc_unpack *u, struct unpack_path *p, int *fd)
{
	return u->stale ? 0 : remember(u, unpack_whole(p), p->n, fd);
}

int unpack_clear(struct pc_unpack *u, int parent, const char *name)
{
	u->stale = true; /* the fds stay good for the entry at hand */
	if (!(u->o.flags & PC_UNPACK_PLAIN))
		return pc_tree_remove_at(parent, name);
	/* Outside the container's mount namespace the kernel would unlink what something is mounted on in there, and the mount
	 * would go. */
	struct statx st;
	int err = sys_statx(parent, name, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &st);
	if (err == 0 && st.stx_attributes & STATX_ATTR_MOUNT_ROOT && !S_ISDIR(st.stx_mode))
		return -EBUSY;
	err = sys_unlinkat(parent, name, 0); /* who shares the directory may have put another one there by now */
	if (err == -EISDIR)
		return tar_fault(&u->error, PC_UNPACK_OVER_DIRECTORY, 0, 0);
	return err == -ENOENT ? 0 : err;
}
