/* Usage from cgroup directories that this test writes itself: both versions' forms, and what no kernel would say. */
#include "check.h"
#include "plan.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/pycontain-usage-XXXXXX";

static void put(const char *file, const char *text)
{
	char path[256];

	(void)snprintf(path, sizeof path, "%s/%s", dir, file);
	FILE *f = fopen(path, "we");
	if (f == NULL)
		abort();
	CHECK(fputs(text, f) >= 0);
	CHECK_EQ(fclose(f), 0);
}

static void drop(const char *file)
{
	char path[256];

	(void)snprintf(path, sizeof path, "%s/%s", dir, file);
	(void)unlink(path);
}

static struct pc_usage usage_of(uint32_t kind, int expected)
{
	struct pc_usage u = {0};

	CHECK_EQ(pc_usage_read(kind, dir, &u), expected);
	CHECK_EQ(u.have, expected == 0 ? 1u << kind : 0);
	return u;
}

static void cpu_v1(void)
{
	(void)usage_of(PC_USAGE_CPU_V1, -ENOENT);
	put("cpuacct.usage", "1000000\n");
	(void)usage_of(PC_USAGE_CPU_V1, -ENOENT);
	put("cpuacct.usage_user", "300\n");
	put("cpuacct.usage_sys", "100\n");
	struct pc_usage u = usage_of(PC_USAGE_CPU_V1, 0);
	CHECK_EQ(u.cpu_total_ns, 1000000);
	CHECK_EQ(u.cpu_user_ns, 750000);
	CHECK_EQ(u.cpu_system_ns, 250000);
}

/* Past 2^53 ns (104 days) a double rounds up: the system part was then minus one, that is 1.8e19. */
static void cpu_v1_after_104_days(void)
{
	put("cpuacct.usage", "9007199254740995\n");
	put("cpuacct.usage_user", "5\n");
	put("cpuacct.usage_sys", "0\n");
	struct pc_usage u = usage_of(PC_USAGE_CPU_V1, 0);
	CHECK_EQ(u.cpu_user_ns, 9007199254740995);
	CHECK_EQ(u.cpu_system_ns, 0);
	put("cpuacct.usage", "18446744073709551615\n");
	put("cpuacct.usage_user", "18446744073709551615\n");
	put("cpuacct.usage_sys", "18446744073709551615\n");
	u = usage_of(PC_USAGE_CPU_V1, 0);
	CHECK(u.cpu_user_ns == UINT64_MAX / 2 && u.cpu_system_ns == UINT64_MAX / 2 + 1);
}

static void cpu_v2(void)
{
	(void)usage_of(PC_USAGE_CPU_V2, -ENOENT);
	put("cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 0\n");
	struct pc_usage u = usage_of(PC_USAGE_CPU_V2, 0);
	CHECK(u.cpu_total_ns == 30000 && u.cpu_user_ns == 20000 && u.cpu_system_ns == 10000);
	put("cpu.stat", "xusage_usec 9\nusage_usecs 9\nusage_usec"); /* none of these is the key */
	u = usage_of(PC_USAGE_CPU_V2, 0);
	CHECK_EQ(u.cpu_total_ns, 0);
	put("cpu.stat", "");
	u = usage_of(PC_USAGE_CPU_V2, 0);
	CHECK_EQ(u.cpu_total_ns, 0);
}

static void memory_v1(void)
{
	(void)usage_of(PC_USAGE_MEMORY_V1, -ENOENT);
	put("memory.max_usage_in_bytes", "4096\n");
	put("memory.oom_control", "oom_kill_disable 7\nunder_oom 0\noom_kill 2\n");
	struct pc_usage u = usage_of(PC_USAGE_MEMORY_V1, 0);
	CHECK(u.memory_peak_bytes == 4096 && u.oom_kills == 2);
	put("memory.max_usage_in_bytes", "99999999999999999999999999\n");
	CHECK(usage_of(PC_USAGE_MEMORY_V1, 0).memory_peak_bytes == UINT64_MAX);
	put("memory.max_usage_in_bytes", "lots\n");
	CHECK(usage_of(PC_USAGE_MEMORY_V1, 0).memory_peak_bytes == 0);
}

static void memory_v2(void)
{
	(void)usage_of(PC_USAGE_MEMORY_V2, -ENOENT);
	put("memory.events", "low 0\nhigh 0\nmax 9\noom 3\noom_kill 1\noom_group_kill 5\n");
	/* before 5.19 there is no memory.peak: nothing is claimed, but the kills are told */
	CHECK_EQ(usage_of(PC_USAGE_MEMORY_V2, -ENOENT).oom_kills, 1);
	put("memory.peak", "8192\n");
	struct pc_usage u = usage_of(PC_USAGE_MEMORY_V2, 0);
	CHECK(u.memory_peak_bytes == 8192 && u.oom_kills == 1);
}

static void io(void)
{
	static char lines[40000];
	size_t n = 0;

	(void)usage_of(PC_USAGE_IO_V1, -ENOENT);
	(void)usage_of(PC_USAGE_IO_V2, -ENOENT);
	put("blkio.throttle.io_service_bytes_recursive", "8:0 Read 5\n8:0 Write 7\n8:0 Total 12\n8:16 Read 1\nTotal 13\n");
	struct pc_usage u = usage_of(PC_USAGE_IO_V1, 0);
	CHECK(u.io_read_bytes == 6 && u.io_write_bytes == 7);
	put("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0\n8:16 rbytes=1 wbytes=\n");
	u = usage_of(PC_USAGE_IO_V2, 0);
	CHECK(u.io_read_bytes == 11 && u.io_write_bytes == 20);
	while (n < sizeof lines - 64) /* more devices than the buffer holds: cut, not overrun */
		n += (size_t)snprintf(lines + n, sizeof lines - n, "8:0 rbytes=1 wbytes=1 rios=0 wios=0\n");
	put("io.stat", lines);
	CHECK(usage_of(PC_USAGE_IO_V2, 0).io_read_bytes > 400);
}

static void kinds_and_directories_that_are_none(void)
{
	struct pc_usage u = {0};

	CHECK_EQ(pc_usage_read(PC_USAGE_KINDS, dir, &u), -EINVAL);
	CHECK_EQ(pc_usage_read(UINT32_MAX, dir, &u), -EINVAL);
	CHECK_EQ(pc_usage_read(PC_USAGE_CPU_V2, "/nowhere", &u), -ENOENT);
	CHECK_EQ(pc_usage_read(PC_USAGE_CPU_V2, "/etc/passwd", &u), -ENOTDIR);
	CHECK_EQ(u.have, 0);
}

int main(void)
{
	static const char *const made[] = {"cpuacct.usage", "cpuacct.usage_user", "cpuacct.usage_sys", "cpu.stat",
					   "memory.max_usage_in_bytes", "memory.oom_control", "memory.events",
					   "memory.peak", "blkio.throttle.io_service_bytes_recursive", "io.stat"};

	if (mkdtemp(dir) == NULL)
		return 1;
	RUN(cpu_v1);
	RUN(cpu_v1_after_104_days);
	RUN(cpu_v2);
	RUN(memory_v1);
	RUN(memory_v2);
	RUN(io);
	RUN(kinds_and_directories_that_are_none);
	for (size_t i = 0; i < sizeof made / sizeof *made; i++)
		drop(made[i]);
	CHECK_EQ(rmdir(dir), 0);
	return check_result();
}
