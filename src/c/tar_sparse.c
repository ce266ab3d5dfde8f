/* GNU's sparse files: where in the file each stored run belongs. Old format ('S'), pax 0.0, 0.1 and 1.0. */
#include "tar.h"

#include <errno.h>
#include <string.h>

static int add(struct tar *t, uint64_t number)
{
	uint64_t *numbers = tar_grow(t->map.numbers, &t->map.room, t->map.n + 1, sizeof *numbers);

	if (numbers == NULL)
		return -ENOMEM;
	t->map.numbers = numbers;
	numbers[t->map.n++] = number;
	return 0;
}

static int add_decimal(struct tar *t, struct tar_text text)
{
	uint64_t number;
	int err = tar_decimal(t->error, text, "sparse map", &number);

	return err < 0 ? err : add(t, number);
}

/* Runs must be in order and hold exactly the data that is stored; those of no length are dropped. */
static int check_map(struct tar *t)
{
	struct tar_map *m = &t->map;
	uint64_t end = 0, total = 0;
	size_t kept = 0;

	if (m->n % 2)
		return tar_fault(t->error, PC_UNPACK_SPARSE_ODD, 0, 0);
	for (size_t i = 0; i < m->n; i += 2) {
		uint64_t offset = m->numbers[i], length = m->numbers[i + 1]; /* below 2^63 each */
		if (offset < end || offset + length > m->real)
			return tar_fault(t->error, PC_UNPACK_SPARSE_ORDER, 0, 0);
		end = offset + length;
		total += length;
		if (length == 0)
			continue;
		m->numbers[kept] = offset;
		m->numbers[kept + 1] = length;
		kept += 2;
	}
	if (total != t->entry.stored)
		return tar_fault(t->error, PC_UNPACK_SPARSE_TOTAL, total, t->entry.stored);
	m->n = kept;
	return 0;
}

static int map_known(struct tar *t)
{
	struct tar_text name = tar_record(t, PAX_SPARSE_NAME);

	if (name.n > 0)
		t->entry.name = name;
	t->state = TAR_HEADER;
	t->entry.sparse = true;
	t->entry.size = t->map.real;
	return check_map(t);
}

/* --- old format: four runs in the header, 21 in each block after it --------------------------------------------- */

static int add_fields(struct tar *t, const uint8_t *at, size_t fields)
{
	for (; fields > 0 && *at != '\0'; fields--, at += 24) {
		uint64_t offset, length;
		int err = tar_size(t->error, at, 12, "sparse map", &offset);
		if (err == 0)
			err = tar_size(t->error, at + 12, 12, "sparse map", &length);
		if (err == 0)
			err = add(t, offset);
		if (err == 0)
			err = add(t, length);
		if (err < 0)
			return err;
	}
	return 0;
}

static int more_blocks(struct tar *t, uint8_t more)
{
	if (!more)
		return map_known(t);
	t->map.read += TAR_BLOCK;
	if (t->map.read > t->max_meta_bytes)
		return tar_fault(t->error, PC_UNPACK_SPARSE_BYTES, t->max_meta_bytes, 0);
	t->state = TAR_SPARSE_BLOCK;
	return 0;
}

static int begin_old(struct tar *t, const uint8_t *b)
{
	int err = tar_size(t->error, b + 483, 12, "real size", &t->map.real);

	if (err == 0)
		err = add_fields(t, b + 386, 4);
	return err < 0 ? err : more_blocks(t, b[482]);
}

int tar_sparse_block(struct tar *t, const uint8_t *b)
{
	int err = add_fields(t, b, 21);

	if (err == 0)
		err = more_blocks(t, b[504]);
	return err < 0 || t->state == TAR_SPARSE_BLOCK ? err : tar_entry_known(t);
}

/* --- pax 1.0: the map is text at the start of the data, a count and then the numbers, one a line, padded to a block - */

static int more_text(struct tar *t)
{
	if (t->left < TAR_BLOCK || t->map.read > t->max_meta_bytes)
		return tar_fault(t->error, PC_UNPACK_SPARSE_END, 0, 0);
	t->map.read += TAR_BLOCK;
	t->left -= TAR_BLOCK;
	t->state = TAR_SPARSE_TEXT;
	return 0;
}

static int end_line(struct tar *t)
{
	struct tar_map *m = &t->map;
	struct tar_text line = {m->line, m->line_n}; /* longer than what is kept of it, it is no number anyway */
	uint64_t pairs;

	m->line_n = 0;
	if (m->counted)
		return add_decimal(t, line);
	int err = tar_decimal(t->error, line, "sparse map", &pairs);
	if (err < 0)
		return err;
	m->counted = true;
	m->wanted = 2 * pairs; /* below 2^63 */
	return 0;
}

int tar_sparse_text(struct tar *t, const uint8_t *b)
{
	struct tar_map *m = &t->map;

	for (size_t i = 0; i < TAR_BLOCK && !(m->counted && m->n == m->wanted); i++) {
		if (b[i] == '\n') {
			int err = end_line(t);
			if (err < 0)
				return err;
		} else if (m->line_n < sizeof m->line) {
			m->line[m->line_n++] = b[i];
		}
	}
	if (!m->counted || m->n < m->wanted)
		return more_text(t);
	t->entry.stored = t->left;
	int err = map_known(t);
	return err < 0 ? err : tar_entry_known(t);
}

static int begin_1_0(struct tar *t)
{
	struct tar_text major = tar_record(t, PAX_SPARSE_MAJOR), minor = tar_record(t, PAX_SPARSE_MINOR);

	if (major.n != 1 || minor.n != 1 || *major.at != '1' || *minor.at != '0')
		return tar_fault(t->error, PC_UNPACK_SPARSE_VERSION, 0, 0);
	int err = tar_decimal(t->error, tar_record(t, PAX_SPARSE_REALSIZE), "GNU.sparse.realsize", &t->map.real);
	return err < 0 ? err : more_text(t);
}

/* --- pax 0.0 and 0.1: in the records ------------------------------------------------------------------------------ */

static int add_list(struct tar *t, struct tar_text list)
{
	for (size_t from = 0; from <= list.n;) {
		size_t to = from;
		while (to < list.n && list.at[to] != ',')
			to++;
		int err = add_decimal(t, (struct tar_text){list.at + from, to - from});
		if (err < 0)
			return err;
		from = to + 1;
	}
	return 0;
}

static int begin_0(struct tar *t)
{
	int err = tar_decimal(t->error, tar_record(t, PAX_SPARSE_SIZE), "GNU.sparse.size", &t->map.real);

	if (err == 0 && t->pax.pairs.n == 0)
		err = add_list(t, tar_record(t, PAX_SPARSE_MAP));
	for (size_t i = 0; err == 0 && i < t->pax.pairs.n; i++)
		err = add_decimal(t, (struct tar_text){t->meta + t->pax.pairs.at[i].at, t->pax.pairs.at[i].n});
	return err < 0 ? err : map_known(t);
}

int tar_sparse_begin(struct tar *t, const uint8_t *b)
{
	t->map.n = 0;
	t->map.read = 0;
	t->map.counted = false;
	t->map.line_n = 0;
	if (b[156] == 'S')
		return begin_old(t, b);
	if (t->entry.kind != TAR_FILE)
		return 0;
	if (tar_record(t, PAX_SPARSE_MAJOR).n > 0)
		return begin_1_0(t);
	if (tar_record(t, PAX_SPARSE_MAP).n > 0 || t->pax.pairs.n > 0)
		return begin_0(t);
	return 0;
}
