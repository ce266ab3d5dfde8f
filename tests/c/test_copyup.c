/* tmpcopyup: what is copied, as what, and what is not followed. */
#include "check.h"
#include "job.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static char base[] = "/tmp/pycontain-copyup-XXXXXX";
static int from, to;

static void begin(void)
{
	CHECK_EQ(mkdirat(AT_FDCWD, "from", 0755), 0);
	CHECK_EQ(mkdirat(AT_FDCWD, "to", 0755), 0);
	from = open("from", O_PATH | O_DIRECTORY | O_CLOEXEC); /* as it is given: resolved as a path only */
	to = open("to", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void end(void)
{
	(void)close(from);
	(void)close(to);
	CHECK_EQ(pc_remove_tree("from"), 0);
	CHECK_EQ(pc_remove_tree("to"), 0);
}

static void make_file(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
	CHECK_EQ(fchmod(fd, mode), 0);
	(void)close(fd);
}

static const char *text_of(const char *path)
{
	static char text[64];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	long n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	(void)close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n < 0 ? "(absent)" : text;
}

static struct stat info(const char *path)
{
	struct stat st = {0};

	CHECK_EQ(lstat(path, &st), 0);
	return st;
}

static void files_keep_content_mode_owner_and_times(void)
{
	const struct timespec times[2] = {{1000000000, 123}, {1100000000, 456}};

	begin();
	make_file("from/plain", "words", 0640);
	make_file("from/empty", "", 0444);
	make_file("from/suid", "s", 0700);
	CHECK_EQ(mkdir("from/dir", 0700), 0);
	make_file("from/dir/inner", "deep", 0600);
	CHECK_EQ(mkdir("from/sticky", 0700), 0);
	CHECK_EQ(fchmodat(AT_FDCWD, "from/sticky", 01777, 0), 0);
	if (geteuid() == 0)
		CHECK(chown("from/suid", 1000, 2000) == 0 && chown("from/dir", 3, 4) == 0);
	CHECK_EQ(chmod("from/suid", 06755), 0);
	CHECK(utimensat(AT_FDCWD, "from/plain", times, 0) == 0 && utimensat(AT_FDCWD, "from/dir", times, 0) == 0);
	CHECK_EQ(pc_copy_tree(from, to), 0);
	CHECK(strcmp(text_of("to/plain"), "words") == 0 && strcmp(text_of("to/dir/inner"), "deep") == 0);
	CHECK_EQ(info("to/empty").st_size, 0);
	CHECK_EQ(info("to/plain").st_mode, S_IFREG | 0640);
	CHECK_EQ(info("to/empty").st_mode, S_IFREG | 0444);
	CHECK_EQ(info("to/suid").st_mode, S_IFREG | 06755);
	CHECK_EQ(info("to/sticky").st_mode, S_IFDIR | 01777);
	CHECK(info("to/suid").st_uid == info("from/suid").st_uid && info("to/suid").st_gid == info("from/suid").st_gid);
	CHECK(info("to/dir").st_uid == info("from/dir").st_uid && info("to/dir").st_mode == (S_IFDIR | 0700));
	CHECK(info("to/plain").st_mtim.tv_sec == 1100000000 && info("to/plain").st_mtim.tv_nsec == 456);
	CHECK_EQ(info("to/dir").st_mtim.tv_sec, 1100000000);
	end();
}

static void links_are_copied_and_not_followed(void)
{
	char target[4096], long_target[4000];

	begin();
	memset(long_target, 'x', sizeof long_target - 1);
	long_target[sizeof long_target - 1] = '\0';
	make_file("outside", "secret", 0600);
	CHECK(symlink("../outside", "from/out") == 0 && symlink("/no/where", "from/dangling") == 0);
	CHECK(symlink("..", "from/up") == 0 && symlink(long_target, "from/long") == 0);
	CHECK_EQ(pc_copy_tree(from, to), 0);
	CHECK(S_ISLNK(info("to/out").st_mode) && S_ISLNK(info("to/up").st_mode));
	long n = readlink("to/out", target, sizeof target);
	CHECK(n == 10 && memcmp(target, "../outside", 10) == 0);
	n = readlink("to/long", target, sizeof target);
	CHECK_EQ(n, sizeof long_target - 1);
	CHECK_EQ(unlink("outside"), 0);
	end();
}

static void many_entries_and_odd_names(void)
{
	char name[300];

	begin();
	for (int i = 0; i < 500; i++) {
		(void)snprintf(name, sizeof name, "from/%0*d", i % 250 + 1, i);
		make_file(name, "", 0600);
	}
	make_file("from/ line\n\377 break", "x", 0600);
	make_file("from/...", "dots", 0600);
	CHECK_EQ(pc_copy_tree(from, to), 0);
	int n = 0;
	DIR *d = opendir("to");
	while (d != NULL && readdir(d) != NULL)
		n++;
	(void)closedir(d);
	CHECK_EQ(n, 502 + 2);
	CHECK(strcmp(text_of("to/..."), "dots") == 0);
	end();
}

/* As deep as is allowed on the child's small stack; one more is an error and no crash. */
static void depth_has_an_end(void)
{
	char path[256] = "from";

	begin();
	for (int i = 0; i < 32; i++) {
		(void)strcat(path, "/d");
		CHECK_EQ(mkdir(path, 0755), 0);
	}
	CHECK_EQ(pc_copy_tree(from, to), 0);
	memcpy(path, "to//", 4);
	CHECK_EQ(access(path, F_OK), 0);
	CHECK_EQ(pc_remove_tree("to"), 0);
	CHECK_EQ(mkdir("to", 0755), 0);
	(void)close(to);
	to = open("to", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	memcpy(path, "from", 4);
	(void)strcat(path, "/d");
	CHECK_EQ(mkdir(path, 0755), 0);
	CHECK_EQ(pc_copy_tree(from, to), -ELOOP);
	end();
}

static void devices_and_fifos_are_made_not_opened(void)
{
	begin();
	CHECK_EQ(mkfifo("from/fifo", 0600), 0); /* opening it would wait for a writer */
	if (geteuid() == 0)
		CHECK_EQ(mknod("from/null", S_IFCHR | 0666, makedev(1, 3)), 0);
	CHECK_EQ(pc_copy_tree(from, to), 0);
	CHECK(S_ISFIFO(info("to/fifo").st_mode));
	if (geteuid() == 0)
		CHECK(S_ISCHR(info("to/null").st_mode) && info("to/null").st_rdev == makedev(1, 3));
	end();
}

static void other_file_systems_stay_out(void)
{
	if (geteuid() != 0) {
		SKIP("mounting needs root");
		return;
	}
	begin();
	CHECK_EQ(mkdir("from/mounted", 0755), 0);
	CHECK_EQ(mount("tmpfs", "from/mounted", "tmpfs", 0, "size=64k"), 0);
	make_file("from/mounted/file", "", 0600);
	make_file("from/beside", "x", 0600);
	CHECK_EQ(pc_copy_tree(from, to), 0);
	CHECK(access("to/mounted", F_OK) < 0 && access("to/beside", F_OK) == 0);
	CHECK_EQ(umount("from/mounted"), 0);
	end();
}

static void errors_are_the_kernels(void)
{
	begin();
	make_file("from/taken", "a", 0600);
	make_file("to/taken", "b", 0600);
	CHECK_EQ(pc_copy_tree(from, to), -EEXIST);
	CHECK(strcmp(text_of("to/taken"), "b") == 0);
	int file = open("from/taken", O_PATH | O_CLOEXEC);
	CHECK_EQ(pc_copy_tree(file, to), -ENOTDIR);
	(void)close(file);
	CHECK_EQ(pc_copy_tree(-1, to), -EBADF);
	end();
}

int main(void)
{
	if (mkdtemp(base) == NULL || chdir(base) < 0)
		return 2;
	(void)umask(0);
	int before = dup(0);
	(void)close(before);
	RUN(files_keep_content_mode_owner_and_times);
	RUN(links_are_copied_and_not_followed);
	RUN(many_entries_and_odd_names);
	RUN(depth_has_an_end);
	RUN(devices_and_fifos_are_made_not_opened);
	RUN(other_file_systems_stay_out);
	RUN(errors_are_the_kernels);
	check_test = "the end";
	int after = dup(0);
	CHECK_EQ(after, before);
	CHECK(chdir("/") == 0 && rmdir(base) == 0);
	return check_result();
}
