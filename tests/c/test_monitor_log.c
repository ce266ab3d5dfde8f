/* The monitor's log and its instants, with a libc and under sanitizers: bytes of every kind in pieces of every size. */
#include "check.h"
#include "monitor.h"

#include <locale.h>
#include <unistd.h>

static char directory[] = "/tmp/pct-log-XXXXXX";
static int dir;
static uint64_t seed = 1;

static uint32_t some(uint32_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % below;
}

static char *written(const char *name, size_t *n)
{
	char path[64];

	(void)snprintf(path, sizeof path, "%s/%s", directory, name);
	FILE *f = fopen(path, "r");
	CHECK(f != NULL);
	char *text = calloc(1, 1 << 24);
	*n = f != NULL && text != NULL ? fread(text, 1, (1 << 24) - 1, f) : 0;
	if (f != NULL)
		(void)fclose(f);
	return text;
}

static void in_pieces(const uint8_t *data, size_t n, struct log *l)
{
	for (size_t at = 0; at < n;) {
		size_t take = 1 + some(some(4) == 0 ? CHUNK : 40);
		take = take < n - at ? take : n - at;
		pc_log_write(l, 0, data + at, take);
		at += take;
	}
	pc_log_end(l);
}

static struct log new_log(void)
{
	struct log l = {.max_file = 1, .fd = -1, .journal = -1};

	(void)unlinkat(dir, "log", 0);
	CHECK_EQ(pc_log_open(&l, dir), 0);
	return l;
}

/* What the "log" members hold, one after another, in place; how many objects there were. */
static size_t joined(char *text, size_t *n)
{
	size_t out = 0, objects = 0;

	for (char *line = text, *end; (end = memchr(line, '\n', (size_t)(text + *n - line))) != NULL; line = end + 1) {
		size_t before = out;
		objects++;
		CHECK_EQ(memcmp(line, "{\"log\":\"", 8), 0);
		CHECK_EQ(memcmp(end - 2, "\"}", 2), 0);
		for (char *s = line + 8; s < end && *s != '"'; s++) {
			CHECK((unsigned char)*s >= 0x20);
			if (*s != '\\') {
				text[out++] = *s;
			} else if (*++s == 'u') {
				text[out++] = (char)strtoul((char[]){s[1], s[2], s[3], s[4], '\0'}, NULL, 16);
				s += 4;
			} else {
				text[out++] = *s == 'n' ? '\n' : *s == 'r' ? '\r' : *s;
			}
		}
		CHECK(out - before <= PIECE);
	}
	*n = out;
	return objects;
}

static void every_line_comes_out_as_it_went_in(void)
{
	static uint8_t data[1 << 19];
	size_t n;

	for (int round = 0; round < 20; round++) {
		struct log l = new_log();
		const uint32_t line = 1 + some(40000);
		for (size_t i = 0; i < sizeof data; i++)
			data[i] = some(line) == 0 ? '\n' : (uint8_t)some(128);
		in_pieces(data, sizeof data, &l);
		char *text = written("log", &n);
		CHECK_EQ(n, l.size);
		(void)joined(text, &n);
		CHECK_EQ(n, sizeof data);
		CHECK_EQ(memcmp(text, data, n < sizeof data ? n : sizeof data), 0);
		free(text);
		(void)close(l.fd);
	}
}

static void no_bytes_make_anything_but_utf8(void)
{
	static uint8_t data[1 << 18];
	size_t n;

	CHECK(setlocale(LC_ALL, "C.UTF-8") != NULL);
	for (int round = 0; round < 20; round++) {
		struct log l = new_log();
		for (size_t i = 0; i < sizeof data; i++)
			data[i] = (uint8_t)(some(3) == 0 ? 0xe0 + some(32) : 0x7e + some(0x42));
		in_pieces(data, sizeof data, &l);
		char *text = written("log", &n);
		CHECK(mbstowcs(NULL, text, 0) != (size_t)-1);
		CHECK(joined(text, &n) >= sizeof data / PIECE);
		free(text);
		(void)close(l.fd);
	}
}

/* The longest that a piece can become. */
static void a_piece_of_which_every_byte_becomes_six(void)
{
	static uint8_t data[4 * PIECE];
	struct log l = new_log();
	size_t n;

	memset(data, 1, sizeof data);
	in_pieces(data, sizeof data, &l);
	char *text = written("log", &n);
	CHECK(n > 6 * sizeof data);
	CHECK_EQ(joined(text, &n), 4);
	CHECK_EQ(n, sizeof data);
	free(text);
	(void)close(l.fd);
}

static void instants_are_those_of_the_calendar(void)
{
	for (int i = 0; i < 20000; i++) {
		const struct timespec t = {.tv_sec = (time_t)some(1u << 31) * 100 + some(100), .tv_nsec = (long)some(1000000000)};
		char stamp[STAMP + 1] = "", expected[64], seconds[32];
		struct tm tm;
		if (gmtime_r(&t.tv_sec, &tm) == NULL || tm.tm_year + 1900 > 9999)
			continue;
		pc_stamp((uint8_t *)stamp, &t);
		(void)strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &tm);
		(void)snprintf(expected, sizeof expected, "%s.%09ldZ", seconds, t.tv_nsec);
		CHECK_EQ(strcmp(stamp, expected), 0);
	}
}

int main(void)
{
	CHECK(mkdtemp(directory) != NULL);
	dir = open(directory, O_RDONLY | O_DIRECTORY);
	RUN(every_line_comes_out_as_it_went_in);
	RUN(no_bytes_make_anything_but_utf8);
	RUN(a_piece_of_which_every_byte_becomes_six);
	RUN(instants_are_those_of_the_calendar);
	(void)unlinkat(dir, "log", 0);
	(void)close(dir);
	(void)rmdir(directory);
	return check_result();
}
