/* Tars made by hand, byte by byte, for the tests of the parser and the writer. */
#ifndef PC_TAR_MAKE_H
#define PC_TAR_MAKE_H

#include "check.h"
#include "tar.h"

static uint8_t made[8 << 20];
static size_t made_n;

static inline uint8_t *put(const void *bytes, size_t n)
{
	uint8_t *at = made + made_n;

	CHECK(made_n + n <= sizeof made);
	if (n > 0)
		memcpy(at, bytes, n);
	made_n += n;
	return at;
}

static inline void pad(void)
{
	while (made_n % TAR_BLOCK)
		made[made_n++] = 0;
}

/* The checksum of the header block at `b`, again after a change. */
static inline void seal(uint8_t *b)
{
	unsigned sum = 0;
	char text[8];

	memset(b + 148, ' ', 8);
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += b[i];
	(void)snprintf(text, sizeof text, "%06o", sum);
	memcpy(b + 148, text, 7);
}

static inline uint8_t *header(const char *name, char type, uint64_t size)
{
	uint8_t b[TAR_BLOCK] = {0};

	memcpy(b, name, strlen(name));
	memcpy(b + 100, "0000640", 8);
	memcpy(b + 108, "0000001", 8);
	memcpy(b + 116, "0000002", 8);
	(void)snprintf((char *)b + 124, 12, "%011llo", (unsigned long long)size);
	memcpy(b + 136, "00000000007", 12);
	b[156] = (uint8_t)type;
	memcpy(b + 257, "ustar\0" "00", 8);
	seal(b);
	return put(b, sizeof b);
}

static inline void field(uint8_t *b, size_t at, const void *bytes, size_t n)
{
	memcpy(b + at, bytes, n);
	seal(b);
}

static inline void base256(uint8_t *b, size_t at, size_t n, uint64_t value)
{
	for (size_t i = 0; i < n; i++)
		b[at + n - 1 - i] = (uint8_t)(i < 8 ? value >> 8 * i : 0);
	b[at] = (uint8_t)(b[at] | 0x80);
	seal(b);
}

static inline void file(const char *name, const char *content)
{
	(void)header(name, '0', strlen(content));
	(void)put(content, strlen(content));
	pad();
}

static inline void link_to(const char *name, char type, const char *target)
{
	field(header(name, type, 0), 157, target, strlen(target));
}

/* One pax header of one type ('x' or 'g') with the records given, "key=value" each, and NULL at the end. */
static inline void pax(char type, const char *const *records)
{
	uint8_t *b = header("pax", type, 0);
	size_t from = made_n;

	for (; *records != NULL; records++) {
		char text[4096];
		size_t n = strlen(*records) + 3; /* a blank, a newline, a digit */
		if (n > 9)
			n++;
		if (n > 99)
			n++;
		if (n > 999)
			n++;
		int written = snprintf(text, sizeof text, "%zu %s\n", n, *records);
		CHECK_EQ(written, n);
		(void)put(text, n);
	}
	char size[12];
	(void)snprintf(size, sizeof size, "%011zo", made_n - from);
	field(b, 124, size, 12);
	pad();
}

#define PAX(type, ...) pax(type, (const char *const[]){__VA_ARGS__, NULL})

static inline void long_text(char type, const char *text)
{
	(void)header("././@LongLink", type, strlen(text) + 1);
	(void)put(text, strlen(text) + 1);
	pad();
}

/* A header of the old GNU format with six bytes of data; `runs` as in its map, `more` blocks of map follow. */
static inline uint8_t *old_sparse(const char *runs, uint64_t real, bool more)
{
	uint8_t *b = header("s", 'S', 6);
	char size[12];

	(void)snprintf(size, sizeof size, "%011llo", (unsigned long long)real);
	memcpy(b + 386, runs, strlen(runs));
	memcpy(b + 483, size, 12);
	b[482] = more;
	seal(b);
	return b;
}

static inline void end_of_archive(void)
{
	static const uint8_t zeros[2 * TAR_BLOCK];

	(void)put(zeros, sizeof zeros);
}

static inline void begin_tar(void)
{
	made_n = 0;
}

#endif
