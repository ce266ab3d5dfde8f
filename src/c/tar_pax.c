/* Pax extended headers: "LENGTH KEY=VALUE\n" records. Kept is what unpacking asks for; the rest is read for its form only. */
#include "tar.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const known_keys[PAX_KEYS] = {
	[PAX_PATH] = "path",
	[PAX_LINKPATH] = "linkpath",
	[PAX_SIZE] = "size",
	[PAX_UID] = "uid",
	[PAX_GID] = "gid",
	[PAX_MTIME] = "mtime",
	[PAX_SPARSE_MAJOR] = "GNU.sparse.major",
	[PAX_SPARSE_MINOR] = "GNU.sparse.minor",
	[PAX_SPARSE_NAME] = "GNU.sparse.name",
	[PAX_SPARSE_REALSIZE] = "GNU.sparse.realsize",
	[PAX_SPARSE_SIZE] = "GNU.sparse.size",
	[PAX_SPARSE_MAP] = "GNU.sparse.map",
};

static const char xattr_prefix[] = "SCHILY.xattr.", other_xattr_prefix[] = "LIBARCHIVE.xattr.";

struct record {
	struct tar_text key;
	struct tar_text value;
};

static bool is_text(struct tar_text text, const char *word)
{
	return text.n == strlen(word) && memcmp(text.at, word, text.n) == 0;
}

static bool begins(struct tar_text text, const char *word)
{
	size_t n = strlen(word);

	return text.n >= n && memcmp(text.at, word, n) == 0;
}

/* The length of the record at `at`, which counts itself: how many digits, and the number. */
static size_t record_length(const uint8_t *base, size_t at, size_t to, size_t *length)
{
	size_t n = 0;

	*length = 0;
	while (at + n < to && n < 8 && base[at + n] >= '0' && base[at + n] <= '9')
		*length = *length * 10 + (size_t)(base[at + n++] - '0');
	return at + n < to && n < 8 && base[at + n] == ' ' ? n : 0;
}

/* The record at *at, which moves behind it. */
static int read_record(const uint8_t *base, size_t *at, size_t to, struct record *r, struct pc_unpack_error *e)
{
	size_t length, digits = record_length(base, *at, to, &length);

	if (digits == 0)
		return tar_fault(e, PC_UNPACK_PAX_LENGTH, 0, 0);
	size_t key = *at + digits + 1, end = *at + length;
	if (end > to || end <= key || base[end - 1] != '\n')
		return tar_fault(e, PC_UNPACK_PAX_CUT, 0, 0);
	const uint8_t *equals = memchr(base + key, '=', end - 1 - key);
	if (equals == NULL || equals == base + key || memchr(base + key, '\0', (size_t)(equals - base) - key) != NULL)
		return tar_fault(e, PC_UNPACK_PAX_CUT, 0, 0);
	r->key = (struct tar_text){base + key, (size_t)(equals - base) - key};
	r->value = (struct tar_text){equals + 1, (size_t)(base + end - 1 - equals) - 1};
	*at = end;
	if (!begins(r->key, xattr_prefix) && !begins(r->key, other_xattr_prefix) && r->value.n > 0 &&
	    memchr(r->value.at, '\0', r->value.n) != NULL) {
		tar_say(e, "", (struct tar_text){r->key.at, r->key.n < 40 ? r->key.n : 40});
		return tar_fault(e, PC_UNPACK_PAX_NUL, 0, 0);
	}
	return 0;
}

static struct tar_span span_of(const uint8_t *base, struct tar_text text)
{
	return (struct tar_span){.at = (uint32_t)(text.at - base), .n = (uint32_t)text.n};
}

static int push(struct tar_spans *list, struct tar_span span)
{
	struct tar_span *at = tar_grow(list->at, &list->room, list->n + 1, sizeof *at);

	if (at == NULL)
		return -ENOMEM;
	list->at = at;
	at[list->n++] = span;
	return 0;
}

static int keep(struct tar_pax *p, const uint8_t *base, const struct record *r)
{
	if (begins(r->key, xattr_prefix)) {
		const size_t n = sizeof xattr_prefix - 1;
		int err = push(&p->xattrs, span_of(base, (struct tar_text){r->key.at + n, r->key.n - n}));
		return err < 0 ? err : push(&p->xattrs, span_of(base, r->value));
	}
	if (is_text(r->key, "GNU.sparse.offset") || is_text(r->key, "GNU.sparse.numbytes"))
		return push(&p->pairs, span_of(base, r->value)); /* format 0.0 repeats the two keys, in order */
	for (unsigned key = 0; key < PAX_KEYS; key++)
		if (is_text(r->key, known_keys[key])) {
			p->have |= 1u << key;
			p->known[key] = span_of(base, r->value); /* empty: unset, also what a global header says */
			return 0;
		}
	return 0;
}

/* Reads base[from, to). Each header's sparse pairs replace those of one before it; other records add up. */
int tar_pax_parse(struct tar_pax *p, const uint8_t *base, size_t from, size_t to, struct pc_unpack_error *e)
{
	struct record r = {0};
	int err = 0;

	p->pairs.n = 0;
	while (err == 0 && from < to) {
		err = read_record(base, &from, to, &r, e);
		if (err == 0)
			err = keep(p, base, &r);
	}
	return err;
}

static struct tar_text text_of(const uint8_t *base, struct tar_span span)
{
	return (struct tar_text){base + span.at, span.n};
}

/* The extended attributes of two scopes in one list, the later of a name counting. */
static int join_xattrs(const struct tar_pax *p, const uint8_t *base, struct record *list, size_t *n)
{
	for (size_t i = 0; i < p->xattrs.n; i += 2) {
		struct record r = {text_of(base, p->xattrs.at[i]), text_of(base, p->xattrs.at[i + 1])};
		size_t k = 0;
		while (k < *n && (list[k].key.n != r.key.n || memcmp(list[k].key.at, r.key.at, r.key.n) != 0))
			k++;
		if (k == TAR_MAX_GLOBAL_XATTRS)
			return -E2BIG;
		list[k] = r;
		if (k == *n)
			++*n;
	}
	return 0;
}

static struct tar_span copy(uint8_t *to, size_t *used, struct tar_text text)
{
	struct tar_span span = {.at = (uint32_t)*used, .n = (uint32_t)text.n};

	if (text.n > 0)
		memcpy(to + *used, text.at, text.n);
	*used += text.n;
	return span;
}

/* A set of its own bytes, out of what is chosen from two others. */
static int build(struct tar_pax *made, const struct tar_text *known, const struct record *xattrs, size_t n, size_t total)
{
	size_t used = 0;
	int err = 0;

	made->bytes = malloc(total + 1);
	if (made->bytes == NULL)
		return -ENOMEM;
	for (unsigned key = 0; key < PAX_KEYS; key++)
		if (made->have & 1u << key)
			made->known[key] = copy(made->bytes, &used, known[key]);
	for (size_t i = 0; err == 0 && i < n; i++) {
		err = push(&made->xattrs, copy(made->bytes, &used, xattrs[i].key));
		if (err == 0)
			err = push(&made->xattrs, copy(made->bytes, &used, xattrs[i].value));
	}
	return err;
}

/* What a global header says replaces what an earlier one said. */
int tar_pax_merge(struct tar_pax *global, const struct tar_pax *fresh, const uint8_t *base, struct pc_unpack_error *e)
{
	struct tar_text known[PAX_KEYS];
	struct record xattrs[TAR_MAX_GLOBAL_XATTRS];
	struct tar_pax made = {.have = global->have | fresh->have};
	size_t n = 0, total = 0;

	if (join_xattrs(global, global->bytes, xattrs, &n) < 0 || join_xattrs(fresh, base, xattrs, &n) < 0)
		return tar_fault(e, PC_UNPACK_GLOBAL, TAR_MAX_GLOBAL_BYTES, TAR_MAX_GLOBAL_XATTRS);
	for (unsigned key = 0; key < PAX_KEYS; key++)
		if (made.have & 1u << key) {
			bool newer = fresh->have & 1u << key;
			known[key] = newer ? text_of(base, fresh->known[key]) : text_of(global->bytes, global->known[key]);
			total += known[key].n;
		}
	for (size_t i = 0; i < n; i++)
		total += xattrs[i].key.n + xattrs[i].value.n;
	if (total > TAR_MAX_GLOBAL_BYTES)
		return tar_fault(e, PC_UNPACK_GLOBAL, TAR_MAX_GLOBAL_BYTES, TAR_MAX_GLOBAL_XATTRS);
	int err = build(&made, known, xattrs, n, total);
	if (err < 0) {
		tar_pax_free(&made);
		return err;
	}
	tar_pax_free(global);
	*global = made;
	return 0;
}

/* Forgets the records, and keeps the room for the next ones. */
void tar_pax_clear(struct tar_pax *p)
{
	p->have = 0;
	p->xattrs.n = 0;
	p->pairs.n = 0;
}

void tar_pax_free(struct tar_pax *p)
{
	free(p->bytes);
	free(p->xattrs.at);
	free(p->pairs.at);
	*p = (struct tar_pax){0};
}
