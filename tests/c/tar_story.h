/* Running the parser with a sink that writes down what it is told. */
#ifndef PC_TAR_STORY_H
#define PC_TAR_STORY_H

#include "tar_make.h"

#include <errno.h>

static char story[65536];
static size_t story_n;
static int refuse_at = -1; /* the event that the sink answers with -EIO */
static int events;

#define TELL(...)                                                                                                      \
	do {                                                                                                           \
		int told_ = snprintf(story + story_n, sizeof story - story_n, __VA_ARGS__);                            \
		story_n += told_ > 0 ? (size_t)told_ : 0;                                                              \
		if (story_n > sizeof story - 1)                                                                        \
			story_n = sizeof story - 1;                                                                    \
	} while (0)

static inline int answer(void)
{
	return events++ == refuse_at ? -EIO : 0;
}

static inline int told_entry(void *context, const struct tar_entry *e)
{
	(void)context;
	TELL("%s %.*s", tar_kind_names[e->kind], (int)e->name.n, (const char *)e->name.at);
	if (e->link.n > 0)
		TELL(" -> %.*s", (int)e->link.n, (const char *)e->link.at);
	TELL(" %o %u:%u %lld.%09ld %llu/%llu", e->mode, e->uid, e->gid, (long long)e->mtime.tv_sec, e->mtime.tv_nsec,
	     (unsigned long long)e->stored, (unsigned long long)e->size);
	if (e->major || e->minor)
		TELL(" dev %u:%u", e->major, e->minor);
	for (size_t i = 0; i < e->n_xattrs; i++)
		TELL(" [%.*s=%.*s]", (int)e->xattrs[i].name.n, (const char *)e->xattrs[i].name.at, (int)e->xattrs[i].value.n,
		     (const char *)e->xattrs[i].value.at);
	TELL("\n");
	return answer();
}

static uint64_t data_at; /* where the last piece ended: pieces that follow each other are told as one */

static inline int told_data(void *context, uint64_t offset, const uint8_t *bytes, size_t n)
{
	(void)context;
	if (offset != data_at || story[story_n - 1] == '\n')
		TELL("@%llu ", (unsigned long long)offset);
	data_at = offset + n;
	TELL("%.*s", (int)n, (const char *)bytes);
	return answer();
}

static inline int told_end(void *context)
{
	(void)context;
	TELL(".\n");
	data_at = UINT64_MAX;
	return answer();
}

static const struct tar_sink sink = {.entry = told_entry, .data = told_data, .end = told_end};

static struct pc_unpack_error error;
static uint64_t max_bytes = 1u << 30;
static uint32_t max_meta_bytes = 1u << 20;

static inline int parse_in_pieces(size_t size)
{
	struct tar t = {.max_bytes = max_bytes, .max_meta_bytes = max_meta_bytes};
	int err = 0;

	story_n = 0;
	story[0] = '\0';
	events = 0;
	data_at = UINT64_MAX;
	error = (struct pc_unpack_error){0};
	tar_begin(&t, &sink, NULL, &error);
	for (size_t at = 0; err == 0 && at < made_n; at += size) {
		size_t n = made_n - at < size ? made_n - at : size;
		uint8_t *copy = malloc(n); /* of exactly that size: a sanitizer sees a step too far */
		CHECK(copy != NULL);
		memcpy(copy, made + at, n);
		err = tar_feed(&t, copy, n);
		free(copy);
	}
	if (err == 0)
		err = tar_finish(&t);
	else
		CHECK(tar_feed(&t, (const uint8_t *)"x", 1) < 0 && tar_finish(&t) < 0); /* once failed, always failed */
	tar_free(&t);
	return err;
}

/* In pieces of every size: the story, and the error with its name, are the same. */
static inline int parse(void)
{
	static const size_t sizes[] = {1, 7, 511, 512, 513, 1000};
	static char first[sizeof story];
	int err = parse_in_pieces(sizeof made);
	struct pc_unpack_error whole = error;

	memcpy(first, story, story_n + 1);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		if (made_n / sizes[i] > 20000) /* a megabyte byte by byte takes a sanitizer too long */
			continue;
		CHECK_EQ(parse_in_pieces(sizes[i]), err);
		CHECK(memcmp(&whole, &error, sizeof error) == 0);
		CHECK(strcmp(first, story) == 0);
	}
	return err;
}

static inline void check_story(const char *expected)
{
	CHECK_EQ(parse(), 0);
	if (strcmp(story, expected) != 0)
		(void)fprintf(stderr, "%s: told:\n%s", check_test, story);
	CHECK(strcmp(story, expected) == 0);
}

static inline void check_refused(enum pc_unpack_fault fault, const char *name)
{
	CHECK_EQ(parse(), -EBADMSG);
	if (error.fault != fault)
		(void)fprintf(stderr, "%s: %s, expected %s\n", check_test, pc_unpack_fault_name(error.fault),
			      pc_unpack_fault_name(fault));
	CHECK_EQ(error.fault, fault);
	CHECK_EQ(error.name_bytes, strlen(name));
	CHECK(memcmp(error.name, name, strlen(name)) == 0);
}

#endif
