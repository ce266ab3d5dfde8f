/* Writing a layer's tar below a directory. The tar is hostile; the directory is private to this process until the layer is
 * complete, so nothing changes under us but what the layer itself has made.
 *
 * A parent directory is resolved by openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS): a link that the layer made is followed
 * inside the root and never out of it. The last component is never followed. Functions return >= 0, -errno of a system call,
 * or what tar_fault answers. Parent half.
 */
#ifndef PC_UNPACK_H
#define PC_UNPACK_H

#include "fd.h"
#include "tar.h"

#define UNPACK_DIR (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#define UNPACK_PARENTS 8

/* A path of the layer, normalised: `text` is the parent directory ("" is the root), text + name the last component. */
struct unpack_path {
	char *text;
	size_t parent_n;
	size_t name;
	size_t n; /* 0: the root itself */
};

/* Directories that entries have been in lately: most share one with a neighbour. */
struct unpack_parent {
	int fd; /* -1: empty */
	char *path;
	size_t n;
	size_t room;
	uint64_t used;
};

struct unpack_time {
	uint64_t ino;
	struct timespec mtime;
	size_t path;
};

#define UNPACK_TIMES 65536u
#define UNPACK_TIMES_BYTES (4u << 20) /* of their paths */

/* The times that directories get when all is written; see unpack_times.c. */
struct unpack_times {
	size_t max;
	size_t max_bytes;
	struct unpack_time *list;
	size_t n;
	size_t room;
	char *paths; /* NUL-terminated, one after another */
	size_t paths_n;
	size_t paths_room;
	uint32_t *index; /* inode -> 1 + place in list */
	size_t index_room;
	bool flushed;
};

/* The time of a directory while something is made in it. */
struct unpack_kept {
	int fd; /* a loan; -1: it is in the list */
	struct timespec mtime;
};

struct pc_unpack {
	struct tar tar;
	struct pc_unpack_options o;
	struct pc_id_range *uid_map, *gid_map;
	struct pc_unpack_stats stats;
	struct pc_unpack_error error;
	int root;
	uint32_t own_uid, own_gid;
	uint32_t uid, gid; /* of the entry, on this file system */
	bool default_acls; /* some directory may hand one down to what is made in it */
	struct unpack_path path, target;
	struct unpack_parent parents[UNPACK_PARENTS];
	uint64_t n_lookups;
	bool stale; /* something was removed: a remembered path may lead elsewhere by now */
	struct unpack_times times;
	int file; /* the file whose data comes, or -1 */
	uint64_t file_end; /* of what was written to it; what follows is a hole */
};

/* unpack_path.c */
int unpack_split(struct pc_unpack *u, struct tar_text path, struct unpack_path *out);
const char *unpack_whole(struct unpack_path *p);
bool unpack_is_whiteout_name(const char *name);
int unpack_open(const struct pc_unpack *u, const char *path, int flags);
/* The parent directory's fd, which stays ours; `make` those that the layer implies and does not list. */
int unpack_open_parent(struct pc_unpack *u, struct unpack_path *p, bool make);
/* `fd`, which is taken over, is the directory `p`. */
int unpack_remember_parent(struct pc_unpack *u, struct unpack_path *p, int *fd);
void unpack_forget_parents(struct pc_unpack *u);
/* Removes what the layer has put there before. */
int unpack_clear(struct pc_unpack *u, int parent, const char *name);

/* unpack_times.c */
int unpack_time(struct pc_unpack *u, const char *path, uint64_t ino, struct timespec mtime);
int unpack_keep_time(const struct pc_unpack *u, int fd, struct unpack_kept *kept);
int unpack_restore_time(const struct unpack_kept *kept);
int unpack_set_times(struct pc_unpack *u);
void unpack_free_times(struct unpack_times *t);

/* unpack_owner.c */
int unpack_shift(struct pc_unpack *u, const struct tar_entry *e);
int unpack_settle(struct pc_unpack *u, int fd, const struct tar_entry *e, bool made);
int unpack_settle_implied(struct pc_unpack *u, int fd);
int unpack_chmod(int fd, uint32_t mode);
int unpack_map_id(struct pc_unpack *u, bool group, uint32_t id, uint32_t *out);
/* The mode to make a file or directory with: final when it will be ours, else closed to others. */
uint32_t unpack_first_mode(const struct pc_unpack *u, const struct tar_entry *e, uint32_t closed);

/* unpack_xattr.c */
int unpack_xattrs(struct pc_unpack *u, int fd, const struct tar_entry *e);
void unpack_skip_xattrs(struct pc_unpack *u, const struct tar_entry *e);
int unpack_set_opaque(struct pc_unpack *u, int fd);
int unpack_drop_inherited(int fd);
int unpack_drop_inherited_of_node(int fd);

/* unpack_write.c */
int unpack_directory(struct pc_unpack *u, const struct tar_entry *e, int parent);
int unpack_root(struct pc_unpack *u, const struct tar_entry *e);
int unpack_symlink(struct pc_unpack *u, const struct tar_entry *e, int parent);
int unpack_node(struct pc_unpack *u, const struct tar_entry *e, int parent);
int unpack_open_file(struct pc_unpack *u, const struct tar_entry *e, int parent);
int unpack_write(struct pc_unpack *u, uint64_t offset, const uint8_t *bytes, size_t n);
int unpack_close_file(struct pc_unpack *u, const struct tar_entry *e);

/* unpack_link.c */
int unpack_hardlink(struct pc_unpack *u, const struct tar_entry *e, int parent);
int unpack_whiteout(struct pc_unpack *u, const struct tar_entry *e, int parent);
bool unpack_is_whiteout(const struct statx *st);

#endif
