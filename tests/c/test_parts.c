/* Small parts: scoped fds, detached mounts, the spawn floor, the helper, reaping. */
#include "check.h"
#include "fd.h"
#include "pycontain.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int open_null(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int leave_scope(int give)
{
	scoped_fd int fd = open_null();
	return give ? fd_take(&fd) : fd;
}

static void scoped_fds(void)
{
	int fd = leave_scope(0);
	CHECK(!is_open(fd));
	fd = leave_scope(1);
	CHECK(is_open(fd));
	int copy = fd;
	fd_close(&fd);
	CHECK_EQ(fd, -1);
	CHECK(!is_open(copy));
	fd_close(&fd); /* nothing to do */
	CHECK_EQ(fd_take(&fd), -1);
}

static void detached_mount_options(void)
{
	char many[600];
	struct stat st;

	memset(many, 'x', sizeof many - 1);
	many[sizeof many - 1] = '\0';
	CHECK_EQ(pc_mount_detached("no-such-file-system", "", 0), geteuid() ? -EPERM : -ENODEV);
	if (geteuid() != 0) {
		SKIP("mounting needs root");
		return;
	}
	CHECK_EQ(pc_mount_detached("tmpfs", many, 0), -E2BIG);
	CHECK_EQ(pc_mount_detached("tmpfs", "no-such-option", 0), -EINVAL);
	CHECK_EQ(pc_mount_detached("tmpfs", "mode=no-number", 0), -EINVAL);
	scoped_fd int plain = pc_mount_detached("tmpfs", "", 0);
	CHECK(plain >= 0);
	scoped_fd int fd = pc_mount_detached("tmpfs", "mode=0751,size=64k,,", 0);
	CHECK(fd >= 0);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_mode & 07777, 0751);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CHECK_EQ(mkdirat(fd, "before", 0700), 0);
	CHECK_EQ(pc_superblock_readonly(fd), 0);
	CHECK(mkdirat(fd, "after", 0700) < 0 && errno == EROFS);
	CHECK_EQ(pc_superblock_readonly(-1), -EBADF);
}

/* spawn floor and helper share our memory with their child until execve (CLONE_VM). The sanitizers' bookkeeping of that
 * memory does not expect a second process to write it, so that their builds leave these two out. */
#ifndef PC_SANITIZED
static void spawn_floor(void)
{
	char *program[] = {(char[]){"/bin/true"}, NULL}, *missing[] = {(char[]){"/no/program"}, NULL};
	uint64_t until_exec = 0, until_exit = 0;

	CHECK_EQ(pc_spawn_floor(program, &until_exec, &until_exit), 0);
	CHECK(until_exec > 0 && until_exec < until_exit);
	CHECK_EQ(pc_spawn_floor(missing, &until_exec, &until_exit), -ENOENT);
	CHECK(waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
}

static void is_link(int pid, int fd, const char *expected)
{
	char path[64], target[64] = "";

	(void)snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
	ssize_t n = readlink(path, target, sizeof target - 1);
	CHECK(expected != NULL ? strcmp(target, expected) == 0 : n < 0);
}

/* The helper gets /dev/full, and sits at number `fd` here, which may be one of its standard streams. */
static void helper_given(int fd)
{
	char *argv[] = {(char[]){"/bin/sleep"}, (char[]){"60"}, NULL};
	int pidfd = -1, saved = fcntl(fd, F_DUPFD_CLOEXEC, 10), full = open("/dev/full", O_RDWR | O_CLOEXEC);
	struct pc_exit ended = {0};

	CHECK_EQ(dup2(full, fd), fd);
	int pid = pc_spawn_helper("/bin/sleep", argv, fd, &pidfd);
	(void)(saved >= 0 ? dup2(saved, fd) : close(fd));
	CHECK(pid > 0 && pidfd >= 0);
	for (int i = 0; i < 3; i++)
		is_link(pid, i, "/dev/null");
	is_link(pid, 3, "/dev/full");
	is_link(pid, 50, NULL); /* inheritable, yet not for a helper */
	CHECK_EQ(getsid(pid), pid);
	CHECK_EQ(kill(pid, SIGKILL), 0);
	CHECK_EQ(pc_reap(pidfd, 1, &ended), 1);
	(void)close(pidfd);
	(void)close(full);
	(void)close(saved);
}

static void helper(void)
{
	char *missing[] = {(char[]){"/no/program"}, NULL};
	int pidfd = -1, null = open_null();

	CHECK_EQ(dup2(null, 50), 50);
	for (int fd = 0; fd < 5; fd++)
		helper_given(fd);
	helper_given(60);
	CHECK_EQ(pc_spawn_helper("/no/program", missing, null, &pidfd), -ENOENT);
	CHECK_EQ(pc_spawn_helper("/bin/true", missing, 1000, &pidfd), -EBADF); /* never a guardian without its fd 3 */
	CHECK_EQ(pidfd, -1);
	(void)close(50);
	(void)close(null);
	CHECK(waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
}
#endif

static void traces(void)
{
	uint64_t *trace = pc_trace_alloc(1000);

	CHECK(trace != NULL);
	if (trace == NULL)
		return;
	trace[999] = 1;
	pc_trace_free(trace, 1000);
}

int main(void)
{
	RUN(scoped_fds);
	RUN(detached_mount_options);
#ifndef PC_SANITIZED
	RUN(spawn_floor);
	RUN(helper);
#endif
	RUN(traces);
	return check_result();
}
