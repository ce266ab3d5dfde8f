/* pycontain-init as a program: argv[1] is its path. As root also as PID 1 of a pid namespace, with orphans. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *init_path;

/* Starts pycontain-init with `args`, its stdout in *out when not NULL. */
static pid_t launch(const char *const *args, int *out)
{
	const char *argv[8] = {"pycontain-init"};
	int pair[2] = {-1, -1};

	for (int i = 0; args[i] != NULL; i++)
		argv[i + 1] = args[i];
	if (out != NULL && pipe2(pair, O_CLOEXEC) < 0)
		abort();
	pid_t pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);
		(void)dup2(null, 0);
		(void)dup2(null, 2);
		if (out != NULL)
			(void)dup2(pair[1], 1);
		(void)execv(init_path, (char *const *)(uintptr_t)argv);
		_exit(99);
	}
	if (out != NULL) {
		(void)close(pair[1]);
		*out = pair[0];
	}
	return pid;
}

static int status_of(pid_t pid)
{
	int status = -1;

	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	return WEXITSTATUS(status);
}

#define ENDS(...) status_of(launch((const char *const[]){__VA_ARGS__, NULL}, NULL))

static void statuses(void)
{
	CHECK_EQ(ENDS("/bin/true"), 0);
	CHECK_EQ(ENDS("--", "/bin/false"), 1);
	CHECK_EQ(ENDS("--", "sh", "-c", "exit 42"), 42);
	CHECK_EQ(ENDS("sh", "-c", "kill -TERM $$"), 128 + SIGTERM);
	CHECK_EQ(ENDS("sh", "-c", "kill -KILL $$"), 128 + SIGKILL);
}

static void programs_that_are_none(void)
{
	char name[6000];

	CHECK_EQ(ENDS("/no/such/program"), 127);
	CHECK_EQ(ENDS("no-such-program"), 127);
	CHECK_EQ(ENDS("/bin/true/x"), 127);
	CHECK_EQ(ENDS(""), 127);
	CHECK_EQ(ENDS("--"), 127);
	CHECK_EQ(ENDS("/etc/passwd"), 126);
	CHECK_EQ(ENDS("/etc"), 126);
	memset(name, 'x', sizeof name - 1); /* never cut to the length of some other program's */
	name[sizeof name - 1] = '\0';
	CHECK_EQ(ENDS(name), 126);
}

/* A byte on the pipe says that the program has set its trap. */
static void sigterm_is_forwarded(void)
{
	const char *args[] = {"--", "sh", "-c", "trap 'exit 33' TERM; echo; while :; do sleep 0.05; done", NULL};
	char byte;
	int out;
	pid_t pid = launch(args, &out);

	CHECK_EQ(read(out, &byte, 1), 1);
	CHECK_EQ(kill(pid, SIGTERM), 0);
	CHECK_EQ(status_of(pid), 33);
	(void)close(out);
}

/* In a pid namespace init is PID 1: an orphan becomes its child. The program waits until its orphan has been reaped. */
static int as_pid_1(void)
{
	static const char script[] = "pid=$(sh -c 'sleep 0.05 >/dev/null & echo $!');"
				     "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20;"
				     "do kill -0 $pid 2>/dev/null || exit 9; sleep 0.1; done; exit 8";

	if (unshare(CLONE_NEWPID) < 0)
		return 77;
	pid_t pid = launch((const char *const[]){"--", "sh", "-c", script, NULL}, NULL);
	int status = 0;
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void orphans_are_reaped(void)
{
	if (geteuid() != 0) {
		SKIP("a pid namespace needs root");
		return;
	}
	pid_t pid = fork();
	if (pid == 0)
		_exit(as_pid_1());
	int status = status_of(pid);
	if (status == 77)
		SKIP("no pid namespace here");
	else
		CHECK_EQ(status, 9);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		(void)fprintf(stderr, "usage: test_init PATH-OF-PYCONTAIN-INIT\n");
		return 2;
	}
	init_path = argv[1];
	RUN(statuses);
	RUN(programs_that_are_none);
	RUN(sigterm_is_forwarded);
	RUN(orphans_are_reaped);
	return check_result();
}
