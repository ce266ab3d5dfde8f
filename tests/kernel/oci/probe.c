/* The program that runs inside the containers of the comparison: prints one JSON object, then waits for a byte on stdin.
 *
 * Static, so that any root works; as dumb as it can be: files are printed as they are and read by findings.py. It runs
 * as PID 1 of the container itself, because what it inherits from the runtime is what we want to know.
 *
 * argv: an argument with a colon asks for one thing more, which becomes the field of that name (see `answers`).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static int fields;

static void json(const char *text, size_t length)
{
    putchar('"');
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c > 0x7e)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void put_bytes(const char *name, const char *value, size_t length)
{
    printf("%s", fields++ ? ", " : "");
    json(name, strlen(name));
    printf(": ");
    json(value, length);
}

__attribute__((format(printf, 2, 3))) static void put(const char *name, const char *format, ...)
{
    char value[8192];
    va_list rest;
    va_start(rest, format);
    vsnprintf(value, sizeof(value), format, rest);
    va_end(rest);
    put_bytes(name, value, strlen(value));
}

static void put_error(const char *name)
{
    put(name, "%s", strerrorname_np(errno));
}

static void put_result(const char *name, long result)
{
    if (result < 0)
        put_error(name);
    else
        put(name, "ok");
}

static void put_file(const char *name, const char *path)
{
    static char content[1 << 16];
    size_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        put_error(name);
        return;
    }
    for (;;) {
        ssize_t n = read(fd, content + length, sizeof(content) - length);
        if (n < 0) {
            put_error(name);
            close(fd);
            return;
        }
        length += (size_t)n;
        if (n == 0 || length == sizeof(content))
            break;
    }
    close(fd);
    put_bytes(name, content, length);
}

static void put_link(const char *name, const char *path)
{
    char target[4096];
    ssize_t n = readlink(path, target, sizeof(target));
    if (n < 0)
        put_error(name);
    else
        put_bytes(name, target, (size_t)n);
}

static void describe(char *out, size_t size, const char *path, int follow)
{
    static const char *const types[16] = {[1] = "p", [2] = "c", [4] = "d", [6] = "b", [8] = "-", [10] = "l", [12] = "s"};
    struct stat st;
    char target[256] = "";
    if ((follow ? stat(path, &st) : lstat(path, &st)) < 0) {
        snprintf(out, size, "%s", strerrorname_np(errno));
        return;
    }
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        target[n < 0 ? 0 : n] = 0;
        snprintf(out, size, "l -> %s", target);
    } else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
        snprintf(out, size, "%s%04o %u:%u %u:%u", types[st.st_mode >> 12], st.st_mode & 07777, st.st_uid, st.st_gid,
                 major(st.st_rdev), minor(st.st_rdev));
    else
        snprintf(out, size, "%s%04o %u:%u", types[st.st_mode >> 12], st.st_mode & 07777, st.st_uid, st.st_gid);
}

static int names(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

/* One line for each entry: name, type, mode, owner, device. */
static void put_listing(const char *name, const char *path)
{
    struct dirent **found;
    char all[8192] = "", line[1024], full[4096];
    int count = scandir(path, &found, names, alphasort);
    if (count < 0) {
        put_error(name);
        return;
    }
    for (int i = 0; i < count; i++) {
        snprintf(full, sizeof(full), "%s/%s", path, found[i]->d_name);
        describe(line, sizeof(line), full, 0);
        size_t used = strlen(all);
        snprintf(all + used, sizeof(all) - used, "%s %s\n", found[i]->d_name, line);
    }
    put_bytes(name, all, strlen(all));
}

static void put_names(const char *name, const char *path)
{
    struct dirent **found;
    char all[8192] = "";
    int count = scandir(path, &found, names, alphasort);
    for (int i = 0; i < count; i++) {
        size_t used = strlen(all);
        snprintf(all + used, sizeof(all) - used, "%s%s", i ? " " : "", found[i]->d_name);
    }
    put_bytes(name, all, strlen(all));
}

static void put_fds(void)
{
    char all[4096] = "", path[64], target[256];
    for (int fd = 0; fd < 256; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags < 0)
            continue;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        target[n < 0 ? 0 : n] = 0;
        struct stat st;
        fstat(fd, &st);
        size_t used = strlen(all);
        snprintf(all + used, sizeof(all) - used, "%d %s %u:%u %04o %s\n", fd, target, st.st_uid, st.st_gid,
                 st.st_mode & 07777, fcntl(fd, F_GETFL) & O_NONBLOCK ? "nonblock" : "");
    }
    put_bytes("fds", all, strlen(all));
}

static void put_signals(void)
{
    char all[1024] = "";
    for (int number = 1; number < 65; number++) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL) {
            size_t used = strlen(all);
            snprintf(all + used, sizeof(all) - used, "%d ", number);
        }
    }
    put("signals not default", "%s", all);
}

static void put_scheduling(void)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = {.size = sizeof(attr)};
    if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) < 0)
        put_error("scheduler");
    else
        put("scheduler", "policy %u flags %lu nice %d priority %u runtime %lu deadline %lu period %lu", attr.policy,
            (unsigned long)attr.flags, attr.nice, attr.priority, attr.policy == 6 ? (unsigned long)attr.runtime : 0UL,
            (unsigned long)attr.deadline, (unsigned long)attr.period);
    put("ioprio", "%ld", syscall(SYS_ioprio_get, 1, 0));
    int mode = -1;
    unsigned long nodes[16] = {0};
    if (syscall(SYS_get_mempolicy, &mode, nodes, sizeof(nodes) * 8, NULL, 0) < 0)
        put_error("mempolicy");
    else
        put("mempolicy", "%d nodes %lx", mode, nodes[0]);
}

static void put_terminal(void)
{
    struct winsize size;
    struct termios modes;
    char path[256];
    put("tty.fds", "%d%d%d", isatty(0), isatty(1), isatty(2));
    if (!isatty(0))
        return;
    if (ioctl(0, TIOCGWINSZ, &size) == 0)
        put("tty.size", "%u %u", size.ws_row, size.ws_col);
    put("tty.name", "%s", ttyname_r(0, path, sizeof(path)) == 0 ? path : "?");
    put("tty.session is mine", "%d", tcgetsid(0) == getsid(0));
    put("tty.foreground is mine", "%d", tcgetpgrp(0) == getpgrp());
    if (tcgetattr(0, &modes) == 0)
        put("tty.modes", "i%x o%x l%x c%x", modes.c_iflag, modes.c_oflag, modes.c_lflag, modes.c_cflag);
    describe(path, sizeof(path), "/proc/self/fd/0", 1);
    put("tty.node", "%s", path);
}

static void put_self(int argc, char **argv, char **envp)
{
    char all[8192] = "", path[4096];
    for (int i = 0; i < argc; i++) {
        size_t used = strlen(all);
        snprintf(all + used, sizeof(all) - used, "%s%s", i ? " " : "", argv[i]);
    }
    put("argv", "%s", all);
    put("argv0", "%s", argv[0]);
    all[0] = 0;
    for (char **e = envp; *e; e++) {
        size_t used = strlen(all);
        snprintf(all + used, sizeof(all) - used, "%s\n", *e);
    }
    put_bytes("environ", all, strlen(all));
    put("cwd", "%s", getcwd(path, sizeof(path)) ? path : strerrorname_np(errno));
    put("pid", "%d", getpid());
    put("session leader", "%d", getsid(0) == getpid());
    put("group leader", "%d", getpgrp() == getpid());
    put("parent visible", "%d", getppid() != 0);
    put("controlling terminal", "%d", open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY) >= 0);
    int number = 0, subreaper = 0;
    prctl(PR_GET_PDEATHSIG, &number);
    put("pdeathsig", "%d", number);
    prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
    put("subreaper", "%d", subreaper);
    put("dumpable", "%d", prctl(PR_GET_DUMPABLE));
    put("keepcaps", "%d", prctl(PR_GET_KEEPCAPS));
    put("securebits", "%d", prctl(PR_GET_SECUREBITS));
    put("thp disabled", "%d", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    put("timerslack", "%d", prctl(PR_GET_TIMERSLACK));
    put("personality", "%x", (unsigned)personality(0xffffffff));
    struct utsname uts;
    uname(&uts);
    put("hostname", "%s", uts.nodename);
    put("domainname", "%s", uts.domainname);
    put("machine", "%s", uts.machine);
    long n = syscall(SYS_keyctl, KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, path, sizeof(path));
    put("keyring", "%s", n < 0 ? strerrorname_np(errno) : path);
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    put("clock.boottime", "%ld", (long)t.tv_sec);
    clock_gettime(CLOCK_MONOTONIC, &t);
    put("clock.monotonic", "%ld", (long)t.tv_sec);
    struct if_nameindex *links = if_nameindex();
    all[0] = 0;
    for (struct if_nameindex *l = links; l && l->if_name; l++) {
        struct ifreq request = {0};
        snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", l->if_name);
        int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        ioctl(s, SIOCGIFFLAGS, &request);
        close(s);
        size_t used = strlen(all);
        snprintf(all + used, sizeof(all) - used, "%s%s ", l->if_name, request.ifr_flags & IFF_UP ? "+up" : "");
    }
    put("interfaces", "%s", all);
}

static const char *const proc_files[] = {
    "status", "mountinfo", "limits", "attr/current", "oom_score_adj", "cgroup", "uid_map", "gid_map", "setgroups",
    "timens_offsets", "comm", "loginuid", "coredump_filter", "autogroup",
};

static void put_proc(void)
{
    char name[64], path[96];
    for (size_t i = 0; i < sizeof(proc_files) / sizeof(*proc_files); i++) {
        snprintf(name, sizeof(name), "proc.%s", proc_files[i]);
        snprintf(path, sizeof(path), "/proc/self/%s", proc_files[i]);
        put_file(name, path);
    }
    static const char *const spaces[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
    for (size_t i = 0; i < sizeof(spaces) / sizeof(*spaces); i++) {
        snprintf(name, sizeof(name), "ns.%s", spaces[i]);
        snprintf(path, sizeof(path), "/proc/self/ns/%s", spaces[i]);
        put_link(name, path);
    }
    put_listing("dev", "/dev");
    put_names("root", "/");
    describe(path, sizeof(path), "/", 0);
    put("root itself", "%s", path);
}

static const struct {
    const char *name;
    long number;
} calls[] = {
    {"getpid", SYS_getpid},       {"getppid", SYS_getppid}, {"mkdirat", SYS_mkdirat},         {"personality", SYS_personality},
    {"socket", SYS_socket},       {"sync", SYS_sync},       {"getpriority", SYS_getpriority}, {"kill", SYS_kill},
    {"sethostname", SYS_sethostname}, {"unshare", SYS_unshare}, {"keyctl", SYS_keyctl},       {"getpgid", SYS_getpgid},
    {"sched_yield", SYS_sched_yield}, {"umask", SYS_umask},  {"ptrace", SYS_ptrace},
};

/* In a child, because the answer may be a signal. */
static void put_call(const char *name, char *text)
{
    long number = -1, a[6] = {0};
    char *word = strtok(text, ":");
    for (size_t i = 0; word && i < sizeof(calls) / sizeof(*calls); i++)
        if (strcmp(calls[i].name, word) == 0)
            number = calls[i].number;
    for (int i = 0; i < 6 && (word = strtok(NULL, ":")); i++)
        a[i] = (long)strtoull(word, NULL, 0);
    int *answer = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        long r = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        *answer = r < 0 ? errno : 0;
        _exit(0);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        put_error(name);
    else if (WIFSIGNALED(status))
        put(name, "killed by SIG%s", sigabbrev_np(WTERMSIG(status)));
    else
        put(name, "%s", *answer == 0 ? "ok" : strerrorname_np(*answer) ? strerrorname_np(*answer) : "errno?");
    if (*answer && !strerrorname_np(*answer))
        put("errno", "%d", *answer);
    munmap(answer, 4096);
}

static void put_exec(const char *name, const char *path)
{
    int *answer = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        *answer = 0;
        execl(path, "exit", (char *)NULL);
        *answer = errno;
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    put(name, "%s", *answer ? strerrorname_np(*answer) : "ok");
    munmap(answer, 4096);
}

static void put_open(const char *name, char *text)
{
    char *path = strchr(text, ':');
    *path++ = 0;
    int flags = strcmp(text, "rw") == 0 ? O_RDWR : strcmp(text, "w") == 0 ? O_WRONLY : O_RDONLY;
    if (strcmp(text, "new") == 0)
        flags = O_WRONLY | O_CREAT | O_EXCL;
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
    put_result(name, fd);
    if (fd >= 0)
        close(fd);
}

static void put_write(const char *name, char *text)
{
    char *value = strrchr(text, '=');
    *value++ = 0;
    int fd = open(text, O_WRONLY | O_CLOEXEC);
    put_result(name, fd < 0 ? fd : write(fd, value, strlen(value)));
    close(fd);
}

static void put_mknod(const char *name, char *text)
{
    char path[4096], type;
    unsigned major_number, minor_number;
    sscanf(text, "%c:%u:%u:%4000s", &type, &major_number, &minor_number, path);
    mode_t mode = type == 'c' ? S_IFCHR : type == 'b' ? S_IFBLK : S_IFIFO;
    put_result(name, mknod(path, mode | 0600, makedev(major_number, minor_number)));
    unlink(path);
}

static void put_statfs(const char *name, const char *path)
{
    struct statfs fs;
    if (statfs(path, &fs) < 0)
        put_error(name);
    else
        put(name, "type %lx flags %lx", (unsigned long)fs.f_type, (unsigned long)fs.f_flags);
}

static void answers(char *request)
{
    char text[4096], line[1024];
    char *rest = strchr(request, ':');
    size_t length = (size_t)(rest++ - request);
    snprintf(text, sizeof(text), "%s", rest);
    if (strncmp(request, "file", length) == 0)
        put_file(request, rest);
    else if (strncmp(request, "link", length) == 0)
        put_link(request, rest);
    else if (strncmp(request, "ls", length) == 0)
        put_listing(request, rest);
    else if (strncmp(request, "stat", length) == 0) {
        describe(line, sizeof(line), rest, 1);
        put(request, "%s", line);
    } else if (strncmp(request, "fs", length) == 0)
        put_statfs(request, rest);
    else if (strncmp(request, "open", length) == 0)
        put_open(request, text);
    else if (strncmp(request, "write", length) == 0)
        put_write(request, text);
    else if (strncmp(request, "mkdir", length) == 0)
        put_result(request, mkdir(rest, 0777));
    else if (strncmp(request, "mknod", length) == 0)
        put_mknod(request, text);
    else if (strncmp(request, "exec", length) == 0)
        put_exec(request, rest);
    else if (strncmp(request, "call", length) == 0)
        put_call(request, text);
}

int main(int argc, char **argv, char **envp)
{
    if (strcmp(argv[0], "exit") == 0) /* what put_exec executes */
        return 0;
    static char buffer[1 << 17];
    setvbuf(stdout, buffer, _IOFBF, sizeof(buffer));
    printf("{");
    put_fds(); /* first, before anything here is open */
    put_self(argc, argv, envp);
    put_signals();
    put_scheduling();
    put_terminal();
    put_proc();
    for (int i = 1; i < argc; i++)
        if (strchr(argv[i], ':'))
            answers(argv[i]);
    printf("}\n");
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) < 0 && errno == EINTR)
        ;
    return 7; /* not 0: a runtime that loses the exit code is found out */
}
