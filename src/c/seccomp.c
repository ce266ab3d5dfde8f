/* Seccomp: load a compiled filter (child half); names of system calls (parent half, by libseccomp). */
#include "job.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
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

/* Loaded only when a filter has to be compiled, which the cache makes rare: linking it would cost every start. */
PC_EXPORT int pc_seccomp_resolve(const char *name, uint32_t audit_arch)
{
	static int (*resolve)(uint32_t, const char *);

	if (resolve == NULL) {
		void *lib = dlopen("libseccomp.so.2", RTLD_NOW | RTLD_LOCAL);
		if (lib == NULL)
			return INT_MIN;
		union { /* ISO C has no cast from data to function */
			void *data;
			int (*function)(uint32_t, const char *);
		} symbol = {.data = dlsym(lib, "seccomp_syscall_resolve_name_arch")};
		if (symbol.data == NULL)
			return INT_MIN;
		resolve = symbol.function;
	}
	return resolve(audit_arch, name);
}
