/* The packer on trees of its own: what it writes, what it holds open, and a tree that changes under it. */
#include "check.h"
#include "look.h"
#include "pycontain.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static char base[] = "/dev/shm/pycontain-pack-XXXXXX"; /* a tmpfs: many files, deleted quickly */
static uint8_t *tar;
static size_t tar_len;

/* base/tree, empty, as working directory */
static void begin(void)
{
	CHECK_EQ(chdir(base), 0);
	CHECK_EQ(pc_tree_remove("tree"), 0);
	CHECK_EQ(mkdir("tree", 0755), 0);
	CHECK_EQ(chdir("tree"), 0);
}

static void write_file(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
	(void)close(fd);
}

static struct pc_pack *open_pack(const char *const *paths, uint32_t n, uint32_t mode)
{
	int32_t fds[300];
	struct pc_pack_args args = {.roots = fds, .n_roots = n, .mode = mode, .mtime_max = 0};

	CHECK_EQ(chdir(base), 0);
	for (uint32_t i = 0; i < n; i++)
		fds[i] = open(paths[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct pc_pack *p = pc_pack_new(&args);
	for (uint32_t i = 0; i < n; i++)
		(void)close(fds[i]); /* they are the caller's, and may go */
	return p;
}

/* Everything of `p` into `tar`, by buffers of `size`; what the last read has answered. */
static int64_t drain(struct pc_pack *p, size_t size)
{
	static size_t room;
	int64_t n;

	tar_len = 0;
	for (;;) {
		if (room < tar_len + size)
			tar = realloc(tar, room = (tar_len + size) * 2);
		n = pc_pack_read(p, tar + tar_len, size);
		if (n <= 0)
			return n;
		tar_len += (size_t)n;
	}
}

static int64_t pack(uint32_t mode)
{
	struct pc_pack *p = open_pack((const char *const[]){"tree"}, 1, mode);
	int64_t n = drain(p, 1 << 16);

	pc_pack_free(p);
	return n;
}

/* The entries' names and types, as "name:type name:type"; only what has no pax header. */
static const char *listing(void)
{
	static char text[4096];

	text[0] = '\0';
	for (size_t at = 0; at + 1024 < tar_len;) {
		const char *h = (const char *)tar + at;
		size_t used = strlen(text), size = strtoul(h + 124, NULL, 8);
		(void)snprintf(text + used, sizeof text - used, "%s%.100s:%c", used ? " " : "", h, h[156]);
		at += 512 + (size + 511) / 512 * 512;
	}
	return text;
}

static void check_listing(const char *expected)
{
	CHECK_EQ(tar_len % 512, 0);
	if (strcmp(listing(), expected) != 0) {
		CHECK(!"the listing is as expected");
		(void)fprintf(stderr, "found    %s\nexpected %s\n", listing(), expected);
	}
}

static uint32_t step_of(struct pc_pack *p, char *path, size_t room)
{
	struct pc_pack_failure f;

	pc_pack_failed(p, &f);
	(void)snprintf(path, room, "%.*s", (int)f.path_len, f.path != NULL ? f.path : "");
	return f.step;
}

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

/* --- under its hands -------------------------------------------------------------------------------------------- */

/* A file that changes its length after its header has been read. */
static int64_t resized(off_t before, off_t after, char *path, size_t room)
{
	uint8_t block[512];

	begin();
	write_file("file", "");
	write_file("g", "");
	CHECK_EQ(truncate("file", before), 0);
	int fd = open("file", O_WRONLY | O_CLOEXEC);
	for (off_t i = 0; i < before; i++) /* no holes */
		CHECK_EQ(pwrite(fd, "x", 1, i), 1);
	struct pc_pack *p = open_pack((const char *const[]){"tree"}, 1, PC_PACK_LAYER);
	CHECK_EQ(pc_pack_read(p, block, sizeof block), 512);
	CHECK_EQ(ftruncate(fd, after), 0);
	(void)close(fd);
	int64_t end = drain(p, 1 << 16);
	uint32_t step = step_of(p, path, room);
	CHECK_EQ(strcmp(pc_pack_step_name(step), end < 0 ? "changed while read" : "none"), 0);
	CHECK_EQ(pc_pack_read(p, block, sizeof block), end);
	pc_pack_free(p);
	return end;
}

static void a_file_that_is_cut_short_is_filled_and_told(void)
{
	char path[64];

	CHECK_EQ(resized(2000, 100, path, sizeof path), -ESTALE);
	CHECK_EQ(strcmp(path, "file"), 0);
	CHECK_EQ(tar_len, 2048 + 512 + 1024); /* the whole tar all the same */
	CHECK_EQ(memcmp(tar + 2048, "g", 2), 0);
	CHECK_EQ(tar[99], 'x');
	CHECK_EQ(tar[100], 0);
	CHECK_EQ(resized(2000, 0, path, sizeof path), -ESTALE);
}

static void a_file_that_has_grown_is_cut(void)
{
	char path[64];

	CHECK_EQ(resized(700, 5000, path, sizeof path), 0);
	CHECK_EQ(tar_len, 1024 + 512 + 1024);
	CHECK_EQ(memcmp(tar + 1024, "g", 2), 0);
}

static void holes_are_zeros(void)
{
	begin();
	int fd = open("f", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	CHECK_EQ(pwrite(fd, "head", 4, 0), 4);
	CHECK_EQ(pwrite(fd, "middle", 6, 1000000), 6);
	CHECK_EQ(ftruncate(fd, 3000001), 0);
	(void)close(fd);
	CHECK_EQ(pack(PC_PACK_LAYER), 0);
	CHECK_EQ(tar_len, 512 + (3000001 + 511) / 512 * 512 + 1024);
	CHECK_EQ(memcmp(tar + 512, "head", 5), 0);
	CHECK_EQ(memcmp(tar + 512 + 1000000, "middle", 7), 0);
	size_t set = 0;
	for (size_t i = 512; i < tar_len; i++)
		set += tar[i] != 0;
	CHECK_EQ(set, 10);
}

static void a_directory_that_goes_while_it_is_walked(void)
{
	uint8_t block[512];
	struct pc_pack_counts c;

	begin();
	CHECK_EQ(mkdir("d", 0755), 0);
	write_file("d/a", "");
	write_file("e", "");
	struct pc_pack *p = open_pack((const char *const[]){"tree"}, 1, PC_PACK_LAYER);
	CHECK_EQ(pc_pack_read(p, block, sizeof block), 512);
	CHECK_EQ(unlink("tree/d/a"), 0);
	CHECK_EQ(rmdir("tree/d"), 0);
	CHECK_EQ(drain(p, 4096), 0);
	check_listing("e:0");
	pc_pack_counted(p, &c);
	CHECK_EQ(c.vanished, 1);
	pc_pack_free(p);
}

struct swap {
	_Atomic bool stop;
	char a[16], b[16];
	int dir;
	_Atomic long swaps;
};

static void *swap_names(void *arg)
{
	struct swap *s = arg;

	while (!s->stop)
		s->swaps += renameat2(s->dir, s->a, s->dir, s->b, RENAME_EXCHANGE) == 0;
	return NULL;
}

/* Names exchanged as fast as can be with what leads out of the tree or acts when it is opened. */
static void swapped(const char *a, const char *b)
{
	struct swap s = {0};
	pthread_t thread;

	CHECK_EQ(chdir(base), 0);
	s.dir = open("tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	(void)snprintf(s.a, sizeof s.a, "%s", a);
	(void)snprintf(s.b, sizeof s.b, "%s", b);
	CHECK_EQ(pthread_create(&thread, NULL, swap_names, &s), 0);
	int before = check_failures;
	for (int i = 0; (i < 300 || s.swaps < 1000) && i < 100000 && check_failures == before; i++) {
		CHECK_EQ(pack(PC_PACK_LAYER), 0);
		CHECK(memmem(tar, tar_len, "canary", 6) == NULL);
	}
	s.stop = true;
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK(s.swaps >= 1000);
	(void)close(s.dir);
}

static void names_that_are_swapped(void)
{
	begin();
	CHECK_EQ(mkdir("../outside", 0755) < 0 && errno != EEXIST, 0);
	write_file("../outside/c", "canary");
	CHECK_EQ(mkdir("d", 0755), 0);
	write_file("d/c", "inside");
	CHECK_EQ(symlink("../outside", "l"), 0);
	write_file("f", "inside");
	CHECK_EQ(symlink("../outside/c", "m"), 0);
	CHECK_EQ(mkfifo("p", 0644), 0); /* opened for reading, it would wait for a writer */
	swapped("d", "l");
	swapped("f", "m");
	swapped("f", "p");
	swapped("d", "p");
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
	RUN(many_hard_links);
	RUN(whiteouts_come_first);
	RUN(four_thousand_levels);
	RUN(few_descriptors);
	RUN(two_hundred_roots);
	RUN(a_path_that_is_too_long);
	RUN(a_file_that_is_cut_short_is_filled_and_told);
	RUN(a_file_that_has_grown_is_cut);
	RUN(holes_are_zeros);
	RUN(a_directory_that_goes_while_it_is_walked);
	RUN(names_that_are_swapped);
	RUN(arguments_that_make_no_sense);
	CHECK_EQ(chdir("/"), 0);
	CHECK_EQ(pc_tree_remove(base), 0);
	free(tar);
	return check_result();
}
