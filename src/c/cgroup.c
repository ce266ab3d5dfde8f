/* Control groups: limited in the parent half, read and removed when all is over. cgroup_join.c joins them. */
#include "job.h"
#include "tree.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>

static int bpf(unsigned cmd, union bpf_attr *attr)
{
	/* full size, zeroed: kernels 6.17 to 7.1 write past a shorter struct */
	return (int)PC_SYS3(SYS_bpf, cmd, attr, sizeof *attr);
}

int pc_cgroup_attach_devices(int dirfd, const void *program, uint32_t len)
{
	union bpf_attr attr;
	scoped_fd int dir = sys_openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	if (dir < 0)
		return dir;
	memset(&attr, 0, sizeof attr);
	attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attr.insns = (uint64_t)(uintptr_t)program;
	attr.insn_cnt = (uint32_t)(len / sizeof(struct bpf_insn));
	attr.license = (uint64_t)(uintptr_t) "Apache-2.0";
	scoped_fd int prog = bpf(BPF_PROG_LOAD, &attr);
	if (prog < 0)
		return prog;
	memset(&attr, 0, sizeof attr);
	attr.target_fd = (uint32_t)dir;
	attr.attach_bpf_fd = (uint32_t)prog;
	attr.attach_type = BPF_CGROUP_DEVICE;
	attr.attach_flags = BPF_F_ALLOW_MULTI;
	return bpf(BPF_PROG_ATTACH, &attr);
}

/* --- usage ------------------------------------------------------------------------------------------------------ */

static int read_file(const char *dir, const char *file, char *buf, size_t room)
{
	scoped_fd int at = pc_cgroup_open(dir);

	if (at < 0)
		return at;
	scoped_fd int fd = sys_openat(at, file, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	size_t used = 0;
	for (long n; used < room - 1 && (n = sys_read(fd, buf + used, room - 1 - used)) != 0; used += (size_t)n)
		if (n < 0)
			return (int)n;
	buf[used] = '\0';
	return 0;
}

static int read_number(const char *dir, const char *file, uint64_t *out)
{
	char buf[64];
	int err = read_file(dir, file, buf, sizeof buf);

	if (err == 0)
		*out = strtoull(buf, NULL, 10);
	return err;
}

/* The number after "key " at the start of a line; 0 when the key is absent. */
static uint64_t keyed(const char *text, const char *key)
{
	size_t n = strlen(key);

	for (const char *line = text; line != NULL; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		if (strncmp(line, key, n) == 0 && line[n] == ' ')
			return strtoull(line + n + 1, NULL, 10);
	return 0;
}

/* The sum of the numbers after every occurrence of `key` (io.stat: "8:0 rbytes=1 ..."; blkio: "8:0 Read 1"). */
static uint64_t summed(const char *text, const char *key)
{
	uint64_t sum = 0;

	for (const char *s = text; (s = strstr(s, key)) != NULL;) {
		s += strlen(key);
		sum += strtoull(s, NULL, 10);
	}
	return sum;
}

/* cpuacct splits user and system by clock ticks, the total is exact: the split is scaled to the total. */
static int cpu_v1(const char *dir, struct pc_usage *u)
{
	uint64_t user = 0, system = 0;
	int err = read_number(dir, "cpuacct.usage", &u->cpu_total_ns);

	if (err < 0 || (err = read_number(dir, "cpuacct.usage_user", &user)) < 0 ||
	    (err = read_number(dir, "cpuacct.usage_sys", &system)) < 0)
		return err;
	/* exact: a double would round past the total from 104 days of CPU time on */
	unsigned __int128 ticks = (unsigned __int128)user + system;
	u->cpu_user_ns = ticks ? (uint64_t)((unsigned __int128)u->cpu_total_ns * user / ticks) : 0;
	u->cpu_system_ns = u->cpu_total_ns - u->cpu_user_ns;
	return 0;
}

static int cpu_v2(const char *dir, struct pc_usage *u)
{
	char buf[4096];
	int err = read_file(dir, "cpu.stat", buf, sizeof buf);

	if (err < 0)
		return err;
	u->cpu_total_ns = keyed(buf, "usage_usec") * 1000;
	u->cpu_user_ns = keyed(buf, "user_usec") * 1000;
	u->cpu_system_ns = keyed(buf, "system_usec") * 1000;
	return 0;
}

static int memory_v1(const char *dir, struct pc_usage *u)
{
	char buf[512];
	int err = read_number(dir, "memory.max_usage_in_bytes", &u->memory_peak_bytes);

	if (err < 0 || (err = read_file(dir, "memory.oom_control", buf, sizeof buf)) < 0)
		return err;
	u->oom_kills = keyed(buf, "oom_kill");
	return 0;
}

static int memory_v2(const char *dir, struct pc_usage *u)
{
	char buf[512];
	int err = read_file(dir, "memory.events", buf, sizeof buf);

	if (err < 0)
		return err;
	u->oom_kills = keyed(buf, "oom_kill");
	return read_number(dir, "memory.peak", &u->memory_peak_bytes); /* 5.19; absent before: nothing is claimed */
}

static int io_v1(const char *dir, struct pc_usage *u)
{
	char buf[16384];
	int err = read_file(dir, "blkio.throttle.io_service_bytes_recursive", buf, sizeof buf);

	if (err < 0)
		return err;
	u->io_read_bytes = summed(buf, " Read ");
	u->io_write_bytes = summed(buf, " Write ");
	return 0;
}

static int io_v2(const char *dir, struct pc_usage *u)
{
	char buf[16384];
	int err = read_file(dir, "io.stat", buf, sizeof buf);

	if (err < 0)
		return err;
	u->io_read_bytes = summed(buf, " rbytes=");
	u->io_write_bytes = summed(buf, " wbytes=");
	return 0;
}

PC_EXPORT int pc_usage_read(uint32_t kind, const char *dir, struct pc_usage *usage)
{
	static int (*const readers[PC_USAGE_KINDS])(const char *, struct pc_usage *) = {
		[PC_USAGE_CPU_V1] = cpu_v1,	  [PC_USAGE_CPU_V2] = cpu_v2, [PC_USAGE_MEMORY_V1] = memory_v1,
		[PC_USAGE_MEMORY_V2] = memory_v2, [PC_USAGE_IO_V1] = io_v1,   [PC_USAGE_IO_V2] = io_v2,
	};

	if (kind >= PC_USAGE_KINDS)
		return -EINVAL;
	int err = readers[kind](dir, usage);
	if (err == 0)
		usage->have |= 1u << kind;
	return err;
}

PC_EXPORT int pc_remove_tree(const char *path)
{
	return pc_tree_remove(path);
}

PC_EXPORT int pc_remove_cgroup(const char *path)
{
	return pc_cgroup_remove(path);
}
