/* User namespaces that nobody lives in: for id-mapped mounts, which take their translation from one. Parent half.
 *
 * A namespace needs a process to be born with and to have its maps written for it; that process shares our memory, does
 * nothing but wait, and is killed as soon as the namespace has an fd.
 */
#include "job.h"

#include <errno.h>
#include <linux/prctl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define STACK (32u << 10)

static void waiting_main(void *arg)
{
	const int *parent = arg;

	(void)sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	while (sys_getppid() == *parent) /* else it has died before the line above */
		(void)sys_ppoll(NULL, 0, NULL);
	sys_exit_group(0);
}

static int write_file(int dir, const char *name, const char *value)
{
	scoped_fd int fd = sys_openat(dir, name, O_WRONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return fd;
	long n = sys_write(fd, value, pc_strlen(value));
	return n < 0 ? (int)n : 0;
}

static int write_maps(long pid, const char *uid_map, const char *gid_map)
{
	char path[40];

	(void)snprintf(path, sizeof path, "/proc/%ld", pid);
	scoped_fd int dir = sys_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (dir < 0)
		return dir;
	int err = write_file(dir, "uid_map", uid_map);
	if (err == 0)
		err = write_file(dir, "gid_map", gid_map);
	return err < 0 ? err : sys_openat(dir, "ns/user", O_RDONLY | O_CLOEXEC, 0);
}

PC_EXPORT int pc_make_userns(const char *uid_map, const char *gid_map)
{
	int parent = sys_getpid(), pidfd = -1, ns;
	siginfo_t info;
	sigset_t all, old;
	char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stack == MAP_FAILED)
		return -ENOMEM;
	/* no exit signal: the process that has imported us knows nothing of this child */
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_FILES | CLONE_NEWUSER | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.stack = (uint64_t)(uintptr_t)stack,
		.stack_size = STACK,
	};
	pc_hide_engine();
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &old);
	long pid = pc_clone3(&args, sizeof args, waiting_main, &parent);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	ns = pid < 0 ? (int)pid : write_maps(pid, uid_map, gid_map);
	if (pid >= 0) {
		(void)sys_pidfd_send_signal(pidfd, SIGKILL);
		while (sys_waitid(P_PIDFD, pidfd, &info, WEXITED | __WALL, NULL) == -EINTR)
			;
		(void)sys_close(pidfd);
	}
	pc_show_engine();
	(void)munmap(stack, STACK);
	return ns;
}
