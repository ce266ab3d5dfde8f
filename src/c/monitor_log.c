/* The log: one JSON object a line, as Docker's json-file driver writes it, for any bytes.
 *
 *   {"log":"text\n","stream":"stdout","time":"2026-11-25T09:00:00.123456789Z"}
 *
 * A line of more than 16 KiB comes in pieces, of which only the last has "\n", and all have the time of the first. Bytes that
 * are no UTF-8 become U+FFFD. Many lines are one write. What cannot be written, for a disk is full, is counted and forgotten: the
 * container is not to stand still for its log.
 */
#include "monitor.h"

#include <errno.h>
#include <sys/mman.h>

enum { BUFFER = 131072, FLUSH_AT = 65536, OVERHEAD = 96 };

static struct line lines[STREAMS];
static uint8_t buffer[BUFFER] __attribute__((aligned(4096)));

static uint8_t *put(uint8_t *to, const char *text)
{
	while (*text != '\0')
		*to++ = (uint8_t)*text++;
	return to;
}

/* --- text ------------------------------------------------------------------------------------------------------- */

/* As they are in a JSON string; Docker's encoder escapes what HTML could mistake, too. */
static const bool plain[256] = {
	[0x20 ... 0x21] = true, [0x23 ... 0x25] = true, [0x27 ... 0x3b] = true, [0x3d] = true, [0x3f ... 0x5b] = true,
	[0x5d ... 0x7f] = true,
};

static size_t length_by_first(uint8_t c)
{
	return c < 0xc2 || c > 0xf4 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* Of the UTF-8 character at `p`; 0 when it is none: cut, overlong, a surrogate, beyond U+10FFFF. */
static size_t character(const uint8_t *p, const uint8_t *end)
{
	const size_t n = length_by_first(p[0]);
	const uint8_t low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80, high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;

	if (n == 0 || (size_t)(end - p) < n || p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

static uint8_t *escape(uint8_t *to, uint8_t c)
{
	static const char hex[] = "0123456789abcdef";

	*to++ = '\\';
	if (c == '"' || c == '\\' || c == '\n' || c == '\r') {
		*to++ = c == '\n' ? 'n' : c == '\r' ? 'r' : c;
		return to;
	}
	to = put(to, "u00");
	*to++ = (uint8_t)hex[c >> 4];
	*to++ = (uint8_t)hex[c & 15];
	return to;
}

/* At most six bytes for each. */
static uint8_t *encode(uint8_t *to, const uint8_t *p, const uint8_t *end)
{
	while (p < end) {
		if (plain[*p]) {
			*to++ = *p++;
		} else if (*p < 0x80) {
			to = escape(to, *p++);
		} else {
			size_t n = character(p, end);
			if (n == 3 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] & 0xfe) == 0xa8) { /* U+2028, U+2029: lines to JavaScript */
				to = put(to, "\\u202");
				*to++ = p[2] == 0xa8 ? '8' : '9';
			} else if (n == 0) {
				to = put(to, "\\ufffd");
				n = 1;
			} else {
				for (size_t i = 0; i < n; i++)
					*to++ = p[i];
			}
			p += n;
		}
	}
	return to;
}

/* --- the file --------------------------------------------------------------------------------------------------- */

static int open_log(int dir, const char *name, int flags)
{
	return sys_openat(dir, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | flags, 0640);
}

int pc_log_open(struct log *l, int dir)
{
	struct statx st;
	int err;

	l->dir = dir;
	l->fd = open_log(dir, "log", 0);
	if (l->fd < 0)
		return l->fd;
	if ((err = sys_statx(l->fd, "", AT_EMPTY_PATH, STATX_SIZE, &st)) == 0)
		l->size = st.stx_size;
	return err;
}

static const char *name_of(char name[16], uint32_t n)
{
	char *at = name;

	for (const char *s = "log"; *s != '\0';)
		*at++ = *s++;
	if (n > 0) {
		*at++ = '.';
		at += pc_digits(at, n);
	}
	*at = '\0';
	return name;
}

/* The new file first: without it nothing is renamed, and the old one grows on. */
static void rotate(struct log *l)
{
	char from[16], to[16];

	if (l->max_file <= 1) {
		if (sys_ftruncate(l->fd, 0) == 0)
			l->size = 0;
		return;
	}
	int next = open_log(l->dir, "log.new", O_TRUNC);
	if (next < 0)
		return;
	for (uint32_t n = l->max_file - 1; n > 0; n--)
		(void)sys_renameat(l->dir, name_of(from, n - 1), l->dir, name_of(to, n)); /* there may be fewer yet */
	(void)sys_renameat(l->dir, "log.new", l->dir, "log");
	(void)sys_close(l->fd);
	l->fd = next;
	l->size = 0;
}

/* Whole or not at all: half a line would spoil the next one. */
static int append(struct log *l, const uint8_t *data, size_t n)
{
	for (size_t done = 0; done < n;) {
		long wrote = sys_write(l->fd, data + done, n - done);
		if (wrote == -EINTR)
			continue;
		if (wrote <= 0) {
			if (done > 0)
				(void)sys_ftruncate(l->fd, l->size);
			return wrote < 0 ? (int)wrote : -EIO;
		}
		done += (size_t)wrote;
	}
	l->size += n;
	return 0;
}

static uint8_t *end_of_line(uint8_t *to, int stream, const uint8_t stamp[STAMP])
{
	to = put(to, stream == 0 ? "\",\"stream\":\"stdout\",\"time\":\"" : "\",\"stream\":\"stderr\",\"time\":\"");
	for (int i = 0; i < STAMP; i++)
		*to++ = stamp[i];
	return put(to, "\"}\n");
}

static void stamp_now(uint8_t stamp[STAMP])
{
	struct timespec t;

	(void)sys_clock_gettime(CLOCK_REALTIME, &t); /* cannot fail for this clock */
	pc_stamp(stamp, &t);
}

/* Once there is room again: how much is not here. */
static int say_what_is_lost(struct log *l)
{
	uint8_t text[256], stamp[STAMP], *to = text;
	char digits[20];

	to = put(to, "{\"log\":\"pycontain: ");
	for (size_t i = 0, n = pc_digits(digits, l->unsaid); i < n; i++)
		*to++ = (uint8_t)digits[i];
	to = put(to, " bytes of output are not in this log: it could not be written (errno ");
	for (size_t i = 0, n = pc_digits(digits, (uint64_t)-l->err); i < n; i++)
		*to++ = (uint8_t)digits[i];
	to = put(to, ")\\n");
	stamp_now(stamp);
	to = end_of_line(to, 1, stamp);
	int err = append(l, text, (size_t)(to - text));
	if (err == 0)
		l->unsaid = 0;
	return err;
}

static void flush(struct log *l)
{
	int err = 0;

	if (l->n > 0) {
		if (l->unsaid > 0)
			err = say_what_is_lost(l);
		if (err == 0)
			err = append(l, buffer, l->n);
		if (err < 0) {
			l->err = err;
			l->lost += l->pending;
			l->unsaid += l->pending;
		}
		l->n = 0;
		l->pending = 0;
	}
	if (l->fd >= 0 && l->max_size > 0 && l->size >= l->max_size)
		rotate(l);
}

/* --- lines ------------------------------------------------------------------------------------------------------ */

/* `more`: of the line follows. */
static void emit(struct log *l, int stream, const uint8_t *stamp, const uint8_t *data, size_t n, bool more)
{
	struct line *line = &lines[stream];
	const bool whole = n > 0 && data[n - 1] == '\n';

	if (l->journal >= 0) {
		pc_journal_send(l, stream, data, n - whole, more);
		return;
	}
	if (!line->goes_on)
		for (int i = 0; i < STAMP; i++)
			line->stamp[i] = stamp[i];
	if (l->n + 6 * n + OVERHEAD > BUFFER)
		flush(l);
	uint8_t *to = put(buffer + l->n, "{\"log\":\"");
	to = encode(to, data, data + n);
	to = end_of_line(to, stream, line->stamp);
	l->n = (size_t)(to - buffer);
	l->pending += n;
	line->goes_on = !whole;
	if (l->n >= FLUSH_AT || (l->max_size > 0 && l->size + l->n >= l->max_size))
		flush(l);
}

/* Of a full piece of a line, how much to write: no character is cut in two. */
static size_t whole_characters(const uint8_t *data, size_t n)
{
	for (size_t back = 1; back <= 3; back++) {
		if (length_by_first(data[n - back]) > back)
			return n - back;
		if ((data[n - back] & 0xc0) != 0x80)
			break;
	}
	return n;
}

/* A line that is in the chunk as a whole is not copied. */
void pc_log_write(struct log *l, int stream, const uint8_t *data, size_t n)
{
	struct line *line = &lines[stream];
	uint8_t stamp[STAMP];

	if (l->fd < 0 && l->journal < 0)
		return;
	stamp_now(stamp);
	while (n > 0) {
		const size_t room = PIECE - line->n, most = n < room ? n : room;
		size_t take = 0;
		while (take < most && data[take] != '\n')
			take++;
		const bool ends = take < most;
		take += ends;
		if (line->n == 0 && (ends || take == PIECE)) {
			if (!ends)
				take = whole_characters(data, take);
			emit(l, stream, stamp, data, take, !ends);
		} else {
			for (size_t i = 0; i < take; i++)
				line->bytes[line->n++] = data[i];
			if (ends || line->n == PIECE) {
				const size_t whole = ends ? line->n : whole_characters(line->bytes, line->n);
				emit(l, stream, stamp, line->bytes, whole, !ends);
				for (size_t i = whole; i < line->n; i++)
					line->bytes[i - whole] = line->bytes[i];
				line->n -= (uint32_t)whole;
			}
		}
		data += take;
		n -= take;
	}
	flush(l);
}

void pc_log_end(struct log *l)
{
	uint8_t stamp[STAMP];

	if (l->fd < 0 && l->journal < 0)
		return;
	stamp_now(stamp);
	for (int s = 0; s < STREAMS; s++) {
		if (lines[s].n > 0)
			emit(l, s, stamp, lines[s].bytes, lines[s].n, false);
		lines[s].n = 0;
		lines[s].goes_on = false;
	}
	flush(l);
	if (l->unsaid > 0)
		(void)say_what_is_lost(l); /* else the state alone has it */
}

void pc_log_release(void)
{
	(void)sys_madvise(buffer, sizeof buffer, MADV_DONTNEED);
}
