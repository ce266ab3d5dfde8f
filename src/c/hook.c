/* Hooks in the container's namespaces. Child half.
 *
 * One before pivot_root is executed here and now, by the stub, in a process that sees the root before the container's. Those
 * before the program are the stub's too, once it has taken this process's place: then they have the program's own user, powers
 * and filter. The engine joins nothing for them, and what they are told is made ready before (2016-9962).
 */
#include "job.h"
#include "stub.h"

#include <errno.h>
#include <linux/prctl.h>
#include <sys/wait.h>

#define STACK 16384

struct runner {
	struct pc_child *c;
	const struct pc_op *op;
	int result; /* of what failed before or in execveat */
};

static int become_runner(struct runner *r)
{
	struct pc_child *c = r->c;
	const uint64_t no_signals = 0;
	int stub = op_slot(c, c->job->plan.head.stub_slot);
	const struct pc_left left[] = {
		{c->job->sock, PC_STUB_REPORT},
		{op_slot(c, r->op->slot), PC_STUB_STATE},
		{op_slot(c, r->op->slot2), PC_STUB_SAID},
	};
	int err = sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);

	/* to where this process came from, for the hook's own path; then to where the container's root is mounted there */
	if (err == 0 && ((err = sys_fchdir(c->old_root_fd)) < 0 || (err = sys_chroot(".")) < 0 || (err = sys_fchdir(c->root_fd)) < 0))
		return err;
	if (err == 0)
		err = pc_leave_open(left, sizeof left / sizeof *left, &stub);
	if (err == 0)
		err = pc_close_all_but(PC_STUB_SAID + 1, &stub, 1);
	if (err < 0)
		return err;
	(void)sys_sigprocmask(SIG_SETMASK, &no_signals); /* cannot fail with these arguments */
	char *const no_env[] = {NULL};
	return sys_execveat(stub, "", c->job->hook_argv, no_env, AT_EMPTY_PATH);
}

static void runner_main(void *arg)
{
	struct runner *r = arg;

	r->result = become_runner(r);
	sys_exit_group(127);
}

static void fill_words(struct pc_child *c, const struct pc_op *op)
{
	char *none = (char *)(uintptr_t)pc_str(&c->job->plan, 0), **word = c->job->hook_argv;
	const char *s = op_s3(c, op);

	*word++ = none; /* no label: what creates the container is not the program */
	*word++ = none;
	*word++ = (char *)(uintptr_t)op_s1(c, op);
	for (uint32_t i = 0; i < op->n; i++, s = pc_next(s))
		*word++ = (char *)(uintptr_t)s;
	*word++ = none;
	*word = NULL;
}

/* The stub says itself what went wrong in the hook: this process then only ends. */
static int run_now(struct pc_child *c, const struct pc_op *op)
{
	_Alignas(16) char stack[STACK];
	struct runner runner = {.c = c, .op = op};
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_VFORK,
		.exit_signal = SIGCHLD,
		.stack = (uint64_t)(uintptr_t)stack,
		.stack_size = sizeof stack,
	};
	siginfo_t info;
	int err = pc_close_what_is_others(c);

	if (err < 0)
		return err;
	fill_words(c, op);
	long pid = pc_clone3(&args, sizeof args, runner_main, &runner);
	if (pid < 0)
		return at_step(c, PC_STEP_HOOK_RUN, (int)pid);
	while ((err = sys_waitid(P_PID, (int)pid, &info, WEXITED | __WALL, NULL)) == -EINTR)
		;
	if (err == 0 && runner.result < 0)
		err = runner.result;
	if (err == 0 && info.si_code == CLD_EXITED && info.si_status != 0)
		sys_exit_group(127);
	return at_step(c, PC_STEP_HOOK_RUN, err < 0 ? err : info.si_code == CLD_EXITED ? 0 : -ECHILD);
}

int pc_do_hook(struct pc_child *c, const struct pc_op *op)
{
	if (op->x == PC_SYNC_CREATE_CONTAINER)
		return run_now(c, op);
	c->hook = op; /* all of them have the same slots */
	return 0;
}
