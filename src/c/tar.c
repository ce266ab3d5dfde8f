/* The parser's state machine: from chunks of any size to blocks, entries and their data. */
#include "tar.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *const tar_kind_names[] = {
	[TAR_FILE] = "file", [TAR_DIR] = "dir",		   [TAR_SYMLINK] = "symlink", [TAR_HARDLINK] = "hardlink",
	[TAR_CHAR] = "char", [TAR_BLOCK_DEVICE] = "block", [TAR_FIFO] = "fifo",
};

#define FAULT_NAME(symbol, name) [PC_UNPACK_##symbol] = name,
static const char *const fault_names[] = {PC_UNPACK_FAULTS(FAULT_NAME)};

PC_EXPORT const char *pc_unpack_fault_name(uint32_t fault)
{
	return fault < PC_UNPACK_FAULT_COUNT ? fault_names[fault] : "";
}

int tar_fault(struct pc_unpack_error *e, enum pc_unpack_fault fault, uint64_t a, uint64_t b)
{
	e->fault = fault;
	e->numbers[0] = a;
	e->numbers[1] = b;
	return -EBADMSG;
}

void *tar_grow(void *array, size_t *room, size_t need, size_t size)
{
	size_t more = *room ? *room : 16;

	if (need <= *room)
		return array;
	while (more < need)
		more *= 2;
	void *moved = realloc(array, more * size);
	if (moved != NULL)
		*room = more;
	return moved;
}

static size_t min_of(uint64_t a, size_t b)
{
	return a < b ? (size_t)a : b;
}

/* --- blocks ------------------------------------------------------------------------------------------------------ */

/* Takes up to a block: bytes consumed, and *block when it is whole, in the chunk itself where that holds all of it. */
static size_t take_block(struct tar *t, const uint8_t *p, size_t n, const uint8_t **block)
{
	*block = NULL;
	if (t->have == 0 && n >= TAR_BLOCK) {
		*block = p;
		return TAR_BLOCK;
	}
	size_t used = min_of(TAR_BLOCK - t->have, n);
	memcpy(t->block + t->have, p, used);
	t->have += used;
	if (t->have == TAR_BLOCK) {
		t->have = 0;
		*block = t->block;
	}
	return used;
}

/* 0 when the checksum is right, 1 for a block of zeros. Some old writers summed signed bytes. */
static int check_block(struct tar *t, const uint8_t *b)
{
	uint32_t sum = 0, high = 0;
	uint64_t stored;

	for (size_t i = 0; i < TAR_BLOCK; i++) {
		sum += b[i];
		high += b[i] >> 7;
	}
	if (sum == 0)
		return 1;
	int err = tar_number(t->error, b + 148, 8, "checksum", &stored);
	if (err < 0)
		return err;
	for (size_t i = 148; i < 156; i++) {
		sum -= b[i];
		high -= b[i] >> 7;
	}
	sum += 8 * ' ';
	return stored == sum || (int64_t)stored == (int64_t)sum - 256 * (int64_t)high ? 0 : tar_fault(t->error, PC_UNPACK_CHECKSUM, 0, 0);
}

/* --- extended headers -------------------------------------------------------------------------------------------- */

static bool is_meta(uint8_t type)
{
	return type == 'x' || type == 'X' || type == 'g' || type == 'L' || type == 'K';
}

static struct tar_span up_to_nul(const struct tar *t)
{
	const uint8_t *from = t->meta + t->meta_from;
	size_t n = t->meta_n - t->meta_from;
	const uint8_t *nul = n > 0 ? memchr(from, '\0', n) : NULL;

	return (struct tar_span){.at = (uint32_t)t->meta_from, .n = (uint32_t)(nul != NULL ? (size_t)(nul - from) : n)};
}

static int meta_known(struct tar *t)
{
	struct tar_pax fresh = {0};
	int err = 0;

	t->state = TAR_HEADER;
	switch (t->meta_type) {
	case 'L':
		t->long_name = up_to_nul(t);
		t->has_long_name = true;
		return 0;
	case 'K':
		t->long_link = up_to_nul(t);
		t->has_long_link = true;
		return 0;
	case 'g':
		err = tar_pax_parse(&fresh, t->meta, t->meta_from, t->meta_n, t->error);
		if (err == 0)
			err = tar_pax_merge(&t->global, &fresh, t->meta, t->error);
		tar_pax_free(&fresh);
		return err;
	default:
		return tar_pax_parse(&t->pax, t->meta, t->meta_from, t->meta_n, t->error);
	}
}

static int meta_header(struct tar *t, const uint8_t *b)
{
	uint64_t size;
	int err = tar_number(t->error, b + 124, 12, "size", &size);

	if (err < 0)
		return err;
	if (size > t->max_meta_bytes || t->meta_declared + size > t->max_meta_bytes)
		return tar_fault(t->error, PC_UNPACK_META_BYTES, t->max_meta_bytes, 0);
	t->n_meta++;
	t->meta_declared += size;
	t->meta_type = b[156];
	t->meta_from = t->meta_n;
	t->meta_left = size;
	t->meta_padding = (uint32_t)(-size % TAR_BLOCK);
	t->meta_padded = size + t->meta_padding;
	t->state = TAR_META;
	/* one byte more: what has no bytes still has an address */
	uint8_t *meta = tar_grow(t->meta, &t->meta_room, t->meta_n + size + 1, 1);
	if (meta == NULL)
		return -ENOMEM;
	t->meta = meta;
	return size == 0 ? meta_known(t) : 0;
}

static long on_meta(struct tar *t, const uint8_t *p, size_t n)
{
	size_t used = min_of(t->meta_left, n);

	if (used > 0) {
		memcpy(t->meta + t->meta_n, p, used);
		t->meta_n += used;
		t->meta_left -= used;
	}
	size_t skipped = min_of(t->meta_padding, n - used);
	t->meta_padding -= (uint32_t)skipped;
	used += skipped;
	int err = t->meta_left == 0 && t->meta_padding == 0 ? meta_known(t) : 0;
	return err < 0 ? err : (long)used;
}

/* --- entries ----------------------------------------------------------------------------------------------------- */

static int header_known(struct tar *t, const uint8_t *b)
{
	int zeros = check_block(t, b);

	if (zeros < 0)
		return zeros;
	if (zeros) {
		t->state = TAR_TRAILER;
		return 0;
	}
	if (is_meta(b[156]))
		return meta_header(t, b);
	int err = tar_read_header(t, b);
	if (err == 0)
		err = tar_sparse_begin(t, b);
	return err < 0 || t->state != TAR_HEADER ? err : tar_entry_known(t);
}

static long on_header(struct tar *t, const uint8_t *p, size_t n)
{
	const uint8_t *block;

	if (t->n_meta == TAR_MAX_META_HEADERS)
		return tar_fault(t->error, PC_UNPACK_META_HEADERS, TAR_MAX_META_HEADERS, 0);
	size_t used = take_block(t, p, n, &block);
	int err = block != NULL ? header_known(t, block) : 0;
	return err < 0 ? err : (long)used;
}

static long on_map(struct tar *t, const uint8_t *p, size_t n)
{
	const uint8_t *block;
	size_t used = take_block(t, p, n, &block);
	int err = 0;

	if (block != NULL)
		err = t->state == TAR_SPARSE_BLOCK ? tar_sparse_block(t, block) : tar_sparse_text(t, block);
	return err < 0 ? err : (long)used;
}

static void forget_entry(struct tar *t)
{
	t->last_name_n = min_of(t->entry.name.n, sizeof t->last_name);
	if (t->last_name_n > 0)
		memcpy(t->last_name, t->entry.name.at, t->last_name_n);
	t->last_name_whole = t->entry.name.n;
	t->named = false;
	t->meta_n = 0;
	t->meta_declared = 0;
	t->n_meta = 0;
	t->has_long_name = t->has_long_link = false;
	tar_pax_clear(&t->pax);
}

static int data_known(struct tar *t)
{
	int err = t->sink->end(t->context);

	if (err < 0)
		return err;
	forget_entry(t);
	t->state = t->padding > 0 ? TAR_PADDING : TAR_HEADER;
	return 0;
}

int tar_entry_known(struct tar *t)
{
	int err = t->sink->entry(t->context, &t->entry);

	if (err < 0)
		return err;
	t->at = 0;
	t->segment = 0;
	t->state = TAR_DATA;
	return t->left == 0 ? data_known(t) : 0;
}

/* To the sink, at the places in the file where the map has them. */
static int give(struct tar *t, const uint8_t *p, size_t n)
{
	while (n > 0) {
		uint64_t offset = 0, room = n;
		if (t->entry.sparse) {
			offset = t->map.numbers[t->segment];
			room = t->map.numbers[t->segment + 1] - t->at;
		}
		size_t m = min_of(room, n);
		int err = t->sink->data(t->context, offset + t->at, p, m);
		if (err < 0)
			return err;
		p += m;
		n -= m;
		t->at += m;
		if (t->entry.sparse && m == room) {
			t->segment += 2;
			t->at = 0;
		}
	}
	return 0;
}

static long on_data(struct tar *t, const uint8_t *p, size_t n)
{
	size_t used = min_of(t->left, n);
	int err = give(t, p, used);

	t->left -= used;
	if (err == 0 && t->left == 0)
		err = data_known(t);
	return err < 0 ? err : (long)used;
}

static long on_padding(struct tar *t, size_t n)
{
	size_t used = min_of(t->padding, n);

	t->padding -= (uint32_t)used;
	if (t->padding == 0)
		t->state = TAR_HEADER;
	return (long)used;
}

static long on_trailer(struct tar *t, const uint8_t *p, size_t n)
{
	if (p[0] != 0 || memcmp(p, p + 1, n - 1) != 0)
		return tar_fault(t->error, PC_UNPACK_TRAILER, 0, 0);
	return (long)n;
}

static long step(struct tar *t, const uint8_t *p, size_t n)
{
	switch (t->state) {
	case TAR_HEADER:
		return on_header(t, p, n);
	case TAR_META:
		return on_meta(t, p, n);
	case TAR_SPARSE_BLOCK:
	case TAR_SPARSE_TEXT:
		return on_map(t, p, n);
	case TAR_DATA:
		return on_data(t, p, n);
	case TAR_PADDING:
		return on_padding(t, n);
	case TAR_TRAILER:
		return on_trailer(t, p, n);
	case TAR_FAILED:
		break;
	}
	return -EBADMSG;
}

/* --- the public face ---------------------------------------------------------------------------------------------- */

void tar_begin(struct tar *t, const struct tar_sink *sink, void *context, struct pc_unpack_error *error)
{
	t->sink = sink;
	t->context = context;
	t->error = error;
}

/* What failed without a word of its own is a system call's errno; and the name, if there is one by now. */
static int failed(struct tar *t, int err)
{
	struct pc_unpack_error *e = t->error;
	const uint8_t *name = t->named ? t->entry.name.at : t->last_name;
	size_t whole = t->named ? t->entry.name.n : t->last_name_whole;

	t->state = TAR_FAILED;
	if (e->fault == PC_UNPACK_NONE) {
		e->fault = PC_UNPACK_SYSTEM;
		e->err = -err;
	}
	e->after = !t->named;
	e->name_bytes = (uint32_t)whole; /* of a header of a megabyte at most */
	if (whole > 0)
		memcpy(e->name, name, whole < sizeof e->name ? whole : sizeof e->name);
	if (t->named)
		(void)strncpy(e->kind, tar_kind_names[t->entry.kind], sizeof e->kind - 1);
	return err;
}

int tar_feed(struct tar *t, const uint8_t *data, size_t n)
{
	if (t->state == TAR_FAILED)
		return -EBADMSG;
	while (n > 0) {
		if (t->consumed == t->max_bytes)
			return failed(t, tar_fault(t->error, PC_UNPACK_BYTES, t->max_bytes, 0));
		long used = step(t, data, min_of(t->max_bytes - t->consumed, n));
		if (used < 0)
			return failed(t, (int)used);
		t->consumed += (uint64_t)used;
		data += used;
		n -= (size_t)used;
	}
	return 0;
}

/* No end marker is as good as one between two entries, as other readers have it. */
static int finish(struct tar *t)
{
	switch (t->state) {
	case TAR_HEADER:
		if (t->have > 0)
			return tar_fault(t->error, PC_UNPACK_TRUNCATED, TAR_BLOCK, t->have);
		break;
	case TAR_META:
		return tar_fault(t->error, PC_UNPACK_TRUNCATED, t->meta_padded, t->meta_padded - t->meta_left - t->meta_padding);
	case TAR_SPARSE_BLOCK:
	case TAR_SPARSE_TEXT:
		return tar_fault(t->error, PC_UNPACK_TRUNCATED, TAR_BLOCK, t->have);
	case TAR_DATA:
		return tar_fault(t->error, PC_UNPACK_DATA_ENDS, t->left, 0);
	case TAR_PADDING:
		return tar_fault(t->error, PC_UNPACK_TRUNCATED, t->padded, t->padded - t->padding);
	case TAR_TRAILER:
	case TAR_FAILED:
		break;
	}
	return t->n_meta > 0 ? tar_fault(t->error, PC_UNPACK_META_ENDS, 0, 0) : 0;
}

int tar_finish(struct tar *t)
{
	if (t->state == TAR_FAILED)
		return -EBADMSG;
	int err = finish(t);
	return err < 0 ? failed(t, err) : 0;
}

void tar_free(struct tar *t)
{
	free(t->meta);
	free(t->xattrs);
	free(t->map.numbers);
	tar_pax_free(&t->pax);
	tar_pax_free(&t->global);
}
