/* pycontain-launch: one start of a container, or one clean-up after it; then it ends. For a monitor, which never executes a Plan
 * itself: it has no libc, and should hold no more memory than a sleeper needs.
 *
 *   pycontain-launch start PLAN_FILE FD...    the Plan's given slots in order, -1 for an empty one
 *   pycontain-launch check PLAN_FILE FD...    the same of a Plan that joins a container, unless somebody holds that still just now
 *   pycontain-launch finish PLAN_FILE
 *
 * The container becomes a child of this process's parent. The answer (launch.h) goes to fd 3, a socket that keeps messages whole.
 * When nobody is there to hear it, what was started is ended and removed: that parent may die at any moment, before the
 * container has asked for its death by PR_SET_PDEATHSIG, too. But then the socket is closed: the kernel closes a dying process's
 * files before it tells its children. So it must not itself die with its parent; it may inherit a lock that says it is at work.
 */
#include "launch.h"

#include "fd.h"
#include "plan.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define DEADLINE_NS 60000000000u /* for a file system that does not answer; as in runtime/running.py */

struct bytes {
	uint8_t *data;
	uint64_t len;
};

/* 0, or -errno */
static int read_all(const char *path, struct bytes *out)
{
	struct stat st;
	scoped_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size <= 0 || st.st_size > PC_PLAN_MAX)
		return -EBADMSG;
	out->data = malloc((size_t)st.st_size);
	if (out->data == NULL)
		return -ENOMEM;
	while (out->len < (uint64_t)st.st_size) {
		ssize_t n = read(fd, out->data + out->len, (size_t)st.st_size - out->len);
		if (n <= 0)
			return n == 0 ? -EBADMSG : -errno; /* it has become shorter */
		out->len += (uint64_t)n;
	}
	return 0;
}

static int answer(const struct pc_launch_answer *a, int tty)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {.bytes = {0}};
	struct iovec iov = {(void *)(uintptr_t)a, sizeof *a};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (tty >= 0) {
		control.align = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof tty), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(&control.align), &tty, sizeof tty);
		msg.msg_control = &control;
		msg.msg_controllen = sizeof control;
	}
	return sendmsg(PC_LAUNCH_ANSWER, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof *a ? 0 : -1;
}

static void undo(const struct bytes *plan, int pidfd)
{
	struct pollfd ended = {.fd = pidfd, .events = POLLIN};
	struct pc_usage usage;
	struct pc_report report;

	(void)sys_pidfd_send_signal(pidfd, SIGKILL);
	while (poll(&ended, 1, -1) < 0 && errno == EINTR)
		;
	(void)pc_finish(plan->data, plan->len, NULL, &usage, &report); /* nobody to tell */
}

static int start(const struct bytes *plan, char **words, uint32_t n)
{
	int32_t fds[PC_MAX_SLOTS];
	struct pc_launch_answer a = {.err = EINVAL, .report = {.step = PC_STEP_SLOTS, .err = EINVAL, .arg = n}};
	struct pc_process p;

	if (n > PC_MAX_SLOTS)
		return answer(&a, -1);
	for (uint32_t i = 0; i < n; i++)
		fds[i] = (int32_t)strtol(words[i], NULL, 10);
	const struct pc_start_args args = {
		.plan = plan->data, .plan_len = plan->len, .fds = fds, .n_fds = n, .sibling = 1,
		.deadline_ns = sys_now_ns() + DEADLINE_NS,
	};
	a.err = -pc_start(&args, &p);
	a.report = p.report;
	a.pid = a.err == 0 ? p.pid : -1;
	if (answer(&a, p.tty_fd) == 0)
		return 0;
	if (a.err == 0)
		undo(plan, p.pidfd);
	return -1;
}

/* As every exec does, so that none slips out of a freeze (runtime/stillness.py): who pauses the container, or makes an image of
 * it, holds the lock of its layer. In the working directory, which is the container's. */
static int hold_off_pause(void)
{
	int fd = open("layer", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) < 0)
		return -errno;
	return 0; /* the end of this process lets it go */
}

static int finish(const struct bytes *plan)
{
	struct pc_launch_answer a = {.pid = -1};

	a.err = -pc_finish(plan->data, plan->len, NULL, &a.usage, &a.report);
	return answer(&a, -1);
}

int main(int argc, char **argv)
{
	const bool checks = argc >= 3 && strcmp(argv[1], "check") == 0;
	const bool starts = checks || (argc >= 3 && strcmp(argv[1], "start") == 0);
	struct bytes plan = {.len = 0};

	if (!starts && (argc != 3 || strcmp(argv[1], "finish") != 0)) {
		static const char usage[] = "usage: pycontain-launch start|check PLAN_FILE FD... | pycontain-launch finish PLAN_FILE\n";
		(void)!write(2, usage, sizeof usage - 1);
		return 2;
	}
	(void)sys_close_range(3, ~0U, CLOSE_RANGE_CLOEXEC); /* what came over our execve goes no further */
	int err = checks ? hold_off_pause() : 0;
	if (err == -EAGAIN) {
		const struct pc_launch_answer later = {.err = EAGAIN, .pid = -1};
		return answer(&later, -1) < 0;
	}
	if (err == 0)
		err = read_all(argv[2], &plan);
	(void)chdir("/"); /* the path may have been relative to its directory, which nobody here is to keep busy */
	if (err < 0) {
		const struct pc_launch_answer a = {.err = -err, .pid = -1, .report = {.step = PC_STEP_PLAN_FILE, .err = -err}};
		return answer(&a, -1) < 0;
	}
	return (starts ? start(&plan, argv + 3, (uint32_t)(argc - 3)) : finish(&plan)) < 0;
}
