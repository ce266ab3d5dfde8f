/* Control groups: opened, written to, joined. Both halves; no libc. */
#include "job.h"

int pc_cgroup_open(const char *path)
{
	return sys_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
}

int pc_cgroup_write(int dirfd, const char *file, const char *value)
{
	scoped_fd int fd = sys_openat(dirfd, file, O_WRONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return fd;
	long n = sys_write(fd, value, pc_strlen(value));
	return n < 0 ? (int)n : 0;
}

/* "0" names the writer itself, whatever its pid is called in which namespace. v1's "tasks" moves one thread, and the child
 * is one: unlike "cgroup.procs" it takes no lock on every process of the machine, whose RCU grace period can cost
 * 15 ms (v2 is joined by CLONE_INTO_CGROUP). */
int pc_do_cgroup_join(struct pc_child *c, const struct pc_op *op)
{
	return pc_cgroup_write(op_slot(c, op->slot), "tasks", "0");
}
