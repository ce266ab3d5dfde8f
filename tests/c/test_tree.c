/* Removal of trees: deep ones, wide ones, hostile ones. A canary outside must survive every test. */
#include "check.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char base[] = "/tmp/pycontain-tree-XXXXXX";

static void touch(int dir, const char *name)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	(void)close(fd);
}

/* base/tree, empty, as working directory */
static void begin(void)
{
	CHECK_EQ(chdir(base), 0);
	CHECK_EQ(mkdir("tree", 0700), 0);
	CHECK_EQ(chdir("tree"), 0);
}

static void removed(void)
{
	CHECK_EQ(chdir(base), 0);
	CHECK_EQ(pc_tree_remove("tree"), 0);
	CHECK(access("tree", F_OK) < 0 && errno == ENOENT);
	CHECK_EQ(access("canary/file", F_OK), 0);
	CHECK_EQ(pc_tree_remove("tree"), 0); /* gone already is fine */
}

/* `levels` directories in each other below the working directory, a file in each */
static void dig(int levels)
{
	int dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < levels; i++) {
		touch(dir, "file");
		CHECK_EQ(mkdirat(dir, "d", 0700), 0);
		int sub = openat(dir, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		(void)close(dir);
		dir = sub;
	}
	(void)close(dir);
}

static void no_tree_a_file_a_link(void)
{
	CHECK_EQ(chdir(base), 0);
	CHECK_EQ(pc_tree_remove("nothing"), 0);
	CHECK_EQ(pc_tree_remove("no/thing"), 0);
	touch(AT_FDCWD, "tree");
	removed();
	CHECK_EQ(symlink("canary", "tree"), 0);
	removed();
}

static void five_thousand_levels(void)
{
	begin();
	dig(5000);
	removed();
}

/* A former removal that was killed has left names which this one would choose. */
static void names_of_a_former_removal_are_taken(void)
{
	begin();
	CHECK_EQ(mkdir(".pycontain-removing-00000000", 0700), 0);
	touch(AT_FDCWD, ".pycontain-removing-00000000/file");
	touch(AT_FDCWD, ".pycontain-removing-00000001");
	dig(200);
	removed();
}

static void twenty_thousand_files(void)
{
	char name[16];

	begin();
	for (int i = 0; i < 20000; i++) {
		(void)snprintf(name, sizeof name, "%d", i);
		touch(AT_FDCWD, name);
	}
	removed();
}

static void links_are_removed_not_followed(void)
{
	begin();
	CHECK_EQ(symlink("../canary", "to-directory"), 0);
	CHECK_EQ(symlink("../canary/file", "to-file"), 0);
	CHECK_EQ(symlink("/", "to-root"), 0);
	CHECK_EQ(symlink("loop", "loop"), 0);
	CHECK_EQ(mkdir("d", 0700), 0);
	CHECK_EQ(symlink("../..", "d/up"), 0);
	CHECK_EQ(link("../canary/file", "hard"), 0);
	CHECK_EQ(mkfifo("fifo", 0600), 0);
	removed();
}

static void directory_without_permissions(void)
{
	begin();
	CHECK_EQ(mkdir("closed", 0700), 0);
	touch(AT_FDCWD, "closed/file");
	CHECK_EQ(chmod("closed", 0), 0);
	if (geteuid() != 0) { /* not ours to open up: chmod follows links */
		CHECK_EQ(chdir(base), 0);
		CHECK_EQ(pc_tree_remove("tree"), -EACCES);
		CHECK_EQ(chmod("tree/closed", 0700), 0);
	}
	removed();
}

static void *remove_it_too(void *result)
{
	char path[64];

	(void)snprintf(path, sizeof path, "%s/tree", base);
	*(int *)result = pc_tree_remove(path);
	return NULL;
}

/* Two at once: each finds things that the other has just removed, and both succeed. */
static void files_that_vanish(void)
{
	for (int round = 0; round < 5; round++) {
		int other = -1;
		pthread_t thread;

		begin();
		for (int i = 0; i < 100; i++) {
			char name[32];
			(void)snprintf(name, sizeof name, "%d", i);
			CHECK_EQ(mkdir(name, 0700), 0);
			CHECK_EQ(chdir(name), 0);
			dig(5);
			CHECK_EQ(chdir(".."), 0);
		}
		CHECK_EQ(chdir(base), 0);
		CHECK_EQ(pthread_create(&thread, NULL, remove_it_too, &other), 0);
		int mine = pc_tree_remove("tree");
		CHECK_EQ(pthread_join(thread, NULL), 0);
		/* a directory may fill up between the two looks of the slower one only when names are moved: not here */
		CHECK_EQ(mine, 0);
		CHECK_EQ(other, 0);
		removed();
	}
}

/* In a mount namespace of its own: a tmpfs and a bind mount of the canary, which has the tree's own device number. */
static int mounts_in_the_tree(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return 77;
	begin();
	CHECK_EQ(mkdir("tmpfs", 0700), 0);
	CHECK_EQ(mount("tmpfs", "tmpfs", "tmpfs", 0, NULL), 0);
	touch(AT_FDCWD, "tmpfs/file");
	CHECK_EQ(chdir(base), 0);
	int err = pc_tree_remove("tree");
	CHECK(err == -EBUSY || err == -EXDEV);
	CHECK_EQ(access("tree/tmpfs/file", F_OK), 0);
	CHECK_EQ(umount("tree/tmpfs"), 0);
	CHECK_EQ(mkdir("tree/bind", 0700) < 0 && errno != EEXIST, 0);
	CHECK_EQ(mount("canary", "tree/bind", NULL, MS_BIND, NULL), 0);
	err = pc_tree_remove("tree");
	CHECK(err == -EBUSY || err == -EXDEV);
	CHECK_EQ(access("canary/file", F_OK), 0);
	CHECK_EQ(umount("tree/bind"), 0);
	removed();
	return check_failures;
}

static void other_file_systems_are_not_entered(void)
{
	int status = 0;

	if (geteuid() != 0) {
		SKIP("mounting needs root");
		return;
	}
	pid_t pid = fork();
	if (pid == 0)
		_exit(mounts_in_the_tree());
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("no mount namespace here");
	else
		CHECK_EQ(status, 0);
}

int main(void)
{
	if (mkdtemp(base) == NULL || chdir(base) < 0 || mkdir("canary", 0700) < 0)
		return 1;
	touch(AT_FDCWD, "canary/file");
	RUN(no_tree_a_file_a_link);
	RUN(five_thousand_levels);
	RUN(names_of_a_former_removal_are_taken);
	RUN(twenty_thousand_files);
	RUN(links_are_removed_not_followed);
	RUN(directory_without_permissions);
	RUN(files_that_vanish);
	RUN(other_file_systems_are_not_entered);
	CHECK_EQ(chdir("/"), 0);
	CHECK_EQ(pc_tree_remove(base), 0);
	return check_result();
}
