/* The monitor's health checks with launchers of this test's own: when one begins, what its end makes of the health, what is written. */
#include "check.h"
#include "monitor.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[] = "/tmp/pct-health-XXXXXX";
static struct monitor m;

/* --- what the rest of the monitor would do ------------------------------------------------------------------------- */

static struct {
	const char *verb;
	int launched, reapings, told, theirs, fails_with;
	uint64_t flags; /* field 9 of the container's stat */
} world = {.theirs = -1};

int pc_launch(struct monitor *mon, const char *verb, const char *plan, const int *fds, int n, int *answer)
{
	int pair[2];

	(void)mon;
	CHECK_EQ(strcmp(plan, "health-plan"), 0);
	CHECK_EQ(n, strcmp(verb, "check") == 0 ? 9 : 0);
	for (int i = 0; i < n; i++)
		CHECK(fds[i] >= 3 || (i >= 3 && i <= 7 && fds[i] == -1));
	world.verb = verb;
	world.launched++;
	if (world.fails_with)
		return -world.fails_with;
	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	*answer = pair[0];
	fd_close(&world.theirs);
	world.theirs = pair[1];
	return 1 << 30; /* nobody's number */
}

void pc_life_reap(struct monitor *mon)
{
	(void)mon;
	world.reapings++;
}

void pc_event(struct monitor *mon, const char *action, const char *more)
{
	CHECK(mon == &m);
	CHECK_EQ(*more, '\0');
	CHECK_EQ(strcmp(action, m.health.status == HEALTH_GOOD ? "health_status: healthy" : "health_status: unhealthy"), 0);
	world.told++;
}

uint64_t pc_stat_field(int pid, int field)
{
	CHECK_EQ(pid, m.pid);
	CHECK_EQ(field, 9);
	return world.flags;
}

/* --- stories ------------------------------------------------------------------------------------------------------- */

static void fresh(const char *numbers)
{
	for (int i = 3; i < 64; i++)
		if (i != m.data && i != m.null)
			(void)close(i);
	const int data = m.data, null = m.null;
	memset(&m, 0, sizeof m);
	memset(&world, 0, sizeof world);
	world.theirs = -1;
	m.data = data;
	m.null = null;
	m.health.enter = m.health.answer = m.health.out = -1;
	m.health.due_at = m.health.kill_at = FOREVER;
	CHECK(pc_health_ask(&m.health, numbers));
	m.phase = RUNNING;
	m.pid = getpid();
	m.ran = true;
	pc_instant_now(&m.started);
	pc_health_begin(&m);
}

static void answer(int err, int pid)
{
	const struct pc_launch_answer a = {.err = err, .pid = pid, .report = {.step = PC_STEP_LOOKUP, .err = err}};

	CHECK_EQ(send(world.theirs, &a, sizeof a, 0), (long)sizeof a);
	pc_health_answer(&m);
}

static void ends(int code, int status)
{
	siginfo_t info = {.si_code = code};

	info.si_pid = m.health.pid; /* members of unions: one initializer would clear the other's */
	info.si_status = status;
	CHECK(pc_health_reaped(&m, &info));
}

static void cleaned(void)
{
	pc_health_go_on(&m, sys_now_ns());
	CHECK_EQ(strcmp(world.verb, "finish"), 0);
	answer(0, -1);
	CHECK_EQ(m.health.check, CHECK_NONE);
}

static void one_check(int code, int status)
{
	pc_health_go_on(&m, m.health.due_at);
	CHECK_EQ(m.health.check, CHECK_STARTING);
	CHECK_EQ(strcmp(world.verb, "check"), 0);
	answer(0, 1 << 29);
	CHECK_EQ(m.health.check, CHECK_RUNNING);
	ends(code, status);
	CHECK_EQ(m.health.check, CHECK_ENDED);
	cleaned();
}

static char *text_of(const char *name)
{
	static char text[65536];
	char path[128];

	(void)snprintf(path, sizeof path, "%s/%s", directory, name);
	FILE *f = fopen(path, "r");
	size_t n = f != NULL ? fread(text, 1, sizeof text - 1, f) : 0;
	if (f != NULL)
		(void)fclose(f);
	text[n] = '\0';
	return text;
}

static void words(void)
{
	static const char *const wrong[] = {"", "1:1:1:1", "1:1:1:1:1:1", "0:1:1:1:1", "1:0:1:1:1", "1:1:1:0:1", "1:1:1:1:0",
					    "1:1:1:1:4294967296", "1:x:1:1:1", "-1:1:1:1:1", "99999999999999999999999:1:1:1:1"};
	struct health h = {.wanted = false};

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		CHECK(!pc_health_ask(&h, wrong[i]));
	CHECK(pc_health_ask(&h, "30000000000:1000000:0:5000000000:3"));
	CHECK_EQ((long)h.interval_ns, 30000000000);
	CHECK_EQ((long)h.timeout_ns, 1000000);
	CHECK_EQ((long)h.start_period_ns, 0);
	CHECK_EQ((long)h.start_interval_ns, 5000000000);
	CHECK_EQ(h.retries, 3);
}

static void counting(void)
{
	fresh("1000000000:1000000000:0:1:2");
	CHECK(m.health.due_at >= m.started.at_ns + SECOND);
	pc_health_go_on(&m, m.health.due_at - 1);
	CHECK_EQ(world.launched, 0);
	one_check(CLD_EXITED, 1);
	CHECK_EQ(m.health.status, HEALTH_STARTING);
	CHECK_EQ(m.health.streak, 1);
	one_check(CLD_KILLED, 9);
	CHECK_EQ(m.health.status, HEALTH_BAD);
	CHECK(strstr(text_of("state"), "\"health\":\"unhealthy\"") != NULL);
	CHECK(strstr(text_of("health.1"), "\"number\":1,") != NULL);
	CHECK(strstr(text_of("health.1"), "\"exit_code\":137,\"failing_streak\":2,") != NULL);
	one_check(CLD_EXITED, 0);
	CHECK_EQ(m.health.status, HEALTH_GOOD);
	CHECK_EQ(m.health.streak, 0);
	one_check(CLD_EXITED, 1);
	CHECK_EQ(m.health.status, HEALTH_GOOD);
	CHECK_EQ(m.health.streak, 1);
	one_check(CLD_EXITED, 0);
	one_check(CLD_EXITED, 0);
	CHECK(strstr(text_of("health.0"), "\"number\":5,") != NULL); /* the sixth, over the first */
	CHECK_EQ(world.told, 2); /* each change, and nothing else */
	pc_health_begin(&m);
	CHECK_EQ(text_of("health.0")[0], '\0');
	CHECK_EQ(m.health.status, HEALTH_STARTING);
}

static void start_period(void)
{
	fresh("3600000000000:1000000000:1800000000000:1000:1");
	CHECK(m.health.due_at < sys_now_ns() + SECOND); /* the start interval */
	one_check(CLD_EXITED, 1);
	one_check(CLD_EXITED, 1);
	CHECK_EQ(m.health.status, HEALTH_STARTING);
	CHECK_EQ(m.health.streak, 0);
	one_check(CLD_EXITED, 0);
	CHECK_EQ(m.health.status, HEALTH_GOOD);
	CHECK(m.health.due_at > sys_now_ns() + 1000 * SECOND);
	one_check(CLD_EXITED, 1); /* it has been healthy: now it counts */
	CHECK_EQ(m.health.status, HEALTH_BAD);
}

static void time_is_up(void)
{
	fresh("1000000:1000000:0:1:1");
	pc_health_go_on(&m, m.health.due_at);
	CHECK_EQ((long)pc_health_deadline(&m), (long)m.health.kill_at);
	pc_health_go_on(&m, m.health.kill_at); /* the launcher has not even answered */
	CHECK_EQ(strcmp(world.verb, "finish"), 0);
	CHECK(strstr(text_of("health.0"), "\"exit_code\":4294967295,\"failing_streak\":1,\"timed_out\":true") != NULL);
	answer(0, -1);
	pc_health_go_on(&m, m.health.due_at);
	answer(0, 1 << 29);
	pc_health_go_on(&m, m.health.kill_at);
	CHECK_EQ(m.health.check, CHECK_CLEANING);
	answer(0, -1);
	CHECK_EQ(m.health.check, CHECK_CLEANING); /* it is not reaped yet: no other begins */
	pc_health_go_on(&m, m.health.due_at);
	CHECK_EQ(m.health.check, CHECK_CLEANING);
	ends(CLD_KILLED, 9);
	CHECK_EQ(m.health.check, CHECK_NONE);
	CHECK_EQ(m.health.number, 2);
}

static void not_started(void)
{
	fresh("1000000:1000000:0:1:9");
	pc_health_go_on(&m, m.health.due_at);
	answer(ENOENT, -1);
	CHECK(strstr(text_of("health.0"), "\"error_step\":\"find program\",\"error_errno\":2,") != NULL);
	cleaned();
	pc_health_go_on(&m, m.health.due_at); /* the launcher is killed: the end of file */
	fd_close(&world.theirs);
	pc_health_answer(&m);
	CHECK(strstr(text_of("health.1"), "\"error_step\":\"run launcher\",") != NULL);
	cleaned();
	world.fails_with = EAGAIN; /* no process can be made, not even to clean */
	pc_health_go_on(&m, m.health.due_at);
	CHECK_EQ(m.health.check, CHECK_NONE);
	CHECK_EQ(m.health.streak, 3);
	world.fails_with = 0;
	pc_health_go_on(&m, m.health.due_at);
	const struct pc_launch_answer later = {.err = EAGAIN, .pid = -1};
	CHECK_EQ(send(world.theirs, &later, sizeof later, 0), (long)sizeof later);
	pc_health_answer(&m); /* somebody holds the container still */
	CHECK_EQ(m.health.check, CHECK_NONE);
	CHECK_EQ(m.health.streak, 3);
	one_check(CLD_EXITED, 0);
}

static void what_does_not_count(void)
{
	fresh("1000000:60000000000:0:1:1");
	pc_health_go_on(&m, m.health.due_at);
	answer(0, 1 << 29);
	world.flags = 4; /* the container is about to end, and takes the check with it */
	ends(CLD_KILLED, 9);
	CHECK_EQ(m.health.number, 0);
	cleaned();
	world.flags = 0;
	pc_health_go_on(&m, m.health.due_at);
	m.paused = true;
	pc_health_pause(&m);
	answer(0, 1 << 29); /* it has begun all the same: it is killed, and its traces stay until the container goes on */
	CHECK_EQ(m.health.check, CHECK_ENDED);
	pc_health_go_on(&m, m.health.due_at);
	CHECK_EQ(m.health.check, CHECK_ENDED);
	CHECK_EQ((long)pc_health_deadline(&m), (long)FOREVER);
	ends(CLD_KILLED, 9);
	m.paused = false;
	pc_health_pause(&m);
	cleaned();
	CHECK_EQ(m.health.number, 0);
	pc_health_go_on(&m, m.health.due_at);
	pc_health_end(&m);
	CHECK_EQ(m.health.answer, -1);
	CHECK_EQ(m.health.check, CHECK_NONE);
	CHECK_EQ((long)pc_health_deadline(&m), (long)FOREVER);
}

static void output(void)
{
	static char big[5000];

	fresh("1000000:60000000000:0:1:1");
	pc_health_go_on(&m, m.health.due_at);
	int pair[2];
	CHECK_EQ(pipe2(pair, O_CLOEXEC), 0);
	fd_close(&m.health.out);
	m.health.out = pair[0];
	(void)fcntl(pair[0], F_SETFL, O_NONBLOCK);
	answer(0, 1 << 29);
	memset(big, 1, sizeof big); /* each byte becomes six */
	CHECK_EQ(write(pair[1], "a\"\\\n\xff", 5), 5);
	CHECK_EQ(write(pair[1], big, sizeof big), (long)sizeof big);
	pc_health_read(&m);
	ends(CLD_EXITED, 0); /* the other end is still open: somebody else has it */
	char *text = text_of("health.0");
	CHECK(strstr(text, "\"cut\":true,") != NULL);
	char *said = strstr(text, "\"output\":\"");
	CHECK(said != NULL && strncmp(said + 10, "a\\u0022\\u005c\\u000a\\u00ff\\u0001\\u0001", 36) == 0);
	CHECK_EQ(strlen(said), 10 + 1 + 6 * 4095 + strlen("\"}\n"));
	(void)close(pair[1]);
}

int main(void)
{
	CHECK(mkdtemp(directory) != NULL);
	m.data = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	m.null = open("/dev/null", O_RDWR | O_CLOEXEC);
	RUN(words);
	RUN(counting);
	RUN(start_period);
	RUN(time_is_up);
	RUN(not_started);
	RUN(what_does_not_count);
	RUN(output);
	char command[128];
	(void)snprintf(command, sizeof command, "rm -rf %s", directory);
	CHECK_EQ(system(command), 0);
	return check_result();
}
