/* pycontain-init: PID 1 for --init. Runs one program, forwards signals to it, reaps every orphan, ends as it ended.
 *
 *   pycontain-init [--] PROGRAM [ARG ...]
 *
 * PROGRAM is looked up in PATH like execvp. Ends with the program's exit status, or 128 + the signal that killed it.
 */
#include "start.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

static int spawn(void)
{
	struct clone_args args = {.exit_signal = SIGCHLD};
	return (int)PC_SYS2(SYS_clone3, &args, sizeof args);
}

static int fork_child(void)
{
	int pid = spawn();
	if (pid != -ENOSYS) /* the default seccomp profile answers so for clone3 */
		return pid;
#if defined(__x86_64__)
	return (int)PC_SYS5(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#else
	return (int)PC_SYS5(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#endif
}

static const char *path_of(char **envp)
{
	for (; *envp; envp++) {
		const char *e = *envp;
		if (e[0] == 'P' && e[1] == 'A' && e[2] == 'T' && e[3] == 'H' && e[4] == '=')
			return e + 5;
	}
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

/* The new length; `room` when it did not fit. */
static size_t append(char *buf, size_t n, size_t room, char c)
{
	if (n >= room)
		return room;
	buf[n] = c;
	return n + 1;
}

/* Returns only on failure. */
static int exec_in_path(char **argv, char **envp)
{
	char buf[4096];
	int worst = -ENOENT;

	if (argv[0][0] == '\0')
		return -ENOENT;
	for (const char *s = argv[0]; *s; s++)
		if (*s == '/')
			return sys_execve(argv[0], argv, envp);
	for (const char *p = path_of(envp); *p;) {
		size_t n = 0;
		for (; *p && *p != ':'; p++)
			n = append(buf, n, sizeof buf, *p);
		if (*p == ':')
			p++;
		if (n == 0)
			continue;
		n = append(buf, n, sizeof buf, '/');
		for (const char *s = argv[0]; *s; s++)
			n = append(buf, n, sizeof buf, *s);
		if (n == sizeof buf) {
			worst = -ENAMETOOLONG; /* never a shorter path: it would be another program */
			continue;
		}
		buf[n] = '\0';
		int err = sys_execve(buf, argv, envp);
		if (err != -ENOENT && err != -ENOTDIR)
			worst = err;
	}
	return worst;
}

static void complain(const char *name)
{
	const char text[] = "pycontain-init: cannot execute ";
	size_t n = 0;

	while (name[n])
		n++;
	(void)sys_write(2, text, sizeof text - 1);
	(void)sys_write(2, name, n);
	(void)sys_write(2, "\n", 1);
}

static void __attribute__((noreturn)) become(char **argv, char **envp)
{
	const uint64_t none = 0;

	/* its own process group, in the foreground when there is a terminal: Ctrl-C reaches it, not us */
	(void)PC_SYS2(SYS_setpgid, 0, 0);
	int pgrp = sys_getpid();
	(void)sys_ioctl(0, TIOCSPGRP, &pgrp);
	(void)sys_sigprocmask(SIG_SETMASK, &none);
	int err = exec_in_path(argv, envp);
	complain(argv[0]);
	sys_exit_group(err == -ENOENT || err == -ENOTDIR ? 127 : 126);
}

/* Reaps what has ended. True when the program itself has, with its status in *status. */
static bool reap_all(int main_pid, int *status)
{
	bool ended = false;

	for (;;) {
		siginfo_t info = {0};
		if (sys_waitid(P_ALL, 0, &info, WEXITED | WNOHANG, NULL) < 0 || info.si_pid == 0)
			return ended;
		if (info.si_pid == main_pid) {
			*status = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
			ended = true;
		}
	}
}

int program(int argc, char **argv, char **envp)
{
	const uint64_t all = ~0ULL;
	int status = 0;

	if (argc > 1 && argv[1][0] == '-' && argv[1][1] == '-' && argv[1][2] == '\0') {
		argv++;
		argc--;
	}
	if (argc < 2) {
		complain("nothing: usage: pycontain-init [--] PROGRAM [ARG ...]");
		return 127;
	}
	(void)sys_sigprocmask(SIG_BLOCK, &all);
	int pid = fork_child();
	if (pid < 0) {
		complain(argv[1]);
		return 125;
	}
	if (pid == 0)
		become(argv + 1, envp);
	for (;;) {
		siginfo_t info = {0};
		int sig = (int)PC_SYS4(SYS_rt_sigtimedwait, &all, &info, 0, sizeof all);
		if (sig == SIGCHLD) {
			if (reap_all(pid, &status))
				return status;
		} else if (sig > 0 && sig != SIGTTIN && sig != SIGTTOU) {
			(void)sys_kill(pid, sig);
		}
	}
}
