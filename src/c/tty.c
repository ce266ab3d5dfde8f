/* Standard streams and terminals. Child half. */
#include "job.h"

#include <errno.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <sys/ioctl.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

int pc_do_session(struct pc_child *c, const struct pc_op *op)
{
	(void)c;
	(void)op;
	int err = sys_setsid();
	return err < 0 ? err : 0;
}

/* All three are first copied out of the way: a source may itself be 0, 1 or 2. */
int pc_do_stdio(struct pc_child *c, const struct pc_op *op)
{
	const int slots[3] = {op->slot, op->slot2, (int)op->n};
	int copies[3];

	for (int i = 0; i < 3; i++) {
		copies[i] = sys_fcntl(op_slot(c, slots[i]), F_DUPFD_CLOEXEC, 3);
		if (copies[i] < 0)
			return copies[i];
	}
	for (int i = 0; i < 3; i++) {
		int err = sys_dup3(copies[i], i, 0);
		if (err < 0)
			return err;
		(void)sys_close(copies[i]);
	}
	return 0;
}

/* The peer comes by ioctl from the master, never by its path in /dev/pts, which could be swapped (2025-52565). */
static int open_pty(struct pc_child *c, const struct pc_op *op, int *master)
{
	struct winsize size = {.ws_row = (unsigned short)op->x, .ws_col = (unsigned short)op->y};
	int unlock = 0;
	struct statfs st;
	/* an exec stands in the root, which it has come to by setns */
	scoped_fd int ptmx = sys_openat2(c->root_fd >= 0 ? c->root_fd : AT_FDCWD, "dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, 0,
					 RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);

	if (ptmx < 0)
		return ptmx;
	int err = sys_fstatfs(ptmx, &st);
	if (err < 0 || st.f_type != DEVPTS_SUPER_MAGIC) /* whatever a container has put there since */
		return err < 0 ? err : -ENOTTY;
	err = sys_ioctl(ptmx, TIOCSPTLCK, &unlock);
	if (err < 0)
		return err;
	int peer = sys_ioctl(ptmx, TIOCGPTPEER, (void *)(uintptr_t)(O_RDWR | O_NOCTTY | O_CLOEXEC));
	if (peer < 0)
		return peer;
	if (size.ws_row != 0 || size.ws_col != 0)
		(void)sys_ioctl(ptmx, TIOCSWINSZ, &size); /* a wrong size is a nuisance, not a failure */
	*master = fd_take(&ptmx);
	return peer;
}

static int bind_console(struct pc_child *c, int peer)
{
	scoped_fd int tree = sys_open_tree(peer, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

	if (tree < 0)
		return tree;
	scoped_fd int at = pc_resolve(c, "dev/console", true, PC_TARGET_FILE);
	if (at < 0)
		return at;
	return sys_move_mount(tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

int pc_do_tty(struct pc_child *c, const struct pc_op *op)
{
	scoped_fd int master = -1;
	scoped_fd int peer = open_pty(c, op, &master);

	if (peer < 0)
		return peer;
	int err = sys_fchown(peer, (uint32_t)op->z, (uint32_t)-1);
	if (err < 0 || (op->n == 0 && (err = bind_console(c, peer)) < 0))
		return err;
	if ((err = sys_ioctl(peer, TIOCSCTTY, NULL)) < 0)
		return err;
	if ((err = pc_child_send(c, PC_STEP_TTY, 0, master)) < 0)
		return err;
	for (int i = 0; i < 3; i++)
		if ((err = sys_dup3(peer, i, 0)) < 0)
			return err;
	return 0;
}
