/* The writer: times of directories when their list overflows, remembered parents, no memory. Needs no root: what it writes
 * belongs to whoever runs it. What a layer may and may not do is tested from Python, in tests/kernel.
 */
#include "look.h"
#include "scarce.h"
#include "tar_make.h"
#include "tree.h"
#include "unpack.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* In memory where that is possible: a disk that has just lost many files is slow. */
static char in_memory[] = "/dev/shm/pycontain-unpack-XXXXXX", on_disk[] = "/tmp/pycontain-unpack-XXXXXX";
static struct pc_unpack_error error;
static struct pc_unpack_stats stats;

static uint8_t *mine(uint8_t *b, unsigned mtime)
{
	char text[12];

	base256(b, 108, 8, geteuid());
	base256(b, 116, 8, getegid());
	(void)snprintf(text, sizeof text, "%011o", mtime);
	memcpy(b + 136, text, 12);
	memcpy(b + 100, "0000755", 8);
	seal(b);
	return b;
}

static void dir_of(const char *name, unsigned mtime)
{
	(void)mine(header(name, '5', 0), mtime);
}

static void file_of(const char *name, const char *content)
{
	(void)mine(header(name, '0', strlen(content)), 1);
	(void)put(content, strlen(content));
	pad();
}

static struct pc_unpack *new_unpack(void)
{
	struct pc_unpack *u = NULL;

	CHECK_EQ(pc_tree_remove("root"), 0);
	CHECK_EQ(mkdir("root", 0755), 0);
	scoped_fd int fd = sys_openat(AT_FDCWD, "root", UNPACK_DIR, 0);
	struct pc_unpack_options o = {.root_fd = fd, .max_bytes = 1u << 30, .max_entries = 100000, .max_depth = 256,
				      .max_path_bytes = 4095, .max_meta_bytes = 1u << 20};
	CHECK_EQ(pc_unpack_new(&o, &u), 0);
	return u;
}

static int run(struct pc_unpack *u)
{
	int err = pc_unpack_feed(u, made, made_n, &error);

	if (err == 0)
		err = pc_unpack_finish(u, &stats, &error);
	pc_unpack_free(u);
	return err;
}

static void check_mtime(const char *path, long expected)
{
	struct stat st = {0};

	CHECK_EQ(fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	if (st.st_mtim.tv_sec != expected)
		(void)fprintf(stderr, "%s: mtime of %s\n", check_test, path);
	CHECK_EQ(st.st_mtim.tv_sec, expected);
}

/* Directories of which each is changed again and again after its entry: by files, links, directories, removal. */
static void many_directories(int n)
{
	char name[64];

	begin_tar();
	dir_of("./", 5);
	for (int i = 0; i < n; i++) {
		(void)snprintf(name, sizeof name, "d%d/", i);
		dir_of(name, (unsigned)(1000 + i));
	}
	for (int round = 0; round < 3; round++)
		for (int i = n - 1; i >= 0; i--) {
			(void)snprintf(name, sizeof name, "d%d/in%d/", i, round);
			dir_of(name, (unsigned)(2000 + i));
			(void)snprintf(name, sizeof name, "d%d/in%d/file", i, round);
			file_of(name, "x");
			(void)snprintf(name, sizeof name, "d%d/file", i); /* replaces the one of the round before */
			file_of(name, "y");
			(void)snprintf(name, sizeof name, "d%d/implied/%d/x", i, round);
			file_of(name, "z");
		}
	dir_of("d0/", 77);
	link_to("d1/link", '1', "d2/file");
}

static void check_many(int n)
{
	char name[64];

	check_mtime("root", 5);
	check_mtime("root/d0", 77);
	for (int i = 1; i < n; i++) {
		(void)snprintf(name, sizeof name, "root/d%d", i);
		check_mtime(name, 1000 + i);
		for (int round = 0; round < 3; round++) {
			(void)snprintf(name, sizeof name, "root/d%d/in%d", i, round);
			check_mtime(name, 2000 + i);
		}
	}
}

static void directories_get_their_times_however_short_the_list(void)
{
	static const size_t lengths[] = {1, 2, 3, 7, 16, 20, 100000};

	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		struct pc_unpack *u = new_unpack();
		many_directories(20);
		u->times.max = lengths[i];
		CHECK_EQ(run(u), 0);
		check_many(20);
		u = new_unpack();
		u->times.max_bytes = lengths[i] * 8;
		CHECK_EQ(run(u), 0);
		check_many(20);
	}
}

static void the_list_stays_short(void)
{
	struct pc_unpack *u = new_unpack();

	many_directories(200);
	u->times.max = 16;
	CHECK_EQ(pc_unpack_feed(u, made, made_n, &error), 0);
	CHECK(u->times.room <= 16 && u->times.paths_room <= 1024 && u->times.index_room <= 64);
	CHECK_EQ(pc_unpack_finish(u, &stats, &error), 0);
	pc_unpack_free(u);
	check_many(200);
}

static void a_directory_that_is_replaced_gives_its_time_to_nobody(void)
{
	for (size_t max = 1; max < 6; max++) {
		struct pc_unpack *u = new_unpack();
		begin_tar();
		dir_of("./", 9);
		dir_of("a/", 1000);
		dir_of("a/b/", 2000);
		file_of("a", "a file now");
		dir_of("c/", 3000);
		link_to("l", '2', "c");
		file_of("l/x", "1");
		dir_of("l/", 4000);
		u->times.max = max;
		CHECK_EQ(run(u), 0);
		check_mtime("root", 9);
		check_mtime("root/a", 1);
		check_mtime("root/c", 3000);
		check_mtime("root/l", 4000);
	}
}

/* More directories than are remembered, in turn; and one of them exchanged for another by a link. */
static void remembered_parents_are_the_right_ones(void)
{
	struct pc_unpack *u = new_unpack();
	char name[64];

	begin_tar();
	for (int i = 0; i < 3 * UNPACK_PARENTS; i++) {
		(void)snprintf(name, sizeof name, "p%d/first", i % (UNPACK_PARENTS + 2));
		file_of(name, "1");
	}
	for (int i = 0; i < UNPACK_PARENTS + 2; i++) {
		(void)snprintf(name, sizeof name, "p%d", i);
		link_to(name, '2', "q");
	}
	dir_of("q/", 5);
	for (int i = 0; i < UNPACK_PARENTS + 2; i++) {
		(void)snprintf(name, sizeof name, "p%d/second%d", i, i);
		file_of(name, "2");
	}
	CHECK_EQ(run(u), 0);
	for (int i = 0; i < UNPACK_PARENTS + 2; i++) {
		(void)snprintf(name, sizeof name, "root/q/second%d", i);
		CHECK_EQ(access(name, F_OK), 0);
	}
	check_mtime("root/q", 5);
}

static void an_error_leaves_no_descriptor(void)
{
	const int before = count_fds();

	begin_tar();
	file_of("d/f", "half");
	dir_of("d/e/", 1);
	(void)mine(header("g", '0', 100000), 1);
	(void)put("only this", 9);
	struct pc_unpack *u = new_unpack();
	CHECK_EQ(run(u), -EBADMSG);
	CHECK_EQ(error.fault, PC_UNPACK_DATA_ENDS);
	CHECK(error.numbers[0] == 100000 - 9 && error.name[0] == 'g');
	CHECK_EQ(count_fds(), before);
	u = new_unpack();
	pc_unpack_free(u);
	pc_unpack_free(NULL);
	CHECK_EQ(count_fds(), before);
}

static void a_root_that_is_none(void)
{
	struct pc_unpack *u = NULL;
	struct pc_unpack_options o = {.root_fd = -1, .max_path_bytes = 10};

	CHECK_EQ(pc_unpack_new(&o, &u), -EBADF);
	CHECK(u == NULL);
}

static int unpack_with(long allocations)
{
	scoped_fd int fd = sys_openat(AT_FDCWD, "root", UNPACK_DIR, 0);
	struct pc_id_range ids = {.inside = 0, .outside = 0, .count = 0xfffffffeu};
	struct pc_unpack_options o = {.root_fd = fd, .max_bytes = 1u << 30, .max_entries = 1000, .max_depth = 256,
				      .max_path_bytes = 4095, .max_meta_bytes = 1u << 20, .uid_map = &ids, .n_uid_map = 1,
				      .gid_map = &ids, .n_gid_map = 1};
	struct pc_unpack *u = NULL;

	error = (struct pc_unpack_error){0};
	allocations_left = allocations;
	int err = pc_unpack_new(&o, &u);
	if (err < 0)
		return err;
	err = pc_unpack_feed(u, made, made_n, &error);
	if (err == 0)
		err = pc_unpack_finish(u, &stats, &error);
	CHECK(err == 0 || (error.fault == PC_UNPACK_SYSTEM && error.err == ENOMEM));
	pc_unpack_free(u);
	return err;
}

static void every_allocation_can_fail(void)
{
	const int before = count_fds();
	long n = 0;

	begin_tar();
	PAX('x', "SCHILY.xattr.trusted.x=1", "path=d/");
	dir_of("x", 1);
	file_of("d/e/f", "1");
	for (int err = -ENOMEM; err != 0; n++) {
		CHECK_EQ(pc_tree_remove("root"), 0);
		CHECK_EQ(mkdir("root", 0755), 0);
		err = unpack_with(n);
		CHECK(err == 0 || err == -ENOMEM);
		if (allocations_left >= 0)
			CHECK_EQ(err, 0);
		allocations_left = -1;
		CHECK_EQ(count_fds(), before);
	}
	CHECK(n > 10);
	CHECK(stats.n_skipped_xattrs == 1 && strcmp((const char *)stats.skipped_xattrs, "trusted.x") == 0);
}

int main(void)
{
	const char *base = mkdtemp(in_memory) != NULL ? in_memory : mkdtemp(on_disk);

	if (base == NULL || chdir(base) < 0)
		return 1;
	RUN(directories_get_their_times_however_short_the_list);
	RUN(the_list_stays_short);
	RUN(a_directory_that_is_replaced_gives_its_time_to_nobody);
	RUN(remembered_parents_are_the_right_ones);
	RUN(an_error_leaves_no_descriptor);
	RUN(a_root_that_is_none);
	RUN(every_allocation_can_fail);
	CHECK_EQ(chdir("/"), 0);
	CHECK_EQ(pc_tree_remove(base), 0);
	return check_result();
}
