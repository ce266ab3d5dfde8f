/* One hook, from its words to its end. Part of pycontain-exec: memory of the stub's own, and no libc.
 *
 * It reads the container's state and may say something, whose last words are kept for the report. Until it has ended nothing
 * else happens here; after its time it is killed. When this process ends, so does it.
 */
#include "sys.h"

#include "report.h"
#include "stub.h"

#include <errno.h>
#include <linux/prctl.h>
#include <poll.h>
#include <sched.h>
#include <sys/wait.h>

#define LAST_WORDS 512

struct hook {
	char *path;
	uint32_t op;
	uint64_t timeout_ms; /* 0: none */
	char **argv, **envp; /* NULL ends each */
	int pidfd;
	int says;   /* read end of its standard output and error */
	int failed; /* read end: an errno when it could not be executed */
};

static uint64_t number(const char *digits)
{
	uint64_t n = 0;

	for (; *digits >= '0' && *digits <= '9'; digits++)
		n = n * 10 + (uint64_t)(*digits - '0');
	return n;
}

/* The words become two lists by moving them up: over the four before them, and over the end of the first. */
static char **parse(struct hook *h, char **word)
{
	const uint64_t argc = number(word[PC_HOOK_ARGC]), envc = number(word[PC_HOOK_ENVC]);
	char **from = word + PC_HOOK_WORDS;

	h->path = word[PC_HOOK_PATH];
	h->op = (uint32_t)number(word[PC_HOOK_OP]);
	h->timeout_ms = number(word[PC_HOOK_TIMEOUT]);
	h->argv = word;
	for (uint64_t i = 0; i < argc; i++)
		h->argv[i] = *from++;
	h->argv[argc] = NULL;
	h->envp = h->argv + argc + 1;
	for (uint64_t i = 0; i < envc; i++)
		h->envp[i] = *from++;
	h->envp[envc] = NULL;
	return from;
}

static void __attribute__((noreturn)) become(const struct hook *h, char *const label[2], int says, int failed)
{
	int err = sys_prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0);

	if (err == 0)
		err = sys_dup3(PC_STUB_STATE, 0, 0);
	if (err >= 0)
		err = sys_dup3(says, 1, 0);
	if (err >= 0)
		err = sys_dup3(says, 2, 0);
	if (err >= 0 && label[PC_STUB_LABEL_FILE][0] != '\0')
		err = pc_write_label(label[PC_STUB_LABEL_FILE], label[PC_STUB_LABEL]);
	if (err >= 0)
		err = sys_execve(h->path, h->argv, h->envp);
	(void)sys_write(failed, &err, sizeof err);
	sys_exit_group(127);
}

/* fork and not clone3: many a filter does not know that one. */
static int begin(struct hook *h, char *const label[2])
{
	int says[2], failed[2];
	long at = PC_SYS3(SYS_lseek, PC_STUB_STATE, 0, SEEK_SET);
	int err = at < 0 ? (int)at : (int)PC_SYS2(SYS_pipe2, says, O_CLOEXEC);

	if (err < 0)
		return err;
	if ((err = (int)PC_SYS2(SYS_pipe2, failed, O_CLOEXEC)) == 0) {
		long pid = PC_SYS5(SYS_clone, SIGCHLD | CLONE_PIDFD, 0, &h->pidfd, 0, 0);
		if (pid == 0)
			become(h, label, says[1], failed[1]);
		err = pid < 0 ? (int)pid : 0;
		(void)sys_close(failed[1]);
		h->failed = failed[0];
	}
	(void)sys_close(says[1]);
	h->says = says[0];
	if (err == 0) /* what still holds the other end when the hook has ended must not hold us up */
		err = sys_fcntl(h->says, F_SETFL, O_NONBLOCK);
	return err;
}

struct words {
	char last[LAST_WORDS];
	size_t n;
};

/* What read(2) answered. */
static long hear(int from, struct words *w)
{
	char chunk[4096];
	long n = sys_read(from, chunk, sizeof chunk);

	for (long i = n > LAST_WORDS ? n - LAST_WORDS : 0; i < n; i++) {
		if (w->n == LAST_WORDS) {
			for (size_t k = 0; k < LAST_WORDS / 2; k++)
				w->last[k] = w->last[k + LAST_WORDS / 2];
			w->n = LAST_WORDS / 2;
		}
		w->last[w->n++] = chunk[i];
	}
	return n;
}

/* Waits for its end. 0: it has ended; -ETIMEDOUT: it was killed. */
static int attend(struct hook *h, struct words *w)
{
	const uint64_t until = h->timeout_ms ? sys_now_ns() + h->timeout_ms * 1000000u : 0;
	struct pollfd fds[2] = {{.fd = h->pidfd, .events = POLLIN}, {.fd = h->says, .events = POLLIN}};
	int expired = 0;

	for (;;) {
		uint64_t now = until ? sys_now_ns() : 0;
		if (until && now >= until && !expired) {
			(void)sys_pidfd_send_signal(h->pidfd, 9);
			expired = -ETIMEDOUT;
		}
		uint64_t left = until > now ? until - now : 0;
		struct timespec ts = {.tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u)};
		int n = sys_ppoll(fds, 2, until && !expired ? &ts : NULL);
		if (n < 0 && n != -EINTR)
			return n;
		if (n > 0 && fds[1].revents && hear(h->says, w) == 0)
			fds[1].fd = -1;
		if (n > 0 && fds[0].revents)
			return expired;
	}
}

/* What a step's `err` is for one that ended by itself: its status, or 256 and its signal. */
static int status_of(const siginfo_t *info)
{
	return info->si_code == CLD_EXITED ? info->si_status : 256 + info->si_status;
}

int pc_run_hook(char ***word, char *const label[2], struct pc_report *r)
{
	struct hook h = {.pidfd = -1, .says = -1, .failed = -1};
	struct words w = {.n = 0};
	siginfo_t info = {.si_pid = 0};
	int why = 0;

	*word = parse(&h, *word);
	r->arg = h.op;
	r->step = PC_STEP_HOOK_RUN;
	int err = begin(&h, label);
	int waited = err == 0 ? attend(&h, &w) : 0;
	if (err == 0 && waited < 0 && waited != -ETIMEDOUT)
		(void)sys_pidfd_send_signal(h.pidfd, 9);
	while (err == 0 && (err = sys_waitid(P_PIDFD, h.pidfd, &info, WEXITED | __WALL, NULL)) == -EINTR)
		err = 0;
	for (int i = 0; i < 16 && h.says >= 0 && hear(h.says, &w) > 0; i++)
		; /* what it said last: a pipe holds no more than that */
	if (err == 0 && sys_read(h.failed, &why, sizeof why) == sizeof why)
		err = why;
	if (err == 0 && waited < 0) {
		r->step = waited == -ETIMEDOUT ? PC_STEP_HOOK_TIMEOUT : PC_STEP_HOOK_RUN;
		err = waited;
	}
	if (err == 0 && status_of(&info) != 0) {
		r->step = PC_STEP_HOOK_STATUS;
		err = -status_of(&info);
	}
	if (err < 0 && w.n > 0)
		(void)sys_write(PC_STUB_SAID, w.last, w.n); /* without them the report is poorer */
	(void)sys_close(h.pidfd);
	(void)sys_close(h.says);
	(void)sys_close(h.failed);
	return err;
}
