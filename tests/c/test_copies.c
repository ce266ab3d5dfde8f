/* What a copy asks of the packer and the writer: one tree or one file under a name, and a directory that others use. Needs no
 * root. What is hostile is tried from Python, in tests/kernel/test_escapes_cp.py.
 */
#include "packed.h"
#include "tar_make.h"
#include "unpack.h"

#include <unistd.h>

static struct pc_unpack_error error;
static struct pc_unpack_stats stats;
static struct pc_pack_counts counts;

/* `path` of the tree, under `name`, into `tar`. */
static int64_t copy_of(const char *path, const char *name, uint32_t flags)
{
	CHECK_EQ(chdir(base), 0);
	int32_t fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	const struct pc_pack_args args = {
		.roots = &fd, .n_roots = 1, .mode = PC_PACK_MERGED, .mtime_max = 0, .flags = PC_PACK_TREE | flags, .name = name};
	struct pc_pack *p = pc_pack_new(&args);
	(void)close(fd);
	int64_t n = drain(p, 1000);
	pc_pack_counted(p, &counts);
	pc_pack_free(p);
	return n;
}

static void a_tree_has_its_name(void)
{
	begin();
	CHECK_EQ(mkdir("d", 0755), 0);
	write_file("d/file", "1");
	CHECK_EQ(link("d/file", "same"), 0);
	CHECK_EQ(copy_of("tree", "a/name", PC_PACK_ROOT), 0);
	check_listing("a/name/:5 a/name/d/:5 a/name/d/file:0 a/name/same:1");
	CHECK(strcmp((const char *)tar + 512 * 4 + 157, "a/name/d/file") == 0);
	CHECK_EQ(counts.blocks, 5);
	CHECK_EQ(copy_of("tree", NULL, PC_PACK_ROOT), 0);
	check_listing("./:5 d/:5 d/file:0 same:1");
	CHECK(strcmp((const char *)tar + 512 * 4 + 157, "d/file") == 0);
}

static void a_deep_tree_is_found_again_below_its_name(void)
{
	begin();
	for (int i = 0; i < 300; i++) {
		CHECK_EQ(mkdir("a", 0755), 0);
		write_file("b", "");
		CHECK_EQ(chdir("a"), 0);
	}
	CHECK_EQ(copy_of("tree", "some/long/name", PC_PACK_ROOT), 0);
	CHECK_EQ(counts.entries, 601);
	CHECK_EQ(counts.vanished, 0);
}

static void one_file_is_all_there_is(void)
{
	begin();
	write_file("file", "12345");
	CHECK_EQ(link("file", "other"), 0);
	CHECK_EQ(symlink("file", "link"), 0);
	CHECK_EQ(mkfifo("fifo", 0600), 0);
	CHECK_EQ(copy_of("tree/file", "name", PC_PACK_ONE), 0);
	check_listing("name:0");
	CHECK(memcmp(tar + 512, "12345", 6) == 0);
	CHECK_EQ(copy_of("tree/link", "name", PC_PACK_ONE), 0);
	check_listing("name:2");
	CHECK_EQ(copy_of("tree/fifo", "name", PC_PACK_ONE), 0); /* and nobody has waited for its other end */
	check_listing("name:6");
	CHECK_EQ(counts.blocks, 1);
	CHECK_EQ(copy_of("tree", "name", 0), 0);
	CHECK_EQ(copy_of("/proc/self/status", "name", PC_PACK_ONE), -EOPNOTSUPP);
	CHECK_EQ(copy_of("/proc", "name", PC_PACK_ROOT), -EOPNOTSUPP);
}

/* --- the writer ---------------------------------------------------------------------------------------------------- */

static void entry(const char *name, char type, const char *content)
{
	uint8_t *b = header(name, type, strlen(content));

	base256(b, 108, 8, geteuid());
	base256(b, 116, 8, getegid());
	memcpy(b + 100, "0006755", 8);
	seal(b);
	(void)put(content, strlen(content));
	pad();
}

static int write_into_tree(uint32_t flags)
{
	struct pc_unpack *u = NULL;

	CHECK_EQ(chdir(base), 0);
	scoped_fd int fd = open("tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct pc_unpack_options o = {.root_fd = fd, .max_bytes = 1u << 30, .max_entries = 100000, .max_depth = 256,
				      .max_path_bytes = 4095, .max_meta_bytes = 1u << 20, .flags = PC_UNPACK_PLAIN | flags,
				      .owner_uid = geteuid(), .owner_gid = getegid()};
	CHECK_EQ(pc_unpack_new(&o, &u), 0);
	int err = pc_unpack_feed(u, made, made_n, &error);
	if (err == 0)
		err = pc_unpack_finish(u, &stats, &error);
	pc_unpack_free(u);
	CHECK_EQ(chdir("tree"), 0);
	return err;
}

static bool reads(const char *path, const char *expected)
{
	char text[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	(void)close(fd);
	return n >= 0 && strcmp(text, expected) == 0;
}

static void no_name_is_a_whiteout(void)
{
	begin();
	write_file("file", "stays");
	begin_tar();
	entry(".wh.file", '0', "one");
	entry(".wh..wh..opq", '0', "two");
	entry(".wh.dir/", '5', "");
	entry(".wh.dir/x", '0', "three");
	CHECK_EQ(write_into_tree(PC_UNPACK_OWNED), 0);
	CHECK(reads("file", "stays") && reads(".wh.file", "one") && reads(".wh..wh..opq", "two") && reads(".wh.dir/x", "three"));
	CHECK_EQ(stats.whiteouts, 0);
}

static void the_root_stays_as_it_is(void)
{
	struct stat st;

	begin();
	CHECK_EQ(chmod(".", 0711), 0);
	begin_tar();
	entry("./", '5', "");
	entry("./x", '0', "x");
	CHECK_EQ(write_into_tree(PC_UNPACK_OWNED), 0);
	CHECK_EQ(stat(".", &st), 0);
	CHECK_EQ(st.st_mode & 07777, 0711);
}

static void directories_and_others_do_not_replace_each_other(void)
{
	static const char kinds[] = {'0', '2', '6'};

	begin();
	CHECK_EQ(mkdir("d", 0755), 0);
	write_file("d/kept", "kept");
	for (size_t i = 0; i < sizeof kinds; i++) {
		begin_tar();
		entry("d", kinds[i], "");
		if (kinds[i] == '2') {
			memcpy(made + 157, "x", 2);
			seal(made);
		}
		CHECK_EQ(write_into_tree(PC_UNPACK_OWNED), -EBADMSG);
		CHECK(strcmp(pc_unpack_fault_name(error.fault), "over directory") == 0);
	}
	CHECK(reads("d/kept", "kept"));
	write_file("f", "kept");
	CHECK_EQ(symlink("d", "l"), 0);
	for (int i = 0; i < 2; i++) {
		begin_tar();
		entry(i == 0 ? "f" : "l", '5', "");
		CHECK_EQ(write_into_tree(PC_UNPACK_OWNED), -EBADMSG);
		CHECK(strcmp(pc_unpack_fault_name(error.fault), "over file") == 0);
	}
	CHECK(reads("f", "kept"));
}

static void a_link_is_replaced_and_not_followed(void)
{
	begin();
	write_file("target", "kept");
	CHECK_EQ(symlink("target", "l"), 0);
	begin_tar();
	entry("l", '0', "new");
	CHECK_EQ(write_into_tree(PC_UNPACK_OWNED), 0);
	CHECK(reads("target", "kept") && reads("l", "new"));
}

static void a_sober_copy_has_no_set_id_bits(void)
{
	struct stat st;

	begin();
	begin_tar();
	entry("x", '0', "x");
	CHECK_EQ(write_into_tree(PC_UNPACK_OWNED), 0);
	CHECK_EQ(stat("x", &st), 0);
	CHECK_EQ(st.st_mode & 07777, 06755);
	CHECK_EQ(write_into_tree(PC_UNPACK_OWNED | PC_UNPACK_SOBER), 0);
	CHECK_EQ(stat("x", &st), 0);
	CHECK_EQ(st.st_mode & 07777, 0755);
}

int main(void)
{
	if (mkdtemp(base) == NULL)
		return 1;
	RUN(a_tree_has_its_name);
	RUN(a_deep_tree_is_found_again_below_its_name);
	RUN(one_file_is_all_there_is);
	RUN(no_name_is_a_whiteout);
	RUN(the_root_stays_as_it_is);
	RUN(directories_and_others_do_not_replace_each_other);
	RUN(a_link_is_replaced_and_not_followed);
	RUN(a_sober_copy_has_no_set_id_bits);
	CHECK_EQ(chdir("/"), 0);
	CHECK_EQ(pc_tree_remove(base), 0);
	free(tar);
	return check_result();
}
