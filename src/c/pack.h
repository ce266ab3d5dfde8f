/* Directory trees into a tar stream: what the files of the packer share. Parent half: it may allocate.
 *
 * The trees are hostile and may change while they are read: a running container writes to them. So every name is opened
 * below its directory's own fd, no link is followed, no other mount is entered unless asked for, and nothing is opened for reading before
 * it is known to be a regular file or a directory: opening a device acts on the device, opening a fifo on who waits there.
 *
 * Memory: the names of the directories on the way down (each directory's sorted as a whole), a name for each file whose
 * other names are still to come (hard links), and what one entry needs (at most 1 MiB). Descriptors: PC_PACK_OPEN, the roots,
 * and three. Depth costs neither stack nor descriptors.
 */
#ifndef PC_PACK_H
#define PC_PACK_H

#include "fd.h"
#include "pack_bytes.h"
#include "pycontain.h"

#include <errno.h>
#include <stdbool.h>

#define PC_PACK_OPEN 128            /* directories open at once */
#define PC_PACK_PATH_MAX (64u << 10) /* a path in the tar: the kernel resolves 4 KiB at once, deeper trees exist */
#define PC_PACK_META_MAX (1u << 20)  /* an entry's pax records: Go's archive/tar and others read no more */

/* X(symbol, words): what was tried. */
#define PC_PACK_STEPS(X)                                                                                               \
	X(NONE, "none")                                                                                                \
	X(ARGUMENTS, "arguments")                                                                                      \
	X(MEMORY, "allocate")                                                                                          \
	X(PROC, "open /proc/self/fd")                                                                                  \
	X(OPEN, "open")                                                                                                \
	X(LIST, "list directory")                                                                                      \
	X(READ, "read")                                                                                                \
	X(READ_LINK, "read link")                                                                                      \
	X(XATTR, "read extended attributes")                                                                           \
	X(OWNER, "translate owner")      /* an id that the map does not have */                                        \
	X(NAME, "name in layer")         /* .wh.NAME marks whiteouts: a file of that name cannot be said */            \
	X(PATH, "path")                  /* longer than PC_PACK_PATH_MAX */                                            \
	X(OVERLAY, "overlay attributes") /* a metacopy or a redirect: the contents are elsewhere */                    \
	X(KERNEL, "kernel file")         /* PC_PACK_TREE: one of the kernel's own, which has no contents to be copied */     \
	X(CHANGED, "changed while read") /* shorter than its header says; the rest was filled with zeros */

#define PC_PACK_STEP_ENUM(symbol, words) PC_PACK_STEP_##symbol,
enum pc_pack_step { PC_PACK_STEPS(PC_PACK_STEP_ENUM) PC_PACK_STEP_COUNT };

/* A directory of one of the roots, at one level of the walk. `slot` is where it is open, or -1; `up` is the member that
 * it was found in. Device and inode tell whether what is opened again is still the same. */
struct pc_member {
	uint64_t ino;
	uint32_t dev_major, dev_minor;
	uint32_t root, level, up;
	int32_t slot;
};

/* `at` is where its bytes (and a NUL) lie in `name_bytes`, from the level's beginning on. */
struct pc_name {
	uint32_t at, member;
	uint16_t len;
	uint8_t type; /* DT_*, as the directory says: a hint */
	bool done;    /* emitted already, as a whiteout */
};

struct pc_place;

/* A directory of the merged tree, being walked. */
struct pc_level {
	size_t path_len;
	size_t first_name, n_names, names_at, next;
	uint32_t first_member, n_members;
	struct pc_place *place; /* for hard links: NULL until one needs it */
	uint8_t phase;
	bool opaque;    /* of its topmost member: nothing below shows through */
	bool xwhiteouts; /* overlay.opaque is "x": regular files in it may be whiteouts (6.8) */
	bool unsaid;    /* changes: a directory of both sides that has not been reported yet */
};

struct pc_slot {
	int fd;
	uint32_t member;
	uint64_t used;
};

struct pc_link;

/* One name, looked at: `fd` is open for reading for a file or a directory, else O_PATH; closed by pc_look_close. */
struct pc_look {
	struct statx st;
	int fd;
	bool whiteout, opaque, xwhiteouts;
};

struct pc_pack {
	/* what was asked */
	uint32_t mode, flags, n_roots, n_mapped, n_uids, n_gids, n_exclude;
	int64_t mtime_max;
	struct pc_pack_range *uids, *gids;
	char *exclude;
	struct pc_bytes name; /* of the root, without a NUL */
	int *root_fds;
	int proc_fd; /* /proc/self/fd: what an O_PATH fd is opened again by */
	bool keep_atime;

	/* the walk */
	struct pc_bytes path; /* of the entry that is looked at; begins with that of the innermost level */
	struct pc_level *levels;
	struct pc_member *members;
	struct pc_name *names;
	struct pc_bytes name_bytes;
	size_t levels_room, members_room, names_room, n_names;
	uint32_t n_levels, n_members;
	struct pc_slot slots[PC_PACK_OPEN];
	uint64_t uses;
	bool begun;

	/* files with names still to come */
	struct pc_link **links;
	size_t links_room, n_links;

	/* what goes out: bytes that are ready, then the contents of a file, then zeros up to the next block */
	struct pc_bytes out, xattrs, value;
	size_t out_at;
	int file;
	uint64_t file_at, file_size, data_begin, data_end; /* of a file with holes: the data that are next */
	uint32_t padding;
	bool file_sparse, ended;
	bool is_short; /* a file was cut short while it was read: said at the end */

	struct pc_pack_counts counts;
	struct pc_pack_failure failure; /* the first; final */
	struct pc_bytes failure_path, short_path;
	char xattr_names[65536];     /* XATTR_LIST_MAX */
	uint8_t entries[32768];      /* of getdents64 */
};

/* Notes the failure of `step` at p->path; answers with `err`, negative. */
int pc_pack_fail(struct pc_pack *p, enum pc_pack_step step, int err);
/* What a directory that somebody is changing answers for a name that was in it a moment ago. */
static inline bool pc_has_vanished(int err)
{
	return err == -ENOENT || err == -ENOTDIR || err == -ESTALE;
}
/* Room for `n` elements of `size` in *array, which has room for *room. */
int pc_pack_grow(void **array, size_t *room, size_t n, size_t size);
/* pack_dirs.c: the open directories */
#define PC_RESOLVE_TREE (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
#define PC_RESOLVE_HERE (PC_RESOLVE_TREE | RESOLVE_NO_XDEV)
int pc_dirs_open_roots(struct pc_pack *p, const int32_t *roots);
/* A directory's fd, opened again when it had been closed; borrowed, and only until the next call of these. */
int pc_dirs_fd(struct pc_pack *p, uint32_t member);
/* openat2 of one name in a member. When descriptors run out, the directory not used for longest is closed. */
int pc_dirs_open(struct pc_pack *p, uint32_t member, const char *name, uint64_t flags);
/* Sets p->path to `name` in the innermost level. */
int pc_dirs_path(struct pc_pack *p, const char *name, size_t len);
/* Closes the directory that has not been used for longest, when no more can be opened; false when there is none to spare. */
bool pc_dirs_spare(struct pc_pack *p);
/* A new level, whose path is p->path. */
int pc_dirs_push(struct pc_pack *p);
/* A member of the innermost level; takes `fd`, also on failure. */
int pc_dirs_add(struct pc_pack *p, uint32_t root, uint32_t up, int fd, const struct statx *st);
void pc_dirs_pop(struct pc_pack *p);
void pc_dirs_free(struct pc_pack *p);

/* pack_names.c: the names of the innermost level: those of its first `n_members` members, sorted, each once */
int pc_names_read(struct pc_pack *p, uint32_t n_members);
static inline const char *pc_name_of(const struct pc_pack *p, const struct pc_level *level, const struct pc_name *name)
{
	return (const char *)p->name_bytes.data + level->names_at + name->at;
}

/* pack_look.c: one name of a directory. -errno; a failure other than pc_has_vanished() is noted. */
int pc_look_at(struct pc_pack *p, uint32_t member, const char *name, uint8_t type, struct pc_look *look);
/* The same of what the first root's fd shows: PC_PACK_ONE. */
int pc_look_at_root(struct pc_pack *p, struct pc_look *look);
/* Whether what is open is a file of the kernel's own, which has no contents that would be one's to copy: 1, 0, -errno. */
int pc_look_is_kernels(const struct pc_look *look);
/* The rest of a look at what is open: overlayfs's marks and, if `all`, the attributes that go into the tar, as pax
 * records in p->xattrs, with the ids translated if `mapped`. */
int pc_look_xattrs(struct pc_pack *p, struct pc_look *look, bool all, bool mapped);
static inline void pc_look_close(struct pc_look *look)
{
	fd_close(&look->fd);
}

/* pack_ids.c: owners of the outside as the container has them */
int pc_ids_inside(const struct pc_pack_range *ranges, uint32_t n, uint32_t outside, uint32_t *inside);
/* Translates the ids in the value of `name`, a POSIX ACL or a file capability, in place; its new length, or -errno. */
int64_t pc_ids_xattr(const struct pc_pack *p, const char *name, uint8_t *value, size_t len);

/* pack_links.c: hard links. 1: `first` is the path of the file's first name; 0: this, p->path, is the first, and is
 * remembered; -ENOMEM. */
int pc_links_find(struct pc_pack *p, const struct statx *st, struct pc_bytes *first);
void pc_links_leave(struct pc_place *place); /* a level's, as the walk leaves it */
void pc_links_free(struct pc_pack *p);

/* pack_header.c: the bytes of one header. Pure. */
struct pc_tar_entry {
	const char *path, *link; /* a directory's path without its slash at the end */
	size_t path_len, link_len;
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns, mode, uid, gid, dev_major, dev_minor;
	char type;
	const struct pc_bytes *xattrs; /* pax records, sorted, or NULL */
};
/* Appends header and, where needed, the pax header before it. -ENOMEM, -E2BIG. */
int pc_tar_header(struct pc_bytes *out, const struct pc_tar_entry *e);
int pc_tar_pax(struct pc_bytes *out, const char *key, size_t key_len, const void *value, size_t len);

/* pack_walk.c: the next entry into p->out (and p->file): 1, 0 at the end, -errno */
int pc_walk_next(struct pc_pack *p);
/* The level of the roots, without names; `top` shows the topmost, whose fd stays the walk's. */
int pc_walk_begin(struct pc_pack *p, struct pc_look *top);
/* A new level, without names, for the directory `look` (its fd is taken), which is `name` in `member`, with those of the
 * roots below that it merges with: none below an opaque one, unless `through`, for who compares. */
int pc_walk_enter(struct pc_pack *p, uint32_t member, const char *name, struct pc_look *look, bool through);

/* pack_changes.c: the next change into p->out, as "KIND/PATH" and a NUL: 1, 0 at the end, -errno */
int pc_changes_next(struct pc_pack *p);

#endif
