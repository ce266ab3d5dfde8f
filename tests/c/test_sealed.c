/* The sealed copy: nobody can change it, programs start by it, and why they did not is still said. User namespaces that
 * nobody lives in: their maps can be read through the fd, a bad map leaves nothing.
 */
#include "look.h"
#include "hand_plan.h"
#include "sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *source;
static int32_t stub;
static struct hand_plan plan;
static struct pc_process process;
static char dir[] = "/tmp/pycontain-sealed-XXXXXX";

static int start(void)
{
	struct pc_start_args args = {.plan_len = hand_pack(&plan), .plan = plan.bytes};

	args.fds = &stub;
	args.n_fds = 1;
	args.deadline_ns = sys_now_ns() + 20000000000u;
	return pc_start(&args, &process);
}

static void by_stub(const char *program)
{
	hand_begin(&plan, program);
	plan.head.flags = PC_PLAN_STUB;
	plan.head.n_given = plan.head.n_slots = 1;
	plan.head.stub_slot = 0;
	hand_op(&plan, PC_CHILD, PC_OP_CLOSE_FDS)->x = 3;
}

static void ends_with(int code, int status)
{
	struct pc_exit ended = {0};

	CHECK_EQ(pc_reap(process.pidfd, 1, &ended), 1);
	CHECK_EQ(ended.code, code);
	CHECK_EQ(ended.status, status);
	(void)close(process.pidfd);
}

static const char *in_dir(const char *name)
{
	static char path[128];

	(void)snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

static void make_script(const char *name, const char *text, mode_t mode)
{
	int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
	CHECK_EQ(fchmod(fd, mode), 0);
	(void)close(fd);
}

static void nobody_can_change_it(void)
{
	char self[64];
	const int wanted = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

	CHECK_EQ(fcntl(stub, F_GET_SEALS) & wanted, wanted);
	CHECK(fcntl(stub, F_GETFD) & FD_CLOEXEC);
	CHECK(write(stub, "x", 1) < 0 && errno == EPERM);
	CHECK(pwrite(stub, "x", 1, 0) < 0 && errno == EPERM);
	CHECK(ftruncate(stub, 0) < 0 && errno == EPERM);
	CHECK(ftruncate(stub, 1 << 20) < 0 && errno == EPERM);
	CHECK(fallocate(stub, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0 && errno == EPERM);
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, stub, 0) == MAP_FAILED);
	CHECK(fcntl(stub, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) < 0 && errno == EPERM);
	(void)snprintf(self, sizeof self, "/proc/self/fd/%d", stub);
	int again = open(self, O_RDWR | O_CLOEXEC);
	CHECK(again < 0 || write(again, "x", 1) < 0);
	if (again >= 0)
		(void)close(again);
	if (fcntl(stub, F_GET_SEALS) & 0x20) /* since Linux 6.3 its owner cannot take its mode away either */
		CHECK(fchmod(stub, 0) < 0 && errno == EPERM);
	else
		SKIP("this kernel has no F_SEAL_EXEC");
}

static void it_is_a_copy(void)
{
	char a[4096], b[4096];
	int fd = open(source, O_RDONLY | O_CLOEXEC);
	long n, at = 0;

	while ((n = read(fd, a, sizeof a)) > 0) {
		CHECK_EQ(pread(stub, b, (size_t)n, at), n);
		CHECK(memcmp(a, b, (size_t)n) == 0);
		at += n;
	}
	CHECK_EQ(lseek(stub, 0, SEEK_END), at);
	(void)close(fd);
	CHECK_EQ(pc_sealed_copy("/no/such/file"), -ENOENT);
	CHECK_EQ(pc_sealed_copy("/"), -EISDIR);
}

static void programs_start_by_it(void)
{
	by_stub("/bin/true");
	CHECK_EQ(start(), 0);
	ends_with(CLD_EXITED, 0);
	make_script("script", "#!/bin/sh\nexit ${1:-9}\n", 0700);
	by_stub(in_dir("script"));
	CHECK_EQ(start(), 0);
	ends_with(CLD_EXITED, 9);
	by_stub(in_dir("script"));
	(void)hand_string(&plan, "7");
	plan.head.argc = 2;
	CHECK_EQ(start(), 0);
	ends_with(CLD_EXITED, 7);
	make_script("killed", "#!/bin/sh\nkill -TERM $$\n", 0700);
	by_stub(in_dir("killed"));
	CHECK_EQ(start(), 0);
	ends_with(CLD_KILLED, SIGTERM);
	make_script("closed", "#!/bin/sh\n[ ! -e /proc/self/fd/3 ] && [ ! -e /proc/self/fd/4 ]\n", 0700);
	by_stub(in_dir("closed")); /* neither the stub nor the report socket is left open */
	CHECK_EQ(start(), 0);
	ends_with(CLD_EXITED, 0);
}

/* oom_score_adj outlives execve, and nobody but the process itself writes it here */
static void labelled(const char *program, const char *file, const char *label)
{
	by_stub(program);
	plan.head.flags = 0; /* the label alone makes the stub needed */
	struct pc_op *ops = plan.ops[PC_CHILD];
	(void)hand_op(&plan, PC_CHILD, PC_OP_CLOSE_FDS); /* after it, as in every Plan */
	ops[1] = ops[0];
	ops[0].code = PC_OP_EXEC_LABEL;
	ops[0].s1 = hand_string(&plan, file);
	ops[0].s2 = hand_string(&plan, label);
}

static void the_stub_writes_the_label(void)
{
	if (geteuid() != 0) {
		SKIP("a procfs of its own needs root");
		return;
	}
	make_script("labelled", "#!/bin/sh\nread score </proc/self/oom_score_adj; for fd in 3 4 5; do [ ! -e /proc/self/fd/$fd ] || exit 1; done\n"
		"[ $score = 321 ]\n", 0700);
	labelled(in_dir("labelled"), "self/oom_score_adj", "321");
	CHECK_EQ(start(), 0);
	ends_with(CLD_EXITED, 0);
	labelled("/bin/true", "self/oom_score_adj", "no number");
	CHECK_EQ(start(), -EINVAL);
	CHECK_EQ(process.report.step, PC_STEP_LABEL);
	CHECK_EQ(process.report.err, EINVAL);
	labelled("/no/such/program", "self/no_such_file", "x"); /* seen at the op, before any look-up */
	CHECK_EQ(start(), -ENOENT);
	CHECK_EQ(process.report.step, PC_STEP_OP);
	CHECK_EQ(process.report.arg, 0);
}

static void why_it_did_not_start_is_said(void)
{
	static const struct {
		const char *text;
		mode_t mode;
		int err;
		enum pc_step step;
	} bad[] = {
		{"#!/no/such/interpreter\n", 0700, ENOENT, PC_STEP_EXEC},
		{"no program\n", 0700, ENOEXEC, PC_STEP_EXEC},
		{"#!/etc/passwd\n", 0700, EACCES, PC_STEP_EXEC},
		{"#!/bin/sh\n", 0600, EACCES, PC_STEP_LOOKUP},
	};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		make_script("bad", bad[i].text, bad[i].mode);
		by_stub(in_dir("bad"));
		CHECK_EQ(start(), -bad[i].err);
		CHECK_EQ(process.report.step, bad[i].step);
		CHECK_EQ(process.report.err, bad[i].err);
		CHECK_EQ(process.pidfd, -1);
	}
}

/* The report socket becomes fd 3 for the stub, which may itself be that, as may the socket. */
static void any_number_of_the_stub_will_do(void)
{
	int status;

	for (int number = 3; number < 7; number++) {
		pid_t pid = fork();
		if (pid == 0) {
			check_failures = 0;
			int high = fcntl(stub, F_DUPFD_CLOEXEC, 100);
			for (int fd = 3; fd < 100; fd++)
				(void)close(fd);
			stub = number == 6 ? high : dup3(high, number, O_CLOEXEC);
			by_stub("/bin/true");
			CHECK_EQ(start(), 0);
			ends_with(CLD_EXITED, 0);
			if (geteuid() == 0) {
				labelled(in_dir("labelled"), "self/oom_score_adj", "321");
				CHECK_EQ(start(), 0);
				ends_with(CLD_EXITED, 0);
			}
			by_stub("/etc/passwd");
			CHECK_EQ(start(), -EACCES);
			_exit(check_failures != 0);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
	}
}

static void a_stub_that_is_none(void)
{
	int32_t kept = stub;

	by_stub("/bin/true");
	stub = -1;
	CHECK_EQ(start(), -EBADF);
	CHECK_EQ(process.report.step, PC_STEP_EXEC);
	stub = kept;
}

/* --- id maps ------------------------------------------------------------------------------------------------------ */

static void read_map(const char *name, char *out, size_t room)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	long n = read(fd, out, room - 1);

	out[n > 0 ? n : 0] = '\0';
	(void)close(fd);
}

static int has_maps(int ns, const char *wanted_uids, const char *wanted_gids)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		char uids[256], gids[256];
		if (setns(ns, CLONE_NEWUSER) < 0)
			_exit(2);
		read_map("/proc/self/uid_map", uids, sizeof uids);
		read_map("/proc/self/gid_map", gids, sizeof gids);
		_exit(strcmp(uids, wanted_uids) != 0 || strcmp(gids, wanted_gids) != 0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return status == 0;
}

static void maps_are_as_asked_for(void)
{
	if (geteuid() != 0) {
		SKIP("maps of several ids need root");
		return;
	}
	int ns = pc_make_userns("0 100000 65536\n", "0 200000 1000\n1000 5 1\n");
	CHECK(ns >= 0);
	CHECK(fcntl(ns, F_GETFD) & FD_CLOEXEC);
	CHECK(has_maps(ns, "         0     100000      65536\n", "         0     200000       1000\n      1000          5          1\n"));
	(void)close(ns);
}

static void bad_maps_leave_nothing(void)
{
	static const char *const bad[] = {"", "\n", "0 0", "0 0 0\n", "x", "0 0 1\n0 5 1\n", "0 0 1\n5 0 1\n",
					  "4294967295 0 1\n", "0 4294967295 2\n", "-1 0 1\n", "0 0 4294967296\n"};
	static const char good[] = "0 100000 1\n";

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		CHECK_EQ(pc_make_userns(bad[i], good), -EINVAL);
		CHECK_EQ(pc_make_userns(good, bad[i]), -EINVAL);
	}
	CHECK(waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno == ECHILD);
}

/* usage: test_sealed PYCONTAIN-EXEC */
int main(int argc, char **argv)
{
	static const char *const made[] = {"script", "killed", "closed", "labelled", "bad"};

	if (argc != 2 || mkdtemp(dir) == NULL)
		return 2;
	(void)signal(SIGPIPE, SIG_IGN);
	source = argv[1];
	stub = pc_sealed_copy(source);
	CHECK(stub > 2);
	int before = count_fds();
	RUN(nobody_can_change_it);
	RUN(it_is_a_copy);
	RUN(programs_start_by_it);
	RUN(the_stub_writes_the_label);
	RUN(why_it_did_not_start_is_said);
	RUN(any_number_of_the_stub_will_do);
	RUN(a_stub_that_is_none);
	RUN(maps_are_as_asked_for);
	RUN(bad_maps_leave_nothing);
	for (size_t i = 0; i < sizeof made / sizeof *made; i++)
		(void)unlink(in_dir(made[i]));
	CHECK_EQ(rmdir(dir), 0);
	check_test = "the end";
	CHECK_EQ(count_fds(), before);
	CHECK(waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
	return check_result();
}
