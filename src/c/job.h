/* One start under way: what the parent half has made ready and the child half executes. */
#ifndef PC_JOB_H
#define PC_JOB_H

#include "fd.h"
#include "plan.h"

struct pc_job {
	struct pc_job *next; /* of those under way */
	struct pc_plan plan;
	int slots[PC_MAX_SLOTS];
	char **argv;	 /* argv[-1] is room for the path that the stub executes */
	char **stub_argv; /* the stub's own words, which argv[-1] ends; see stub.h */
	char **hook_argv; /* room for those of one hook */
	char **envp;
	const char *search_path; /* the value of PATH in the container's environment, or NULL */
	char *exec_path;	 /* room for the longest PATH entry, '/', argv[0] */
	int32_t (*sync)(void *context, uint32_t what, int32_t pid, int32_t fd);
	void *sync_context;
	struct pc_network *network; /* once a device has been moved (netdev.c) */
	uint64_t called_back_ns; /* time that the caller has spent in it */
	int sock;		 /* the child's end of the report socket */
	int parent_sock;	 /* the other end: a gated child must not hold its own gate open */
	int told_fd;		 /* an exec's: what pycontain-enter is told (enter.h) */
	uint64_t *trace_ns;
	uint32_t n_trace;
	bool sibling; /* the child is not ours to reap, but our parent's */
	struct pc_fault fault;
	/* written by the child half or the spawner; read by the caller once the spawner says it is done */
	volatile uint32_t held;
	volatile uint32_t stubbed; /* after the stub's own execve there may still be a report */
	int tid;		   /* the child's pid, there before it runs */
	uint64_t cloned_ns;
	uint64_t execed_ns;
	int pid; /* or -errno of clone3 */
	int pidfd;
};

/* The child half's own state; lives on its stack. */
struct pc_child {
	struct pc_job *job;
	int root_fd; /* the container's root, kept from ROOT_ATTACH on */
	int proc_fd; /* a private procfs, made by the first PROC_WRITE */
	int old_root_fd; /* the root before ROOT_ATTACH, when ROOT_PIVOT is to come */
	uint64_t dev_mount; /* the id of the mount that a MOUNT op has made for device nodes; 0 before */
	bool in_cwd; /* a CHDIR has led there */
	bool labelled; /* proc_fd is the stub's, for EXEC_LABEL */
	const struct pc_op *hook; /* one that the stub runs, before the program */
	uint32_t op;
	uint32_t step; /* finer than the op, set by an executor before it returns an error */
};

typedef int pc_child_executor(struct pc_child *c, const struct pc_op *op);

static inline const char *op_s1(const struct pc_child *c, const struct pc_op *op) { return pc_str(&c->job->plan, op->s1); }
static inline const char *op_s2(const struct pc_child *c, const struct pc_op *op) { return pc_str(&c->job->plan, op->s2); }
static inline const char *op_s3(const struct pc_child *c, const struct pc_op *op) { return pc_str(&c->job->plan, op->s3); }
static inline int op_slot(const struct pc_child *c, int slot) { return slot < 0 ? -1 : c->job->slots[slot]; }

/* Remembers which finer step failed; returns the error unchanged. */
static inline int at_step(struct pc_child *c, enum pc_step step, int err)
{
	if (err < 0)
		c->step = step;
	return err;
}

/* child.c */
void pc_child_main(void *job) __attribute__((noreturn));
int pc_child_send(struct pc_child *c, enum pc_step step, int err, int fd);

/* child.c: descriptors as these numbers over execve; those in the way are moved, and so may be `*stub`, which is not left open */
struct pc_left {
	int fd;
	int as;
};
int pc_leave_open(const struct pc_left *left, size_t n, int *stub);
/* Closes every fd from `from` on but the `n` in `kept` (-1: none). */
int pc_close_all_but(unsigned from, const int *kept, size_t n);
int pc_close_what_is_others(struct pc_child *c);

/* lookup.c: the program's path into *found; *stub: it must be executed by the sealed stub */
int pc_find_program(struct pc_job *job, const char **found, bool *stub);

/* child half, one kernel facility each */
pc_child_executor pc_do_root_attach, pc_do_root_readonly, pc_do_root_pivot;		/* rootfs.c */
pc_child_executor pc_do_mount, pc_do_mount_tree, pc_do_mount_attr, pc_do_mask, pc_do_readonly; /* mount.c */
pc_child_executor pc_do_tree_attr;							/* remount.c */
pc_child_executor pc_do_make_dir, pc_do_make_node, pc_do_make_link, pc_do_write_file;	/* files.c */
pc_child_executor pc_do_unshare, pc_do_setns, pc_do_hostname, pc_do_domainname, pc_do_proc_write, pc_do_exec_label; /* ns.c */
pc_child_executor pc_do_hook;								/* hook.c */
pc_child_executor pc_do_cgroup_join;							/* cgroup_join.c */
pc_child_executor pc_do_loopback_up;							/* netlink.c */
pc_child_executor pc_do_rlimit, pc_do_pdeathsig, pc_do_umask, pc_do_cap_bound, pc_do_ids, pc_do_caps,
	pc_do_cap_ambient, pc_do_no_new_privs;						/* cred.c */
pc_child_executor pc_do_keyring, pc_do_scheduler, pc_do_io_priority, pc_do_personality, pc_do_memory_policy; /* process.c */
pc_child_executor pc_do_seccomp;							/* seccomp.c */
pc_child_executor pc_do_session, pc_do_stdio, pc_do_tty;				/* tty.c */

pc_child_executor pc_do_chdir, pc_do_close_fds, pc_do_ask, pc_do_fork, pc_do_listener;	/* child.c */

/* executors.c, or enter_stub.c: by op code; NULL is never reached */
extern pc_child_executor *const pc_child_executors[PC_OP_COUNT];

/* seccomp.c: loads the op's filter; 0, or the listener's fd when its flags ask for one */
int pc_load_filter(struct pc_child *c, const struct pc_op *op);

/* copyup.c: what is below `from` into the empty directory `to`, owners, modes and times as they are */
int pc_copy_tree(int from, int to);

/* paths inside the root (mount.c): an O_PATH fd, or -errno */
enum pc_target { PC_TARGET_EXISTS, PC_TARGET_DIR, PC_TARGET_FILE };
int pc_resolve(struct pc_child *c, const char *path, bool nosymlink, enum pc_target make);
int pc_on_dev(const struct pc_child *c, int dir); /* 0 on the mount that has been made for device nodes; -EXDEV */
int pc_mount_id(int fd, uint64_t *id);

/* remount.c: attributes x set, y cleared, propagation z, F_RECURSIVE of the attached mount behind `fd`, before 5.12 */
int pc_remount(struct pc_child *c, int fd, const struct pc_op *op);

/* ns.c: c->proc_fd, a procfs that nobody else sees */
int pc_open_private_proc(struct pc_child *c);

/* words.c: argv, envp and the rest, in `room` for so many pointers */
size_t pc_words_room(const struct pc_plan *plan);
void pc_fill_words(struct pc_job *job, char **room);

/* enter.c: an exec. What pycontain-enter is told becomes job->told_fd; the child's first and only steps in the engine's memory. */
int pc_tell_enter(struct pc_job *job);
void pc_enter_main(void *job) __attribute__((noreturn));

/* cgroup_join.c */
int pc_cgroup_open(const char *path);
int pc_cgroup_write(int dirfd, const char *file, const char *value);

/* parent half: prepare and finish (prepare.c, rootfs.c, cgroup.c, userns.c) */
/* *made: whether anything has been done that the finish section must undo */
int pc_prepare(struct pc_job *job, bool *made, struct pc_report *report);
int pc_finish_plan(const struct pc_plan *plan, const struct pc_fault *fault, struct pc_usage *usage, struct pc_report *report);
int pc_make_overlay(const struct pc_job *job, const struct pc_op *op);
int pc_clone_tree(const struct pc_job *job, const struct pc_op *op);
int pc_tree_attributes(const struct pc_job *job, const struct pc_op *op, int tree);
int pc_make_file_system(const struct pc_job *job, const struct pc_op *op);
int pc_open_namespace(const char *path, int type);
int pc_cgroup_attach_devices(int dirfd, const void *program, uint32_t len);

/* netdev.c: the device `host_name` into the namespace `ns`, where it is `name` ("": the same), has the permanent addresses of global
 * scope that it had, and is up. A failure leaves it where it was. At the end of the start all go back, or stay. */
int pc_move_device(struct pc_job *job, int ns, const char *host_name, const char *name);
void pc_end_network(struct pc_job *job, bool give_back);

/* talk.c: the parent's side of the report socket. */
enum pc_talk {
	PC_TALK_WAIT,  /* until the child is ready (gated), executes or fails */
	PC_TALK_DRAIN, /* what has been said already: the child is past execve, or has ended */
	PC_TALK_SERVE, /* while a spawner is stopped at the child: until END, READY or an error */
};

/* The deadline without the time that the caller itself has taken. */
static inline uint64_t pc_deadline(const struct pc_job *job, uint64_t deadline_ns)
{
	return deadline_ns ? deadline_ns + job->called_back_ns : 0;
}

/* conversation.c: the two ends of the report socket, in the job. The last one's answer is the parent's end, or -1: now the
 * caller's. */
int pc_open_conversation(struct pc_job *job);
void pc_close_childs_end(struct pc_job *job);
int pc_end_conversation(struct pc_job *job);

/* 0: READY was said and no error followed. */
int pc_talk(struct pc_job *job, enum pc_talk how, uint64_t deadline_ns, bool *ready, struct pc_process *out);

/* spawner.c: runs clone3 in a thread of its own. pc_spawn_end returns when clone3 has: with shared memory, when the child
 * has executed its program or ended. */
struct spawner;
int pc_spawn_begin(struct pc_job *job, struct spawner **spawner, struct pc_report *report);
int pc_spawn_end(struct spawner *spawner, struct pc_job *job, uint64_t deadline_ns, struct pc_report *report);

/* From here to pc_show_engine nobody without power over the engine's own user namespace may look at its memory, nor at a
 * copy of it made meanwhile. */
void pc_hide_engine(void);
void pc_show_engine(void);

/* clone.c: clone3 whose child runs fn(arg) on the stack in `args`; fn must not return. */
long pc_clone3(struct clone_args *args, size_t size, void (*fn)(void *), void *arg);

/* `fd`, or, when it is 0, 1 or 2 (the caller's process had closed a standard stream), a copy above; consumes `fd`. */
static inline int pc_above_stdio(int fd)
{
	if (fd < 0 || fd > 2)
		return fd;
	int copy = sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
	fd_close(&fd);
	return copy;
}

static inline size_t pc_strlen(const char *s)
{
	size_t n = 0;
	while (s[n] != '\0')
		n++;
	return n;
}

#endif
