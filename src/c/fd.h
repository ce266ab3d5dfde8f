/* Scoped file descriptors: `scoped_fd int fd = -1;` is closed when it leaves scope; fd_take() gives it away. */
#ifndef PC_FD_H
#define PC_FD_H

#include "sys.h"

static inline int fd_take(int *fd)
{
	int given = *fd;
	*fd = -1;
	return given;
}

/* Never retried on EINTR: Linux has already freed the number, and a second close could hit someone else's fd. */
static inline void fd_close(int *fd)
{
	if (*fd >= 0)
		(void)sys_close(*fd);
	*fd = -1;
}

#define scoped_fd __attribute__((cleanup(fd_close)))

#endif
