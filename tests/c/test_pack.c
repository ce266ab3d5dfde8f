/* The packer on trees of its own: what it writes, what it holds open, what it refuses. */
#include "packed.h"

#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

/* --- what is written -------------------------------------------------------------------------------------------- */

static void an_empty_tree_is_two_blocks(void)
{
	begin();
	CHECK_EQ(pack(PC_PACK_LAYER), 0);
	CHECK_EQ(tar_len, 1024);
	CHECK_EQ(pack(PC_PACK_CHANGES), 0);
	CHECK_EQ(tar_len, 0);
}

static void entries_are_sorted_by_name(void)
{
	begin();
	CHECK_EQ(mkdir("b", 0755), 0);
	CHECK_EQ(mkdir("b/z", 0755), 0);
	write_file("b/a", "12345");
	write_file("b.txt", "");
	write_file("B", "");
	write_file("\xc3\xa4", "");
	CHECK_EQ(symlink("b/a", "a"), 0);
	CHECK_EQ(mkfifo("p", 0600), 0);
	CHECK_EQ(pack(PC_PACK_LAYER), 0);
	check_listing("B:0 a:2 b/:5 b/a:0 b/z/:5 b.txt:0 p:6 \xc3\xa4:0");
}

static void any_buffer_gives_the_same_bytes(void)
{
	uint8_t *whole;
	size_t len;

	begin();
	CHECK_EQ(mkdir("d", 0755), 0);
	write_file("d/file", "some contents");
	write_file("d/more", "other contents");
	CHECK_EQ(pack(PC_PACK_LAYER), 0);
	len = tar_len;
	whole = malloc(len);
	memcpy(whole, tar, len);
	for (size_t size = 1; size < 1100; size = size * 2 + 1) {
		struct pc_pack *p = open_pack((const char *const[]){"tree"}, 1, PC_PACK_MERGED);
		CHECK_EQ(drain(p, size), 0);
		pc_pack_free(p);
		CHECK_EQ(tar_len, len);
		CHECK_EQ(memcmp(tar, whole, len), 0);
	}
	free(whole);
}

static void a_file_with_three_names_is_written_once(void)
{
	begin();
	CHECK_EQ(mkdir("d", 0755), 0);
	write_file("d/first", "text");
	CHECK_EQ(link("d/first", "z"), 0);
	CHECK_EQ(link("d/first", "e"), 0);
	CHECK_EQ(pack(PC_PACK_LAYER), 0);
	check_listing("d/:5 d/first:0 e:1 z:1");
	CHECK_EQ(memcmp(tar + 3 * 512 + 157, "d/first", 8), 0);
}

/* First names in directories that the walk has left, at every depth. */
static void first_names_of_other_directories(void)
{
	begin();
	for (const char *const *d = (const char *const[]){"a", "a/b", "a/b/c", "a/d", "e", NULL}; *d != NULL; d++)
		CHECK_EQ(mkdir(*d, 0755), 0);
	write_file("a/b/c/one", "");
	write_file("a/d/two", "");
	write_file("a/three", "");
	CHECK_EQ(link("a/b/c/one", "e/1"), 0);
	CHECK_EQ(link("a/b/c/one", "a/d/1"), 0);
	CHECK_EQ(link("a/d/two", "e/2"), 0);
	CHECK_EQ(link("a/three", "e/3"), 0);
	CHECK_EQ(link("a/three", "e/4"), 0);
	CHECK_EQ(pack(PC_PACK_LAYER), 0);
	check_listing("a/:5 a/b/:5 a/b/c/:5 a/b/c/one:0 a/d/:5 a/d/1:1 a/d/two:0 a/three:0 e/:5 e/1:1 e/2:1 e/3:1 e/4:1");
	static const struct {
		int entry;
		const char *first;
	} links[] = {{5, "a/b/c/one"}, {9, "a/b/c/one"}, {10, "a/d/two"}, {11, "a/three"}, {12, "a/three"}};
	for (size_t i = 0; i < sizeof links / sizeof *links; i++)
		CHECK_EQ(strcmp((const char *)tar + links[i].entry * 512 + 157, links[i].first), 0);
}

static void many_hard_links(void)
{
	char name[32], other[32];

	begin();
	for (int i = 0; i < 2000; i++) {
		(void)snprintf(name, sizeof name, "a%d", i);
		(void)snprintf(other, sizeof other, "b%d", i);
		write_file(name, "");
		CHECK_EQ(link(name, other), 0);
	}
	CHECK_EQ(pack(PC_PACK_LAYER), 0);
	int links = 0;
	for (size_t at = 0; at + 1024 < tar_len; at += 512)
		links += tar[at + 156] == '1';
	CHECK_EQ(links, 2000);
}

static void whiteouts_come_first(void)
{
	if (geteuid() != 0) {
		SKIP("device nodes need root");
		return;
	}
	begin();
	CHECK_EQ(mkdir("d", 0755), 0);
	CHECK_EQ(setxattr("d", "trusted.overlay.opaque", "y", 1, 0), 0);
	CHECK_EQ(mknod("d/gone", S_IFCHR, makedev(0, 0)), 0);
	CHECK_EQ(mknod("zero", S_IFCHR | 0666, makedev(1, 5)), 0);
	write_file("d/a", "");
	CHECK_EQ(pack(PC_PACK_LAYER), 0);
	check_listing("d/:5 d/.wh..wh..opq:0 d/.wh.gone:0 d/a:0 zero:3");
	CHECK_EQ(pack(PC_PACK_MERGED), 0);
	check_listing("d/:5 d/a:0 zero:3");
}

/* --- many, deep, few descriptors -------------------------------------------------------------------------------- */

static void dig(int levels)
{
	int dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < levels; i++) {
		CHECK_EQ(mkdirat(dir, "d", 0755), 0);
		int sub = openat(dir, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		(void)close(dir);
		dir = sub;
		int file = openat(dir, "z", O_WRONLY | O_CREAT | O_CLOEXEC, 0644); /* looked at on the way back */
		(void)close(file);
	}
	(void)close(dir);
}

static uint64_t entries_of(struct pc_pack *p)
{
	struct pc_pack_counts c;

	pc_pack_counted(p, &c);
	CHECK_EQ(c.vanished, 0);
	return c.entries;
}

static void four_thousand_levels(void)
{
	uint8_t *buffer = malloc(1 << 16);
	int before = count_fds(), most = 0;

	begin();
	dig(4000);
	struct pc_pack *p = open_pack((const char *const[]){"tree"}, 1, PC_PACK_LAYER);
	for (int i = 0;; i++) {
		int64_t n = pc_pack_read(p, buffer, 1 << 16);
		if (i % 50 == 0) {
			int now = count_fds();
			most = now > most ? now : most;
		}
		if (n <= 0) {
			CHECK_EQ(n, 0);
			break;
		}
	}
	CHECK_EQ(entries_of(p), 8000);
	CHECK(most <= before + 128 + 8);
	pc_pack_free(p);
	CHECK_EQ(count_fds(), before);
	free(buffer);
}

static void few_descriptors(void)
{
	struct rlimit limit, low;

	begin();
	dig(300);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = (struct rlimit){.rlim_cur = (rlim_t)count_fds() + 12, .rlim_max = limit.rlim_max};
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
	struct pc_pack *p = open_pack((const char *const[]){"tree"}, 1, PC_PACK_LAYER);
	CHECK_EQ(drain(p, 1 << 16), 0);
	CHECK_EQ(entries_of(p), 600);
	pc_pack_free(p);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* More roots than directories are held open, each with something of its own in the same directory. */
static void two_hundred_roots(void)
{
	static char names[200][32];
	const char *paths[200];

	begin();
	for (int i = 0; i < 200; i++) {
		char at[64];
		(void)snprintf(names[i], sizeof names[i], "tree/%d", i);
		paths[i] = names[i];
		(void)snprintf(at, sizeof at, "%d", i);
		CHECK_EQ(mkdir(at, 0755), 0);
		(void)snprintf(at, sizeof at, "%d/d", i);
		CHECK_EQ(mkdir(at, 0755), 0);
		(void)snprintf(at, sizeof at, "%d/d/e", i);
		CHECK_EQ(mkdir(at, 0755), 0);
		(void)snprintf(at, sizeof at, "%d/d/e/f%d", i, i);
		write_file(at, "");
		(void)snprintf(at, sizeof at, "%d/d/same", i);
		write_file(at, at);
	}
	struct pc_pack *p = open_pack(paths, 200, PC_PACK_MERGED);
	CHECK_EQ(drain(p, 1 << 16), 0);
	CHECK_EQ(entries_of(p), 203); /* d, d/e, its 200 files, the topmost d/same */
	CHECK(memmem(tar, tar_len, "0/d/same", 8) != NULL);
	CHECK(memmem(tar, tar_len, "1/d/same", 8) == NULL);
	pc_pack_free(p);
}

static void a_path_that_is_too_long(void)
{
	char name[251], path[300];
	int dir;

	begin();
	memset(name, 'n', 250);
	name[250] = '\0';
	dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 270; i++) {
		CHECK_EQ(mkdirat(dir, name, 0755), 0);
		int sub = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		(void)close(dir);
		dir = sub;
	}
	(void)close(dir);
	struct pc_pack *p = open_pack((const char *const[]){"tree"}, 1, PC_PACK_LAYER);
	CHECK_EQ(drain(p, 1 << 16), -ENAMETOOLONG);
	CHECK_EQ(strcmp(pc_pack_step_name(step_of(p, path, sizeof path)), "path"), 0);
	pc_pack_free(p);
}

/* --- what is refused -------------------------------------------------------------------------------------------- */

static int64_t refused(struct pc_pack_args args, const char *step)
{
	uint8_t block[512];
	char path[64];

	CHECK_EQ(chdir(base), 0);
	int32_t fd = open("tree", O_PATH | O_DIRECTORY | O_CLOEXEC);
	args.roots = &fd;
	struct pc_pack *p = pc_pack_new(&args);
	int64_t n = pc_pack_read(p, block, sizeof block);
	CHECK_EQ(strcmp(pc_pack_step_name(step_of(p, path, sizeof path)), step), 0);
	pc_pack_free(p);
	(void)close(fd);
	return n;
}

static void arguments_that_make_no_sense(void)
{
	struct pc_pack_range none = {1, 4000000000u, 1};

	begin();
	write_file(".wh.x", "");
	CHECK_EQ(refused((struct pc_pack_args){.n_roots = 0}, "arguments"), -EINVAL);
	CHECK_EQ(refused((struct pc_pack_args){.n_roots = 1, .mode = 9}, "arguments"), -EINVAL);
	CHECK_EQ(refused((struct pc_pack_args){.n_roots = 1, .n_mapped = 2}, "arguments"), -EINVAL);
	CHECK_EQ(refused((struct pc_pack_args){.n_roots = 1}, "name in layer"), -EINVAL);
	CHECK_EQ(refused((struct pc_pack_args){.n_roots = 1, .mode = PC_PACK_MERGED}, "none"), 512);
	CHECK_EQ(refused((struct pc_pack_args){.n_roots = 1, .mode = PC_PACK_MERGED, .n_mapped = 1, .uids = &none, .n_uids = 1},
			 "translate owner"),
		 -EOVERFLOW);
	pc_pack_free(NULL);
}

int main(void)
{
	if (mkdtemp(base) == NULL)
		return 1;
	RUN(an_empty_tree_is_two_blocks);
	RUN(entries_are_sorted_by_name);
	RUN(any_buffer_gives_the_same_bytes);
	RUN(a_file_with_three_names_is_written_once);
	RUN(first_names_of_other_directories);
	RUN(many_hard_links);
	RUN(whiteouts_come_first);
	RUN(four_thousand_levels);
	RUN(few_descriptors);
	RUN(two_hundred_roots);
	RUN(a_path_that_is_too_long);
	RUN(arguments_that_make_no_sense);
	CHECK_EQ(chdir("/"), 0);
	CHECK_EQ(pc_tree_remove(base), 0);
	free(tar);
	return check_result();
}
