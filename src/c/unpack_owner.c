/* Owners and modes of what is made, and the shift of ids. */
#include "unpack.h"

#include <errno.h>
#include <stdio.h>

int unpack_map_id(struct pc_unpack *u, bool group, uint32_t id, uint32_t *out)
{
	const struct pc_id_range *map = group ? u->gid_map : u->uid_map;
	uint32_t n = group ? u->o.n_gid_map : u->o.n_uid_map;

	for (uint32_t i = 0; i < n; i++)
		if (id >= map[i].inside && id - map[i].inside < map[i].count) {
			*out = map[i].outside + (id - map[i].inside);
			return 0;
		}
	*out = id;
	if (n == 0)
		return 0;
	tar_say(&u->error, group ? "gid" : "uid", (struct tar_text){0});
	return tar_fault(&u->error, PC_UNPACK_UNMAPPED, id, 0);
}

int unpack_shift(struct pc_unpack *u, const struct tar_entry *e)
{
	if (u->o.flags & PC_UNPACK_OWNED) {
		u->uid = u->o.owner_uid;
		u->gid = u->o.owner_gid;
		return 0;
	}
	int err = unpack_map_id(u, false, e->uid, &u->uid);

	return err < 0 ? err : unpack_map_id(u, true, e->gid, &u->gid);
}

uint32_t unpack_first_mode(const struct pc_unpack *u, const struct tar_entry *e, uint32_t closed)
{
	return u->uid == u->own_uid && u->gid == u->own_gid ? e->mode & 0777u : closed;
}

/* What the kernel has made of a new file is looked at, not assumed: umask, a parent's set-group-ID bit, default ACLs and
 * mount options all have their say, and in most layers it is already what it should be. */
int unpack_settle(struct pc_unpack *u, int fd, const struct tar_entry *e, bool made)
{
	struct statx st;
	int err = sys_statx(fd, "", AT_EMPTY_PATH, STATX_UID | STATX_GID | STATX_MODE, &st);

	if (err < 0)
		return err;
	bool ours = st.stx_uid == u->uid && st.stx_gid == u->gid;
	if (!ours)
		err = sys_fchown(fd, u->uid, u->gid);
	if (err == 0 && made && u->default_acls)
		err = unpack_drop_inherited(fd);
	/* after chown, which clears the set-user-ID bit; so it does security.capability */
	if (err == 0 && (!ours || u->default_acls || (st.stx_mode & 07777u) != e->mode))
		err = sys_fchmod(fd, e->mode);
	return err < 0 ? err : unpack_xattrs(u, fd, e);
}

/* A directory that no entry of the layer describes. */
int unpack_settle_implied(struct pc_unpack *u, int fd)
{
	uint32_t uid = u->own_uid, gid = u->own_gid;
	int err = 0;

	if (u->o.flags & PC_UNPACK_OWNED) {
		uid = u->o.owner_uid;
		gid = u->o.owner_gid;
	} else if (u->o.n_uid_map > 0)
		err = unpack_map_id(u, false, 0, &uid);
	if (err == 0 && !(u->o.flags & PC_UNPACK_OWNED) && u->o.n_gid_map > 0)
		err = unpack_map_id(u, true, 0, &gid);
	if (err == 0 && (uid != u->own_uid || gid != u->own_gid))
		err = sys_fchown(fd, uid, gid);
	if (err == 0 && u->default_acls)
		err = unpack_drop_inherited(fd);
	return err < 0 ? err : sys_fchmod(fd, 0755);
}

/* Of a node that is open as a path only: opening a device for real would reach the device. */
int unpack_chmod(int fd, uint32_t mode)
{
	char link[32];
	int err = sys_fchmodat2(fd, "", mode, AT_EMPTY_PATH);

	if (err != -ENOSYS && err != -EPERM) /* EPERM: also what a container's seccomp filter says to a call it does not know */
		return err;
	(void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	return sys_fchmodat(AT_FDCWD, link, mode);
}
