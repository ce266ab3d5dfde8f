/* The parent half's ops: prepare before the clone, finish after the end. May look up host paths; fails politely. */
#include "job.h"
#include "tree.h"

#include <errno.h>
#include <string.h>

/* A program that opens /dev/stdout anew needs more than the descriptor. Only pipes: a file or a terminal of the caller's is
 * used by others, by its owner. Another user's pipe stays as it is. */
static int give_pipe(int fd, uint32_t uid, uint32_t gid)
{
	struct statx st;

	if (fd >= 0 && sys_statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) == 0 && S_ISFIFO(st.stx_mode))
		(void)sys_fchown(fd, uid, gid);
	return 0;
}

/* -errno, or the fd for the op's slot, or 0 */
static int prepare_one(struct pc_job *job, const struct pc_op *op)
{
	const char *s1 = pc_str(&job->plan, op->s1);
	int err;

	switch ((enum pc_op_code)op->code) {
	case PC_OP_DIR_MAKE:
		err = sys_mkdirat(AT_FDCWD, s1, (unsigned)op->x);
		if (err == 0 && (op->y != 0 || op->z != 0) &&
		    (err = sys_fchownat(AT_FDCWD, s1, (unsigned)op->y, (unsigned)op->z, AT_SYMLINK_NOFOLLOW)) < 0)
			(void)sys_unlinkat(AT_FDCWD, s1, AT_REMOVEDIR);
		return err;
	case PC_OP_CGROUP_MAKE:
		err = sys_mkdirat(AT_FDCWD, s1, 0755);
		if (err < 0 && !(err == -EEXIST && (op->flags & PC_F_OPTIONAL)))
			return err;
		if ((err = pc_cgroup_open(s1)) < 0 && !(op->flags & PC_F_OPTIONAL))
			(void)sys_unlinkat(AT_FDCWD, s1, AT_REMOVEDIR); /* an op that fails has done nothing */
		return err;
	case PC_OP_CGROUP_OPEN:
		return pc_cgroup_open(s1);
	case PC_OP_CGROUP_WRITE:
		return pc_cgroup_write(job->slots[op->slot], s1, pc_str(&job->plan, op->s2));
	case PC_OP_CGROUP_DEVICES:
		return pc_cgroup_attach_devices(job->slots[op->slot], pc_str(&job->plan, op->s3), op->n);
	case PC_OP_OVERLAY:
		return pc_make_overlay(job, op);
	case PC_OP_TREE_CLONE:
		return pc_clone_tree(job, op);
	case PC_OP_NS_OPEN:
		return pc_open_namespace(s1, (int)op->x);
	case PC_OP_USERNS_MAKE:
		return pc_make_userns(s1, pc_str(&job->plan, op->s2));
	case PC_OP_TREE_ATTR:
		return pc_tree_attributes(job, op, job->slots[op->slot]);
	case PC_OP_PIPE_OWNER:
		return give_pipe(job->slots[op->slot], (uint32_t)op->x, (uint32_t)op->y);
	case PC_OP_FS_MAKE:
		return pc_make_file_system(job, op);
	/* no default: -Wswitch finds a new op that belongs here */
	case PC_OP_NONE: case PC_OP_CGROUP_JOIN: case PC_OP_UNSHARE: case PC_OP_SETNS:
	case PC_OP_ROOT_ATTACH: case PC_OP_ROOT_READONLY: case PC_OP_MOUNT: case PC_OP_MOUNT_TREE: case PC_OP_MASK:
	case PC_OP_READONLY: case PC_OP_MAKE_DIR: case PC_OP_MAKE_NODE: case PC_OP_MAKE_LINK: case PC_OP_WRITE_FILE:
	case PC_OP_PROC_WRITE: case PC_OP_HOSTNAME: case PC_OP_DOMAINNAME: case PC_OP_LOOPBACK_UP: case PC_OP_RLIMIT:
	case PC_OP_SESSION: case PC_OP_STDIO: case PC_OP_TTY: case PC_OP_PDEATHSIG: case PC_OP_UMASK:
	case PC_OP_CAP_BOUND: case PC_OP_IDS: case PC_OP_CAPS: case PC_OP_CAP_AMBIENT: case PC_OP_NO_NEW_PRIVS:
	case PC_OP_SECCOMP: case PC_OP_CHDIR: case PC_OP_CLOSE_FDS: case PC_OP_USAGE: case PC_OP_CGROUP_REMOVE:
	case PC_OP_TREE_REMOVE: case PC_OP_PARENT_WRITE: case PC_OP_FORK: case PC_OP_MOUNT_ATTR: case PC_OP_ROOT_PIVOT:
	case PC_OP_KEYRING: case PC_OP_SCHEDULER: case PC_OP_IO_PRIORITY: case PC_OP_PERSONALITY: case PC_OP_MEMORY_POLICY:
	case PC_OP_ID_MAPS: case PC_OP_LISTENER: case PC_OP_SYNC: case PC_OP_EXEC_LABEL: case PC_OP_HOOK: case PC_OP_NET_DEVICE:
	case PC_OP_COUNT:
		break;
	}
	return -ENOSYS;
}

int pc_prepare(struct pc_job *job, bool *made, struct pc_report *report)
{
	const struct pc_op *ops = job->plan.ops[PC_PREPARE];

	*made = job->plan.head.n_ops[PC_PREPARE] == 0;
	for (uint32_t i = 0; i < job->plan.head.n_ops[PC_PREPARE]; i++) {
		bool fault = job->fault.kind && job->fault.section == PC_PREPARE && job->fault.op == i;
		if (fault && job->fault.kind != 1)
			(void)sys_kill(sys_getpid(), SIGKILL);
		int ret = fault ? -(job->fault.err ? job->fault.err : EIO) : prepare_one(job, &ops[i]);
		if (!fault && pc_op_makes_fd(ops[i].code))
			ret = pc_above_stdio(ret);
		if (ret < 0) {
			*report = (struct pc_report){.step = PC_STEP_OP, .err = -ret, .section = PC_PREPARE, .arg = i};
			return ret;
		}
		*made = true;
		if (pc_op_makes_fd(ops[i].code)) {
			fd_close(&job->slots[ops[i].slot]); /* a slot made twice; never a given one: the decoder refuses that */
			job->slots[ops[i].slot] = ret;
		}
		if (job->trace_ns && i < job->n_trace)
			job->trace_ns[i] = sys_now_ns();
	}
	return 0;
}

static int finish_one(const struct pc_plan *plan, const struct pc_op *op, struct pc_usage *usage)
{
	const char *s1 = pc_str(plan, op->s1);

	if (op->code == PC_OP_CGROUP_REMOVE) {
		int err = pc_cgroup_remove(s1);
		return err == 0 && op->x ? sys_mkdirat(AT_FDCWD, s1, 0755) : err; /* a new one counts from zero */
	}
	if (op->code == PC_OP_TREE_REMOVE)
		return pc_tree_remove(s1);
	int err = pc_usage_read((uint32_t)op->x, s1, usage);
	return err == -ENOENT ? 0 : err; /* never made, or a file that older kernels lack: `have` tells */
}

int pc_finish_plan(const struct pc_plan *plan, const struct pc_fault *fault, struct pc_usage *usage, struct pc_report *report)
{
	int first = 0;

	for (uint32_t i = 0; i < plan->head.n_ops[PC_FINISH]; i++) {
		bool hit = fault && fault->kind && fault->section == PC_FINISH && fault->op == i;
		if (hit && fault->kind != 1)
			(void)sys_kill(sys_getpid(), SIGKILL);
		int err = hit ? -fault->err : finish_one(plan, &plan->ops[PC_FINISH][i], usage);
		if (err < 0 && first == 0) {
			first = err;
			*report = (struct pc_report){.step = PC_STEP_OP, .err = -err, .section = PC_FINISH, .arg = i};
		}
	}
	return first;
}
