/* pycontain-guardian: cleans up after an owner that could not (kill -9). One per process that starts containers, and one
 * for as long as somebody holds another process's container still, or nobody a terminal that a program has been left on.
 *
 *   pycontain-guardian CGROUP_DIR ... -- TREE ...
 *   pycontain-guardian thaw FILE WORD
 *   pycontain-guardian drain
 *
 * fd 3 is the read end of a pipe whose write end only the owner has. End of file there, or the end of the parent
 * process (the owner), means the owner has gone: everything in the cgroup directories is killed, they are removed, then
 * the trees; or WORD is written to FILE of a cgroup's freezer, in which nobody could help himself. An owner that ends in order removes its own things first, and this finds nothing to do. Waits in poll,
 * wakes for nothing else; linked without libc, so that it costs a few pages. With "drain", fd 3 is a terminal's master: what is
 * written there is nobody's, until nobody has the terminal any more.
 */
#include "fd.h"
#include "start.h"
#include "tree.h"

#include <errno.h>
#include <poll.h>

static void wait_for_owner(void)
{
	int owner = sys_getppid();
	int pidfd = owner > 1 ? sys_pidfd_open(owner, 0) : -1;
	struct pollfd fds[2] = {{.fd = 3, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};

	if (sys_getppid() != owner)
		return; /* it ended between the two calls */
	for (;;) {
		int n = sys_ppoll(fds, 2, NULL);
		if (n == -EINTR || n == 0)
			continue;
		return;
	}
}

static void thaw(const char *file, const char *word)
{
	size_t n = 0;
	scoped_fd int fd = sys_openat(AT_FDCWD, file, O_WRONLY | O_CLOEXEC, 0);

	while (word[n])
		n++;
	if (fd >= 0)
		(void)sys_write(fd, word, n); /* nobody to tell; it has ended, most likely */
}

static void drain(void)
{
	struct pollfd master = {.fd = 3, .events = POLLIN}; /* who had it before may have made it non-blocking */
	char buffer[4096];

	for (;;) {
		(void)sys_ppoll(&master, 1, NULL);
		long n = sys_read(3, buffer, sizeof buffer);
		if (n <= 0 && n != -EAGAIN && n != -EINTR)
			return; /* EIO: nobody has it open */
	}
}

int program(int argc, char **argv, char **envp)
{
	const uint64_t all = ~0ULL;
	int i = 1;

	(void)envp;
	(void)sys_sigprocmask(SIG_BLOCK, &all); /* a terminal's Ctrl-C or hang-up is not for us */
	if (argc == 2 && argv[1][0] == 'd') {
		drain();
		return 0;
	}
	wait_for_owner();
	if (argc == 4 && argv[1][0] == 't') { /* a cgroup's directory is an absolute path */
		thaw(argv[2], argv[3]);
		return 0;
	}
	for (; i < argc && !(argv[i][0] == '-' && argv[i][1] == '-'); i++) {
		(void)pc_cgroup_remove(argv[i]); /* nobody to tell; the next start sweeps what is left */
		pc_parent_remove(argv[i]);
	}
	for (i++; i < argc; i++)
		(void)pc_tree_remove(argv[i]);
	return 0;
}
