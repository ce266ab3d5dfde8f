/* The times of directories: an entry made in one later would change them, so they are set when all is written.
 *
 * A layer of millions of directories must not fill the memory: when the list is full, what it holds is set and forgotten. From
 * then on a directory that is not in the list has the right time already, and it is given back after each entry in it.
 */
#include "unpack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t hash(const struct unpack_times *t, uint64_t ino)
{
	return (size_t)(ino * 0x9e3779b97f4a7c15u >> 17) & (t->index_room - 1);
}

/* The place in the index where the inode is, or would be. */
static uint32_t *place(const struct unpack_times *t, uint64_t ino)
{
	size_t at = hash(t, ino);

	while (t->index[at] != 0 && t->list[t->index[at] - 1].ino != ino)
		at = (at + 1) & (t->index_room - 1);
	return &t->index[at];
}

/* The index stays at most half full. */
static int grow_index(struct unpack_times *t)
{
	if (2 * (t->n + 1) <= t->index_room)
		return 0;
	size_t room = t->index_room ? 2 * t->index_room : 64;
	uint32_t *index = calloc(room, sizeof *index);
	if (index == NULL)
		return -ENOMEM;
	free(t->index);
	t->index = index;
	t->index_room = room;
	for (size_t i = 0; i < t->n; i++)
		*place(t, t->list[i].ino) = (uint32_t)i + 1;
	return 0;
}

static int set_time(const struct pc_unpack *u, const struct unpack_time *time)
{
	const struct timespec times[2] = {time->mtime, time->mtime};
	struct statx st;
	scoped_fd int fd = unpack_open(u, u->times.paths + time->path, UNPACK_DIR | O_NOFOLLOW);

	if (fd < 0)
		return 0; /* a later entry replaced it */
	int err = sys_statx(fd, "", AT_EMPTY_PATH, STATX_INO, &st);
	if (err < 0 || st.stx_ino != time->ino)
		return err;
	return sys_utimensat(fd, NULL, times, 0);
}

int unpack_set_times(struct pc_unpack *u)
{
	struct unpack_times *t = &u->times;

	for (size_t i = 0; i < t->n; i++) {
		int err = set_time(u, &t->list[i]);
		if (err < 0)
			return err;
	}
	t->n = 0;
	t->paths_n = 0;
	if (t->index_room > 0)
		memset(t->index, 0, t->index_room * sizeof *t->index);
	return 0;
}

static bool is_full(const struct unpack_times *t, size_t path_n)
{
	return t->n >= t->max || t->paths_n + path_n > t->max_bytes;
}

static int flush(struct pc_unpack *u)
{
	u->times.flushed = true;
	return unpack_set_times(u);
}

static int add_path(struct unpack_times *t, const char *path, size_t n, size_t *at)
{
	char *paths = tar_grow(t->paths, &t->paths_room, t->paths_n + n, 1);

	if (paths == NULL)
		return -ENOMEM;
	t->paths = paths;
	memcpy(paths + t->paths_n, path, n);
	*at = t->paths_n;
	t->paths_n += n;
	return 0;
}

static int add(struct unpack_times *t, const char *path, size_t n, uint64_t ino, struct timespec mtime)
{
	struct unpack_time *list = tar_grow(t->list, &t->room, t->n + 1, sizeof *list);

	if (list == NULL)
		return -ENOMEM;
	t->list = list;
	int err = grow_index(t);
	if (err < 0)
		return err;
	uint32_t *known = place(t, ino);
	struct unpack_time *time = *known ? &list[*known - 1] : &list[t->n];
	if (*known == 0 || strcmp(t->paths + time->path, path) != 0) {
		size_t at;
		err = add_path(t, path, n, &at);
		if (err < 0)
			return err;
		time->path = at;
	}
	time->ino = ino;
	time->mtime = mtime;
	if (*known == 0)
		*known = (uint32_t)++t->n;
	return 0;
}

/* The directory `path` (from the root, "." for itself) is to have this time. A later call for the same inode replaces it. */
int unpack_time(struct pc_unpack *u, const char *path, uint64_t ino, struct timespec mtime)
{
	size_t n = strlen(path) + 1;
	int err = is_full(&u->times, n) ? flush(u) : 0;

	return err < 0 ? err : add(&u->times, path, n, ino, mtime);
}

/* Something will be made in, or removed from, the directory behind `fd`. */
int unpack_keep_time(const struct pc_unpack *u, int fd, struct unpack_kept *kept)
{
	const struct unpack_times *t = &u->times;
	struct statx st;

	kept->fd = -1;
	if (!t->flushed)
		return 0;
	int err = sys_statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_MTIME, &st);
	if (err < 0 || *place(t, st.stx_ino) != 0)
		return err;
	kept->fd = fd;
	kept->mtime = (struct timespec){st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec};
	return 0;
}

int unpack_restore_time(const struct unpack_kept *kept)
{
	const struct timespec times[2] = {kept->mtime, kept->mtime};

	return kept->fd >= 0 ? sys_utimensat(kept->fd, NULL, times, 0) : 0;
}

void unpack_free_times(struct unpack_times *t)
{
	free(t->list);
	free(t->paths);
	free(t->index);
}
