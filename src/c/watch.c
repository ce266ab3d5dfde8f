/* Waiting for what others write: inotify, to which Python has no door. */
#include "job.h"

#include <sys/inotify.h>

PC_EXPORT int pc_watch_directory(const char *path)
{
	const int fd = (int)PC_SYS1(SYS_inotify_init1, IN_NONBLOCK | IN_CLOEXEC);
	const int err = fd < 0 ? fd : (int)PC_SYS3(SYS_inotify_add_watch, fd, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);

	if (fd >= 0 && err < 0)
		(void)sys_close(fd);
	return err < 0 ? err : fd;
}
