/* Seccomp: load a compiled filter. Child half. */
#include "job.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

int pc_load_filter(struct pc_child *c, const struct pc_op *op)
{
	struct sock_fprog prog = {
		.len = (unsigned short)(op->n / sizeof(struct sock_filter)),
		.filter = (struct sock_filter *)(uintptr_t)op_s3(c, op),
	};

	if (op->n == 0 || op->n % sizeof(struct sock_filter) != 0 || op->n / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return -EINVAL;
	return sys_seccomp(SECCOMP_SET_MODE_FILTER, (unsigned)op->x, &prog);
}

int pc_do_seccomp(struct pc_child *c, const struct pc_op *op)
{
	return pc_load_filter(c, op);
}
