/* The report sockets of all starts under way. A process that is forked meanwhile has copies of both ends, and for as long
 * as it had them no caller would hear that its program runs: the fork closes them. (A child of ours does so by itself.)
 */
#include "job.h"

#include <errno.h>
#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t registered = PTHREAD_ONCE_INIT;
static struct pc_job *under_way;

static void before_fork(void)
{
	(void)pthread_mutex_lock(&lock);
}

static void in_parent(void)
{
	(void)pthread_mutex_unlock(&lock);
}

static void in_forked_child(void)
{
	for (; under_way != NULL; under_way = under_way->next) {
		fd_close(&under_way->sock);
		fd_close(&under_way->parent_sock);
	}
	(void)pthread_mutex_unlock(&lock);
}

static void watch_forks(void)
{
	(void)pthread_atfork(before_fork, in_parent, in_forked_child);
}

int pc_open_conversation(struct pc_job *job)
{
	int pair[2];

	(void)pthread_once(&registered, watch_forks);
	(void)pthread_mutex_lock(&lock);
	int err = sys_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	/* in the child STDIO and TTY would replace 0, 1 or 2 */
	job->parent_sock = err < 0 ? err : pc_above_stdio(pair[0]);
	job->sock = err < 0 ? err : pc_above_stdio(pair[1]);
	if (job->parent_sock >= 0 && job->sock >= 0) {
		job->next = under_way;
		under_way = job;
	} else {
		err = job->parent_sock < 0 ? job->parent_sock : job->sock;
		fd_close(&job->parent_sock);
		fd_close(&job->sock);
	}
	(void)pthread_mutex_unlock(&lock);
	return err < 0 ? err : 0;
}

void pc_close_childs_end(struct pc_job *job)
{
	(void)pthread_mutex_lock(&lock);
	fd_close(&job->sock);
	(void)pthread_mutex_unlock(&lock);
}

int pc_end_conversation(struct pc_job *job)
{
	(void)pthread_mutex_lock(&lock);
	for (struct pc_job **at = &under_way; *at != NULL; at = &(*at)->next)
		if (*at == job) {
			*at = job->next;
			break;
		}
	fd_close(&job->sock);
	int ours = fd_take(&job->parent_sock);
	(void)pthread_mutex_unlock(&lock);
	return ours;
}
