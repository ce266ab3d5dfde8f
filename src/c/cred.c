/* Limits, identity and capabilities of the child. Raw calls: glibc's set*id walk the thread list of the parent. */
#include "job.h"

#include <errno.h>
#include <linux/prctl.h>

/* The last capability any kernel can know in the 64 bits of the ABI. */
#define LAST_CAP 63

int pc_do_rlimit(struct pc_child *c, const struct pc_op *op)
{
	const struct rlimit lim = {.rlim_cur = op->x, .rlim_max = op->y};

	(void)c;
	return sys_setrlimit((int)op->n, &lim);
}

/* After the ids: changing them clears it. */
int pc_do_pdeathsig(struct pc_child *c, const struct pc_op *op)
{
	(void)c;
	return sys_prctl(PR_SET_PDEATHSIG, op->x, 0, 0, 0);
}

int pc_do_umask(struct pc_child *c, const struct pc_op *op)
{
	(void)c;
	(void)sys_umask((unsigned)op->x);
	return 0;
}

int pc_do_cap_bound(struct pc_child *c, const struct pc_op *op)
{
	(void)c;
	for (unsigned cap = 0; cap <= LAST_CAP; cap++) {
		if (op->x & (1ULL << cap))
			continue;
		int err = sys_prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
		if (err == -EINVAL) /* past the last one this kernel knows */
			return cap == 0 ? err : 0;
		if (err < 0)
			return err;
	}
	return 0;
}

/* Where setgroups is forbidden (a user namespace that an ordinary user made) having none already will do. */
static int set_groups(size_t n, const uint32_t *list)
{
	int err = sys_setgroups(n, list);

	return err == -EPERM && n == 0 && sys_getgroups(0, NULL) == 0 ? 0 : err;
}

/* Keeps the permitted set over the change from root: CAPS, which follows, sets all three sets exactly. */
int pc_do_ids(struct pc_child *c, const struct pc_op *op)
{
	uint32_t uid = (uint32_t)op->x, gid = (uint32_t)op->y;
	int err = sys_prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);

	if (err < 0)
		return err;
	if ((err = set_groups(op->n / sizeof(uint32_t), (const uint32_t *)(const void *)op_s3(c, op))) < 0)
		return err;
	if ((err = sys_setresgid(gid, gid, gid)) < 0)
		return err;
	if ((err = sys_setresuid(uid, uid, uid)) < 0)
		return err;
	return sys_prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
}

int pc_do_caps(struct pc_child *c, const struct pc_op *op)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
	struct __user_cap_data_struct data[2] = {
		{.effective = (uint32_t)op->x, .permitted = (uint32_t)op->y, .inheritable = (uint32_t)op->z},
		{.effective = (uint32_t)(op->x >> 32), .permitted = (uint32_t)(op->y >> 32), .inheritable = (uint32_t)(op->z >> 32)},
	};

	(void)c;
	/* From here on a process of another container that shares the host's pid namespace may have as many capabilities
	 * as we do: without this it could attach to us, look at our fds and, before execve, at the engine's memory
	 * (2016-9962). execve makes the program dumpable again, spawner.c the engine. */
	int err = sys_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return err < 0 ? err : sys_capset(&head, data);
}

int pc_do_cap_ambient(struct pc_child *c, const struct pc_op *op)
{
	int err = sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);

	(void)c;
	for (unsigned cap = 0; err == 0 && cap <= LAST_CAP; cap++)
		if (op->x & (1ULL << cap))
			err = sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
	return err;
}

int pc_do_no_new_privs(struct pc_child *c, const struct pc_op *op)
{
	(void)c;
	(void)op;
	return sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}
