/* What several tests look at: open descriptors, and whether a stranger may look into a process. */
#ifndef PC_LOOK_H
#define PC_LOOK_H

#include "check.h"

#include <dirent.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static inline int count_fds(void)
{
	int n = 0;
	DIR *d = opendir("/proc/self/fd");

	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d != NULL)
		(void)closedir(d);
	return n;
}

/* A process with root's id and no capability, as a container that shares the host's pids would be. */
static inline int peer_can_look(int pid)
{
	char path[64], target[64];
	int status = 0;
	pid_t peer = fork();

	if (peer == 0) {
		struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
		struct __user_cap_data_struct none[2] = {{0}};
		if (syscall(SYS_capset, &head, none) < 0)
			_exit(2);
		(void)snprintf(path, sizeof path, "/proc/%d/root", pid);
		_exit(readlink(path, target, sizeof target) >= 0);
	}
	CHECK_EQ(waitpid(peer, &status, 0), peer);
	return WEXITSTATUS(status);
}

#endif
