/* Seccomp: names of system calls, by libseccomp. Parent half. */
#include "pycontain.h"

#include <dlfcn.h>
#include <limits.h>
#include <stddef.h>

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
