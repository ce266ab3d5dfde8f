/* Namespaces, names and kernel settings of the child. */
#include "job.h"

#include <errno.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <sys/ioctl.h>

#ifndef NS_GET_NSTYPE
#define NS_GET_NSTYPE _IO(0xb7, 0x3)
#endif

/* Whether the namespace is that of the process at `path`. */
static bool is_that_of(int ns, const char *path)
{
	struct statx a, b;

	return sys_statx(ns, "", AT_EMPTY_PATH, STATX_INO, &a) == 0 && sys_statx(AT_FDCWD, path, 0, STATX_INO, &b) == 0 &&
	       a.stx_ino == b.stx_ino && a.stx_dev_major == b.stx_dev_major && a.stx_dev_minor == b.stx_dev_minor;
}

/* Opened in the parent half, where the host's paths can be seen; a file that is no namespace of this type is refused here
 * and not joined by accident. */
int pc_open_namespace(const char *path, int type)
{
	struct statfs st;
	scoped_fd int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);

	if (fd < 0)
		return fd;
	int err = sys_fstatfs(fd, &st);
	if (err < 0)
		return err;
	if (st.f_type != NSFS_MAGIC || sys_ioctl(fd, NS_GET_NSTYPE, NULL) != type)
		return -EINVAL;
	/* the container's root becomes the root of the mount namespace that it joins, for all who are in it: never the host's */
	if (type == CLONE_NEWNS && (is_that_of(fd, "/proc/thread-self/ns/mnt") || is_that_of(fd, "/proc/1/ns/mnt")))
		return -EBUSY;
	return fd_take(&fd);
}

int pc_do_unshare(struct pc_child *c, const struct pc_op *op)
{
	(void)c;
	return sys_unshare(op->x);
}

int pc_do_setns(struct pc_child *c, const struct pc_op *op)
{
	return sys_setns(op_slot(c, op->slot), (int)op->x);
}

int pc_do_hostname(struct pc_child *c, const struct pc_op *op)
{
	const char *name = op_s1(c, op);
	return sys_sethostname(name, pc_strlen(name));
}

int pc_do_domainname(struct pc_child *c, const struct pc_op *op)
{
	const char *name = op_s1(c, op);
	return sys_setdomainname(name, pc_strlen(name));
}

/* A procfs that no path of the image can stand in for (2025-52881): detached, ours alone, gone at execve. */
int pc_open_private_proc(struct pc_child *c)
{
	struct statfs st;
	scoped_fd int fs = sys_fsopen("proc", FSOPEN_CLOEXEC);

	if (fs < 0)
		return fs;
	int err = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (err < 0)
		return err;
	scoped_fd int proc = sys_fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (proc < 0)
		return proc;
	err = sys_fstatfs(proc, &st);
	if (err < 0 || st.f_type != PROC_SUPER_MAGIC)
		return at_step(c, PC_STEP_NOT_PROC, err < 0 ? err : -EXDEV);
	c->proc_fd = fd_take(&proc);
	return 0;
}

/* For the program's execve, not the stub's: what the program may execute is no matter of how it is started. Only the stub can
 * write it then, by this procfs; that the file is there is seen now. */
int pc_do_exec_label(struct pc_child *c, const struct pc_op *op)
{
	int err = c->proc_fd < 0 ? pc_open_private_proc(c) : 0;

	if (err < 0)
		return err;
	scoped_fd int file = sys_openat2(c->proc_fd, op_s1(c, op), O_PATH | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_XDEV);
	c->labelled = file >= 0;
	return file < 0 ? file : 0;
}

int pc_do_proc_write(struct pc_child *c, const struct pc_op *op)
{
	const char *value = op_s2(c, op);

	if (c->proc_fd < 0) {
		int err = pc_open_private_proc(c);
		if (err < 0)
			return err;
	}
	scoped_fd int fd = sys_openat2(c->proc_fd, op_s1(c, op), O_WRONLY | O_CLOEXEC, 0,
				       RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
	if (fd < 0)
		return fd;
	long n = sys_write(fd, value, pc_strlen(value));
	return n < 0 ? (int)n : 0;
}
