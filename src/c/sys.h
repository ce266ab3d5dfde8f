/* One thin inline wrapper per raw system call; each returns the kernel's answer, -errno on failure.
 *
 * Why not libc: the child half (child.c) runs between clone3 and execve in memory that it shares with a threaded
 * process, and the static programs carry no libc. A raw call touches no errno, no lock and no thread-local storage.
 * No policy here: retries, fall-backs and paths belong to the callers.
 */
#ifndef PC_SYS_H
#define PC_SYS_H

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>

/* Newer than some libc headers we build against. The numbers are the same on every architecture. */
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef SYS_open_tree_attr
#define SYS_open_tree_attr 467
#endif

#if defined(__x86_64__)
static inline long pc_syscall(long n, long a, long b, long c, long d, long e, long f)
{
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(ret) : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
#elif defined(__aarch64__)
static inline long pc_syscall(long n, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
#else
#error "pycontain knows x86_64 and aarch64: add the system call instruction of this architecture to sys.h"
#endif

#define PC_SYS0(n) pc_syscall(n, 0, 0, 0, 0, 0, 0)
#define PC_SYS1(n, a) pc_syscall(n, (long)(a), 0, 0, 0, 0, 0)
#define PC_SYS2(n, a, b) pc_syscall(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define PC_SYS3(n, a, b, c) pc_syscall(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define PC_SYS4(n, a, b, c, d) pc_syscall(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define PC_SYS5(n, a, b, c, d, e) pc_syscall(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

/* files */
static inline int sys_openat(int dirfd, const char *path, int flags, unsigned mode)
{
	return (int)PC_SYS4(SYS_openat, dirfd, path, flags, mode);
}

static inline int sys_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
	struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
	return (int)PC_SYS4(SYS_openat2, dirfd, path, &how, sizeof how);
}

static inline int sys_close(int fd) { return (int)PC_SYS1(SYS_close, fd); }
static inline int sys_readlinkat(int dirfd, const char *path, char *buf, size_t n)
{
	return (int)PC_SYS4(SYS_readlinkat, dirfd, path, buf, n);
}
static inline int sys_fchownat(int dirfd, const char *path, unsigned uid, unsigned gid, int flags)
{
	return (int)PC_SYS5(SYS_fchownat, dirfd, path, uid, gid, flags);
}
static inline long sys_read(int fd, void *buf, size_t n) { return PC_SYS3(SYS_read, fd, buf, n); }
static inline long sys_write(int fd, const void *buf, size_t n) { return PC_SYS3(SYS_write, fd, buf, n); }
static inline long sys_writev(int fd, const struct iovec *iov, int n) { return PC_SYS3(SYS_writev, fd, iov, n); }
static inline long sys_lseek(int fd, long to, int whence) { return PC_SYS3(SYS_lseek, fd, to, whence); }
static inline int sys_mkdirat(int dirfd, const char *path, unsigned mode) { return (int)PC_SYS3(SYS_mkdirat, dirfd, path, mode); }
static inline int sys_unlinkat(int dirfd, const char *path, int flags) { return (int)PC_SYS3(SYS_unlinkat, dirfd, path, flags); }
static inline int sys_symlinkat(const char *target, int dirfd, const char *path) { return (int)PC_SYS3(SYS_symlinkat, target, dirfd, path); }
static inline int sys_mknodat(int dirfd, const char *path, unsigned mode, unsigned dev)
{
	return (int)PC_SYS4(SYS_mknodat, dirfd, path, mode, dev);
}
static inline int sys_renameat(int olddir, const char *oldp, int newdir, const char *newp)
{
	return (int)PC_SYS5(SYS_renameat2, olddir, oldp, newdir, newp, 0);
}
static inline long sys_pwrite(int fd, const void *buf, size_t n, uint64_t offset)
{
	return PC_SYS4(SYS_pwrite64, fd, buf, n, offset);
}
static inline int sys_ftruncate(int fd, uint64_t size) { return (int)PC_SYS2(SYS_ftruncate, fd, size); }
static inline int sys_linkat(int olddir, const char *oldp, int newdir, const char *newp)
{
	return (int)PC_SYS5(SYS_linkat, olddir, oldp, newdir, newp, 0);
}
static inline int sys_utimensat(int dirfd, const char *path, const struct timespec times[2], int flags)
{
	return (int)PC_SYS4(SYS_utimensat, dirfd, path, times, flags);
}
static inline int sys_fsetxattr(int fd, const char *name, const void *value, size_t n)
{
	return (int)PC_SYS5(SYS_fsetxattr, fd, name, value, n, 0);
}
static inline long sys_fgetxattr(int fd, const char *name, void *value, size_t n)
{
	return PC_SYS4(SYS_fgetxattr, fd, name, value, n);
}
static inline int sys_removexattr(const char *path, const char *name) { return (int)PC_SYS2(SYS_removexattr, path, name); }
static inline int sys_fremovexattr(int fd, const char *name) { return (int)PC_SYS2(SYS_fremovexattr, fd, name); }
static inline int sys_fstatfs(int fd, struct statfs *out) { return (int)PC_SYS2(SYS_fstatfs, fd, out); }
static inline int sys_fchmod(int fd, unsigned mode) { return (int)PC_SYS2(SYS_fchmod, fd, mode); }
static inline int sys_fchown(int fd, unsigned uid, unsigned gid) { return (int)PC_SYS3(SYS_fchown, fd, uid, gid); }
static inline int sys_fchmodat(int dirfd, const char *path, unsigned mode) { return (int)PC_SYS3(SYS_fchmodat, dirfd, path, mode); }
static inline int sys_fchmodat2(int dirfd, const char *path, unsigned mode, int flags) /* Linux 6.6 */
{
	return (int)PC_SYS4(SYS_fchmodat2, dirfd, path, mode, flags);
}
static inline int sys_faccessat(int dirfd, const char *path, int mode) { return (int)PC_SYS3(SYS_faccessat, dirfd, path, mode); }
static inline int sys_statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *out)
{
	return (int)PC_SYS5(SYS_statx, dirfd, path, flags, mask, out);
}
static inline long sys_getdents64(int fd, void *buf, size_t n) { return PC_SYS3(SYS_getdents64, fd, buf, n); }
static inline long sys_getcwd(char *buf, size_t n) { return PC_SYS2(SYS_getcwd, buf, n); }
static inline int sys_fchdir(int fd) { return (int)PC_SYS1(SYS_fchdir, fd); }
static inline int sys_chdir(const char *path) { return (int)PC_SYS1(SYS_chdir, path); }
static inline int sys_chroot(const char *path) { return (int)PC_SYS1(SYS_chroot, path); }
static inline unsigned sys_umask(unsigned mask) { return (unsigned)PC_SYS1(SYS_umask, mask); }
static inline int sys_dup3(int from, int to, int flags) { return (int)PC_SYS3(SYS_dup3, from, to, flags); }
static inline int sys_fcntl(int fd, int cmd, long arg) { return (int)PC_SYS3(SYS_fcntl, fd, cmd, arg); }
static inline int sys_ioctl(int fd, unsigned long req, void *arg) { return (int)PC_SYS3(SYS_ioctl, fd, req, arg); }
static inline int sys_pipe2(int fds[2], int flags) { return (int)PC_SYS2(SYS_pipe2, fds, flags); }
static inline int sys_flock(int fd, int how) { return (int)PC_SYS2(SYS_flock, fd, how); }
static inline int sys_fsync(int fd) { return (int)PC_SYS1(SYS_fsync, fd); }
static inline int sys_madvise(void *at, size_t n, int advice) { return (int)PC_SYS3(SYS_madvise, at, n, advice); }
static inline int sys_close_range(unsigned first, unsigned last, unsigned flags)
{
	return (int)PC_SYS3(SYS_close_range, first, last, flags);
}

static inline void *sys_mmap(size_t n, int prot, int flags, int fd) /* above -4096: -errno */
{
	return (void *)pc_syscall(SYS_mmap, 0, (long)n, prot, flags, fd, 0);
}

static inline int sys_munmap(void *at, size_t n) { return (int)PC_SYS2(SYS_munmap, at, n); }

/* mounts */
static inline int sys_mount(const char *src, const char *dst, const char *type, unsigned long flags, const void *data)
{
	return (int)PC_SYS5(SYS_mount, src, dst, type, flags, data);
}
static inline int sys_umount2(const char *path, int flags) { return (int)PC_SYS2(SYS_umount2, path, flags); }
static inline int sys_pivot_root(const char *root, const char *old) { return (int)PC_SYS2(SYS_pivot_root, root, old); }
static inline int sys_fsopen(const char *type, unsigned flags) { return (int)PC_SYS2(SYS_fsopen, type, flags); }
static inline int sys_fspick(int dirfd, const char *path, unsigned flags) { return (int)PC_SYS3(SYS_fspick, dirfd, path, flags); }
static inline int sys_fsconfig(int fd, unsigned cmd, const char *key, const void *value, int aux)
{
	return (int)PC_SYS5(SYS_fsconfig, fd, cmd, key, value, aux);
}
static inline int sys_fsmount(int fd, unsigned flags, unsigned attr) { return (int)PC_SYS3(SYS_fsmount, fd, flags, attr); }
static inline int sys_open_tree(int dirfd, const char *path, unsigned flags) { return (int)PC_SYS3(SYS_open_tree, dirfd, path, flags); }
static inline int sys_move_mount(int from, const char *fromp, int to, const char *top, unsigned flags)
{
	return (int)PC_SYS5(SYS_move_mount, from, fromp, to, top, flags);
}
static inline int sys_mount_setattr(int dirfd, const char *path, unsigned flags, void *attr, size_t size)
{
	return (int)PC_SYS5(SYS_mount_setattr, dirfd, path, flags, attr, size);
}
static inline int sys_open_tree_attr(int dirfd, const char *path, unsigned flags, void *attr, size_t size)
{
	return (int)PC_SYS5(SYS_open_tree_attr, dirfd, path, flags, attr, size);
}

/* processes, identity, namespaces */
static inline int sys_unshare(unsigned long flags) { return (int)PC_SYS1(SYS_unshare, flags); }
static inline int sys_setns(int fd, int type) { return (int)PC_SYS2(SYS_setns, fd, type); }
static inline int sys_prctl(int op, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	return (int)PC_SYS5(SYS_prctl, op, a, b, c, d);
}
static inline int sys_setresuid(unsigned r, unsigned e, unsigned s) { return (int)PC_SYS3(SYS_setresuid, r, e, s); }
static inline int sys_setresgid(unsigned r, unsigned e, unsigned s) { return (int)PC_SYS3(SYS_setresgid, r, e, s); }
static inline int sys_setgroups(size_t n, const uint32_t *list) { return (int)PC_SYS2(SYS_setgroups, n, list); }
static inline int sys_getgroups(int n, uint32_t *list) { return (int)PC_SYS2(SYS_getgroups, n, list); }
static inline int sys_capset(struct __user_cap_header_struct *h, struct __user_cap_data_struct *d)
{
	return (int)PC_SYS2(SYS_capset, h, d);
}
static inline int sys_pidfd_getfd(int pidfd, int fd) { return (int)PC_SYS3(SYS_pidfd_getfd, pidfd, fd, 0); }
static inline int sys_sched_setattr(const void *attr) { return (int)PC_SYS3(SYS_sched_setattr, 0, attr, 0); }
static inline int sys_ioprio_set(int value) { return (int)PC_SYS3(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, value); }
static inline int sys_personality(unsigned long persona) { return (int)PC_SYS1(SYS_personality, persona); }
static inline int sys_set_mempolicy(int mode, const void *nodes, unsigned long bits)
{
	return (int)PC_SYS3(SYS_set_mempolicy, mode, nodes, bits);
}
static inline int sys_keyctl_join(const char *name) { return (int)PC_SYS2(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, name); }
static inline int sys_clone3(struct clone_args *args) { return (int)PC_SYS2(SYS_clone3, args, sizeof *args); }
static inline int sys_clone(unsigned long flags, int *pidfd) /* on the caller's own stack, copied */
{
	return (int)PC_SYS5(SYS_clone, flags, 0, pidfd, 0, 0);
}
static inline int sys_setrlimit(int resource, const struct rlimit *lim)
{
	return (int)PC_SYS4(SYS_prlimit64, 0, resource, lim, 0);
}
static inline int sys_setsid(void) { return (int)PC_SYS0(SYS_setsid); }
static inline int sys_getpid(void) { return (int)PC_SYS0(SYS_getpid); }
static inline int sys_sethostname(const char *s, size_t n) { return (int)PC_SYS2(SYS_sethostname, s, n); }
static inline int sys_setdomainname(const char *s, size_t n) { return (int)PC_SYS2(SYS_setdomainname, s, n); }
static inline int sys_seccomp(unsigned op, unsigned flags, void *arg) { return (int)PC_SYS3(SYS_seccomp, op, flags, arg); }
static inline int sys_execve(const char *path, char *const argv[], char *const envp[])
{
	return (int)PC_SYS3(SYS_execve, path, argv, envp);
}
static inline void __attribute__((noreturn)) sys_exit_group(int status)
{
	for (;;)
		(void)PC_SYS1(SYS_exit_group, status);
}
static inline int sys_kill(int pid, int sig) { return (int)PC_SYS2(SYS_kill, pid, sig); }
static inline int sys_pidfd_open(int pid, unsigned flags) { return (int)PC_SYS2(SYS_pidfd_open, pid, flags); }
static inline int sys_pidfd_send_signal(int pidfd, int sig) { return (int)PC_SYS4(SYS_pidfd_send_signal, pidfd, sig, 0, 0); }
static inline int sys_waitid(int type, int id, siginfo_t *info, int options, struct rusage *ru)
{
	return (int)PC_SYS5(SYS_waitid, type, id, info, options, ru);
}
static inline unsigned sys_geteuid(void) { return (unsigned)PC_SYS0(SYS_geteuid); }
static inline int sys_getppid(void) { return (int)PC_SYS0(SYS_getppid); }

/* signals: the kernel's own struct, since libc's hides the restorer */
struct pc_ksigaction {
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};
static inline int sys_execveat(int fd, const char *path, char *const argv[], char *const envp[], int flags)
{
	return (int)PC_SYS5(SYS_execveat, fd, path, argv, envp, flags);
}
static inline int sys_sigaction(int sig, const struct pc_ksigaction *act)
{
	return (int)PC_SYS4(SYS_rt_sigaction, sig, act, 0, sizeof(uint64_t));
}
static inline int sys_sigprocmask(int how, const uint64_t *set)
{
	return (int)PC_SYS4(SYS_rt_sigprocmask, how, set, 0, sizeof(uint64_t));
}

static inline int sys_signalfd4(int fd, const uint64_t *set, int flags)
{
	return (int)PC_SYS4(SYS_signalfd4, fd, set, sizeof *set, flags);
}

/* sockets, clocks, polling */
static inline int sys_socket(int domain, int type, int proto) { return (int)PC_SYS3(SYS_socket, domain, type, proto); }
static inline int sys_socketpair(int domain, int type, int proto, int *fds)
{
	return (int)PC_SYS4(SYS_socketpair, domain, type, proto, fds);
}
static inline int sys_bind(int fd, const void *addr, unsigned len) { return (int)PC_SYS3(SYS_bind, fd, addr, len); }
static inline int sys_listen(int fd, int backlog) { return (int)PC_SYS2(SYS_listen, fd, backlog); }
static inline int sys_accept4(int fd, int flags) { return (int)PC_SYS4(SYS_accept4, fd, 0, 0, flags); }
static inline int sys_getsockopt(int fd, int level, int name, void *value, unsigned *len)
{
	return (int)PC_SYS5(SYS_getsockopt, fd, level, name, value, len);
}
static inline int sys_setsockopt(int fd, int level, int name, const void *value, unsigned len)
{
	return (int)PC_SYS5(SYS_setsockopt, fd, level, name, value, len);
}
static inline long sys_send(int fd, const void *buf, size_t n, int flags)
{
	return pc_syscall(SYS_sendto, fd, (long)buf, (long)n, flags, 0, 0);
}
static inline long sys_sendmsg(int fd, const struct msghdr *msg, int flags) { return PC_SYS3(SYS_sendmsg, fd, msg, flags); }
static inline long sys_recvmsg(int fd, struct msghdr *msg, int flags) { return PC_SYS3(SYS_recvmsg, fd, msg, flags); }
static inline int sys_clock_gettime(int clock, struct timespec *ts) { return (int)PC_SYS2(SYS_clock_gettime, clock, ts); }
static inline uint64_t sys_now_ns(void)
{
	struct timespec ts = {0, 0};
	(void)sys_clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail for this clock */
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
struct pollfd;
static inline int sys_ppoll(struct pollfd *fds, unsigned n, const struct timespec *timeout)
{
	return (int)PC_SYS5(SYS_ppoll, fds, n, timeout, 0, sizeof(uint64_t));
}
static inline void sys_sleep_ns(long ns)
{
	struct timespec ts = {ns / 1000000000, ns % 1000000000};
	(void)PC_SYS2(SYS_nanosleep, &ts, 0); /* a shorter sleep only means an earlier retry */
}

#endif
