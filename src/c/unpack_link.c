/* Hard links, and whiteouts as overlayfs reads them. Spec: image-spec layer.md, "Hardlinks", "Whiteouts". */
#include "unpack.h"

#include <errno.h>
#include <string.h>

bool unpack_is_whiteout(const struct statx *st)
{
	return S_ISCHR(st->stx_mode) && st->stx_rdev_major == 0 && st->stx_rdev_minor == 0;
}

static int link_fault(struct pc_unpack *u, const struct tar_entry *e, enum pc_unpack_fault fault)
{
	tar_say(&u->error, "", e->link);
	return tar_fault(&u->error, fault, 0, 0);
}

static bool is_same(const struct statx *a, const struct statx *b)
{
	return a->stx_ino == b->stx_ino && a->stx_dev_major == b->stx_dev_major && a->stx_dev_minor == b->stx_dev_minor;
}

/* Without AT_SYMLINK_FOLLOW: a link to a symbolic link is the link again, not what that points to. */
static int make_link(struct pc_unpack *u, int from, const char *target, const struct statx *st, int parent, const char *name)
{
	struct statx there;
	int err = sys_linkat(from, target, parent, name);

	if (err != -EEXIST)
		return err;
	err = sys_statx(parent, name, AT_SYMLINK_NOFOLLOW, STATX_INO, &there);
	if (err < 0)
		return err;
	if (is_same(&there, st))
		return 0; /* a link to itself; removing the old name first would lose the file */
	err = unpack_clear(u, parent, name);
	return err < 0 ? err : sys_linkat(from, target, parent, name);
}

int unpack_hardlink(struct pc_unpack *u, const struct tar_entry *e, int parent)
{
	struct statx st;
	int err = unpack_split(u, e->link, &u->target);

	if (err < 0)
		return err;
	const char *target = u->target.text + u->target.name;
	const bool plain = u->o.flags & PC_UNPACK_PLAIN;
	if (u->target.n == 0 || (!plain && unpack_is_whiteout_name(target)))
		return link_fault(u, e, PC_UNPACK_LINK_KIND);
	int from = unpack_open_parent(u, &u->target, false);
	if (from == -ENOENT || from == -ENOTDIR)
		return link_fault(u, e, PC_UNPACK_LINK_ABSENT);
	if (from < 0)
		return from;
	err = sys_statx(from, target, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st);
	if (err == -ENOENT)
		return link_fault(u, e, PC_UNPACK_LINK_ABSENT);
	if (err < 0)
		return err;
	if (S_ISDIR(st.stx_mode) || (!plain && unpack_is_whiteout(&st)))
		return link_fault(u, e, PC_UNPACK_LINK_KIND);
	return make_link(u, from, target, &st, parent, u->path.text + u->path.name);
}

/* What this layer itself holds stays, whatever the order, and hides what is below; but a directory would let the files of
 * the layers below show through. */
static int hide(struct pc_unpack *u, int parent, const char *name)
{
	struct statx st;
	int err = sys_statx(parent, name, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &st);

	if (err == -ENOENT) {
		err = sys_mknodat(parent, name, S_IFCHR, 0);
		if (err == 0)
			u->stats.whiteouts++;
		return err;
	}
	if (err < 0 || !S_ISDIR(st.stx_mode))
		return err;
	scoped_fd int fd = sys_openat(parent, name, UNPACK_DIR | O_NOFOLLOW, 0);
	return fd < 0 ? fd : unpack_set_opaque(u, fd);
}

int unpack_whiteout(struct pc_unpack *u, const struct tar_entry *e, int parent)
{
	const char *name = u->path.text + u->path.name, *hidden = name + 4;

	if (e->kind != TAR_FILE && e->kind != TAR_HARDLINK) /* aufs made whiteouts as links to one file */
		return tar_fault(&u->error, PC_UNPACK_WHITEOUT_KIND, 0, 0);
	if (strcmp(name, ".wh..wh..opq") == 0)
		return unpack_set_opaque(u, parent);
	if (*hidden == '\0' || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0 || unpack_is_whiteout_name(hidden))
		return tar_fault(&u->error, PC_UNPACK_WHITEOUT_NAME, 0, 0);
	return hide(u, parent, hidden);
}
