/* Hard links: a file with several names is written once, under the first of them. A record goes when the last name has
 * come, so that a tree whose links are all inside it needs none at the end.
 *
 * A first name is kept as a directory and a name, a directory as its parent and a name: whatever the tree is like, a record
 * costs what a file costs the disk, not what its path is long.
 */
#include "pack.h"

#if defined __GNUC__ && !defined __clang__
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak" /* gcc 12 loses what an array element of unknown index owns */
#endif

/* A directory that is the place of some first name, or above one; NULL is the root. */
struct pc_place {
	struct pc_place *parent;
	uint32_t refs;
	uint16_t len;
	char name[];
};

struct pc_link {
	struct pc_link *next;
	struct pc_place *place;
	uint64_t ino;
	uint32_t dev_major, dev_minor;
	uint32_t left; /* names that have not come yet */
	uint16_t len;
	char name[];
};

/* --- places ----------------------------------------------------------------------------------------------------- */

void pc_links_leave(struct pc_place *place)
{
	while (place != NULL && --place->refs == 0) {
		struct pc_place *parent = place->parent;
		free(place);
		place = parent;
	}
}

/* The last component of what is in p->path up to `len`. */
static const char *last_name(const struct pc_pack *p, size_t len, uint16_t *name_len)
{
	size_t begin = len;

	while (begin > 0 && p->path.data[begin - 1] != '/')
		begin--;
	*name_len = (uint16_t)(len - begin); /* a name has 255 bytes at most */
	return (const char *)p->path.data + begin;
}

/* Of the innermost level, and of all above it that have none yet; the levels hold them. */
static int find_places(struct pc_pack *p)
{
	uint32_t at = p->n_levels - 1;

	while (at > 0 && p->levels[at].place == NULL)
		at--;
	while (++at < p->n_levels) {
		uint16_t len;
		const char *name = last_name(p, p->levels[at].path_len, &len);
		struct pc_place *place = malloc(sizeof *place + len), *parent = p->levels[at - 1].place;
		if (place == NULL)
			return -ENOMEM;
		*place = (struct pc_place){.parent = parent, .refs = 1, .len = len};
		memcpy(place->name, name, len);
		if (parent != NULL)
			parent->refs++;
		p->levels[at].place = place;
	}
	return 0;
}

/* The path of a first name, from its end to its beginning. */
static int spell(const struct pc_pack *p, const struct pc_link *link, struct pc_bytes *path)
{
	size_t len = link->len;

	for (const struct pc_place *each = link->place; each != NULL; each = each->parent)
		len += each->len + 1u;
	path->n = 0;
	int err = p->name.n > 0 ? pc_bytes_add(path, p->name.data, p->name.n) : 0;
	if (err == 0 && p->name.n > 0)
		err = pc_bytes_add(path, "/", 1);
	if (err == 0)
		err = pc_bytes_reserve(path, len);
	if (err < 0)
		return err;
	len += path->n;
	path->n = len;
	memcpy(path->data + (len -= link->len), link->name, link->len);
	for (const struct pc_place *each = link->place; each != NULL; each = each->parent) {
		path->data[--len] = '/';
		memcpy(path->data + (len -= each->len), each->name, each->len);
	}
	return 0;
}

/* --- links ------------------------------------------------------------------------------------------------------ */

static size_t bucket_of(const struct pc_pack *p, uint64_t ino)
{
	return (size_t)((ino * 0x9e3779b97f4a7c15u) >> 16) & (p->links_room - 1);
}

static int make_room(struct pc_pack *p)
{
	const size_t old_room = p->links_room, room = old_room ? old_room * 2 : 256;

	if (p->n_links < old_room)
		return 0;
	struct pc_link **table = calloc(room, sizeof *table), **old = p->links;
	if (table == NULL)
		return -ENOMEM;
	p->links = table;
	p->links_room = room;
	for (size_t i = 0; i < old_room; i++)
		for (struct pc_link *each = old[i], *next; each != NULL; each = next) {
			size_t at = bucket_of(p, each->ino);
			next = each->next;
			each->next = table[at];
			table[at] = each;
		}
	free(old);
	return 0;
}

static bool is_file(const struct pc_link *link, const struct statx *st)
{
	return link->ino == st->stx_ino && link->dev_major == st->stx_dev_major && link->dev_minor == st->stx_dev_minor;
}

static int remember(struct pc_pack *p, const struct statx *st)
{
	uint16_t len;
	const char *name = last_name(p, p->path.n, &len);

	if (make_room(p) < 0 || find_places(p) < 0)
		return -ENOMEM;
	struct pc_link **bucket = &p->links[bucket_of(p, st->stx_ino)], *link = malloc(sizeof *link + len);
	if (link == NULL)
		return -ENOMEM;
	*link = (struct pc_link){
		.next = *bucket,
		.place = p->levels[p->n_levels - 1].place,
		.ino = st->stx_ino,
		.dev_major = st->stx_dev_major,
		.dev_minor = st->stx_dev_minor,
		.left = st->stx_nlink - 1,
		.len = len,
	};
	memcpy(link->name, name, len);
	if (link->place != NULL)
		link->place->refs++;
	*bucket = link;
	p->n_links++;
	return 0;
}

static void forget(struct pc_pack *p, struct pc_link **at)
{
	struct pc_link *link = *at;

	*at = link->next;
	pc_links_leave(link->place);
	free(link);
	p->n_links--;
}

int pc_links_find(struct pc_pack *p, const struct statx *st, struct pc_bytes *first)
{
	if (p->links_room > 0)
		for (struct pc_link **at = &p->links[bucket_of(p, st->stx_ino)]; *at != NULL; at = &(*at)->next) {
			if (!is_file(*at, st))
				continue;
			int err = spell(p, *at, first);
			if (err == 0 && --(*at)->left == 0)
				forget(p, at);
			return err < 0 ? err : 1;
		}
	return remember(p, st);
}

void pc_links_free(struct pc_pack *p)
{
	for (size_t i = 0; i < p->links_room; i++)
		while (p->links[i] != NULL)
			forget(p, &p->links[i]);
	free(p->links);
}
