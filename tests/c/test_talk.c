/* The parent's side of a conversation, with a child that says what it should not: a script of messages, sent at once. */
#include "check.h"
#include "job.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_SCRIPT 6

struct script {
	struct pc_report say[MAX_SCRIPT]; /* up to one with step NONE and err 0 */
	bool hang_up;
	uint32_t flags;
	enum pc_talk how;
	int result;
	enum pc_step step; /* of the report; NONE: there is none */
	int calls;
};

static int calls;

static int32_t count(void *context, uint32_t what, int32_t pid, int32_t fd)
{
	(void)context, (void)what, (void)pid, (void)fd;
	calls++;
	return 0;
}

static const struct pc_op ops[] = {{.code = PC_OP_UMASK}, {.code = PC_OP_SYNC, .x = PC_SYNC_CREATE_RUNTIME}};

#define READY {.step = PC_STEP_READY}
#define END {.step = PC_STEP_END}
#define ASK {.step = PC_STEP_ASK, .section = PC_CHILD, .arg = 1}
#define ASK_OF(op) {.step = PC_STEP_ASK, .section = PC_CHILD, .arg = (op)}
#define FORKED {.step = PC_STEP_FORKED, .err = 1}
#define EXEC {.step = PC_STEP_EXEC, .err = ENOENT, .section = PC_CHILD}
#define FAILED {.step = PC_STEP_OP, .err = EIO, .section = PC_CHILD, .arg = 1}

static const struct script scripts[] = {
	/* in order */
	{{READY}, true, 0, PC_TALK_WAIT, 0, PC_STEP_NONE, 0},
	{{READY}, false, PC_PLAN_GATED, PC_TALK_WAIT, 0, PC_STEP_NONE, 0},
	{{READY}, false, 0, PC_TALK_DRAIN, 0, PC_STEP_NONE, 0},
	{{ASK, READY}, true, 0, PC_TALK_WAIT, 0, PC_STEP_NONE, 1},
	{{ASK, ASK, READY}, false, 0, PC_TALK_SERVE, 0, PC_STEP_NONE, 2},
	{{END}, false, 0, PC_TALK_SERVE, 0, PC_STEP_NONE, 0}, /* whatever it was: what follows tells */
	{{READY, END}, false, 0, PC_TALK_DRAIN, 0, PC_STEP_NONE, 0},
	{{END, READY}, false, 0, PC_TALK_DRAIN, 0, PC_STEP_NONE, 0},
	{{READY, END}, true, 0, PC_TALK_WAIT, 0, PC_STEP_NONE, 0},
	/* failures */
	{{FAILED}, false, 0, PC_TALK_WAIT, -EIO, PC_STEP_OP, 0},
	{{ASK, FAILED}, false, 0, PC_TALK_SERVE, -EIO, PC_STEP_OP, 1},
	{{READY, EXEC}, false, 0, PC_TALK_WAIT, -ENOENT, PC_STEP_EXEC, 0},
	{{READY, EXEC, END}, false, 0, PC_TALK_DRAIN, -ENOENT, PC_STEP_EXEC, 0},
	/* silence */
	{{{0}}, true, 0, PC_TALK_WAIT, -ECHILD, PC_STEP_KILLED, 0},
	{{{0}}, false, 0, PC_TALK_DRAIN, -ECHILD, PC_STEP_KILLED, 0},
	{{{0}}, false, 0, PC_TALK_WAIT, -ETIMEDOUT, PC_STEP_DEADLINE, 0},
	{{{0}}, false, 0, PC_TALK_SERVE, -ETIMEDOUT, PC_STEP_DEADLINE, 0},
	{{READY}, false, 0, PC_TALK_WAIT, -ETIMEDOUT, PC_STEP_DEADLINE, 0},
	{{ASK}, true, 0, PC_TALK_WAIT, -ECHILD, PC_STEP_KILLED, 1}, /* killed at its question: the answer finds nobody */
	{{END}, true, 0, PC_TALK_WAIT, -ECHILD, PC_STEP_KILLED, 0},
	/* what no child of ours says */
	{{ASK_OF(0), READY}, true, 0, PC_TALK_WAIT, 0, PC_STEP_NONE, 0}, /* an op that asks nothing: the answer is an error */
	{{ASK_OF(2), READY}, true, 0, PC_TALK_WAIT, 0, PC_STEP_NONE, 0},
	{{ASK_OF(UINT32_MAX), READY}, true, 0, PC_TALK_WAIT, 0, PC_STEP_NONE, 0},
	{{FORKED}, false, 0, PC_TALK_WAIT, -EBADMSG, PC_STEP_PROTOCOL, 0}, /* without a pidfd */
	{{{.step = UINT32_MAX}}, false, 0, PC_TALK_WAIT, -EBADMSG, PC_STEP_COUNT, 0},
	{{{.step = PC_STEP_OP, .err = -5}}, false, 0, PC_TALK_WAIT, -EBADMSG, PC_STEP_OP, 0},
	/* after READY whoever has the socket may be another container's: nothing is done for him */
	{{READY, ASK}, false, 0, PC_TALK_WAIT, -EBADMSG, PC_STEP_PROTOCOL, 0},
	{{READY, FORKED}, false, 0, PC_TALK_WAIT, -EBADMSG, PC_STEP_PROTOCOL, 0},
	{{READY, {.step = PC_STEP_TTY}}, false, 0, PC_TALK_WAIT, -EBADMSG, PC_STEP_PROTOCOL, 0},
	{{READY, READY}, false, 0, PC_TALK_WAIT, -EBADMSG, PC_STEP_PROTOCOL, 0},
};

static void play(const struct script *s, struct pc_job *job, struct pc_process *out, bool *ready)
{
	int pair[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	*job = (struct pc_job){.parent_sock = pair[0], .sock = pair[1], .pidfd = -1, .sync = count, .tid = getpid()};
	job->plan.head.flags = s->flags;
	job->plan.head.n_ops[PC_CHILD] = 2;
	job->plan.ops[PC_CHILD] = ops;
	*out = (struct pc_process){.tty_fd = -1};
	for (int i = 0; i < MAX_SCRIPT && (s->say[i].step || s->say[i].err); i++)
		CHECK_EQ(write(pair[1], &s->say[i], sizeof s->say[i]), sizeof s->say[i]);
	if (s->hang_up)
		(void)close(pair[1]);
	*ready = false;
	calls = 0;
	CHECK_EQ(pc_talk(job, s->how, sys_now_ns() + 20000000, ready, out), s->result);
	(void)close(pair[0]);
	if (!s->hang_up)
		(void)close(pair[1]);
}

static void scripts_are_understood(void)
{
	for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
		const struct script *s = &scripts[i];
		struct pc_job job;
		struct pc_process out;
		bool ready;
		int before = check_failures;

		play(s, &job, &out, &ready);
		CHECK_EQ(calls, s->calls);
		if (s->step != PC_STEP_COUNT) /* one that does not exist is passed on */
			CHECK_EQ(out.report.step, s->step);
		if (check_failures > before)
			(void)fprintf(stderr, "script %zu\n", i);
	}
}

/* The kernel says ECONNRESET instead of the end of file. */
static void a_child_that_ends_with_an_answer_unread_was_killed(void)
{
	int pair[2];
	bool ready = false;
	struct pc_process out = {.tty_fd = -1};

	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	struct pc_job job = {.parent_sock = pair[0], .sock = pair[1], .pidfd = -1};
	CHECK_EQ(write(pair[0], "0000", 4), 4);
	(void)close(pair[1]);
	CHECK_EQ(pc_talk(&job, PC_TALK_WAIT, sys_now_ns() + 1000000000, &ready, &out), -ECHILD);
	CHECK_EQ(out.report.step, PC_STEP_KILLED);
	(void)close(pair[0]);
}

static void a_message_of_another_size_is_none(void)
{
	static const char text[64] = "";

	for (size_t n = 1; n < sizeof text; n++) {
		int pair[2];
		bool ready = false;
		struct pc_process out = {.tty_fd = -1};
		CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
		struct pc_job job = {.parent_sock = pair[0], .sock = pair[1], .pidfd = -1};
		CHECK_EQ(write(pair[1], text, n), n);
		/* 16 zero bytes are a message that says nothing, and longer ones are cut */
		CHECK_EQ(pc_talk(&job, PC_TALK_WAIT, sys_now_ns() + 1000000000, &ready, &out), -EBADMSG);
		(void)close(pair[0]);
		(void)close(pair[1]);
	}
}

/* fds that come along where none is expected are closed. */
static void fds_are_not_collected(void)
{
	static const enum pc_step steps[] = {PC_STEP_READY, PC_STEP_ASK, PC_STEP_END, PC_STEP_TTY, PC_STEP_OP};
	int first = dup(0);

	(void)close(first);
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		int pair[2];
		bool ready = false;
		struct pc_process out = {.tty_fd = -1};
		CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
		struct pc_job job = {.parent_sock = pair[0], .sock = pair[1], .pidfd = -1, .sync = count};
		struct pc_child child = {.job = &job};
		for (int n = 0; n < 3; n++)
			CHECK(pc_child_send(&child, steps[i], 0, 0) > 0);
		(void)close(pair[1]);
		(void)pc_talk(&job, PC_TALK_WAIT, sys_now_ns() + 1000000000, &ready, &out);
		fd_close(&out.tty_fd);
		(void)close(pair[0]);
	}
	int last = dup(0);
	CHECK_EQ(last, first);
	(void)close(last);
}

int main(void)
{
	(void)signal(SIGPIPE, SIG_DFL);
	RUN(scripts_are_understood);
	RUN(a_child_that_ends_with_an_answer_unread_was_killed);
	RUN(a_message_of_another_size_is_none);
	RUN(fds_are_not_collected);
	return check_result();
}
