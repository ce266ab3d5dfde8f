/* Any bytes as a Plan: refused with an offset inside them, or accepted and then safe to walk as the executors would. */
#include "plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile size_t sink;

static void walk_list(const struct pc_plan *plan, uint32_t off, uint32_t n)
{
	const char *s = pc_str(plan, off);

	for (uint32_t i = 0; i < n; i++, s = pc_next(s))
		sink += strlen(s);
}

/* Reads every byte that an executor may read: a sanitizer then sees what the decoder should have refused. */
static void walk(const struct pc_plan *plan)
{
	static const uint16_t with_list[] = {PC_OP_OVERLAY, PC_OP_FS_MAKE};
	static const uint16_t with_blob[] = {PC_OP_CGROUP_DEVICES, PC_OP_WRITE_FILE, PC_OP_IDS, PC_OP_SECCOMP,
					     PC_OP_LISTENER, PC_OP_SCHEDULER, PC_OP_MEMORY_POLICY};

	if (plan->head.stub_slot >= (int32_t)plan->head.n_slots || plan->head.cgroup_slot >= (int32_t)plan->head.n_slots)
		abort();
	walk_list(plan, plan->head.argv_off, plan->head.argc);
	walk_list(plan, plan->head.env_off, plan->head.envc);
	for (int s = 0; s < PC_SECTIONS; s++)
		for (uint32_t i = 0; i < plan->head.n_ops[s]; i++) {
			const struct pc_op *op = &plan->ops[s][i];
			sink += strlen(pc_str(plan, op->s1)) + strlen(pc_str(plan, op->s2)) + strlen(pc_str(plan, op->s3));
			if (op->slot >= 0 && (uint32_t)op->slot >= PC_MAX_SLOTS)
				abort();
			if (op->code == PC_OP_MOUNT)
				sink += strlen(pc_str(plan, op->n));
			if (pc_op_asks(op->code) && !plan->asks)
				abort();
			if (op->code == PC_OP_FORK && (plan->head.flags & PC_PLAN_SHARE_VM))
				abort();
			for (size_t k = 0; k < sizeof with_list / sizeof *with_list; k++)
				if (op->code == with_list[k])
					walk_list(plan, op->s3, op->n);
			for (size_t k = 0; k < sizeof with_blob / sizeof *with_blob; k++)
				for (uint32_t b = 0; op->code == with_blob[k] && b < op->n; b++)
					sink += (unsigned char)pc_str(plan, op->s3)[b];
		}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pc_plan plan;
	uint32_t where = 0, again = 0;
	uint8_t *copy = malloc(size ? size : 1); /* aligned, and of exactly that size */

	if (copy == NULL)
		return 0;
	if (size > 0)
		memcpy(copy, data, size);
	int err = pc_plan_decode(copy, size, &plan, &where);
	if (err != 0 && err != -EBADMSG)
		abort();
	if (err != 0 && where != 0 && where >= size)
		abort();
	if (pc_plan_check(data, size, &again) != err || again != where)
		abort();
	if (err == 0)
		walk(&plan);
	free(copy);
	return 0;
}
