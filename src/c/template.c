/* Detached file systems: templates whose trees are cloned into containers; and small calls Python has no door to. */
#include "job.h"

#include <errno.h>
#include <linux/mount.h>
#include <string.h>

static int set_option(int fs, char *option)
{
	char *value = strchr(option, '=');

	if (value == NULL)
		return sys_fsconfig(fs, FSCONFIG_SET_FLAG, option, NULL, 0);
	*value++ = '\0';
	return sys_fsconfig(fs, FSCONFIG_SET_STRING, option, value, 0);
}

PC_EXPORT int pc_mount_detached(const char *type, const char *options, uint64_t attributes)
{
	char copy[512], *save = NULL;
	scoped_fd int fs = sys_fsopen(type, FSOPEN_CLOEXEC);

	if (fs < 0)
		return fs;
	if (strlen(options) >= sizeof copy)
		return -E2BIG;
	memcpy(copy, options, strlen(options) + 1);
	for (char *o = strtok_r(copy, ",", &save); o != NULL; o = strtok_r(NULL, ",", &save)) {
		int err = set_option(fs, o);
		if (err < 0)
			return err;
	}
	int err = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	return err < 0 ? err : sys_fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attributes);
}

/* In the superblock: a flag of the mount alone could be undone with CAP_SYS_ADMIN over the mount namespace. */
PC_EXPORT int pc_superblock_readonly(int32_t fd)
{
	scoped_fd int fs = sys_fspick(fd, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);

	if (fs < 0)
		return fs;
	int err = sys_fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0);
	return err < 0 ? err : sys_fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0);
}

PC_EXPORT int pc_open_tree(int32_t dirfd, const char *path, int32_t recursive)
{
	unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0) | (*path ? 0 : AT_EMPTY_PATH);

	return sys_open_tree(dirfd, path, flags);
}

PC_EXPORT int pc_move_mount(int32_t fd, int32_t dirfd, const char *path)
{
	scoped_fd int at = sys_openat2(dirfd, path, O_PATH | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH);

	return at < 0 ? at : sys_move_mount(fd, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

PC_EXPORT int pc_unshare(uint64_t flags)
{
	return sys_unshare(flags);
}

PC_EXPORT int pc_setns(int32_t fd, int32_t type)
{
	return sys_setns(fd, type);
}

PC_EXPORT int pc_openat2(int32_t dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
	return sys_openat2(dirfd, path, flags, mode, resolve);
}

PC_EXPORT int pc_syncfs(int32_t fd)
{
	return (int)PC_SYS1(SYS_syncfs, fd);
}
