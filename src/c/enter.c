/* An exec, the engine's side. Who joins a container's namespaces must have nothing of the engine, whose memory and descriptors
 * everybody there could reach through it otherwise (2016-9962): the child executes pycontain-enter, a sealed copy in memory, at
 * once, and that executes the Plan's child ops (child.c) in memory that has never been ours.
 */
#include "enter.h"
#include "job.h"

#include <errno.h>
#include <sys/mman.h>

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* The conversation is open: its end has the number that the child will know it by. */
int pc_tell_enter(struct pc_job *job)
{
	struct pc_enter head = {.plan_len = job->plan.head.total_len, .fault = job->fault, .sock = job->sock};
	scoped_fd int fd = memfd_create("pycontain-plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < PC_MAX_SLOTS; i++)
		head.slots[i] = job->slots[i];
	fd = pc_above_stdio(fd_take(&fd));
	if (fd < 0)
		return fd;
	long n = sys_write(fd, &head, sizeof head);
	if (n == sizeof head)
		n = sys_write(fd, job->plan.bytes, head.plan_len);
	if (n < 0 || (uint64_t)n != head.plan_len)
		return n < 0 ? (int)n : -EIO;
	int err = sys_fcntl(fd, F_ADD_SEALS, SEALS);
	if (err < 0)
		return err;
	job->told_fd = fd_take(&fd);
	return 0;
}

/* `n` in decimal, at the end of `room`. */
static char *decimal(unsigned n, char *room, size_t size)
{
	char *s = room + size - 1;

	*s = '\0';
	do
		*--s = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	return s;
}

static int leave_open(const struct pc_job *job, int enter)
{
	int kept[PC_MAX_SLOTS + 3] = {job->sock, job->told_fd, enter};
	size_t n = 3 + job->plan.head.n_slots;

	for (uint32_t i = 0; i < job->plan.head.n_slots; i++)
		kept[3 + i] = (uint32_t)i == job->plan.head.enter_slot ? -1 : job->slots[i];
	int err = pc_close_all_but(3, kept, n);
	for (size_t i = 0; i < n && err >= 0; i++)
		if (kept[i] >= 3 && kept[i] != enter)
			err = sys_fcntl(kept[i], F_SETFD, 0);
	return err;
}

/* Child half, in the engine's memory and in none but its namespaces: raw system calls only. The signals stay blocked. */
void pc_enter_main(void *arg)
{
	struct pc_job *job = arg;
	char room[12];
	char *const argv[] = {(char *)(uintptr_t)"pycontain-enter", decimal((unsigned)job->told_fd, room, sizeof room), NULL};
	char *const envp[] = {NULL};
	int enter = job->slots[job->plan.head.enter_slot];

	job->cloned_ns = sys_now_ns();
	int err = leave_open(job, enter);
	if (err >= 0)
		err = sys_execveat(enter, "", argv, envp, AT_EMPTY_PATH);
	const struct pc_report r = {.step = PC_STEP_ENTER, .err = -err, .section = PC_CHILD};
	(void)sys_write(job->sock, &r, sizeof r); /* nobody left to tell when this fails: the end of file says it */
	sys_exit_group(127);
}
