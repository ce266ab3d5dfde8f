/* Trees that change while they are packed: files of another length, holes, names that go or are exchanged. */
#include "packed.h"

#include <pthread.h>

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

int main(void)
{
	if (mkdtemp(base) == NULL)
		return 1;
	RUN(a_file_that_is_cut_short_is_filled_and_told);
	RUN(a_file_that_has_grown_is_cut);
	RUN(holes_are_zeros);
	RUN(a_directory_that_goes_while_it_is_walked);
	RUN(names_that_are_swapped);
	CHECK_EQ(chdir("/"), 0);
	CHECK_EQ(pc_tree_remove(base), 0);
	free(tar);
	return check_result();
}
