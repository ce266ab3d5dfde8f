/* What the process is to the scheduler, the memory and the key management. Child half. */
#include "job.h"

#include <errno.h>

/* The kernel's struct grows at its end; its own size field tells how much of it there is. */
int pc_do_scheduler(struct pc_child *c, const struct pc_op *op)
{
	uint32_t size;

	if (op->n < sizeof size)
		return -EINVAL;
	__builtin_memcpy(&size, op_s3(c, op), sizeof size);
	if (size > op->n)
		return -EINVAL;
	return sys_sched_setattr(op_s3(c, op));
}

int pc_do_io_priority(struct pc_child *c, const struct pc_op *op)
{
	(void)c;
	return sys_ioprio_set((int)op->x);
}

int pc_do_personality(struct pc_child *c, const struct pc_op *op)
{
	int before = sys_personality(op->x);

	(void)c;
	return before < 0 ? before : 0;
}

int pc_do_memory_policy(struct pc_child *c, const struct pc_op *op)
{
	if (op->n % sizeof(unsigned long) != 0) /* it reads whole words */
		return -EINVAL;
	/* the kernel takes one bit fewer than it is told */
	return sys_set_mempolicy((int)op->x, op->n ? op_s3(c, op) : NULL, op->n ? op->n * 8ul + 1 : 0);
}

/* The caller's session keyring would come along otherwise, and with it what is in it. */
int pc_do_keyring(struct pc_child *c, const struct pc_op *op)
{
	int id = sys_keyctl_join(op_s1(c, op));

	return id == -ENOSYS ? 0 : id < 0 ? id : 0; /* ENOSYS: a kernel without keyrings has none to pass on */
}
