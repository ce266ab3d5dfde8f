/* pycontain-exec: executes a program, and nothing else. It is never run from its file: the engine executes a sealed copy of it
 * in memory where the program's path could be exchanged under its hands, so that /proc/self/exe leads nowhere worth writing
 * to (2019-5736); where the program gets a label of its own, which is for its execve and not for the stub's; and where hooks
 * come before it, which are then what the program will be: with its user, its capabilities, its filter. stub.h has its words.
 */
#include "start.h"

#include "report.h"
#include "stub.h"

#include <errno.h>

/* The kernel takes it from the very process and memory that will execute: none but us can write it, and not before. */
int pc_write_label(const char *file, const char *label)
{
	size_t n = 0;
	int fd = sys_openat(PC_STUB_PROCFS, file, O_WRONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return fd;
	while (label[n] != '\0')
		n++;
	long written = sys_write(fd, label, n);
	(void)sys_close(fd);
	return written < 0 ? (int)written : (size_t)written == n ? 0 : -EIO;
}

/* Nothing of ours outlives execve. Whichever of them is not there has not been left open for us. */
static void keep_to_ourselves(void)
{
	for (int fd = PC_STUB_REPORT; fd <= PC_STUB_SAID; fd++)
		(void)sys_fcntl(fd, F_SETFD, FD_CLOEXEC);
}

int program(int argc, char **argv, char **envp)
{
	struct pc_report r = {.section = PC_CHILD};
	char **word = argv + PC_STUB_HOOKS, **const end = argv + argc;

	keep_to_ourselves();
	while (word < end && **word != '\0' && r.err == 0)
		r.err = -pc_run_hook(&word, argv, &r);
	if (r.err == 0 && word + 1 >= end)
		return word + 1 == end ? 0 : 127;
	if (r.err == 0 && argv[PC_STUB_LABEL_FILE][0] != '\0') {
		r.step = PC_STEP_LABEL;
		r.err = -pc_write_label(argv[PC_STUB_LABEL_FILE], argv[PC_STUB_LABEL]);
	}
	if (r.err == 0) {
		r.step = PC_STEP_EXEC;
		r.err = -sys_execve(word[1], word + 2, envp);
	}
	(void)sys_write(PC_STUB_REPORT, &r, sizeof r);
	return 127;
}
