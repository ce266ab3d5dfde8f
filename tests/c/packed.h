/* What the tests of the packer share: a tree of the test's own, and its tar in memory. */
#ifndef PC_PACKED_H
#define PC_PACKED_H

#include "check.h"
#include "look.h"
#include "pycontain.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>

static char base[] = "/dev/shm/pycontain-pack-XXXXXX"; /* a tmpfs: many files, deleted quickly */
static uint8_t *tar;
static size_t tar_len;

/* base/tree, empty, as working directory */
static inline void begin(void)
{
	CHECK_EQ(chdir(base), 0);
	CHECK_EQ(pc_tree_remove("tree"), 0);
	CHECK_EQ(mkdir("tree", 0755), 0);
	CHECK_EQ(chdir("tree"), 0);
}

static inline void write_file(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
	(void)close(fd);
}

static inline struct pc_pack *open_pack(const char *const *paths, uint32_t n, uint32_t mode)
{
	int32_t fds[300];
	struct pc_pack_args args = {.roots = fds, .n_roots = n, .mode = mode, .mtime_max = 0};

	CHECK_EQ(chdir(base), 0);
	for (uint32_t i = 0; i < n; i++)
		fds[i] = open(paths[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct pc_pack *p = pc_pack_new(&args);
	for (uint32_t i = 0; i < n; i++)
		(void)close(fds[i]); /* they are the caller's, and may go */
	return p;
}

/* Everything of `p` into `tar`, by buffers of `size`; what the last read has answered. */
static inline int64_t drain(struct pc_pack *p, size_t size)
{
	static size_t room;
	int64_t n;

	tar_len = 0;
	for (;;) {
		if (room < tar_len + size)
			tar = realloc(tar, room = (tar_len + size) * 2);
		n = pc_pack_read(p, tar + tar_len, size);
		if (n <= 0)
			return n;
		tar_len += (size_t)n;
	}
}

static inline int64_t pack(uint32_t mode)
{
	struct pc_pack *p = open_pack((const char *const[]){"tree"}, 1, mode);
	int64_t n = drain(p, 1 << 16);

	pc_pack_free(p);
	return n;
}

/* The entries' names and types, as "name:type name:type"; only what has no pax header. */
static inline const char *listing(void)
{
	static char text[4096];

	text[0] = '\0';
	for (size_t at = 0; at + 1024 < tar_len;) {
		const char *h = (const char *)tar + at;
		size_t used = strlen(text), size = strtoul(h + 124, NULL, 8);
		(void)snprintf(text + used, sizeof text - used, "%s%.100s:%c", used ? " " : "", h, h[156]);
		at += 512 + (size + 511) / 512 * 512;
	}
	return text;
}

static inline void check_listing(const char *expected)
{
	CHECK_EQ(tar_len % 512, 0);
	if (strcmp(listing(), expected) != 0) {
		CHECK(!"the listing is as expected");
		(void)fprintf(stderr, "found    %s\nexpected %s\n", listing(), expected);
	}
}

static inline uint32_t step_of(struct pc_pack *p, char *path, size_t room)
{
	struct pc_pack_failure f;

	pc_pack_failed(p, &f);
	(void)snprintf(path, room, "%.*s", (int)f.path_len, f.path != NULL ? f.path : "");
	return f.step;
}

#endif
