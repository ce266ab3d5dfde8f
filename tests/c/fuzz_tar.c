/* Any bytes as a layer's tar.
 *
 * The parser alone, fed whole and in pieces: the same events and the same error, and events that fit together. Then the writer,
 * in pieces, into a directory beside which lies one that must not change. The scratch directory is $PC_FUZZ_SCRATCH's or
 * /dev/shm's, and is emptied after each run. The mutator knows where headers are, and mends their checksums: without it hardly
 * an input would come past the first.
 */
#include "fd.h"
#include "tar.h"
#include "tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) __attribute__((weak)); /* absent when seeds are replayed */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

#ifndef WRITER_EVERY
#define WRITER_EVERY 1 /* of so many inputs one is written, too */
#endif

static uint64_t mix(uint64_t h, const void *bytes, size_t n)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return h;
}

static void must(bool true_of_all)
{
	if (!true_of_all)
		abort();
}

/* --- the parser --------------------------------------------------------------------------------------------------- */

struct story {
	uint64_t hash;
	bool in_entry;
	uint64_t stored, size, given, end;
};

static int on_entry(void *context, const struct tar_entry *e)
{
	struct story *s = context;
	const uint64_t numbers[] = {e->kind, e->mode, e->uid, e->gid, e->major, e->minor, (uint64_t)e->mtime.tv_sec,
				    (uint64_t)e->mtime.tv_nsec, e->size, e->stored, e->sparse, e->n_xattrs};

	must(!s->in_entry && e->mode <= 07777 && e->uid <= TAR_MAX_ID && e->gid <= TAR_MAX_ID && e->size <= INT64_MAX);
	must(e->stored <= e->size && (e->sparse || e->stored == e->size) && (e->kind == TAR_FILE || e->size == 0));
	must(e->mtime.tv_nsec >= 0 && e->mtime.tv_nsec < 1000000000 && e->major < 1 << 12 && e->minor < 1 << 20);
	s->in_entry = true;
	s->stored = e->stored;
	s->size = e->size;
	s->given = s->end = 0;
	s->hash = mix(mix(mix(s->hash, numbers, sizeof numbers), e->name.at, e->name.n), e->link.at, e->link.n);
	for (size_t i = 0; i < e->n_xattrs; i++) {
		s->hash = mix(s->hash, e->xattrs[i].name.at, e->xattrs[i].name.n);
		s->hash = mix(s->hash, e->xattrs[i].value.at, e->xattrs[i].value.n);
	}
	return 0;
}

static int on_data(void *context, uint64_t offset, const uint8_t *bytes, size_t n)
{
	struct story *s = context;

	must(s->in_entry && n > 0 && offset >= s->end && offset + n <= s->size);
	s->end = offset + n;
	s->given += n;
	for (size_t i = 0; i < n; i++) { /* byte by byte: the pieces may be other ones */
		uint64_t at = offset + i;
		s->hash = mix(mix(s->hash, &at, sizeof at), bytes + i, 1);
	}
	return 0;
}

static int on_end(void *context)
{
	struct story *s = context;

	must(s->in_entry && s->given == s->stored);
	s->in_entry = false;
	s->hash = mix(s->hash, ".", 1);
	return 0;
}

static const struct tar_sink sink = {.entry = on_entry, .data = on_data, .end = on_end};

/* Sizes of pieces from a seed: mostly odd ones, some of a block or a byte. */
static size_t next_piece(uint64_t *seed, size_t left)
{
	static const size_t sizes[] = {1, 2, 7, 100, 511, 512, 513, 1024, 3000, SIZE_MAX};

	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	size_t n = sizes[(*seed >> 33) % (sizeof sizes / sizeof *sizes)];
	return n < left ? n : left;
}

static uint64_t parse(const uint8_t *data, size_t size, bool whole, uint64_t seed, struct pc_unpack_error *error)
{
	struct tar t = {.max_bytes = 1u << 20, .max_meta_bytes = 1u << 16};
	struct story s = {.hash = 0xcbf29ce484222325u};
	int err = 0;

	memset(error, 0, sizeof *error);
	tar_begin(&t, &sink, &s, error);
	while (err == 0 && size > 0) {
		size_t n = whole ? size : next_piece(&seed, size);
		err = tar_feed(&t, data, n);
		data += n;
		size -= n;
	}
	if (err == 0)
		err = tar_finish(&t);
	must((err == 0) == (error->fault == PC_UNPACK_NONE) && error->fault < PC_UNPACK_FAULT_COUNT);
	must(err != 0 || !s.in_entry);
	tar_free(&t);
	return s.hash;
}

/* --- the writer --------------------------------------------------------------------------------------------------- */

static int scratch = -1;
static char scratch_path[4096];
static struct statx canary_was[3];

static const char *const canaries[] = {"canary", "canary/secret", "."};

static void remove_scratch(void)
{
	(void)pc_tree_remove(scratch_path);
}

static void make_scratch(void)
{
	const char *where = getenv("PC_FUZZ_SCRATCH");

	(void)snprintf(scratch_path, sizeof scratch_path, "%s/pycontain-fuzz-XXXXXX", where != NULL ? where : "/dev/shm");
	must(mkdtemp(scratch_path) != NULL && atexit(remove_scratch) == 0);
	scratch = sys_openat(AT_FDCWD, scratch_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	must(scratch >= 0 && sys_mkdirat(scratch, "canary", 0700) == 0 && sys_mkdirat(scratch, "root", 0700) == 0);
	scoped_fd int fd = sys_openat(scratch, "canary/secret", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	must(fd >= 0 && sys_write(fd, "secret", 6) == 6);
	for (size_t i = 0; i < 3; i++)
		must(sys_statx(scratch, canaries[i], AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &canary_was[i]) == 0);
}

/* The change time tells of content, mode, owner, links and names, and nobody can set it back. */
static void check_canary(void)
{
	struct statx st;

	for (size_t i = 0; i < 3; i++) {
		must(sys_statx(scratch, canaries[i], AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st) == 0);
		must(st.stx_ctime.tv_sec == canary_was[i].stx_ctime.tv_sec && st.stx_ctime.tv_nsec == canary_was[i].stx_ctime.tv_nsec);
	}
}

static void empty_root(int root)
{
	char buf[2048] __attribute__((aligned(8)));

	for (;;) {
		must(PC_SYS3(SYS_lseek, root, 0, 0) == 0);
		long n = sys_getdents64(root, buf, sizeof buf);
		bool any = false;
		must(n >= 0);
		for (long at = 0; at < n;) {
			const char *name = buf + at + 19;
			uint16_t length;
			memcpy(&length, buf + at + 16, sizeof length);
			at += length;
			if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
				continue;
			must(pc_tree_remove_at(root, name) == 0);
			any = true;
		}
		if (!any)
			return;
	}
}

static void write_out(const uint8_t *data, size_t size, uint64_t seed)
{
	static struct pc_unpack_stats stats;
	struct pc_unpack_error error;
	struct pc_unpack *u = NULL;

	if (scratch < 0)
		make_scratch();
	scoped_fd int root = sys_openat(scratch, "root", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	must(root >= 0);
	const struct pc_id_range ids = {.inside = 0, .outside = 100000, .count = 65536};
	const uint32_t n_ids = seed & 2 ? 1 : 0;
	struct pc_unpack_options o = {.root_fd = root, .in_user_namespace = seed & 1, .max_bytes = 1u << 20, .max_entries = 200,
				      .max_depth = 20, .max_path_bytes = 1000, .max_meta_bytes = 1u << 16, .uid_map = &ids,
				      .gid_map = &ids, .n_uid_map = n_ids, .n_gid_map = n_ids};
	must(pc_unpack_new(&o, &u) == 0);
	int err = 0;
	while (err == 0 && size > 0) {
		size_t n = next_piece(&seed, size);
		err = pc_unpack_feed(u, data, n, &error);
		data += n;
		size -= n;
	}
	if (err == 0)
		err = pc_unpack_finish(u, &stats, &error);
	must(err == 0 || (error.fault != PC_UNPACK_NONE && error.fault < PC_UNPACK_FAULT_COUNT));
	pc_unpack_free(u);
	check_canary();
	(void)sys_fchmod(root, 0700);
	empty_root(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static unsigned runs;
	struct pc_unpack_error whole, pieces;
	uint64_t seed = mix(size, data, size < 600 ? size : 600);

	must(parse(data, size, true, 0, &whole) == parse(data, size, false, seed, &pieces));
	must(memcmp(&whole, &pieces, sizeof whole) == 0);
	if (runs++ % WRITER_EVERY == 0)
		write_out(data, size, seed);
	return 0;
}

/* --- the mutator -------------------------------------------------------------------------------------------------- */

static void seal(uint8_t *b)
{
	unsigned sum = 0;
	char text[8];

	memset(b + 148, ' ', 8);
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += b[i];
	(void)snprintf(text, sizeof text, "%06o", sum);
	memcpy(b + 148, text, 7);
}

static bool is_header(const uint8_t *b)
{
	return memcmp(b + 257, "ustar", 5) == 0;
}

/* One field of a header: another type, or bytes of libFuzzer's choice. */
static void change_field(uint8_t *b, unsigned seed)
{
	static const struct {
		size_t at, n;
	} fields[] = {{0, 100}, {100, 8}, {108, 8}, {116, 8}, {124, 12}, {136, 12}, {157, 100}, {329, 8}, {337, 8}, {345, 155}, {386, 97}, {483, 12}};
	static const char types[] = "01234567xgLKSXM";
	size_t i = seed % (sizeof fields / sizeof *fields + 3);

	if (i >= sizeof fields / sizeof *fields)
		b[156] = (uint8_t)types[seed / 16 % sizeof types];
	else
		(void)LLVMFuzzerMutate(b + fields[i].at, fields[i].n, fields[i].n);
}

/* Blocks [from, from + n) once more behind themselves, or gone. */
static size_t move_blocks(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	size_t blocks = size / TAR_BLOCK, from = seed % blocks * TAR_BLOCK, n = (1 + seed / 64 % 3) * TAR_BLOCK;

	if (from + n > size)
		return size;
	if (seed & 32 || size + n > max_size) {
		memmove(data + from, data + from + n, size - from - n);
		return size - n;
	}
	memmove(data + from + n, data + from, size - from);
	return size + n;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	size_t blocks = size / TAR_BLOCK;
	uint8_t *b = blocks > 0 ? data + seed / 8 % blocks * TAR_BLOCK : NULL;

	if (b != NULL && seed % 8 < 4 && is_header(b))
		change_field(b, seed / 8);
	else if (b != NULL && seed % 8 == 4)
		size = move_blocks(data, size, max_size, seed / 8);
	else
		size = LLVMFuzzerMutate(data, size, max_size);
	if (seed % 64 != 63) /* a wrong checksum is worth a try, too */
		for (size_t at = 0; at + TAR_BLOCK <= size; at += TAR_BLOCK)
			if (at == 0 || is_header(data + at))
				seal(data + at);
	return size;
}
