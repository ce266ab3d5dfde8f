/* The packer's face: what was asked, the stream, and what went wrong. pack.h has how it is made and what it assumes. */
#include "pack.h"

#include <linux/magic.h>
#include <unistd.h>

#define PC_PACK_STEP_WORDS(symbol, words) [PC_PACK_STEP_##symbol] = words,
static const char *const step_names[] = {PC_PACK_STEPS(PC_PACK_STEP_WORDS)};

PC_EXPORT const char *pc_pack_step_name(uint32_t step)
{
	return step < PC_PACK_STEP_COUNT ? step_names[step] : "unknown step";
}

int pc_pack_grow(void **array, size_t *room, size_t n, size_t size)
{
	size_t more = *room ? *room : 16;

	while (more < n)
		more *= 2;
	if (more == *room)
		return 0;
	void *moved = more > SIZE_MAX / size ? NULL : realloc(*array, more * size);
	if (moved == NULL)
		return -ENOMEM;
	*array = moved;
	*room = more;
	return 0;
}

int pc_pack_fail(struct pc_pack *p, enum pc_pack_step step, int err)
{
	if (p->failure.err != 0)
		return err;
	p->failure.step = step;
	p->failure.err = -err;
	if (pc_bytes_add(&p->failure_path, p->path.data, p->path.n) == 0) {
		p->failure.path = (const char *)p->failure_path.data;
		p->failure.path_len = p->failure_path.n;
	}
	return err;
}

/* --- what was asked --------------------------------------------------------------------------------------------- */

static void *copy_of(const void *from, size_t n)
{
	void *copy = malloc(n > 0 ? n : 1);

	if (copy != NULL && n > 0)
		memcpy(copy, from, n);
	return copy;
}

static size_t strings_size(const char *strings, uint32_t n)
{
	const char *end = strings;

	for (uint32_t i = 0; i < n; i++)
		end += strlen(end) + 1;
	return (size_t)(end - strings);
}

/* /proc may be anything in the mount namespace that we find ourselves in. */
static int open_proc(struct pc_pack *p)
{
	struct statfs fs;

	p->proc_fd = sys_openat(AT_FDCWD, "/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	int err = p->proc_fd < 0 ? p->proc_fd : sys_fstatfs(p->proc_fd, &fs);
	if (err == 0 && fs.f_type != PROC_SUPER_MAGIC)
		err = -ENOTDIR;
	return err < 0 ? pc_pack_fail(p, PC_PACK_STEP_PROC, err) : 0;
}

static int prepare(struct pc_pack *p, const struct pc_pack_args *args)
{
	const bool tree = p->flags & (PC_PACK_TREE | PC_PACK_ONE), alone = p->mode == PC_PACK_LAYER || tree;

	if (p->n_roots == 0 || p->mode > PC_PACK_CHANGES || (alone && p->n_roots > 1) || (tree && p->mode != PC_PACK_MERGED) ||
	    p->n_mapped > p->n_roots)
		return pc_pack_fail(p, PC_PACK_STEP_ARGUMENTS, -EINVAL);
	p->root_fds = malloc(p->n_roots * sizeof *p->root_fds);
	p->uids = copy_of(args->uids, p->n_uids * sizeof *p->uids);
	p->gids = copy_of(args->gids, p->n_gids * sizeof *p->gids);
	p->exclude = copy_of(args->exclude, strings_size(args->exclude, p->n_exclude));
	if (args->name != NULL && pc_bytes_add(&p->name, args->name, strlen(args->name)) < 0)
		return pc_pack_fail(p, PC_PACK_STEP_MEMORY, -ENOMEM);
	for (uint32_t i = 0; p->root_fds != NULL && i < p->n_roots; i++)
		p->root_fds[i] = -1;
	if (p->root_fds == NULL || p->uids == NULL || p->gids == NULL || p->exclude == NULL)
		return pc_pack_fail(p, PC_PACK_STEP_MEMORY, -ENOMEM);
	int err = open_proc(p);
	return err < 0 ? err : pc_dirs_open_roots(p, args->roots);
}

PC_EXPORT struct pc_pack *pc_pack_new(const struct pc_pack_args *args)
{
	struct pc_pack *p = calloc(1, sizeof *p);

	if (p == NULL)
		return NULL;
	p->mode = args->mode;
	p->flags = args->flags;
	p->n_roots = args->n_roots;
	p->n_mapped = args->n_mapped;
	p->n_uids = args->n_uids;
	p->n_gids = args->n_gids;
	p->n_exclude = args->n_exclude;
	p->mtime_max = args->mtime_max;
	p->keep_atime = true;
	p->file = p->proc_fd = -1;
	for (int i = 0; i < PC_PACK_OPEN; i++)
		p->slots[i].fd = -1;
	(void)prepare(p, args); /* noted: the first read says it */
	return p;
}

PC_EXPORT void pc_pack_free(struct pc_pack *p)
{
	if (p == NULL)
		return;
	pc_dirs_free(p);
	pc_links_free(p);
	fd_close(&p->file);
	fd_close(&p->proc_fd);
	pc_bytes_free(&p->path);
	pc_bytes_free(&p->name);
	pc_bytes_free(&p->name_bytes);
	pc_bytes_free(&p->out);
	pc_bytes_free(&p->xattrs);
	pc_bytes_free(&p->value);
	pc_bytes_free(&p->failure_path);
	pc_bytes_free(&p->short_path);
	free(p->names);
	free(p->uids);
	free(p->gids);
	free(p->exclude);
	free(p);
}

PC_EXPORT void pc_pack_failed(const struct pc_pack *p, struct pc_pack_failure *out)
{
	*out = p->failure;
}

PC_EXPORT void pc_pack_counted(const struct pc_pack *p, struct pc_pack_counts *out)
{
	*out = p->counts;
}

/* --- the contents of a file ------------------------------------------------------------------------------------- */

/* The file is shorter than its header says. Whoever reads the tar gets zeros and a whole tar; the end says that it is not
 * what was there. */
static void cut_short(struct pc_pack *p)
{
	if (!p->is_short)
		p->is_short = pc_bytes_add(&p->short_path, p->path.data, p->path.n) == 0;
	p->file_sparse = true;
	p->data_end = p->data_begin = p->file_size; /* from here on, a hole */
}

/* Where the next data are in a file with holes. What follows the last is a hole, or has been cut off since. */
static int find_data(struct pc_pack *p)
{
	struct statx st;
	off_t begin = lseek(p->file, (off_t)p->file_at, SEEK_DATA);

	if (begin < 0 && errno == ENXIO) {
		int err = sys_statx(p->file, "", AT_EMPTY_PATH, STATX_SIZE, &st);
		if (err < 0)
			return err;
		p->data_begin = p->data_end = p->file_size;
		if (st.stx_size < p->file_size)
			cut_short(p);
		return 0;
	}
	off_t end = begin < 0 ? -1 : lseek(p->file, begin, SEEK_HOLE);
	if (end < 0) { /* not every file system can say: then all are data */
		p->file_sparse = false;
		return 0;
	}
	p->data_begin = (uint64_t)begin < p->file_size ? (uint64_t)begin : p->file_size;
	p->data_end = (uint64_t)end < p->file_size ? (uint64_t)end : p->file_size;
	return 0;
}

/* Up to `len` bytes: data, or the zeros of a hole. */
static int64_t read_contents(struct pc_pack *p, uint8_t *to, uint64_t len)
{
	if (p->file_sparse && p->file_at >= p->data_end) {
		int err = find_data(p);
		if (err < 0)
			return pc_pack_fail(p, PC_PACK_STEP_READ, err);
	}
	const uint64_t left = p->file_size - p->file_at;
	uint64_t n = len < left ? len : left;
	if (p->file_sparse && p->file_at < p->data_begin) {
		n = n < p->data_begin - p->file_at ? n : p->data_begin - p->file_at;
		memset(to, 0, n);
		return (int64_t)n;
	}
	if (p->file_sparse)
		n = n < p->data_end - p->file_at ? n : p->data_end - p->file_at;
	ssize_t got = pread(p->file, to, n, (off_t)p->file_at);
	if (got < 0)
		return pc_pack_fail(p, PC_PACK_STEP_READ, -errno);
	if (got == 0)
		cut_short(p);
	return got;
}

/* --- the stream ------------------------------------------------------------------------------------------------- */

static int64_t copy_out(struct pc_pack *p, uint8_t *to, uint64_t len)
{
	const size_t left = p->out.n - p->out_at, n = left < len ? left : len;

	memcpy(to, p->out.data + p->out_at, n);
	p->out_at += n;
	return (int64_t)n;
}

/* The next entry, or the two blocks of zeros at the end. 0 when everything has been said. */
static int next_bytes(struct pc_pack *p)
{
	p->out.n = p->out_at = 0;
	if (p->ended)
		return 0;
	int result = p->mode == PC_PACK_CHANGES ? pc_changes_next(p) : pc_walk_next(p);
	if (result != 0)
		return result;
	p->ended = true;
	if (p->mode == PC_PACK_CHANGES)
		return 0;
	result = pc_bytes_zeros(&p->out, 1024);
	return result < 0 ? pc_pack_fail(p, PC_PACK_STEP_MEMORY, result) : 1;
}

static int end(struct pc_pack *p)
{
	if (!p->is_short)
		return 0;
	p->path.n = 0;
	(void)pc_bytes_add(&p->path, p->short_path.data, p->short_path.n); /* no memory: without a path */
	return pc_pack_fail(p, PC_PACK_STEP_CHANGED, -ESTALE);
}

/* Some bytes of what comes next; 0 at the end. */
static int64_t produce(struct pc_pack *p, uint8_t *to, uint64_t len)
{
	for (;;) {
		if (p->out_at < p->out.n)
			return copy_out(p, to, len);
		if (p->file >= 0) {
			int64_t n = read_contents(p, to, len);
			if (n < 0)
				return n;
			p->file_at += (uint64_t)n;
			if (p->file_at == p->file_size)
				fd_close(&p->file);
			if (n > 0)
				return n;
			continue; /* cut short: zeros are next */
		}
		if (p->padding > 0) {
			const uint32_t n = p->padding < len ? p->padding : (uint32_t)len;
			memset(to, 0, n);
			p->padding -= n;
			return n;
		}
		int result = next_bytes(p);
		if (result <= 0)
			return result < 0 ? result : end(p);
	}
}

PC_EXPORT int64_t pc_pack_read(struct pc_pack *p, uint8_t *buffer, uint64_t len)
{
	uint64_t done = 0;

	while (done < len && p->failure.err == 0) {
		int64_t n = produce(p, buffer + done, len - done);
		if (n <= 0)
			break;
		done += (uint64_t)n;
	}
	/* what came before a failure first */
	return done > 0 || p->failure.err == 0 ? (int64_t)done : -p->failure.err;
}
