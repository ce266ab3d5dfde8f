/* Extended attributes: which ones a layer may set, ids inside their values, and overlayfs' own mark. */
#include "unpack.h"

#include <endian.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAPABILITY "security.capability"
#define ACL "system.posix_acl_access"
#define DEFAULT_ACL "system.posix_acl_default"
#define NAME_ROOM 256 /* XATTR_NAME_MAX and a NUL */

static bool is_name(struct tar_text name, const char *word)
{
	return name.n == strlen(word) && memcmp(name.at, word, name.n) == 0;
}

static bool begins(struct tar_text name, const char *word)
{
	size_t n = strlen(word);

	return name.n >= n && memcmp(name.at, word, n) == 0;
}

/* trusted.* and user.overlay.* would steer overlayfs, others the host's security modules. */
static bool may_set(const struct pc_unpack *u, struct tar_text name, bool is_dir)
{
	if (begins(name, "user."))
		return !begins(name, "user.overlay.");
	if (u->o.flags & PC_UNPACK_SOBER)
		return false;
	return is_name(name, CAPABILITY) || is_name(name, ACL) || (is_dir && is_name(name, DEFAULT_ACL));
}

/* --- names of those that were not set ----------------------------------------------------------------------------- */

static bool is_noted(const struct pc_unpack_stats *s, struct tar_text name)
{
	for (uint32_t at = 0; at < s->skipped_bytes;) {
		const char *known = (const char *)s->skipped_xattrs + at;
		if (is_name(name, known))
			return true;
		at += (uint32_t)strlen(known) + 1;
	}
	return false;
}

static void skip(struct pc_unpack *u, struct tar_text name)
{
	struct pc_unpack_stats *s = &u->stats;

	if (name.n >= sizeof s->skipped_xattrs - s->skipped_bytes || is_noted(s, name))
		return;
	memcpy(s->skipped_xattrs + s->skipped_bytes, name.at, name.n);
	s->skipped_bytes += (uint32_t)name.n;
	s->skipped_xattrs[s->skipped_bytes++] = '\0';
	s->n_skipped_xattrs++;
}

void unpack_skip_xattrs(struct pc_unpack *u, const struct tar_entry *e)
{
	for (size_t i = 0; i < e->n_xattrs; i++)
		skip(u, e->xattrs[i].name);
}

/* --- ids in values ------------------------------------------------------------------------------------------------ */

/* posix_acl_xattr_header and its entries, little-endian; include/uapi/linux/posix_acl_xattr.h */
struct acl_entry {
	uint16_t tag;
	uint16_t perm;
	uint32_t id;
};

#define ACL_HEADER 4u
#define ACL_USER 0x02
#define ACL_GROUP 0x08

/* A value that the kernel will refuse anyway is left as it is. */
static int shift_acl(struct pc_unpack *u, uint8_t *value, size_t n)
{
	for (size_t at = ACL_HEADER; at + sizeof(struct acl_entry) <= n; at += sizeof(struct acl_entry)) {
		struct acl_entry entry;
		uint32_t id;
		memcpy(&entry, value + at, sizeof entry);
		uint16_t tag = le16toh(entry.tag);
		if (tag != ACL_USER && tag != ACL_GROUP)
			continue;
		int err = unpack_map_id(u, tag == ACL_GROUP, le32toh(entry.id), &id);
		if (err < 0)
			return err;
		entry.id = htole32(id);
		memcpy(value + at, &entry, sizeof entry);
	}
	return 0;
}

/* File capabilities belong to a root: of version 2 to the file system's own, which the shifted root is not. */
static int shift_capability(struct pc_unpack *u, uint8_t *value, size_t *n)
{
	struct vfs_ns_cap_data cap = {0};
	uint32_t root = 0;

	if (*n != XATTR_CAPS_SZ_2 && *n != XATTR_CAPS_SZ_3)
		return 0;
	memcpy(&cap, value, *n);
	uint32_t magic = le32toh(cap.magic_etc), revision = magic & VFS_CAP_REVISION_MASK;
	if (revision == VFS_CAP_REVISION_3)
		root = le32toh(cap.rootid);
	else if (revision != VFS_CAP_REVISION_2)
		return 0;
	int err = unpack_map_id(u, false, root, &root);
	if (err < 0)
		return err;
	cap.magic_etc = htole32((magic & ~VFS_CAP_REVISION_MASK) | VFS_CAP_REVISION_3);
	cap.rootid = htole32(root);
	*n = XATTR_CAPS_SZ_3;
	memcpy(value, &cap, *n);
	return 0;
}

static int set_shifted(struct pc_unpack *u, int fd, const char *name, struct tar_text value)
{
	size_t n = value.n;
	uint8_t *copy = malloc(n + sizeof(struct vfs_ns_cap_data)); /* a capability of version 2 grows */

	if (copy == NULL)
		return -ENOMEM;
	if (n > 0)
		memcpy(copy, value.at, n);
	int err = strcmp(name, CAPABILITY) == 0 ? shift_capability(u, copy, &n) : shift_acl(u, copy, n);
	if (err == 0)
		err = sys_fsetxattr(fd, name, copy, n);
	free(copy);
	return err;
}

/* --- setting ------------------------------------------------------------------------------------------------------ */

static int set(struct pc_unpack *u, int fd, const struct tar_xattr *x)
{
	char name[NAME_ROOM];
	bool has_ids = !begins(x->name, "user.");

	if (x->name.n >= sizeof name)
		return -ERANGE; /* as the kernel says */
	memcpy(name, x->name.at, x->name.n);
	name[x->name.n] = '\0';
	if (strcmp(name, DEFAULT_ACL) == 0)
		u->default_acls = true;
	if (has_ids && (u->o.n_uid_map > 0 || u->o.n_gid_map > 0))
		return set_shifted(u, fd, name, x->value);
	return sys_fsetxattr(fd, name, x->value.at, x->value.n);
}

/* A file system without attributes of a kind is told in the statistics; without file capabilities a program would fail. */
int unpack_xattrs(struct pc_unpack *u, int fd, const struct tar_entry *e)
{
	for (size_t i = 0; i < e->n_xattrs; i++) {
		const struct tar_xattr *x = &e->xattrs[i];
		bool may = may_set(u, x->name, e->kind == TAR_DIR);
		int err = may ? set(u, fd, x) : -EOPNOTSUPP;
		if (err == -EOPNOTSUPP && !(may && is_name(x->name, CAPABILITY)))
			skip(u, x->name);
		else if (err < 0)
			return err;
	}
	return 0;
}

int unpack_set_opaque(struct pc_unpack *u, int fd)
{
	int err = sys_fsetxattr(fd, u->o.in_user_namespace ? "user.overlay.opaque" : "trusted.overlay.opaque", "y", 1);

	if (err == 0)
		u->stats.opaque_dirs++;
	return err;
}

static int unless_none(int err)
{
	return err == -ENODATA || err == -EOPNOTSUPP ? 0 : err;
}

/* What a new file or directory has from its parent's default ACL, no entry of the layer has said. */
int unpack_drop_inherited(int fd)
{
	int err = unless_none(sys_fremovexattr(fd, ACL));

	return err < 0 ? err : unless_none(sys_fremovexattr(fd, DEFAULT_ACL));
}

/* The same of a node that is open as a path only. */
int unpack_drop_inherited_of_node(int fd)
{
	char link[32];

	(void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	return unless_none(sys_removexattr(link, ACL));
}
