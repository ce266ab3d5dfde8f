/* The open directories of a walk. Only so many are open at once: what has not been used for longest is closed, and opened
 * again by its path when the walk comes back to it, if it is still the same directory then.
 */
#include "pack.h"

#include <stdio.h>
#include <sys/sysmacros.h>

#define PIECE 4000 /* of a path, at once: below PATH_MAX */
/* How far above a directory that is opened again another one is opened with it: on its way up the walk needs that one, and
 * all between them, soon. Without it a deep tree would be walked from its root once for each level. */
#define STRIDE 32
#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)

int pc_dirs_path(struct pc_pack *p, const char *name, size_t len)
{
	p->path.n = p->levels[p->n_levels - 1].path_len;
	int err = p->path.n > 0 ? pc_bytes_add(&p->path, "/", 1) : 0;
	if (err == 0)
		err = pc_bytes_add(&p->path, name, len);
	if (err < 0)
		return pc_pack_fail(p, PC_PACK_STEP_MEMORY, err);
	return p->path.n > PC_PACK_PATH_MAX ? pc_pack_fail(p, PC_PACK_STEP_PATH, -ENAMETOOLONG) : 0;
}

/* --- slots ------------------------------------------------------------------------------------------------------ */

static void close_slot(struct pc_pack *p, struct pc_slot *slot)
{
	fd_close(&slot->fd);
	p->members[slot->member].slot = -1;
}

/* Not the last one: the caller works in it. */
bool pc_dirs_spare(struct pc_pack *p)
{
	struct pc_slot *oldest = NULL;
	int open = 0;

	for (int i = 0; i < PC_PACK_OPEN; i++) {
		struct pc_slot *slot = &p->slots[i];
		if (slot->fd < 0)
			continue;
		open++;
		if (oldest == NULL || slot->used < oldest->used)
			oldest = slot;
	}
	if (open < 2)
		return false;
	close_slot(p, oldest);
	return true;
}

static void keep(struct pc_pack *p, uint32_t member, int fd)
{
	int free_slot = 0;

	for (;;) {
		while (free_slot < PC_PACK_OPEN && p->slots[free_slot].fd >= 0)
			free_slot++;
		if (free_slot < PC_PACK_OPEN)
			break;
		(void)pc_dirs_spare(p); /* all are open: there is one to close */
		free_slot = 0;
	}
	p->slots[free_slot] = (struct pc_slot){.fd = fd, .member = member, .used = ++p->uses};
	p->members[member].slot = free_slot;
}

/* --- opening ---------------------------------------------------------------------------------------------------- */

static int open_below(struct pc_pack *p, int dir, const char *path, uint64_t flags)
{
	for (;;) {
		int fd = sys_openat2(dir, path, flags | O_CLOEXEC, 0, p->flags & PC_PACK_TREE ? PC_RESOLVE_TREE : PC_RESOLVE_HERE);
		if ((fd != -EMFILE && fd != -ENFILE) || !pc_dirs_spare(p))
			return fd;
	}
}

static bool is_open(const struct pc_pack *p, uint32_t member)
{
	return p->members[member].level == 0 || p->members[member].slot >= 0;
}

static int use(struct pc_pack *p, uint32_t member)
{
	const struct pc_member *m = &p->members[member];

	if (m->level == 0)
		return p->root_fds[m->root];
	p->slots[m->slot].used = ++p->uses;
	return p->slots[m->slot].fd;
}

static const char *piece(const struct pc_pack *p, uint32_t from, uint32_t to, size_t *len)
{
	size_t begin = p->levels[from].path_len + (p->levels[from].path_len > 0 ? 1 : 0);

	*len = p->levels[to].path_len - begin;
	return (const char *)p->path.data + begin;
}

/* Which directory on the way from `anchor` to `member` is opened next. */
static uint32_t next_stop(const struct pc_pack *p, uint32_t anchor, uint32_t member)
{
	const uint32_t from = p->members[anchor].level, wanted = p->members[member].level;
	uint32_t at = member;
	size_t len;

	while (p->members[at].level > from + 1) {
		(void)piece(p, from, p->members[at].level, &len);
		if (len <= PIECE && (wanted - from <= STRIDE || p->members[at].level + STRIDE <= wanted))
			break;
		at = p->members[at].up;
	}
	return at;
}

static int open_again(struct pc_pack *p, uint32_t anchor, uint32_t member)
{
	char path[PIECE + 1];
	size_t len;
	struct statx st;
	const struct pc_member *m = &p->members[member];
	const char *from = piece(p, p->members[anchor].level, m->level, &len);

	if (len > PIECE)
		return -ENAMETOOLONG; /* no name is that long */
	memcpy(path, from, len);
	path[len] = '\0';
	scoped_fd int fd = open_below(p, use(p, anchor), path, DIR_FLAGS);
	if (fd < 0)
		return fd == -ELOOP || fd == -EXDEV ? -ESTALE : fd;
	int err = sys_statx(fd, "", AT_EMPTY_PATH, STATX_INO, &st);
	if (err < 0)
		return err;
	if (st.stx_ino != m->ino || st.stx_dev_major != m->dev_major || st.stx_dev_minor != m->dev_minor)
		return -ESTALE;
	keep(p, member, fd_take(&fd));
	return 0;
}

int pc_dirs_fd(struct pc_pack *p, uint32_t member)
{
	uint32_t anchor = member;

	while (!is_open(p, anchor))
		anchor = p->members[anchor].up;
	while (anchor != member) {
		uint32_t next = next_stop(p, anchor, member);
		int err = open_again(p, anchor, next);
		if (err < 0)
			return err;
		anchor = next;
	}
	return use(p, member);
}

int pc_dirs_open(struct pc_pack *p, uint32_t member, const char *name, uint64_t flags)
{
	int dir = pc_dirs_fd(p, member);

	return dir < 0 ? dir : open_below(p, dir, name, flags);
}

/* --- levels ----------------------------------------------------------------------------------------------------- */

int pc_dirs_push(struct pc_pack *p)
{
	int err = pc_pack_grow((void **)&p->levels, &p->levels_room, p->n_levels + 1, sizeof *p->levels);

	if (err < 0)
		return pc_pack_fail(p, PC_PACK_STEP_MEMORY, err);
	p->levels[p->n_levels++] = (struct pc_level){
		.path_len = p->path.n,
		.first_name = p->n_names,
		.names_at = p->name_bytes.n,
		.first_member = p->n_members,
	};
	return 0;
}

int pc_dirs_add(struct pc_pack *p, uint32_t root, uint32_t up, int fd, const struct statx *st)
{
	struct pc_level *level = &p->levels[p->n_levels - 1];
	int err = pc_pack_grow((void **)&p->members, &p->members_room, p->n_members + 1, sizeof *p->members);

	if (err < 0) {
		fd_close(&fd);
		return pc_pack_fail(p, PC_PACK_STEP_MEMORY, err);
	}
	p->members[p->n_members] = (struct pc_member){
		.ino = st->stx_ino,
		.dev_major = st->stx_dev_major,
		.dev_minor = st->stx_dev_minor,
		.root = root,
		.level = p->n_levels - 1,
		.up = up,
		.slot = -1,
	};
	if (p->n_levels > 1)
		keep(p, p->n_members, fd);
	p->n_members++;
	level->n_members++;
	return 0;
}

void pc_dirs_pop(struct pc_pack *p)
{
	struct pc_level *level = &p->levels[--p->n_levels];

	for (uint32_t i = level->first_member; i < p->n_members; i++)
		if (p->members[i].slot >= 0)
			close_slot(p, &p->slots[p->members[i].slot]);
	pc_links_leave(level->place);
	p->n_members = level->first_member;
	p->n_names = level->first_name;
	p->name_bytes.n = level->names_at;
}

/* The caller's fds may be O_PATH, and may be closed while we read. */
int pc_dirs_open_roots(struct pc_pack *p, const int32_t *roots)
{
	for (uint32_t i = 0; i < p->n_roots; i++) {
		p->root_fds[i] = p->flags & PC_PACK_ONE ? sys_fcntl(roots[i], F_DUPFD_CLOEXEC, 3)
							: sys_openat2(roots[i], ".", DIR_FLAGS, 0, PC_RESOLVE_HERE);
		if (p->root_fds[i] < 0)
			return pc_pack_fail(p, PC_PACK_STEP_OPEN, p->root_fds[i]);
	}
	return 0;
}

void pc_dirs_free(struct pc_pack *p)
{
	while (p->n_levels > 0)
		pc_dirs_pop(p);
	for (int i = 0; i < PC_PACK_OPEN; i++)
		fd_close(&p->slots[i].fd);
	for (uint32_t i = 0; p->root_fds != NULL && i < p->n_roots; i++)
		fd_close(&p->root_fds[i]);
	free(p->root_fds);
	free(p->levels);
	free(p->members);
}
