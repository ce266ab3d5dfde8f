/* pycontain-exec: executes argv[0] with the rest as its arguments, and nothing else. It is never run from its file: the
 * engine executes a sealed copy of it in memory where the program's path could be exchanged under its hands, so that
 * /proc/self/exe leads nowhere worth writing to (2019-5736). fd 3 is the report socket.
 */
#include "start.h"

#include "report.h"

int program(int argc, char **argv, char **envp)
{
	struct pc_report r = {.step = PC_STEP_EXEC, .section = PC_CHILD};

	if (argc < 2)
		return 127;
	(void)sys_fcntl(3, F_SETFD, FD_CLOEXEC); /* fails only when there is no fd 3, and then nobody listens */
	r.err = -sys_execve(argv[0], argv + 1, envp);
	(void)sys_write(3, &r, sizeof r);
	return 127;
}
