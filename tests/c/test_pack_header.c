/* Headers byte by byte, and ids translated in attributes: what needs no file system. */
#include "check.h"
#include "pack.h"

#include <linux/capability.h>

static struct pc_bytes out;

static const char *header_of(struct pc_tar_entry e)
{
	out.n = 0;
	CHECK_EQ(pc_tar_header(&out, &e), 0);
	CHECK_EQ(out.n % 512, 0);
	return (const char *)out.data + out.n - 512;
}

static struct pc_tar_entry file(const char *path)
{
	return (struct pc_tar_entry){.path = path, .path_len = strlen(path), .mode = 0100644, .type = '0'};
}

static bool has(const char *text)
{
	return memmem(out.data, out.n, text, strlen(text)) != NULL;
}

static void a_plain_file_is_one_block_of_ustar(void)
{
	const char *h = header_of(file("etc/passwd"));
	unsigned sum = 8 * ' ';

	CHECK_EQ(out.n, 512);
	CHECK_EQ(strcmp(h, "etc/passwd"), 0);
	CHECK_EQ(memcmp(h + 100, "0000644\0000000000\0000000000\00000000000000\00000000000000", 48), 0);
	CHECK_EQ(h[156], '0');
	CHECK_EQ(memcmp(h + 257, "ustar\00000", 8), 0);
	CHECK_EQ(h[265], 0); /* no user name */
	CHECK_EQ(h[297], 0);
	for (int i = 0; i < 512; i++)
		sum += i >= 148 && i < 156 ? 0 : (unsigned char)h[i];
	CHECK_EQ(strtoul(h + 148, NULL, 8), sum);
	CHECK_EQ(memcmp(h + 154, "\0 ", 2), 0);
}

static void a_directory_ends_with_a_slash(void)
{
	struct pc_tar_entry e = file("a/b");

	e.type = '5';
	CHECK_EQ(strcmp(header_of(e), "a/b/"), 0);
}

/* The longest that each field takes, and one more. */
static void names_of_every_length(void)
{
	char path[400];

	memset(path, 'n', sizeof path);
	path[100] = '\0';
	CHECK_EQ(memcmp(header_of(file(path)), path, 100), 0);
	CHECK_EQ(out.n, 512);
	path[100] = 'n';
	path[101] = '\0';
	(void)header_of(file(path)); /* no slash to cut at */
	CHECK_EQ(out.n, 3 * 512);
	CHECK(has(path));
	memset(path, 'n', 256);
	path[155] = '/';
	path[256] = '\0';
	const char *h = header_of(file(path));
	CHECK_EQ(out.n, 512);
	CHECK_EQ(memcmp(h, path + 156, 100), 0);
	CHECK_EQ(memcmp(h + 345, path, 155), 0);
	path[256] = 'n';
	path[257] = '\0';
	(void)header_of(file(path));
	CHECK_EQ(out.n, 3 * 512);
	CHECK(has("267 path=nnn"));
}

static void a_name_that_ends_with_its_only_slash_is_not_cut_there(void)
{
	char path[130];
	struct pc_tar_entry e;

	memset(path, 'd', sizeof path);
	path[110] = '\0';
	e = file(path);
	e.type = '5';
	(void)header_of(e);
	CHECK_EQ(out.n, 3 * 512);
	CHECK(has("121 path=ddd"));
	CHECK(has("ddd/\n"));
}

/* A pax record counts its own length: 99 bytes with two digits become 101 with three, never 100. */
static void records_around_a_change_of_digits(void)
{
	char value[1100];

	memset(value, 'v', sizeof value);
	for (size_t len = 80; len < 1010; len++) {
		out.n = 0;
		CHECK_EQ(pc_tar_pax(&out, "k", 1, value, len), 0);
		CHECK_EQ(strtoul((const char *)out.data, NULL, 10), out.n);
		CHECK_EQ(out.data[out.n - 1], '\n');
	}
}

static void numbers_beyond_octal_are_in_pax_and_in_base_256(void)
{
	struct pc_tar_entry e = file("f");

	e.uid = 07777777;
	e.gid = 010000000;
	e.size = 0100000000000u; /* 8 GiB */
	const char *h = header_of(e);
	CHECK_EQ(memcmp(h + 108, "7777777", 8), 0);
	CHECK_EQ(memcmp(h + 116, "\x80\0\0\0\0\x20\0\0", 8), 0);
	CHECK_EQ(memcmp(h + 124, "\x80\0\0\0\0\0\0\x02\0\0\0\0", 12), 0);
	CHECK(has("15 gid=2097152\n"));
	CHECK(has("19 size=8589934592\n"));
	CHECK(!has("uid="));
	e = file("f");
	e.size = 077777777777u;
	CHECK_EQ(memcmp(header_of(e) + 124, "77777777777", 12), 0);
	CHECK_EQ(out.n, 512);
}

static void times(void)
{
	static const struct {
		int64_t s;
		uint32_t ns;
		const char *record;
	} cases[] = {
		{1700000000, 123456789, "30 mtime=1700000000.123456789\n"},
		{1700000000, 500000000, "22 mtime=1700000000.5\n"},
		{0, 1, "21 mtime=0.000000001\n"},
		{-1, 0, "12 mtime=-1\n"},
		{-2, 750000000, "15 mtime=-1.25\n"},
		{-1, 999999999, "22 mtime=-0.000000001\n"},
		{0100000000000, 0, "20 mtime=8589934592\n"},
		{INT64_MIN, 0, "30 mtime=-9223372036854775808\n"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct pc_tar_entry e = file("f");
		e.mtime_s = cases[i].s;
		e.mtime_ns = cases[i].ns;
		(void)header_of(e);
		CHECK(has(cases[i].record));
	}
	struct pc_tar_entry e = file("f");
	e.mtime_s = 077777777777;
	CHECK_EQ(memcmp(header_of(e) + 136, "77777777777", 12), 0);
	CHECK_EQ(out.n, 512);
	e.mtime_s = -1;
	CHECK_EQ(memcmp(header_of(e) + 136, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12), 0);
}

static void long_link_targets(void)
{
	char target[4000];
	struct pc_tar_entry e = file("l");

	memset(target, 't', sizeof target);
	e.type = '2';
	e.link = target;
	e.link_len = 100;
	CHECK_EQ(memcmp(header_of(e) + 157, target, 100), 0);
	CHECK_EQ(out.n, 512);
	e.link_len = 101;
	(void)header_of(e);
	CHECK(has("115 linkpath=ttt"));
	e.link_len = sizeof target;
	(void)header_of(e);
	CHECK(has("4015 linkpath=ttt"));
}

static void records_are_sorted_and_bounded(void)
{
	char path[300];
	struct pc_bytes xattrs = {0};
	struct pc_tar_entry e;

	memset(path, 'n', 299);
	path[299] = '\0';
	e = file(path);
	e.uid = e.gid = UINT32_MAX - 1;
	e.mtime_ns = 1;
	e.xattrs = &xattrs;
	CHECK_EQ(pc_tar_pax(&xattrs, "SCHILY.xattr.user.a", 19, "\0=\n", 3), 0);
	(void)header_of(e);
	const char *last = (const char *)out.data + 512;
	for (const char *const *key = (const char *const[]){"SCHILY.xattr.user.a=", " gid=", " mtime=", " path=", " uid=", NULL};
	     *key != NULL; key++) {
		const char *found = memmem(out.data, out.n, *key, strlen(*key));
		CHECK(found != NULL && found > last);
		last = found;
	}
	CHECK_EQ(pc_bytes_zeros(&xattrs, PC_PACK_META_MAX), 0);
	CHECK_EQ(pc_tar_header(&out, &e), -E2BIG);
	pc_bytes_free(&xattrs);
}

/* --- ids -------------------------------------------------------------------------------------------------------- */

static struct pc_pack_range ranges[] = {{.inside = 0, .outside = 100000, .count = 1000}, {5000, 7, 1}};
static const struct pc_pack mapped = {.uids = ranges, .gids = ranges, .n_uids = 2, .n_gids = 2};

static void ids_of_a_map(void)
{
	uint32_t id = 42;

	CHECK_EQ(pc_ids_inside(ranges, 2, 100000, &id), 0);
	CHECK_EQ(id, 0);
	CHECK_EQ(pc_ids_inside(ranges, 2, 100999, &id), 0);
	CHECK_EQ(id, 999);
	CHECK_EQ(pc_ids_inside(ranges, 2, 7, &id), 0);
	CHECK_EQ(id, 5000);
	CHECK_EQ(pc_ids_inside(ranges, 2, 101000, &id), -EOVERFLOW);
	CHECK_EQ(pc_ids_inside(ranges, 2, 99999, &id), -EOVERFLOW);
	CHECK_EQ(pc_ids_inside(ranges, 0, 7, &id), -EOVERFLOW);
	CHECK_EQ(id, 5000);
}

static void ids_in_an_acl(void)
{
	/* version 2; owner rw; user 100005 r; group 100006 r; mask; other */
	uint8_t acl[] = {2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0xa5, 0x86, 1, 0, 8, 0, 4, 0, 0xa6, 0x86, 1, 0};

	CHECK_EQ(pc_ids_xattr(&mapped, "system.posix_acl_access", acl, sizeof acl), sizeof acl);
	CHECK_EQ(memcmp(acl + 4, "\1\0\6\0\xff\xff\xff\xff\2\0\4\0\5\0\0\0\10\0\4\0\6\0\0\0", 24), 0);
	CHECK_EQ(pc_ids_xattr(&mapped, "system.posix_acl_access", acl, sizeof acl), -EOVERFLOW);
	CHECK_EQ(pc_ids_xattr(&mapped, "system.posix_acl_default", acl, sizeof acl - 1), -EINVAL);
	CHECK_EQ(pc_ids_xattr(&mapped, "system.posix_acl_default", acl, 3), -EINVAL);
	acl[0] = 3;
	CHECK_EQ(pc_ids_xattr(&mapped, "system.posix_acl_access", acl, sizeof acl), -EINVAL);
}

static void root_in_a_capability(void)
{
	struct vfs_ns_cap_data v = {.magic_etc = VFS_CAP_REVISION_3 | VFS_CAP_FLAGS_EFFECTIVE, .rootid = 100000};
	uint8_t *bytes = (uint8_t *)&v;

	v.data[0].permitted = 0x2000;
	CHECK_EQ(pc_ids_xattr(&mapped, "security.capability", bytes, sizeof v), sizeof(struct vfs_cap_data));
	CHECK_EQ(v.magic_etc, VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE);
	CHECK_EQ(v.data[0].permitted, 0x2000);
	CHECK_EQ(pc_ids_xattr(&mapped, "security.capability", bytes, sizeof(struct vfs_cap_data)), sizeof(struct vfs_cap_data));
	v.magic_etc = VFS_CAP_REVISION_3;
	v.rootid = 100007; /* of a namespace inside the container's */
	CHECK_EQ(pc_ids_xattr(&mapped, "security.capability", bytes, sizeof v), sizeof v);
	CHECK_EQ(v.rootid, 7);
	v.rootid = 5;
	CHECK_EQ(pc_ids_xattr(&mapped, "security.capability", bytes, sizeof v), -EOVERFLOW);
	CHECK_EQ(pc_ids_xattr(&mapped, "user.any", bytes, 5), 5);
}

int main(void)
{
	RUN(a_plain_file_is_one_block_of_ustar);
	RUN(a_directory_ends_with_a_slash);
	RUN(names_of_every_length);
	RUN(a_name_that_ends_with_its_only_slash_is_not_cut_there);
	RUN(records_around_a_change_of_digits);
	RUN(numbers_beyond_octal_are_in_pax_and_in_base_256);
	RUN(times);
	RUN(long_link_targets);
	RUN(records_are_sorted_and_bounded);
	RUN(ids_of_a_map);
	RUN(ids_in_an_acl);
	RUN(root_in_a_capability);
	pc_bytes_free(&out);
	return check_result();
}
