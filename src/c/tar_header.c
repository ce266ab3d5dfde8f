/* One header block, with the extended headers before it, as an entry. */
#include "tar.h"

#include <errno.h>
#include <string.h>

struct tar_text tar_record(const struct tar *t, enum tar_pax_key key)
{
	if (t->pax.have & 1u << key)
		return (struct tar_text){t->meta + t->pax.known[key].at, t->pax.known[key].n};
	if (t->global.have & 1u << key)
		return (struct tar_text){t->global.bytes + t->global.known[key].at, t->global.known[key].n};
	return (struct tar_text){0};
}

static size_t text_length(const uint8_t *raw, size_t n)
{
	const uint8_t *nul = memchr(raw, '\0', n);

	return nul != NULL ? (size_t)(nul - raw) : n;
}

/* Kept, since the block may lie in the caller's chunk. */
static struct tar_text header_name(struct tar *t, const uint8_t *b)
{
	size_t n = 0;

	if (memcmp(b + 257, "ustar", 6) == 0 && b[345] != '\0') { /* GNU's own format ("ustar  ") has other things there */
		n = text_length(b + 345, 155);
		memcpy(t->header_name, b + 345, n);
		t->header_name[n++] = '/';
	}
	size_t more = text_length(b, 100);
	memcpy(t->header_name + n, b, more);
	return (struct tar_text){t->header_name, n + more};
}

static struct tar_text name_of(struct tar *t, const uint8_t *b)
{
	struct tar_text path = tar_record(t, PAX_PATH);

	if (path.n > 0)
		return path;
	if (t->has_long_name)
		return (struct tar_text){t->meta + t->long_name.at, t->long_name.n};
	return header_name(t, b);
}

static struct tar_text link_of(struct tar *t, const uint8_t *b)
{
	struct tar_text path = tar_record(t, PAX_LINKPATH);

	if (path.n > 0)
		return path;
	if (t->has_long_link)
		return (struct tar_text){t->meta + t->long_link.at, t->long_link.n};
	size_t n = text_length(b + 157, 100);
	memcpy(t->header_link, b + 157, n);
	return (struct tar_text){t->header_link, n};
}

/* -1 for a type that is not known: an entry that is passed over would be a file that others see. */
static int kind_of(uint8_t flag)
{
	switch (flag) {
	case '\0':
	case '0':
	case '7': /* contiguous */
	case 'S': /* GNU's sparse file */
		return TAR_FILE;
	case '1':
		return TAR_HARDLINK;
	case '2':
		return TAR_SYMLINK;
	case '3':
		return TAR_CHAR;
	case '4':
		return TAR_BLOCK_DEVICE;
	case '5':
		return TAR_DIR;
	case '6':
		return TAR_FIFO;
	default:
		return -1;
	}
}

/* A number that a pax record may replace. */
static int number_of(struct tar *t, enum tar_pax_key key, const uint8_t *raw, size_t n, const char *what, uint64_t *out)
{
	struct tar_text record = tar_record(t, key);

	return record.n > 0 ? tar_decimal(t->error, record, what, out) : tar_number(t->error, raw, n, what, out);
}

static int id_of(struct tar *t, enum tar_pax_key key, const uint8_t *raw, const char *what, uint32_t *out)
{
	uint64_t value;
	int err = number_of(t, key, raw, 8, what, &value);

	if (err < 0)
		return err;
	if (value > TAR_MAX_ID) { /* truncated to 32 bits it could become 0: root (CVE-2024-40635) */
		tar_say(t->error, what, (struct tar_text){0});
		return tar_fault(t->error, PC_UNPACK_ID, value, TAR_MAX_ID);
	}
	*out = (uint32_t)value;
	return 0;
}

static int device_of(struct tar *t, const uint8_t *b)
{
	uint64_t major, minor;
	int err = tar_number(t->error, b + 329, 8, "major", &major);

	if (err == 0)
		err = tar_number(t->error, b + 337, 8, "minor", &minor);
	if (err < 0)
		return err;
	if (major >= 1u << 12 || minor >= 1u << 20)
		return tar_fault(t->error, PC_UNPACK_DEVICE, major, minor);
	t->entry.major = (uint32_t)major;
	t->entry.minor = (uint32_t)minor;
	return 0;
}

static int add_xattrs(struct tar *t, const struct tar_pax *p, const uint8_t *base)
{
	size_t n = t->entry.n_xattrs;

	if (p->xattrs.n == 0)
		return 0;
	struct tar_xattr *xattrs = tar_grow(t->xattrs, &t->xattrs_room, n + p->xattrs.n / 2, sizeof *xattrs);
	if (xattrs == NULL)
		return -ENOMEM;
	t->xattrs = xattrs;
	for (size_t i = 0; i < p->xattrs.n; i += 2) {
		struct tar_span name = p->xattrs.at[i], value = p->xattrs.at[i + 1];
		xattrs[n++] = (struct tar_xattr){{base + name.at, name.n}, {base + value.at, value.n}};
	}
	t->entry.n_xattrs = n;
	return 0;
}

/* Fills t->entry, and how much data follows. */
int tar_read_header(struct tar *t, const uint8_t *b)
{
	struct tar_entry *e = &t->entry;
	int kind = kind_of(b[156]);
	uint64_t mode;

	*e = (struct tar_entry){.name = name_of(t, b), .kind = kind < 0 ? TAR_FILE : (enum tar_kind)kind};
	t->named = true;
	if (kind < 0)
		return tar_fault(t->error, PC_UNPACK_TYPE, b[156], 0);
	if (b[156] == '\0' && e->name.n > 0 && e->name.at[e->name.n - 1] == '/')
		e->kind = TAR_DIR; /* as before POSIX */
	e->link = link_of(t, b);
	int err = number_of(t, PAX_SIZE, b + 124, 12, "size", &e->stored);
	if (err == 0)
		err = tar_number(t->error, b + 100, 8, "mode", &mode);
	if (err == 0)
		err = id_of(t, PAX_UID, b + 108, "uid", &e->uid);
	if (err == 0)
		err = id_of(t, PAX_GID, b + 116, "gid", &e->gid);
	if (err == 0)
		err = tar_mtime(t->error, b + 136, tar_record(t, PAX_MTIME), &e->mtime);
	if (err == 0 && (e->kind == TAR_CHAR || e->kind == TAR_BLOCK_DEVICE))
		err = device_of(t, b);
	if (err == 0)
		err = add_xattrs(t, &t->global, t->global.bytes);
	if (err == 0)
		err = add_xattrs(t, &t->pax, t->meta);
	if (err < 0)
		return err;
	e->mode = (uint32_t)mode & 07777u;
	e->xattrs = t->xattrs;
	if (e->kind != TAR_FILE)
		e->stored = 0; /* a size there is a remark, no data follows (as in Go's archive/tar) */
	if (e->stored > INT64_MAX) {
		tar_say(t->error, "size", (struct tar_text){0});
		return tar_fault(t->error, PC_UNPACK_RANGE, 0, 0);
	}
	e->size = t->left = e->stored;
	t->padding = t->padded = (uint32_t)(-e->stored % TAR_BLOCK);
	return 0;
}
