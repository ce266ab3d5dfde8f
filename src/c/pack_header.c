/* The bytes of a tar header: ustar, with a pax header before it for what ustar cannot hold. Pure: no input or output.
 *
 * Text is written as it is, whatever its encoding: GNU tar, Go's archive/tar, libarchive and Python's tarfile all give
 * names that fit into ustar back byte by byte. A number too big for its field is in the pax header, and in base 256 in the
 * field: whoever reads only one of them (busybox reads no pax) reads the same.
 * Spec: POSIX pax, "ustar Interchange Format", "pax Header Block".
 */
#include "pack.h"

#include <stdio.h>

#define BLOCK 512

struct ustar {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[8], uname[32],
		gname[32], dev_major[8], dev_minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct ustar) == BLOCK, "a header is one block");

static bool fits(uint64_t value, size_t field)
{
	return value < (uint64_t)1 << (3 * (field - 1)); /* octal digits and a NUL */
}

static void put_octal(char *field, size_t size, uint64_t value)
{
	field[--size] = '\0';
	while (size > 0) {
		field[--size] = (char)('0' + (value & 7));
		value >>= 3;
	}
}

/* Octal when it fits, else base 256, in two's complement, with the first bit set. */
static void put_number(char *field, size_t size, int64_t value)
{
	if (value >= 0 && fits((uint64_t)value, size)) {
		put_octal(field, size, (uint64_t)value);
		return;
	}
	for (size_t at = size; at-- > 0; value >>= 8)
		field[at] = (char)(value & 0xff);
	field[0] = (char)(field[0] | (char)0x80);
}

/* "LENGTH KEY=VALUE\n", whose length counts its own digits */
int pc_tar_pax(struct pc_bytes *out, const char *key, size_t key_len, const void *value, size_t len)
{
	char digits[24];
	size_t rest = 1 + key_len + 1 + len + 1, total = rest + 1;

	for (;;) {
		int n = snprintf(digits, sizeof digits, "%zu", total);
		if (n < 0)
			return -EINVAL;
		if (rest + (size_t)n == total)
			break;
		total = rest + (size_t)n;
	}
	int err = pc_bytes_add(out, digits, strlen(digits));
	if (err == 0)
		err = pc_bytes_add(out, " ", 1);
	if (err == 0)
		err = pc_bytes_add(out, key, key_len);
	if (err == 0)
		err = pc_bytes_add(out, "=", 1);
	if (err == 0)
		err = pc_bytes_add(out, value, len);
	return err == 0 ? pc_bytes_add(out, "\n", 1) : err;
}

static int pax_text(struct pc_bytes *out, const char *key, const char *text)
{
	return pc_tar_pax(out, key, strlen(key), text, strlen(text));
}

static int pax_number(struct pc_bytes *out, const char *key, uint64_t value)
{
	char text[24];

	(void)snprintf(text, sizeof text, "%llu", (unsigned long long)value);
	return pax_text(out, key, text);
}

/* Seconds and a fraction without zeros at its end. Before 1970 the fraction counts downwards: -2 s and 750 ms is -1.25. */
static int pax_mtime(struct pc_bytes *out, int64_t s, uint32_t ns)
{
	char text[48];
	const bool negative = s < 0;

	if (negative && ns > 0) {
		s += 1;
		ns = 1000000000u - ns;
	}
	const uint64_t seconds = s < 0 ? 0 - (uint64_t)s : (uint64_t)s;
	int n = snprintf(text, sizeof text, "%s%llu.%09u", negative ? "-" : "", (unsigned long long)seconds, ns);
	while (text[n - 1] == '0')
		text[--n] = '\0';
	if (text[n - 1] == '.')
		text[--n] = '\0';
	return pax_text(out, "mtime", text);
}

/* Where a path may be cut so that its parts go into prefix and name: the index of a slash, 0: it fits whole, -1: not. */
static int64_t cut_of(const char *path, size_t len)
{
	const struct ustar *u = NULL;

	if (len <= sizeof u->name)
		return 0;
	for (size_t i = len - sizeof u->name - 1; i < len - 1 && i <= sizeof u->prefix; i++)
		if (path[i] == '/' && i > 0)
			return (int64_t)i;
	return -1;
}

static void put_path(struct ustar *u, const char *path, size_t len)
{
	int64_t cut = cut_of(path, len);

	if (cut > 0) {
		memcpy(u->prefix, path, (size_t)cut);
		path += cut + 1;
		len -= (size_t)cut + 1;
	}
	memcpy(u->name, path, len < sizeof u->name ? len : sizeof u->name);
}

static void seal(struct ustar *u)
{
	const unsigned char *bytes = (const unsigned char *)u;
	unsigned sum = 0;

	memcpy(u->magic, "ustar\00000", sizeof u->magic);
	memset(u->checksum, ' ', sizeof u->checksum);
	for (size_t i = 0; i < sizeof *u; i++)
		sum += bytes[i];
	put_octal(u->checksum, 7, sum);
}

/* The header of the pax records, with a name for readers that know no pax: deterministic, and of one file only. */
static int add_pax_header(struct pc_bytes *out, const char *path, size_t len, const struct pc_bytes *records)
{
	struct ustar u = {.type = 'x'};
	size_t base;

	while (len > 0 && path[len - 1] == '/')
		len--;
	for (base = len; base > 0 && path[base - 1] != '/'; base--)
		;
	memcpy(u.name, "PaxHeaders.0/", 13);
	memcpy(u.name + 13, path + base, len - base < sizeof u.name - 13 ? len - base : sizeof u.name - 13);
	put_octal(u.mode, sizeof u.mode, 0644);
	put_octal(u.uid, sizeof u.uid, 0);
	put_octal(u.gid, sizeof u.gid, 0);
	put_octal(u.size, sizeof u.size, records->n);
	put_octal(u.mtime, sizeof u.mtime, 0);
	put_octal(u.dev_major, sizeof u.dev_major, 0);
	put_octal(u.dev_minor, sizeof u.dev_minor, 0);
	seal(&u);
	int err = pc_bytes_add(out, &u, sizeof u);
	if (err == 0)
		err = pc_bytes_add(out, records->data, records->n);
	return err == 0 ? pc_bytes_zeros(out, -records->n % BLOCK) : err;
}

/* Sorted by key, as Go has them. */
static int collect(struct pc_bytes *records, const struct pc_tar_entry *e, const char *path, size_t path_len)
{
	const struct ustar *u = NULL;
	int err = e->xattrs != NULL ? pc_bytes_add(records, e->xattrs->data, e->xattrs->n) : 0;

	if (err == 0 && !fits(e->gid, sizeof u->gid))
		err = pax_number(records, "gid", e->gid);
	if (err == 0 && e->link_len > sizeof u->link)
		err = pc_tar_pax(records, "linkpath", 8, e->link, e->link_len);
	if (err == 0 && (e->mtime_ns != 0 || e->mtime_s < 0 || !fits((uint64_t)e->mtime_s, sizeof u->mtime)))
		err = pax_mtime(records, e->mtime_s, e->mtime_ns);
	if (err == 0 && cut_of(path, path_len) < 0)
		err = pc_tar_pax(records, "path", 4, path, path_len);
	if (err == 0 && !fits(e->size, sizeof u->size))
		err = pax_number(records, "size", e->size);
	if (err == 0 && !fits(e->uid, sizeof u->uid))
		err = pax_number(records, "uid", e->uid);
	return err == 0 && records->n > PC_PACK_META_MAX ? -E2BIG : err;
}

static int add_header(struct pc_bytes *out, const struct pc_tar_entry *e, const char *path, size_t path_len)
{
	struct ustar u = {.type = e->type};

	put_path(&u, path, path_len);
	put_octal(u.mode, sizeof u.mode, e->mode & 07777u);
	put_number(u.uid, sizeof u.uid, e->uid);
	put_number(u.gid, sizeof u.gid, e->gid);
	put_number(u.size, sizeof u.size, (int64_t)e->size);
	put_number(u.mtime, sizeof u.mtime, e->mtime_s);
	put_octal(u.dev_major, sizeof u.dev_major, e->dev_major);
	put_octal(u.dev_minor, sizeof u.dev_minor, e->dev_minor);
	if (e->link_len > 0)
		memcpy(u.link, e->link, e->link_len < sizeof u.link ? e->link_len : sizeof u.link);
	seal(&u);
	return pc_bytes_add(out, &u, sizeof u);
}

int pc_tar_header(struct pc_bytes *out, const struct pc_tar_entry *e)
{
	struct pc_bytes path = {0}, records = {0};
	int err = pc_bytes_add(&path, e->path, e->path_len);

	if (err == 0 && e->type == '5')
		err = pc_bytes_add(&path, "/", 1);
	if (err == 0)
		err = collect(&records, e, (const char *)path.data, path.n);
	if (err == 0 && records.n > 0)
		err = add_pax_header(out, (const char *)path.data, path.n, &records);
	if (err == 0)
		err = add_header(out, e, (const char *)path.data, path.n);
	pc_bytes_free(&path);
	pc_bytes_free(&records);
	return err;
}
