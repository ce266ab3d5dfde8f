/* Owners back to what the container sees: in files' owners, in POSIX ACLs and in file capabilities. */
#include "pack.h"

#include <endian.h>
#include <linux/capability.h>

int pc_ids_inside(const struct pc_pack_range *ranges, uint32_t n, uint32_t outside, uint32_t *inside)
{
	for (uint32_t i = 0; i < n; i++)
		if (outside >= ranges[i].outside && outside - ranges[i].outside < ranges[i].count) {
			*inside = ranges[i].inside + (outside - ranges[i].outside);
			return 0;
		}
	return -EOVERFLOW;
}

static uint32_t get32(const uint8_t *from)
{
	uint32_t v;

	memcpy(&v, from, sizeof v);
	return le32toh(v);
}

static void put32(uint8_t *to, uint32_t v)
{
	v = htole32(v);
	memcpy(to, &v, sizeof v);
}

/* struct posix_acl_xattr_header and _entry of linux/posix_acl_xattr.h: a version, then (tag, permissions, id) */
static int64_t acl(const struct pc_pack *p, uint8_t *value, size_t len)
{
	enum { USER = 0x02, GROUP = 0x08 };

	if (len < 4 || (len - 4) % 8 != 0 || get32(value) != 2)
		return -EINVAL;
	for (uint8_t *e = value + 4; e < value + len; e += 8) {
		const unsigned tag = e[0] | (unsigned)e[1] << 8;
		uint32_t inside = 0;
		int err = 0;
		if (tag == USER)
			err = pc_ids_inside(p->uids, p->n_uids, get32(e + 4), &inside);
		else if (tag == GROUP)
			err = pc_ids_inside(p->gids, p->n_gids, get32(e + 4), &inside);
		else
			continue;
		if (err < 0)
			return err;
		put32(e + 4, inside);
	}
	return (int64_t)len;
}

/* What setcap(8) writes in a user namespace the kernel stores as revision 3, with the id of that namespace's root. When
 * that is the container's root, the container wrote revision 2. */
static int64_t capability(const struct pc_pack *p, uint8_t *value, size_t len)
{
	uint32_t root, magic;

	if (len != sizeof(struct vfs_ns_cap_data))
		return (int64_t)len;
	magic = get32(value);
	if ((magic & VFS_CAP_REVISION_MASK) != VFS_CAP_REVISION_3)
		return (int64_t)len;
	int err = pc_ids_inside(p->uids, p->n_uids, get32(value + sizeof(struct vfs_cap_data)), &root);
	if (err < 0)
		return err;
	if (root != 0) {
		put32(value + sizeof(struct vfs_cap_data), root);
		return (int64_t)len;
	}
	put32(value, (magic & ~(uint32_t)VFS_CAP_REVISION_MASK) | VFS_CAP_REVISION_2);
	return sizeof(struct vfs_cap_data);
}

int64_t pc_ids_xattr(const struct pc_pack *p, const char *name, uint8_t *value, size_t len)
{
	if (strncmp(name, "system.posix_acl_", 17) == 0)
		return acl(p, value, len);
	return strcmp(name, "security.capability") == 0 ? capability(p, value, len) : (int64_t)len;
}
