/* Hard links: a file with several names is written once, under the first of them. A record goes when the last name has
 * come, so that a tree whose links are all inside it needs none at the end.
 */
#include "pack.h"

struct pc_link {
	struct pc_link *next;
	uint64_t ino;
	uint32_t dev_major, dev_minor;
	uint32_t left; /* names that have not come yet */
	uint32_t len;
	char path[];
};

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

#if defined __GNUC__ && !defined __clang__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak" /* gcc 12 loses what a bucket of unknown index owns */
#endif

static int remember(struct pc_pack *p, const struct statx *st, const char *path, size_t path_len)
{
	if (make_room(p) < 0)
		return -ENOMEM;
	struct pc_link **bucket = &p->links[bucket_of(p, st->stx_ino)], *link = malloc(sizeof *link + path_len);
	if (link == NULL)
		return -ENOMEM;
	*link = (struct pc_link){
		.next = *bucket,
		.ino = st->stx_ino,
		.dev_major = st->stx_dev_major,
		.dev_minor = st->stx_dev_minor,
		.left = st->stx_nlink - 1,
		.len = (uint32_t)path_len,
	};
	memcpy(link->path, path, path_len);
	*bucket = link;
	p->n_links++;
	return 0;
}

#if defined __GNUC__ && !defined __clang__
#pragma GCC diagnostic pop
#endif

int pc_links_find(struct pc_pack *p, const struct statx *st, const char *path, size_t path_len, struct pc_bytes *first)
{
	first->n = 0;
	if (p->links_room > 0)
		for (struct pc_link **at = &p->links[bucket_of(p, st->stx_ino)]; *at != NULL; at = &(*at)->next) {
			struct pc_link *found = *at;
			if (!is_file(found, st))
				continue;
			int err = pc_bytes_add(first, found->path, found->len);
			if (err == 0 && --found->left == 0) {
				*at = found->next;
				free(found);
				p->n_links--;
			}
			return err < 0 ? err : 1;
		}
	return remember(p, st, path, path_len);
}

void pc_links_free(struct pc_pack *p)
{
	for (size_t i = 0; i < p->links_room; i++)
		for (struct pc_link *each = p->links[i], *next; each != NULL; each = next) {
			next = each->next;
			free(each);
		}
	free(p->links);
}
