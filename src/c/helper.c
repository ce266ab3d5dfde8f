/* Plain children, not containers: the floor that the benchmark measures against, and the guardian. */
#include "job.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define STACK (64u << 10)

struct plain {
	const char *path;
	char *const *argv;
	int fd;	    /* becomes fd 3, or -1 */
	int result; /* of a failed execve */
};

static void plain_main(void *arg)
{
	struct plain *p = arg;
	char *const no_env[] = {NULL};
	const uint64_t no_signals = 0;
	const struct pc_ksigaction dfl = {0};

	if (p->fd >= 0) {
		int null = sys_openat(AT_FDCWD, "/dev/null", O_RDWR, 0);
		for (int i = 0; i < 3 && null >= 0; i++)
			if (null != i)
				(void)sys_dup3(null, i, 0);
		int copy = sys_fcntl(p->fd, F_DUPFD, 4);
		(void)sys_dup3(copy, 3, 0);
		(void)sys_close_range(4, ~0U, 0);
		(void)sys_setsid();
		(void)sys_chdir("/"); /* holds no one's directory busy */
		for (int sig = 1; sig <= 64; sig++)
			(void)sys_sigaction(sig, &dfl);
	}
	(void)sys_sigprocmask(SIG_SETMASK, &no_signals);
	p->result = sys_execve(p->path, p->argv, no_env);
	sys_exit_group(127);
}

static int spawn_plain(struct plain *p, uint64_t files, int *pidfd)
{
	sigset_t all, old;
	int fd = -1;
	char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stack == MAP_FAILED)
		return -ENOMEM;
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | files,
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
	*pidfd = fd;
	return (int)pid;
}

PC_EXPORT int pc_spawn_floor(char **argv, uint64_t *until_exec_ns, uint64_t *until_exit_ns)
{
	struct plain p = {.path = argv[0], .argv = argv, .fd = -1};
	siginfo_t info;
	int fd = -1;
	uint64_t begun = sys_now_ns();
	int pid = spawn_plain(&p, 0, &fd);
	scoped_fd int pidfd = fd;

	if (pid < 0)
		return pid;
	*until_exec_ns = sys_now_ns() - begun;
	int err = sys_waitid(P_PIDFD, pidfd, &info, WEXITED, NULL);
	*until_exit_ns = sys_now_ns() - begun;
	return p.result < 0 ? p.result : err;
}

PC_EXPORT int pc_spawn_helper(const char *path, char **argv, int32_t fd, int32_t *pidfd)
{
	struct plain p = {.path = path, .argv = argv, .fd = fd};
	siginfo_t info;
	int made = -1;
	int pid = spawn_plain(&p, 0, &made);

	if (pid < 0)
		return pid;
	if (p.result < 0) {
		(void)sys_waitid(P_PIDFD, made, &info, WEXITED, NULL);
		(void)sys_close(made);
		return p.result;
	}
	*pidfd = made;
	return pid;
}
