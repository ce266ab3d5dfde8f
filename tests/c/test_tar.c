/* The tar parser alone: what it tells its sink, whatever the size of the pieces it is fed with. */
#include "tar_story.h"

/* --- what is read -------------------------------------------------------------------------------------------------- */

static void empty_and_unmarked_ends(void)
{
	begin_tar();
	check_story("");
	end_of_archive();
	check_story("");
	begin_tar();
	file("f", "words");
	check_story("file f 640 1:2 7.000000000 5/5\n@0 words.\n");
	(void)put("\0\0\0", 3); /* part of a block of zeros: cut */
	check_refused(PC_UNPACK_TRUNCATED, "f");
}

static void kinds(void)
{
	begin_tar();
	(void)header("d/", '5', 9); /* the size is a remark */
	file("d/f", "x");
	link_to("s", '2', "d/f");
	link_to("h", '1', "d/f");
	field(header("c", '3', 0), 329, "0000001\0" "0000003\0", 16);
	base256(header("b", '4', 0), 337, 8, 300);
	(void)header("p", '6', 0);
	(void)header("old/", '\0', 0);
	(void)header("contiguous", '7', 0);
	check_story("dir d/ 640 1:2 7.000000000 0/0\n.\n"
		    "file d/f 640 1:2 7.000000000 1/1\n@0 x.\n"
		    "symlink s -> d/f 640 1:2 7.000000000 0/0\n.\n"
		    "hardlink h -> d/f 640 1:2 7.000000000 0/0\n.\n"
		    "char c 640 1:2 7.000000000 0/0 dev 1:3\n.\n"
		    "block b 640 1:2 7.000000000 0/0 dev 0:300\n.\n"
		    "fifo p 640 1:2 7.000000000 0/0\n.\n"
		    "dir old/ 640 1:2 7.000000000 0/0\n.\n"
		    "file contiguous 640 1:2 7.000000000 0/0\n.\n");
}

static void names_of_headers(void)
{
	char name[101], prefix[156];

	memset(name, 'n', 100);
	memset(prefix, 'p', 155);
	name[100] = prefix[155] = '\0';
	begin_tar();
	uint8_t *b = header(name, '0', 0); /* no NUL: the field is full */
	field(b, 345, prefix, 155);
	b = header("g", '0', 0);
	field(b, 257, "ustar  ", 8); /* GNU's: no prefix */
	field(b, 345, "no", 2);
	CHECK_EQ(parse(), 0);
	CHECK(strncmp(story + 5, prefix, 155) == 0 && story[160] == '/' && strncmp(story + 161, name, 100) == 0);
	CHECK(strstr(story, "file g 640") != NULL);
}

static void numbers_of_headers(void)
{
	begin_tar();
	uint8_t *b = header("f", '0', 0);
	field(b, 100, "  755 \0", 8); /* blanks around, as old writers have it */
	field(b, 108, "\0\0\0\0\0\0\0", 8);
	base256(b, 116, 8, 4294967294);
	base256(b, 136, 12, 1700000000);
	b = header("early", '0', 0);
	field(b, 136, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", 12);
	check_story("file f 755 0:4294967294 1700000000.000000000 0/0\n.\n"
		    "file early 640 1:2 -2.000000000 0/0\n.\n");
}

static void checksum_of_signed_bytes(void)
{
	begin_tar();
	uint8_t *b = header("\xc3\xa4", '0', 0);
	unsigned sum = 0;
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += i >= 148 && i < 156 ? ' ' : (unsigned)(signed char)b[i];
	(void)snprintf((char *)b + 148, 8, "%06o", sum);
	check_story("file \xc3\xa4 640 1:2 7.000000000 0/0\n.\n");
}

static void long_names_of_gnu(void)
{
	begin_tar();
	long_text('L', "a/long/name");
	long_text('K', "a/long/target");
	link_to("short", '2', "short");
	file("next", "");
	check_story("symlink a/long/name -> a/long/target 640 1:2 7.000000000 0/0\n.\n"
		    "file next 640 1:2 7.000000000 0/0\n.\n");
}

static void pax_records(void)
{
	begin_tar();
	PAX('x', "path=p/q", "uid=70000", "gid=80000", "mtime=12.3456789012", "comment=ignored", "SCHILY.xattr.user.a=1");
	file("f", "x");
	PAX('x', "mtime=-1.25", "linkpath=far");
	PAX('x', "linkpath=farther"); /* a second header adds to the first */
	link_to("s", '2', "near");
	check_story("file p/q 640 70000:80000 12.345678901 1/1 [user.a=1]\n@0 x.\n"
		    "symlink s -> farther 640 1:2 -2.750000000 0/0\n.\n");
}

static void times_are_of_64_bits_of_nanoseconds(void)
{
	begin_tar();
	PAX('x', "mtime=999999999999999999");
	file("late", "");
	PAX('x', "mtime=-999999999999999999.9");
	file("early", "");
	check_story("file late 640 1:2 9223372036.854775807 0/0\n.\n"
		    "file early 640 1:2 -4611686019.572612096 0/0\n.\n");
}

static void global_records(void)
{
	begin_tar();
	PAX('g', "comment=0123456789", "uid=5", "SCHILY.xattr.user.g=1", "SCHILY.xattr.user.h=2");
	file("a", "");
	PAX('g', "gid=6", "SCHILY.xattr.user.g=3");
	PAX('x', "uid=");
	file("b", "");
	file("c", "");
	check_story("file a 640 5:2 7.000000000 0/0 [user.g=1] [user.h=2]\n.\n"
		    "file b 640 1:6 7.000000000 0/0 [user.g=3] [user.h=2]\n.\n"
		    "file c 640 5:6 7.000000000 0/0 [user.g=3] [user.h=2]\n.\n");
}

static void size_of_a_pax_record_counts(void)
{
	begin_tar();
	PAX('x', "size=3");
	(void)header("f", '0', 0777);
	(void)put("abc", 3);
	pad();
	file("g", "");
	check_story("file f 640 1:2 7.000000000 3/3\n@0 abc.\nfile g 640 1:2 7.000000000 0/0\n.\n");
}

/* --- sparse files -------------------------------------------------------------------------------------------------- */

static void old_sparse_maps(void)
{
	uint8_t more[TAR_BLOCK] = {0};

	begin_tar();
	(void)old_sparse("000000000010000000000002000000000100000000000002", 0200, true);
	memcpy(more, "000000000150000000000002", 24);
	(void)put(more, sizeof more);
	(void)put("abcdef", 6);
	pad();
	check_story("file s 640 1:2 7.000000000 6/128\n@8 ab@64 cd@104 ef.\n");
}

static void pax_sparse_maps(void)
{
	begin_tar();
	PAX('x', "GNU.sparse.size=20", "GNU.sparse.numblocks=2", "GNU.sparse.offset=0", "GNU.sparse.numbytes=2",
	    "GNU.sparse.offset=9", "GNU.sparse.numbytes=1");
	file("0.0", "abc");
	PAX('x', "GNU.sparse.size=20", "GNU.sparse.map=1,2,9,1,15,0", "GNU.sparse.name=0.1");
	file("x", "abc");
	PAX('x', "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=1.0", "GNU.sparse.realsize=30");
	(void)header("x", '0', TAR_BLOCK + 3);
	(void)put("2\n4\n2\n20\n1\n", 11);
	pad();
	(void)put("abc", 3);
	pad();
	PAX('x', "GNU.sparse.map=1,2"); /* of a directory: nothing */
	(void)header("d", '5', 0);
	check_story("file 0.0 640 1:2 7.000000000 3/20\n@0 ab@9 c.\n"
		    "file 0.1 640 1:2 7.000000000 3/20\n@1 ab@9 c.\n"
		    "file 1.0 640 1:2 7.000000000 3/30\n@4 ab@20 c.\n"
		    "dir d 640 1:2 7.000000000 0/0\n.\n");
}

static void map_of_two_blocks(void)
{
	begin_tar();
	PAX('x', "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=9999");
	(void)header("s", '0', 2 * TAR_BLOCK + 150);
	(void)put("150\n", 4);
	for (int i = 0; i < 150; i++) {
		char text[16];
		(void)put(text, (size_t)snprintf(text, sizeof text, "%d\n1\n", 20 * i));
	}
	pad();
	for (int i = 0; i < 150; i++)
		(void)put("z", 1);
	pad();
	CHECK_EQ(parse(), 0);
	CHECK(strstr(story, " 150/9999\n@0 z@20 z@40 z") != NULL && strstr(story, "@2980 z.\n") != NULL);
}

int main(void)
{
	RUN(empty_and_unmarked_ends);
	RUN(kinds);
	RUN(names_of_headers);
	RUN(numbers_of_headers);
	RUN(checksum_of_signed_bytes);
	RUN(long_names_of_gnu);
	RUN(pax_records);
	RUN(times_are_of_64_bits_of_nanoseconds);
	RUN(global_records);
	RUN(size_of_a_pax_record_counts);
	RUN(old_sparse_maps);
	RUN(pax_sparse_maps);
	RUN(map_of_two_blocks);
	return check_result();
}
