/* pycontain-exec: executes a program, and nothing else. It is never run from its file: the engine executes a sealed copy of it
 * in memory where the program's path could be exchanged under its hands, so that /proc/self/exe leads nowhere worth writing
 * to (2019-5736), and where the program gets a label of its own, which is for its execve and not for the stub's.
 *
 *	argv: LABEL_FILE LABEL PROGRAM ARGV0 ...
 *
 * LABEL_FILE is "" or a file of the procfs that is fd 4; fd 3 is the report socket.
 */
#include "start.h"

#include "report.h"

#include <errno.h>

enum { LABEL_FILE, LABEL, PROGRAM, ARGV };
enum { REPORT = 3, PROCFS = 4 };

/* The kernel takes it from the very process and memory that will execute: none but us can write it, and not before. */
static int write_label(const char *file, const char *label)
{
	size_t n = 0;
	int fd = sys_openat(PROCFS, file, O_WRONLY | O_CLOEXEC, 0);

	(void)sys_close(PROCFS); /* whatever comes of it, the program does not get this one */
	if (fd < 0)
		return fd;
	while (label[n] != '\0')
		n++;
	long written = sys_write(fd, label, n);
	(void)sys_close(fd);
	return written < 0 ? (int)written : (size_t)written == n ? 0 : -EIO;
}

int program(int argc, char **argv, char **envp)
{
	struct pc_report r = {.step = PC_STEP_LABEL, .section = PC_CHILD};

	if (argc <= ARGV)
		return 127;
	(void)sys_fcntl(REPORT, F_SETFD, FD_CLOEXEC); /* fails only when there is no fd 3, and then nobody listens */
	if (argv[LABEL_FILE][0] != '\0')
		r.err = -write_label(argv[LABEL_FILE], argv[LABEL]);
	if (r.err == 0) {
		r.step = PC_STEP_EXEC;
		r.err = -sys_execve(argv[PROGRAM], argv + ARGV, envp);
	}
	(void)sys_write(REPORT, &r, sizeof r);
	return 127;
}
