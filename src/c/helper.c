/* Plain children, not containers: the floor that the benchmark measures against, and the guardian. */
#include "job.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define STACK (64u << 10)
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

struct plain {
	const char *path;
	char *const *argv;
	int fd;	    /* becomes fd 3, or -1 */
	int result; /* of what failed before or in execve */
};

/* `fd` as 3, /dev/null as 0, 1 and 2, nothing else. First out of the way: `fd` may itself be one of those. A guardian
 * without its fd 3 would take its owner for dead and kill everything, so no failure is passed over. */
static int arrange_fds(int fd)
{
	int copy = sys_fcntl(fd, F_DUPFD_CLOEXEC, 4), err;

	if (copy < 0)
		return copy;
	int opened = sys_openat(AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
	int null = sys_fcntl(opened, F_DUPFD_CLOEXEC, 4);
	if (null < 0)
		return opened < 0 ? opened : null;
	for (int i = 0; i < 3; i++)
		if ((err = sys_dup3(null, i, 0)) < 0)
			return err;
	if ((err = sys_dup3(copy, 3, 0)) < 0)
		return err;
	return sys_close_range(4, ~0U, 0);
}

static void plain_main(void *arg)
{
	struct plain *p = arg;
	char *const no_env[] = {NULL};
	const uint64_t no_signals = 0;
	const struct pc_ksigaction dfl = {0};

	if (p->fd >= 0) {
		p->result = arrange_fds(p->fd);
		if (p->result < 0)
			sys_exit_group(127);
		(void)sys_setsid();
		(void)sys_chdir("/"); /* holds no one's directory busy */
		for (int sig = 1; sig <= 64; sig++)
			(void)sys_sigaction(sig, &dfl);
	}
	(void)sys_sigprocmask(SIG_SETMASK, &no_signals);
	p->result = sys_execve(p->path, p->argv, no_env);
	sys_exit_group(127);
}

static int spawn_plain(struct plain *p, int *pidfd)
{
	sigset_t all, old;
	int fd = -1;
	char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stack == MAP_FAILED)
		return -ENOMEM;
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
		.pidfd = (uint64_t)(uintptr_t)&fd,
		.exit_signal = SIGCHLD,
		.stack = (uint64_t)(uintptr_t)stack,
		.stack_size = STACK,
	};
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &old);
	long pid = pc_clone3(&args, sizeof args, plain_main, p);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	(void)munmap(stack, STACK);
	*pidfd = pid < 0 ? -1 : fd; /* a clone that failed late had written a number which is no longer ours */
	return (int)pid;
}

static int wait_end(int pidfd)
{
	siginfo_t info;
	int err;

	do
		err = sys_waitid(P_PIDFD, pidfd, &info, WEXITED, NULL);
	while (err == -EINTR);
	return err;
}

PC_EXPORT int pc_spawn_floor(char **argv, uint64_t *until_exec_ns, uint64_t *until_exit_ns)
{
	struct plain p = {.path = argv[0], .argv = argv, .fd = -1};
	int fd = -1;
	uint64_t begun = sys_now_ns();
	int pid = spawn_plain(&p, &fd);
	scoped_fd int pidfd = fd;

	if (pid < 0)
		return pid;
	*until_exec_ns = sys_now_ns() - begun;
	int err = wait_end(pidfd);
	*until_exit_ns = sys_now_ns() - begun;
	return p.result < 0 ? p.result : err;
}

PC_EXPORT int pc_sealed_copy(const char *path)
{
	char buffer[4096];
	long n;
	scoped_fd int from = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	/* executable from birth where the kernel knows the flag (6.3): vm.memfd_noexec may forbid it otherwise */
	scoped_fd int to = from < 0 ? from : memfd_create("pycontain-exec", MFD_CLOEXEC | MFD_ALLOW_SEALING | 0x10 /* MFD_EXEC */);

	if (from >= 0 && to < 0)
		to = memfd_create("pycontain-exec", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (from < 0 || to < 0)
		return from < 0 ? from : -errno;
	while ((n = sys_read(from, buffer, sizeof buffer)) > 0)
		if (sys_write(to, buffer, (size_t)n) != n)
			return -EIO;
	if (n < 0)
		return (int)n;
	/* Not for reading: the kernel then lets nobody look at a process that runs it but who has power over the engine's own
	 * user namespace. Its fd 3 is the report socket, by which a container that it joins could hold up the start. */
	int err = sys_fchmod(to, 0111);
	if (err == 0) /* nor may its owner take the mode away that all starts count on (6.3) */
		err = sys_fcntl(to, F_ADD_SEALS, SEALS | 0x20 /* F_SEAL_EXEC */);
	if (err == -EINVAL)
		err = sys_fcntl(to, F_ADD_SEALS, SEALS);
	return err < 0 ? err : fd_take(&to);
}

PC_EXPORT int pc_spawn_helper(const char *path, char **argv, int32_t fd, int32_t *pidfd)
{
	struct plain p = {.path = path, .argv = argv, .fd = fd};
	int made = -1;
	int pid = spawn_plain(&p, &made);

	if (pid < 0)
		return pid;
	if (p.result < 0) {
		(void)wait_end(made);
		(void)sys_close(made);
		return p.result;
	}
	*pidfd = made;
	return pid;
}
