/* The numbers of a header: octal or base-256 fields, decimal pax records, times. */
#include "tar.h"

#include <errno.h>
#include <string.h>

void tar_say(struct pc_unpack_error *e, const char *what, struct tar_text text)
{
	size_t shown = text.n < sizeof e->text ? text.n : sizeof e->text;

	for (size_t i = 0; i < sizeof e->what - 1 && (e->what[i] = what[i]) != '\0'; i++)
		e->what[i + 1] = '\0';
	if (shown > 0)
		memcpy(e->text, text.at, shown);
	e->text_bytes = text.n < UINT32_MAX ? (uint32_t)text.n : UINT32_MAX;
}

static int fault(struct pc_unpack_error *e, enum pc_unpack_fault kind, const char *what, struct tar_text text)
{
	tar_say(e, what, text);
	return tar_fault(e, kind, 0, 0);
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\0';
}

/* Blanks before, then digits up to a NUL or the end, then spaces; nothing at all is 0. */
static int octal(struct pc_unpack_error *e, const uint8_t *raw, size_t n, const char *what, uint64_t *out)
{
	size_t from = 0, to;
	uint64_t value = 0;

	while (from < n && is_blank(raw[from]))
		from++;
	for (to = from; to < n && raw[to] != '\0'; to++)
		;
	while (to > from && raw[to - 1] == ' ')
		to--;
	for (size_t i = from; i < to; i++) {
		if (raw[i] < '0' || raw[i] > '7')
			return fault(e, PC_UNPACK_OCTAL, what, (struct tar_text){raw, n});
		value = value << 3 | (uint64_t)(raw[i] - '0'); /* 12 digits at most: no overflow */
	}
	*out = value;
	return 0;
}

static uint64_t base256(const uint8_t *raw, size_t n)
{
	uint64_t value = raw[0] & 0x7fu;

	for (size_t i = 1; i < n; i++) {
		if (value >> 56)
			return UINT64_MAX;
		value = value << 8 | raw[i];
	}
	return value;
}

int tar_number(struct pc_unpack_error *e, const uint8_t *raw, size_t n, const char *what, uint64_t *out)
{
	if (!(raw[0] & 0x80))
		return octal(e, raw, n, what, out);
	if (raw[0] & 0x40)
		return fault(e, PC_UNPACK_NEGATIVE, what, (struct tar_text){0});
	*out = base256(raw, n);
	return 0;
}

int tar_size(struct pc_unpack_error *e, const uint8_t *raw, size_t n, const char *what, uint64_t *out)
{
	int err = tar_number(e, raw, n, what, out);

	if (err == 0 && *out > INT64_MAX)
		return fault(e, PC_UNPACK_RANGE, what, (struct tar_text){0});
	return err;
}

static bool is_digits(struct tar_text text)
{
	for (size_t i = 0; i < text.n; i++)
		if (text.at[i] < '0' || text.at[i] > '9')
			return false;
	return text.n > 0;
}

static uint64_t decimal(struct tar_text digits)
{
	uint64_t value = 0;

	for (size_t i = 0; i < digits.n; i++)
		value = value * 10 + (uint64_t)(digits.at[i] - '0');
	return value;
}

int tar_decimal(struct pc_unpack_error *e, struct tar_text text, const char *what, uint64_t *out)
{
	if (!is_digits(text) || text.n > 19) /* 19 digits fit in 64 bits */
		return fault(e, PC_UNPACK_DECIMAL, what, text);
	*out = decimal(text);
	return *out > INT64_MAX ? fault(e, PC_UNPACK_DECIMAL, what, text) : 0;
}

/* Of nanoseconds as a 64-bit number, which is what Python has of a time; file systems clamp what they cannot hold. */
static struct timespec clamped(__int128 nanos)
{
	const __int128 lowest = -((__int128)1 << 62), highest = INT64_MAX, second = 1000000000;

	nanos = nanos < lowest ? lowest : nanos > highest ? highest : nanos;
	__int128 whole = nanos / second, rest = nanos % second;
	if (rest < 0) {
		whole--;
		rest += second;
	}
	return (struct timespec){.tv_sec = (time_t)whole, .tv_nsec = (long)rest};
}

/* "[-]SECONDS[.FRACTION]"; of the fraction nine digits count. */
static int pax_time(struct pc_unpack_error *e, struct tar_text text, __int128 *nanos)
{
	const uint8_t *dot = memchr(text.at, '.', text.n);
	size_t whole_n = dot != NULL ? (size_t)(dot - text.at) : text.n;
	size_t sign = whole_n > 0 && text.at[0] == '-' ? 1 : 0;
	struct tar_text whole = {text.at + sign, whole_n - sign};
	struct tar_text fraction = {dot != NULL ? dot + 1 : text.at, dot != NULL ? text.n - whole_n - 1 : 0};
	uint64_t parts = 0;

	if (!is_digits(whole) || whole.n > 18 || (fraction.n > 0 && !is_digits(fraction)))
		return fault(e, PC_UNPACK_MTIME, "mtime", text);
	for (size_t i = 0; i < 9; i++)
		parts = parts * 10 + (uint64_t)(i < fraction.n ? fraction.at[i] - '0' : 0);
	*nanos = (__int128)decimal(whole) * 1000000000 + parts;
	if (sign)
		*nanos = -*nanos;
	return 0;
}

int tar_mtime(struct pc_unpack_error *e, const uint8_t *raw, struct tar_text text, struct timespec *out)
{
	__int128 nanos = 0;
	int err = 0;

	if (text.n > 0) {
		err = pax_time(e, text, &nanos);
	} else if ((raw[0] & 0xc0) == 0xc0) { /* before 1970: 12 bytes, two's complement */
		nanos = 0;
		for (size_t i = 0; i < 12; i++)
			nanos = nanos << 8 | raw[i];
		nanos -= (__int128)1 << 96;
		nanos *= 1000000000;
	} else {
		uint64_t seconds;
		err = tar_number(e, raw, 12, "mtime", &seconds);
		if (err == 0)
			nanos = (__int128)seconds * 1000000000;
	}
	if (err == 0)
		*out = clamped(nanos);
	return err;
}
