/* The words of a job: argv, envp, those of the stub and of hooks. Pointers into the Plan's own strings; no libc. */
#include "job.h"
#include "stub.h"

static void fill_pointers(const struct pc_plan *plan, uint32_t off, uint32_t count, char **out)
{
	const char *s = pc_str(plan, off);

	for (uint32_t i = 0; i < count; i++, s = pc_next(s))
		out[i] = (char *)(uintptr_t)s;
	out[count] = NULL;
}

static bool is_stubs_hook(const struct pc_op *op)
{
	return op->code == PC_OP_HOOK && op->x != PC_SYNC_CREATE_CONTAINER;
}

/* The words for the stub, as stub.h has them, but for the program's path. */
static void fill_stub_words(const struct pc_plan *plan, char **out)
{
	char *none = (char *)(uintptr_t)pc_str(plan, 0), **word = out + PC_STUB_HOOKS;

	out[PC_STUB_LABEL_FILE] = out[PC_STUB_LABEL] = none;
	for (uint32_t i = 0; i < plan->head.n_ops[PC_CHILD]; i++) {
		const struct pc_op *op = &plan->ops[PC_CHILD][i];
		if (op->code == PC_OP_EXEC_LABEL) {
			out[PC_STUB_LABEL_FILE] = (char *)(uintptr_t)pc_str(plan, op->s1);
			out[PC_STUB_LABEL] = (char *)(uintptr_t)pc_str(plan, op->s2);
		} else if (is_stubs_hook(op)) {
			*word++ = (char *)(uintptr_t)pc_str(plan, op->s1);
			fill_pointers(plan, op->s3, op->n, word);
			word += op->n;
		}
	}
	*word = none;
}

static size_t stub_room(const struct pc_plan *plan, size_t *hook)
{
	size_t stub = PC_STUB_HOOKS + 2;

	*hook = 0;
	for (uint32_t i = 0; i < plan->head.n_ops[PC_CHILD]; i++) {
		const struct pc_op *op = &plan->ops[PC_CHILD][i];
		if (is_stubs_hook(op))
			stub += op->n + 1;
		else if (op->code == PC_OP_HOOK && op->n > *hook)
			*hook = op->n;
	}
	return stub;
}

size_t pc_words_room(const struct pc_plan *plan)
{
	size_t hook, stub = stub_room(plan, &hook);

	return stub + plan->head.argc + 1 + plan->head.envc + 1 + PC_STUB_HOOKS + 1 + hook + 2;
}

/* The last one counts. */
static const char *path_of(char **envp)
{
	static const char name[] = "PATH=";
	const char *found = NULL;

	for (; *envp != NULL; envp++) {
		size_t n = 0;
		while (name[n] != '\0' && (*envp)[n] == name[n])
			n++;
		if (name[n] == '\0')
			found = *envp + n;
	}
	return found;
}

/* argv after the stub's words, envp, the words of a hook. */
void pc_fill_words(struct pc_job *job, char **room)
{
	const struct pc_plan *plan = &job->plan;
	size_t hook, stub = stub_room(plan, &hook);

	job->stub_argv = room;
	job->argv = job->stub_argv + stub;
	job->envp = job->argv + plan->head.argc + 1;
	job->hook_argv = job->envp + plan->head.envc + 1;
	fill_stub_words(plan, job->stub_argv);
	fill_pointers(plan, plan->head.argv_off, plan->head.argc, job->argv);
	fill_pointers(plan, plan->head.env_off, plan->head.envc, job->envp);
	job->search_path = path_of(job->envp);
}
