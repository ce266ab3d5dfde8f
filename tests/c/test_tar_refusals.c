/* What the tar parser refuses, and that it does so at the same place whatever the size of the pieces; and no memory. */
#include "scarce.h"
#include "tar_story.h"

/* --- what is refused ----------------------------------------------------------------------------------------------- */

static void damaged_headers(void)
{
	begin_tar();
	file("first", "x");
	(void)header("second", '0', 0);
	made[1024 + 3] ^= 1;
	check_refused(PC_UNPACK_CHECKSUM, "first");
	CHECK_EQ(error.after, 1);
	begin_tar();
	(void)header("f", 'M', 0);
	check_refused(PC_UNPACK_TYPE, "f");
	CHECK_EQ(error.numbers[0], 'M');
	begin_tar();
	field(header("f", '0', 0), 124, "-0000000001", 12);
	check_refused(PC_UNPACK_OCTAL, "f");
	CHECK(strcmp(error.what, "size") == 0 && error.text_bytes == 12);
	begin_tar();
	field(header("f", '0', 0), 124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
	check_refused(PC_UNPACK_NEGATIVE, "f");
	begin_tar();
	base256(header("f", '0', 0), 124, 12, (uint64_t)INT64_MAX + 1);
	check_refused(PC_UNPACK_RANGE, "f");
	begin_tar();
	field(header("f", '0', 0), 124, "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
	check_refused(PC_UNPACK_RANGE, "f");
	begin_tar();
	base256(header("f", '0', 0), 108, 8, 4294967295);
	check_refused(PC_UNPACK_ID, "f");
	CHECK_EQ(error.numbers[0], 4294967295);
	begin_tar();
	field(header("c", '3', 0), 329, "7777777", 8);
	check_refused(PC_UNPACK_DEVICE, "c");
}

static void pax_of(enum pc_unpack_fault fault, const char *record)
{
	begin_tar();
	PAX('x', record);
	file("f", "");
	check_refused(fault, "f");
}

static void raw_pax(enum pc_unpack_fault fault, const char *bytes, size_t n)
{
	begin_tar();
	(void)header("pax", 'x', n);
	(void)put(bytes, n);
	pad();
	file("f", "");
	check_refused(fault, "");
}

static void wrong_pax_records(void)
{
	pax_of(PC_UNPACK_DECIMAL, "uid=1x");
	pax_of(PC_UNPACK_DECIMAL, "size=99999999999999999999");
	pax_of(PC_UNPACK_ID, "gid=4294967295");
	pax_of(PC_UNPACK_MTIME, "mtime=1e9");
	pax_of(PC_UNPACK_MTIME, "mtime=.5");
	pax_of(PC_UNPACK_MTIME, "mtime=--5");
	raw_pax(PC_UNPACK_PAX_LENGTH, "x a=b\n", 6);
	raw_pax(PC_UNPACK_PAX_LENGTH, "6", 1);
	raw_pax(PC_UNPACK_PAX_LENGTH, "000000006 a=b\n", 14);
	raw_pax(PC_UNPACK_PAX_CUT, "7 a=b\n", 6);
	raw_pax(PC_UNPACK_PAX_CUT, "5 a=b\n", 6);
	raw_pax(PC_UNPACK_PAX_CUT, "0 a=b\n", 6);
	raw_pax(PC_UNPACK_PAX_CUT, "5 =b\n", 5);
	raw_pax(PC_UNPACK_PAX_CUT, "5 ab\n", 5);
	raw_pax(PC_UNPACK_PAX_CUT, "7 a\0=b\n", 7);
	raw_pax(PC_UNPACK_PAX_NUL, "10 path=\0\n", 10);
	CHECK_EQ(error.text_bytes, 4);
}

static void too_much_before_an_entry(void)
{
	begin_tar();
	(void)header("x", 'x', (1u << 20) + 1);
	check_refused(PC_UNPACK_META_BYTES, "");
	begin_tar();
	base256(header("x", 'L', 0), 124, 12, UINT64_MAX);
	check_refused(PC_UNPACK_META_BYTES, "");
	begin_tar();
	for (int i = 0; i < 33; i++)
		(void)header("x", 'L', 0);
	check_refused(PC_UNPACK_META_HEADERS, "");
	begin_tar();
	(void)header("x", 'x', 0);
	end_of_archive();
	check_refused(PC_UNPACK_META_ENDS, "");
}

static void global_headers_that_grow(void)
{
	char record[1200];

	begin_tar();
	for (int i = 0; i < 300; i++) {
		(void)snprintf(record, sizeof record, "SCHILY.xattr.user.%d=1", i);
		PAX('g', record);
		if (i % 20 == 19)
			file("f", "");
	}
	check_refused(PC_UNPACK_GLOBAL, "f");
	begin_tar();
	memset(record, 'v', sizeof record);
	record[sizeof record - 1] = '\0';
	for (int i = 0; i < 100; i++) {
		memcpy(record, "SCHILY.xattr.user.aa=", 21);
		record[18] = (char)('a' + i % 26);
		record[19] = (char)('a' + i / 26);
		PAX('g', record);
		if (i % 20 == 19)
			file("f", "");
	}
	check_refused(PC_UNPACK_GLOBAL, "f");
	begin_tar();
	memcpy(record, "comment=", 8);
	for (int i = 0; i < 100; i++) { /* what means nothing is not kept */
		PAX('g', record);
		if (i % 20 == 19)
			file("f", "");
	}
	CHECK_EQ(parse(), 0);
}

static void sparse_of(enum pc_unpack_fault fault, const char *map, const char *content)
{
	char text[128];

	begin_tar();
	(void)snprintf(text, sizeof text, "GNU.sparse.map=%s", map);
	PAX('x', "GNU.sparse.size=20", text);
	file("s", content);
	check_refused(fault, "s");
}

static void wrong_sparse_maps(void)
{
	sparse_of(PC_UNPACK_SPARSE_ODD, "1,2,3", "ab");
	sparse_of(PC_UNPACK_SPARSE_ORDER, "5,1,4,1", "ab");
	sparse_of(PC_UNPACK_SPARSE_ORDER, "0,2,1,1", "abc");
	sparse_of(PC_UNPACK_SPARSE_ORDER, "19,2", "ab");
	sparse_of(PC_UNPACK_SPARSE_ORDER, "9223372036854775807,9223372036854775807", "ab");
	sparse_of(PC_UNPACK_SPARSE_TOTAL, "0,1", "ab");
	sparse_of(PC_UNPACK_DECIMAL, "0,2,", "ab");
	sparse_of(PC_UNPACK_DECIMAL, "0,9223372036854775808", "ab");
	sparse_of(PC_UNPACK_DECIMAL, "-1,2", "ab");
	begin_tar();
	PAX('x', "GNU.sparse.major=1", "GNU.sparse.minor=1");
	file("s", "");
	check_refused(PC_UNPACK_SPARSE_VERSION, "s");
	begin_tar();
	PAX('x', "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=1");
	file("s", "no room for a map");
	check_refused(PC_UNPACK_SPARSE_END, "s");
	begin_tar();
	(void)old_sparse("", 0, false);
	base256(made, 483, 12, UINT64_MAX);
	check_refused(PC_UNPACK_RANGE, "s");
}

static void a_map_that_never_ends(void)
{
	static const uint8_t block[TAR_BLOCK] = {[504] = 1};

	begin_tar();
	(void)old_sparse("", 0, true);
	for (int i = 0; i < 2100; i++)
		(void)put(block, sizeof block);
	check_refused(PC_UNPACK_SPARSE_BYTES, "s");
	begin_tar();
	PAX('x', "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=1");
	(void)header("s", '0', 1u << 30);
	(void)put("9223372036854775807\n", 20);
	pad();
	for (int i = 0; i < 2100; i++)
		(void)put(block, 504); /* no newline in it */
	check_refused(PC_UNPACK_SPARSE_END, "s");
}

static void truncated_everywhere(void)
{
	begin_tar();
	PAX('x', "path=a/b");
	file("f", "content");
	(void)old_sparse("000000000000000000000006", 6, true);
	(void)put((uint8_t[TAR_BLOCK]){0}, TAR_BLOCK);
	(void)put("abcdef", 6);
	pad();
	const size_t whole = made_n;
	CHECK_EQ(parse_in_pieces(whole), 0);
	for (size_t n = 1; n < whole; n++) {
		made_n = n;
		bool between = n == 2048; /* after the first entry */
		CHECK_EQ(parse_in_pieces(whole), between ? 0 : -EBADMSG);
		if (!between)
			CHECK(error.fault == PC_UNPACK_TRUNCATED || error.fault == PC_UNPACK_DATA_ENDS ||
			      error.fault == PC_UNPACK_META_ENDS);
	}
}

static void what_follows_the_end(void)
{
	begin_tar();
	end_of_archive();
	(void)put((uint8_t[9000]){0}, 9000);
	CHECK_EQ(parse(), 0);
	(void)put("x", 1);
	check_refused(PC_UNPACK_TRAILER, "");
	begin_tar();
	(void)put((uint8_t[TAR_BLOCK]){0}, TAR_BLOCK); /* one block of zeros is an end */
	file("f", "");
	check_refused(PC_UNPACK_TRAILER, "");
}

static void bytes_are_counted(void)
{
	begin_tar();
	file("f", "abc");
	end_of_archive();
	max_bytes = made_n;
	CHECK_EQ(parse(), 0);
	for (max_bytes = 0; max_bytes < made_n; max_bytes += 100) {
		CHECK_EQ(parse(), -EBADMSG);
		CHECK_EQ(error.fault, PC_UNPACK_BYTES);
	}
	max_bytes = 1u << 30;
}

static void what_the_sink_says_ends_it(void)
{
	begin_tar();
	file("f", "abc");
	for (refuse_at = 0; refuse_at < 3; refuse_at++) {
		CHECK_EQ(parse_in_pieces(made_n), -EIO);
		CHECK_EQ(events, refuse_at + 1);
		CHECK(error.fault == PC_UNPACK_SYSTEM && error.err == EIO && error.name_bytes == 1 && strcmp(error.kind, "file") == 0);
	}
	refuse_at = -1;
}

/* --- without memory ------------------------------------------------------------------------------------------------ */

static void every_allocation_can_fail(void)
{
	int failures = 0;

	begin_tar();
	PAX('g', "uid=5", "SCHILY.xattr.user.g=1");
	PAX('x', "SCHILY.xattr.user.x=1", "GNU.sparse.size=20", "GNU.sparse.offset=0", "GNU.sparse.numbytes=1");
	file("f", "a");
	for (long n = 0;; n++) {
		struct tar t = {.max_bytes = max_bytes, .max_meta_bytes = max_meta_bytes};
		error = (struct pc_unpack_error){0};
		story_n = 0;
		tar_begin(&t, &sink, NULL, &error);
		allocations_left = n;
		int err = tar_feed(&t, made, made_n);
		bool none_failed = allocations_left >= 0;
		allocations_left = -1;
		tar_free(&t);
		if (none_failed) {
			CHECK_EQ(err, 0);
			break;
		}
		failures++;
		CHECK(err == -ENOMEM && error.fault == PC_UNPACK_SYSTEM && error.err == ENOMEM);
	}
	CHECK(failures >= 6);
}

int main(void)
{
	RUN(wrong_sparse_maps);
	RUN(a_map_that_never_ends);
	RUN(damaged_headers);
	RUN(wrong_pax_records);
	RUN(too_much_before_an_entry);
	RUN(global_headers_that_grow);
	RUN(truncated_everywhere);
	RUN(what_follows_the_end);
	RUN(bytes_are_counted);
	RUN(what_the_sink_says_ends_it);
	RUN(every_allocation_can_fail);
	return check_result();
}
