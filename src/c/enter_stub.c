/* pycontain-enter: joins a running container and becomes a program in it, by the child half of a start (child.c). It is never run
 * from its file but from a sealed copy in memory, so that /proc/PID/exe leads nowhere worth writing to (2019-5736), and owns
 * nothing but the Plan's bytes, the descriptors that the Plan names, and the report socket. enter.h has what it is told.
 */
#include "start.h"

#include "enter.h"
#include "job.h"

#include <errno.h>
#include <sys/mman.h>

pc_child_executor *const pc_child_executors[PC_OP_COUNT] = {
	[PC_OP_CGROUP_JOIN] = pc_do_cgroup_join,
	[PC_OP_SETNS] = pc_do_setns,
	[PC_OP_RLIMIT] = pc_do_rlimit,
	[PC_OP_SESSION] = pc_do_session,
	[PC_OP_STDIO] = pc_do_stdio,
	[PC_OP_TTY] = pc_do_tty,
	[PC_OP_PDEATHSIG] = pc_do_pdeathsig,
	[PC_OP_UMASK] = pc_do_umask,
	[PC_OP_CAP_BOUND] = pc_do_cap_bound,
	[PC_OP_IDS] = pc_do_ids,
	[PC_OP_CAPS] = pc_do_caps,
	[PC_OP_CAP_AMBIENT] = pc_do_cap_ambient,
	[PC_OP_NO_NEW_PRIVS] = pc_do_no_new_privs,
	[PC_OP_SECCOMP] = pc_do_seccomp,
	[PC_OP_CHDIR] = pc_do_chdir,
	[PC_OP_CLOSE_FDS] = pc_do_close_fds,
	[PC_OP_PARENT_WRITE] = pc_do_ask,
	[PC_OP_FORK] = pc_do_fork,
	[PC_OP_KEYRING] = pc_do_keyring,
	[PC_OP_SCHEDULER] = pc_do_scheduler,
	[PC_OP_IO_PRIORITY] = pc_do_io_priority,
	[PC_OP_PERSONALITY] = pc_do_personality,
	[PC_OP_MEMORY_POLICY] = pc_do_memory_policy,
	[PC_OP_EXEC_LABEL] = pc_do_exec_label,
};

/* plan.c's; nobody else brings one */
__attribute__((used)) void *memchr(const void *s, int c, size_t n)
{
	for (const unsigned char *p = s; n-- > 0; p++)
		if (*p == (unsigned char)c)
			return (void *)(uintptr_t)p;
	return NULL;
}

static int number(const char *digits)
{
	int n = 0;

	for (; *digits >= '0' && *digits <= '9' && n < 100000000; digits++)
		n = n * 10 + (*digits - '0');
	return n;
}

static bool is_error(const void *mapped)
{
	return (uintptr_t)mapped > (uintptr_t)-4096;
}

/* The Plan where it lies, in the sealed file; words and a path in memory of our own. */
static int take_in(struct pc_job *job, int fd)
{
	struct statx st;
	uint32_t where;
	int err = sys_statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &st);

	if (err < 0 || st.stx_size <= sizeof(struct pc_enter))
		return err < 0 ? err : -EBADMSG;
	const struct pc_enter *told = sys_mmap(st.stx_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd);
	(void)sys_close(fd);
	if (is_error(told))
		return (int)(intptr_t)told;
	job->sock = told->sock;
	for (size_t i = 0; i < PC_MAX_SLOTS; i++)
		job->slots[i] = told->slots[i];
	job->fault = told->fault;
	if (told->plan_len != st.stx_size - sizeof *told)
		return -EBADMSG;
	if ((err = pc_plan_decode((const uint8_t *)(told + 1), told->plan_len, &job->plan, &where)) < 0)
		return err;
	for (uint32_t i = 0; i < job->plan.head.n_ops[PC_CHILD]; i++)
		if (pc_child_executors[job->plan.ops[PC_CHILD][i].code] == NULL)
			return -EBADMSG;
	/* a path to execute: an entry of PATH, '/', argv[0], NUL */
	size_t words = pc_words_room(&job->plan) * sizeof(char *), path = 2 * told->plan_len + 2;
	char *room = sys_mmap(words + path, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (is_error(room))
		return (int)(intptr_t)room;
	pc_fill_words(job, (char **)(void *)room);
	job->exec_path = room + words;
	return 0;
}

/* Nothing of ours outlives execve. Streams are the Plan's to arrange. */
static int keep_to_ourselves(const struct pc_job *job)
{
	int err = sys_fcntl(job->sock, F_SETFD, FD_CLOEXEC);

	for (uint32_t i = 0; i < job->plan.head.n_slots && err >= 0; i++)
		if (job->slots[i] > 2 && i != job->plan.head.enter_slot)
			err = sys_fcntl(job->slots[i], F_SETFD, FD_CLOEXEC);
	return err;
}

int program(int argc, char **argv, char **envp)
{
	static struct pc_job job;
	struct pc_report r = {.step = PC_STEP_ENTER, .section = PC_CHILD};

	(void)envp;
	if (argc != 2)
		return 127;
	job.parent_sock = job.told_fd = job.sock = -1;
	int err = take_in(&job, number(argv[1]));
	if (err == 0)
		err = keep_to_ourselves(&job);
	if (err >= 0)
		pc_child_main(&job);
	r.err = -err;
	(void)sys_write(job.sock, &r, sizeof r);
	return 127;
}
