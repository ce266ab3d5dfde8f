/* Threads that clone. Each runs C only, with all signals blocked, and lives as long as the process.
 *
 * Why threads of our own: (1) the child copies the mount namespace of the thread that clones it, and copying a host's
 * 500 mounts costs 0.6 ms and as much again at exit, so these threads live in a *lean* namespace: one empty read-only
 * tmpfs; the caller's thread cannot go there, it still has to look up host paths. (2) PR_SET_PDEATHSIG follows the
 * thread that cloned, not the process: a caller's worker thread may end while its container runs. (3) CLONE_VFORK
 * stops the cloning thread until execve, which tells exactly when a shared memory is ours alone again; the caller
 * keeps its own clock meanwhile and kills a child that hangs.
 */
#include "job.h"

#include <errno.h>
#include <linux/mount.h>
#include <linux/prctl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#define CHILD_STACK (192u << 10)
#define GUARD (16u << 10)

/* In which mount namespace a spawner lives. VISIBLE: a lean one with a procfs and a sysfs, for PC_PLAN_VISIBLE. */
enum kind { HOST, LEAN, VISIBLE, KINDS };

struct spawner {
	struct spawner *next; /* in the idle list */
	pthread_cond_t wake;
	struct pc_job *job;
	enum kind kind;
	bool done; /* the job's clone3 has returned */
	int setup_err;
	char *stack;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t finished; /* some spawner is done, or has set itself up */
	struct spawner *idle[KINDS];
	int lean_ns[KINDS]; /* fds of the lean mount namespaces */
	unsigned sharing; /* children now in our memory */
	int dumpable;	  /* ours, before the first of them */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .lean_ns = {-1, -1, -1}};

static pthread_once_t registered = PTHREAD_ONCE_INIT;

/* The threads are gone in a forked child; the namespace's fd is as good as before. */
static void forget_threads(void)
{
	if (pool.sharing > 0 && pool.dumpable == 1) /* the children are the parent's, and no memory of ours is in them */
		(void)sys_prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	(void)pthread_mutex_init(&pool.lock, NULL);
	for (int kind = 0; kind < KINDS; kind++)
		pool.idle[kind] = NULL;
	pool.sharing = 0;
	pthread_condattr_t attr;
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&pool.finished, &attr);
	(void)pthread_condattr_destroy(&attr);
}

static void set_up_pool(void)
{
	forget_threads(); /* also sets up the condition's clock */
	(void)pthread_atfork(NULL, NULL, forget_threads);
}

/* A child in our memory that changes its ids or capabilities makes the memory, hence us, not dumpable: meant for as
 * long as it is there, not for ever. One born in a new user namespace must find it so (`hide`), with our memory or a copy:
 * there every process with our id, in a container that shares the host's pids, has all capabilities and could attach
 * to it (2016-9962). Both are called with the lock held. */
static void begin_sharing(bool hide)
{
	if (pool.sharing++ == 0)
		pool.dumpable = sys_prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
	if (hide)
		(void)sys_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* cannot fail with this argument */
}

static void end_sharing(void)
{
	if (--pool.sharing == 0 && pool.dumpable == 1)
		(void)sys_prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* cannot fail with this argument */
}

void pc_hide_engine(void)
{
	(void)pthread_once(&registered, set_up_pool);
	(void)pthread_mutex_lock(&pool.lock);
	begin_sharing(true);
	(void)pthread_mutex_unlock(&pool.lock);
}

void pc_show_engine(void)
{
	(void)pthread_mutex_lock(&pool.lock);
	end_sharing();
	(void)pthread_mutex_unlock(&pool.lock);
}

static int new_mount(const char *type, const char *mode, const char *size)
{
	const unsigned attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	scoped_fd int fs = sys_fsopen(type, FSOPEN_CLOEXEC);
	int err;

	if (fs < 0)
		return fs;
	if ((mode != NULL && (err = sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", mode, 0)) < 0) ||
	    (size != NULL && (err = sys_fsconfig(fs, FSCONFIG_SET_STRING, "size", size, 0)) < 0) ||
	    (err = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)) < 0)
		return err;
	return sys_fsmount(fs, FSMOUNT_CLOEXEC, attr);
}

/* A fresh one, or, where these process numbers and this network are not ours (an ordinary user's user namespace), a copy
 * of the one that is in sight. */
static int mount_below(int root, const char *name, const char *type, const char *in_sight)
{
	int err = sys_mkdirat(root, name, 0555);

	if (err < 0)
		return err;
	scoped_fd int fresh = new_mount(type, NULL, NULL);
	scoped_fd int copy = fresh != -EPERM ? -EPERM : sys_open_tree(AT_FDCWD, in_sight, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (fresh < 0 && copy < 0)
		return fresh == -EPERM ? copy : fresh;
	return sys_move_mount(fresh >= 0 ? fresh : copy, "", root, name, MOVE_MOUNT_F_EMPTY_PATH);
}

/* One empty tmpfs, read-only in its superblock; with `visible`, and only then, a procfs and a sysfs in it. */
static int build_lean_namespace(bool visible)
{
	int err = sys_unshare(CLONE_NEWNS | CLONE_FS);

	if (err < 0 || (err = sys_mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) < 0)
		return err;
	scoped_fd int root = new_mount("tmpfs", "0555", "4k");
	if (root < 0)
		return root;
	/* while the old root's procfs is still in sight, which the kernel asks for inside a user namespace; a detached tree
	 * takes mounts only from 6.15 on, so it is attached first (paths still begin at the old root) */
	if ((err = sys_move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH)) < 0)
		return err;
	if (visible && ((err = mount_below(root, "proc", "proc", "/proc")) < 0 ||
			(err = mount_below(root, "sys", "sysfs", "/sys")) < 0))
		return err;
	if ((err = pc_superblock_readonly(root)) < 0 || (err = sys_fchdir(root)) < 0 ||
	    (err = sys_pivot_root(".", ".")) < 0 || (err = sys_umount2(".", 2 /* MNT_DETACH */)) < 0)
		return err;
	return sys_chdir("/");
}

/* Called with the lock held: the first thread of its kind builds the namespace, the others join it. */
static int enter_lean_namespace(enum kind kind)
{
	if (pool.lean_ns[kind] >= 0) {
		int err = sys_unshare(CLONE_FS);
		return err < 0 ? err : sys_setns(pool.lean_ns[kind], CLONE_NEWNS);
	}
	/* /proc is out of sight afterwards: keep its fd */
	scoped_fd int proc = sys_openat(AT_FDCWD, "/proc/thread-self/ns", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (proc < 0)
		return proc;
	int err = build_lean_namespace(kind == VISIBLE);
	if (err < 0)
		return err;
	int ns = sys_openat(proc, "mnt", O_RDONLY | O_CLOEXEC, 0);
	if (ns < 0)
		return ns;
	pool.lean_ns[kind] = ns;
	return 0;
}

static void clone_child(struct spawner *self)
{
	struct pc_job *job = self->job;
	const struct pc_plan_header *head = &job->plan.head;
	bool enter = head->flags & PC_PLAN_ENTER, share = enter || (head->flags & PC_PLAN_SHARE_VM);
	struct clone_args args = {
		.flags = head->clone_flags | CLONE_PIDFD | CLONE_PARENT_SETTID | CLONE_CLEAR_SIGHAND |
			 (share ? CLONE_VM | CLONE_VFORK : 0) | (job->sibling ? CLONE_PARENT : 0),
		.pidfd = (uint64_t)(uintptr_t)&job->pidfd,
		.parent_tid = (uint64_t)(uintptr_t)&job->tid,
		.exit_signal = job->sibling ? 0 : SIGCHLD, /* a sibling's is ours; the kernel takes no other */
		.stack = (uint64_t)(uintptr_t)(self->stack + GUARD),
		.stack_size = CHILD_STACK,
		.cgroup = head->cgroup_slot >= 0 ? (uint64_t)(unsigned)job->slots[head->cgroup_slot] : 0,
	};

	job->cloned_ns = sys_now_ns(); /* a child in our memory overwrites it with the better value */
	long pid = pc_clone3(&args, sizeof args, enter ? pc_enter_main : pc_child_main, job);
	job->execed_ns = sys_now_ns();
	if (pid < 0)
		job->pidfd = -1;
	job->pid = (int)pid;
	if (share && !enter && job->plan.asks) { /* the caller listens: it cannot know otherwise */
		const struct pc_report end = {.step = PC_STEP_END};
		(void)sys_write(job->sock, &end, sizeof end); /* a full socket has something to read in it anyway */
	}
}

static void *spawner_main(void *arg)
{
	struct spawner *self = arg;

	(void)pthread_mutex_lock(&pool.lock);
	self->setup_err = self->kind != HOST ? enter_lean_namespace(self->kind) : sys_unshare(CLONE_FS);
	bool usable = self->setup_err == 0;
	while (usable) {
		while (self->job == NULL || self->done)
			(void)pthread_cond_wait(&self->wake, &pool.lock);
		bool born = self->job->plan.head.clone_flags & CLONE_NEWUSER;
		bool share = born || self->job->plan.head.flags & (PC_PLAN_SHARE_VM | PC_PLAN_ENTER);
		if (share)
			begin_sharing(born);
		(void)pthread_mutex_unlock(&pool.lock);
		clone_child(self);
		(void)pthread_mutex_lock(&pool.lock);
		if (share)
			end_sharing();
		self->done = true;
		(void)pthread_cond_broadcast(&pool.finished);
	}
	self->done = true; /* the waiting caller frees self */
	if (self->setup_err < 0 && self->job->plan.asks && (self->job->plan.head.flags & PC_PLAN_SHARE_VM)) {
		const struct pc_report end = {.step = PC_STEP_END};
		(void)sys_write(self->job->sock, &end, sizeof end);
	}
	(void)pthread_cond_broadcast(&pool.finished);
	(void)pthread_mutex_unlock(&pool.lock);
	return NULL;
}

static int create_thread(struct spawner *s)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;

	(void)sigfillset(&all);
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	(void)pthread_attr_setstacksize(&attr, 256u << 10);
	(void)pthread_sigmask(SIG_BLOCK, &all, &old);
	int err = pthread_create(&thread, &attr, spawner_main, s);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	(void)pthread_attr_destroy(&attr);
	return -err;
}

static struct spawner *new_spawner(enum kind kind, struct pc_job *job, int *err)
{
	struct spawner *s = calloc(1, sizeof *s);

	*err = -ENOMEM;
	if (s == NULL)
		return NULL;
	s->stack = mmap(NULL, GUARD + CHILD_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (s->stack == MAP_FAILED) {
		free(s);
		return NULL;
	}
	(void)mprotect(s->stack, GUARD, PROT_NONE);
	(void)pthread_cond_init(&s->wake, NULL);
	s->kind = kind;
	s->job = job;
	*err = create_thread(s);
	if (*err < 0) {
		(void)munmap(s->stack, GUARD + CHILD_STACK);
		free(s);
		return NULL;
	}
	return s;
}

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
}

/* Waits for `s`; kills the child when the deadline passes, and the whole process when a test asks for it. */
static int wait_done(struct spawner *s, struct pc_job *job, uint64_t deadline_ns)
{
	bool expired = false;

	while (!s->done) {
		uint64_t until = job->fault.kind == 3 ? sys_now_ns() + 500000 : deadline_ns;
		if (until == 0 || expired) {
			(void)pthread_cond_wait(&pool.finished, &pool.lock);
			continue;
		}
		struct timespec ts = timespec_of(until);
		(void)pthread_cond_timedwait(&pool.finished, &pool.lock, &ts);
		if (job->held && job->fault.kind == 3)
			(void)sys_kill(sys_getpid(), SIGKILL);
		if (!s->done && deadline_ns && sys_now_ns() >= deadline_ns && job->pidfd >= 0) {
			(void)sys_pidfd_send_signal(job->pidfd, SIGKILL);
			expired = true;
		}
	}
	return expired ? -ETIMEDOUT : 0;
}

static enum kind kind_of(const struct pc_plan_header *head)
{
	return head->flags & PC_PLAN_VISIBLE ? VISIBLE : head->flags & PC_PLAN_LEAN ? LEAN : HOST;
}

int pc_spawn_begin(struct pc_job *job, struct spawner **spawner, struct pc_report *report)
{
	enum kind kind = kind_of(&job->plan.head);
	int err = 0;

	(void)pthread_once(&registered, set_up_pool);
	(void)pthread_mutex_lock(&pool.lock);
	struct spawner *s = pool.idle[kind];
	if (s != NULL) {
		pool.idle[kind] = s->next;
		s->done = false;
		s->job = job;
		(void)pthread_cond_signal(&s->wake);
	} else {
		s = new_spawner(kind, job, &err);
	}
	(void)pthread_mutex_unlock(&pool.lock);
	if (s == NULL) {
		*report = (struct pc_report){.step = PC_STEP_SPAWNER, .err = -err};
		return err;
	}
	*spawner = s;
	return 0;
}

int pc_spawn_end(struct spawner *s, struct pc_job *job, uint64_t deadline_ns, struct pc_report *report)
{
	enum kind kind = kind_of(&job->plan.head);

	(void)pthread_mutex_lock(&pool.lock);
	int expired = wait_done(s, job, deadline_ns);
	s->job = NULL;
	int err = s->setup_err;
	if (err < 0) {
		*report = (struct pc_report){.step = PC_STEP_SPAWNER_MOUNTS, .err = -err, .arg = kind};
		(void)munmap(s->stack, GUARD + CHILD_STACK);
		free(s);
	} else {
		s->next = pool.idle[kind];
		pool.idle[kind] = s;
	}
	(void)pthread_mutex_unlock(&pool.lock);
	if (err == 0 && job->pid < 0) {
		*report = (struct pc_report){.step = PC_STEP_CLONE, .err = -job->pid};
		err = job->pid;
	} else if (err == 0 && expired < 0) {
		*report = (struct pc_report){.step = PC_STEP_DEADLINE, .err = ETIMEDOUT};
		err = expired;
	}
	return err;
}
