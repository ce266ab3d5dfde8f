/* The names of one level of the walk, sorted by their bytes: whatever order a disk gives, the tar is the same.
 *
 * All names of a directory are in memory until the walk leaves it: 16 bytes each, and the name.
 */
#include "pack.h"

#include <stdio.h>

struct dirent64 {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

static bool is_dot(const char *s)
{
	return s[0] == '.' && (s[1] == '\0' || (s[1] == '.' && s[2] == '\0'));
}

/* Whether p->path is on the list, which is of the topmost root alone: what the engine itself puts there. */
static bool is_excluded(const struct pc_pack *p)
{
	const char *each = p->exclude;

	for (uint32_t i = 0; i < p->n_exclude; i++) {
		size_t len = strlen(each);
		if (len == p->path.n && memcmp(each, p->path.data, len) == 0)
			return true;
		each += len + 1;
	}
	return false;
}

static int add_name(struct pc_pack *p, uint32_t member, const struct dirent64 *d)
{
	const struct pc_level *level = &p->levels[p->n_levels - 1];
	const size_t len = strlen(d->name), at = p->name_bytes.n - level->names_at;

	if (p->n_exclude > 0 && (p->members[member].root == 0 || p->mode == PC_PACK_CHANGES)) {
		int err = pc_dirs_path(p, d->name, len);
		if (err < 0 || is_excluded(p))
			return err;
	}
	if (at + len + 1 > UINT32_MAX)
		return pc_pack_fail(p, PC_PACK_STEP_MEMORY, -ENOMEM);
	int err = pc_pack_grow((void **)&p->names, &p->names_room, p->n_names + 1, sizeof *p->names);
	if (err == 0)
		err = pc_bytes_add(&p->name_bytes, d->name, len + 1);
	if (err < 0)
		return pc_pack_fail(p, PC_PACK_STEP_MEMORY, err);
	p->names[p->n_names++] =
		(struct pc_name){.at = (uint32_t)at, .member = member, .len = (uint16_t)len, .type = d->type};
	return 0;
}

static int read_member(struct pc_pack *p, uint32_t member)
{
	int dir = pc_dirs_fd(p, member); /* nothing else is opened until all is read: it stays ours */

	if (dir < 0)
		return pc_has_vanished(dir) ? 0 : pc_pack_fail(p, PC_PACK_STEP_OPEN, dir);
	for (;;) {
		long n = sys_getdents64(dir, p->entries, sizeof p->entries);
		if (n <= 0) /* ENOENT: it has just been removed */
			return n == 0 || n == -ENOENT ? 0 : pc_pack_fail(p, PC_PACK_STEP_LIST, (int)n);
		for (long at = 0; at < n;) {
			const struct dirent64 *d = (const struct dirent64 *)(const void *)(p->entries + at);
			at += d->reclen;
			int err = is_dot(d->name) ? 0 : add_name(p, member, d);
			if (err < 0)
				return err;
		}
	}
}

/* By name, then topmost first. */
static int compare(const void *left, const void *right, void *bytes)
{
	const struct pc_name *a = left, *b = right;
	const uint8_t *base = bytes;
	int order = memcmp(base + a->at, base + b->at, a->len < b->len ? a->len : b->len);

	if (order == 0)
		order = (a->len > b->len) - (a->len < b->len);
	return order != 0 ? order : (a->member > b->member) - (a->member < b->member);
}

static bool same_name(const uint8_t *base, const struct pc_name *a, const struct pc_name *b)
{
	return a->len == b->len && memcmp(base + a->at, base + b->at, a->len) == 0;
}

int pc_names_read(struct pc_pack *p, uint32_t n_members)
{
	const uint32_t index = p->n_levels - 1, first = p->levels[index].first_member;

	for (uint32_t i = 0; i < n_members; i++) {
		p->path.n = p->levels[index].path_len;
		int err = read_member(p, first + i);
		if (err < 0)
			return err;
	}
	struct pc_level *level = &p->levels[index];
	size_t n = p->n_names - level->first_name, kept = 0;
	if (n == 0)
		return 0;
	struct pc_name *names = p->names + level->first_name;
	uint8_t *base = p->name_bytes.data + level->names_at;
	qsort_r(names, n, sizeof *names, compare, base);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || !same_name(base, &names[kept - 1], &names[i]))
			names[kept++] = names[i];
	level->n_names = kept;
	p->n_names = level->first_name + kept;
	return 0;
}
