/* A push parser of tar: ustar, pax, GNU's long names and sparse files. It is fed with chunks of any size and calls a sink.
 * What it holds is bounded, whatever the archive says; what it does not understand is a fault, never a guess: two readers
 * that see different files in one layer are how scanners are fooled.
 *
 * Parent half: it allocates. Nothing in the tar*.c files touches a file. Spec: POSIX pax, "ustar Interchange Format",
 * "pax Extended Header"; GNU tar's manual, "Basic Tar Format" and "Sparse Formats".
 */
#ifndef PC_TAR_H
#define PC_TAR_H

#include "pycontain.h"

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define TAR_BLOCK 512u
#define TAR_MAX_META_HEADERS 32
#define TAR_MAX_GLOBAL_BYTES 65536u /* of what a global header sets for all that follows, which is walked for each entry */
#define TAR_MAX_GLOBAL_XATTRS 256u
#define TAR_MAX_ID 0xfffffffeu /* -1 is "leave unchanged" to chown(2) */

/* X(symbol, name): pycontain/image/unpack.py has the sentence of each. */
#define PC_UNPACK_FAULTS(X)                                                                                            \
	X(NONE, "none")                                                                                                \
	X(SYSTEM, "system")                   /* `err`: a system call's, or ENOMEM */                                  \
	X(BYTES, "bytes")                     /* over max_bytes */                                                     \
	X(ENTRIES, "entries")                 /* over max_entries */                                                   \
	X(TRUNCATED, "truncated")             /* bytes expected, bytes left */                                         \
	X(DATA_ENDS, "data ends")             /* bytes missing */                                                      \
	X(META_ENDS, "meta ends")                                                                                      \
	X(TRAILER, "trailer")                                                                                          \
	X(CHECKSUM, "checksum")                                                                                        \
	X(TYPE, "type")                       /* the type flag */                                                      \
	X(META_BYTES, "meta bytes")           /* the limit */                                                          \
	X(META_HEADERS, "meta headers")       /* the limit */                                                          \
	X(GLOBAL, "global")                   /* the limits: bytes, extended attributes */                             \
	X(NEGATIVE, "negative")               /* `what` */                                                             \
	X(OCTAL, "octal")                     /* `what`, `text` */                                                     \
	X(RANGE, "range")                     /* `what` */                                                             \
	X(DECIMAL, "decimal")                 /* `what`, `text` */                                                     \
	X(MTIME, "mtime")                     /* `text` */                                                             \
	X(ID, "id")                           /* `what`, the id, the highest */                                        \
	X(PAX_LENGTH, "pax length")                                                                                    \
	X(PAX_CUT, "pax cut")                                                                                          \
	X(PAX_NUL, "pax NUL")                 /* `text`: the key */                                                    \
	X(SPARSE_VERSION, "sparse version")                                                                            \
	X(SPARSE_BYTES, "sparse bytes")       /* the limit */                                                          \
	X(SPARSE_END, "sparse end")                                                                                    \
	X(SPARSE_ODD, "sparse odd")                                                                                    \
	X(SPARSE_ORDER, "sparse order")                                                                                \
	X(SPARSE_TOTAL, "sparse total")       /* bytes in the map, bytes of data */                                    \
	X(ROOT_KIND, "root kind")             /* `kind` */                                                             \
	X(WHITEOUT_PARENT, "whiteout parent")                                                                          \
	X(WHITEOUT_KIND, "whiteout kind")     /* `kind` */                                                             \
	X(WHITEOUT_NAME, "whiteout name")                                                                              \
	X(NAME_EMPTY, "name empty")                                                                                    \
	X(PATH_BYTES, "path bytes")           /* bytes, the limit */                                                   \
	X(ESCAPES, "escapes")                 /* `text`: the path */                                                   \
	X(DEPTH, "depth")                     /* directories, the limit */                                             \
	X(SYMLINK_EMPTY, "symlink empty")                                                                              \
	X(DEVICE, "device")                   /* major, minor */                                                       \
	X(LINK_KIND, "link kind")             /* `text`: the target */                                                 \
	X(LINK_ABSENT, "link absent")         /* `text`: the target */                                                 \
	X(UNMAPPED, "unmapped")               /* `what`, the id */                                                     \
	X(OVER_FILE, "over file")             /* a directory where something else is (PC_UNPACK_PLAIN) */              \
	X(OVER_DIRECTORY, "over directory")   /* something else where a directory is (PC_UNPACK_PLAIN) */

#define PC_UNPACK_FAULT_ENUM(symbol, name) PC_UNPACK_##symbol,
enum pc_unpack_fault { PC_UNPACK_FAULTS(PC_UNPACK_FAULT_ENUM) PC_UNPACK_FAULT_COUNT };

/* Bytes that somebody else keeps. */
struct tar_text {
	const uint8_t *at;
	size_t n;
};

enum tar_kind { TAR_FILE, TAR_DIR, TAR_SYMLINK, TAR_HARDLINK, TAR_CHAR, TAR_BLOCK_DEVICE, TAR_FIFO };
extern const char *const tar_kind_names[];

struct tar_xattr {
	struct tar_text name;
	struct tar_text value;
};

struct tar_entry {
	struct tar_text name;
	struct tar_text link;
	enum tar_kind kind;
	uint32_t mode; /* 07777 */
	uint32_t uid;
	uint32_t gid;
	uint32_t major;
	uint32_t minor;
	struct timespec mtime;
	uint64_t size;   /* of the file */
	uint64_t stored; /* bytes of it in the archive */
	bool sparse;
	const struct tar_xattr *xattrs; /* one name may come twice: the later counts */
	size_t n_xattrs;
};

/* Each answers 0, or < 0 to stop, with the error filled. All pointers are good until the call returns. */
struct tar_sink {
	int (*entry)(void *context, const struct tar_entry *entry);
	int (*data)(void *context, uint64_t offset, const uint8_t *bytes, size_t n); /* of a file: what is stored, in order */
	int (*end)(void *context);						     /* of the entry, whatever its kind */
};

/* A range of bytes in a buffer that may move. */
struct tar_span {
	uint32_t at;
	uint32_t n;
};

enum tar_pax_key {
	PAX_PATH,
	PAX_LINKPATH,
	PAX_SIZE,
	PAX_UID,
	PAX_GID,
	PAX_MTIME,
	PAX_SPARSE_MAJOR,
	PAX_SPARSE_MINOR,
	PAX_SPARSE_NAME,
	PAX_SPARSE_REALSIZE,
	PAX_SPARSE_SIZE,
	PAX_SPARSE_MAP,
	PAX_KEYS
};

struct tar_spans {
	struct tar_span *at;
	size_t n;
	size_t room;
};

/* The records of one scope that mean something here. `bytes` is the global set's own; an entry's lie in tar.meta. */
struct tar_pax {
	uint8_t *bytes;
	uint32_t have; /* bit set of enum tar_pax_key */
	struct tar_span known[PAX_KEYS];
	struct tar_spans xattrs; /* name, value, name, value */
	struct tar_spans pairs;	 /* sparse 0.0: offset and numbytes, as they come */
};

enum tar_state { TAR_HEADER, TAR_META, TAR_SPARSE_BLOCK, TAR_SPARSE_TEXT, TAR_DATA, TAR_PADDING, TAR_TRAILER, TAR_FAILED };

struct tar_map {
	uint64_t *numbers; /* offset, length, offset, length */
	size_t n;
	size_t room;
	uint64_t real;	   /* size of the file */
	uint64_t read;	   /* bytes of map that came beside the header */
	uint64_t wanted;   /* numbers announced by a 1.0 map; its own count is the first line */
	bool counted;
	uint8_t line[24];  /* the beginning of the line at hand */
	size_t line_n;
};

struct tar {
	const struct tar_sink *sink;
	void *context;
	struct pc_unpack_error *error;
	uint64_t max_bytes;
	uint32_t max_meta_bytes;
	enum tar_state state;
	uint64_t consumed;

	uint8_t block[TAR_BLOCK]; /* a header that came in pieces */
	size_t have;

	uint8_t *meta; /* the extended headers of the entry at hand */
	size_t meta_n;
	size_t meta_room;
	uint64_t meta_declared;
	uint64_t meta_left; /* of the one at hand, and of its padding */
	uint64_t meta_padded;
	uint32_t meta_padding;
	size_t meta_from;
	uint8_t meta_type;
	int n_meta;
	bool has_long_name, has_long_link;
	struct tar_span long_name, long_link;
	struct tar_pax pax, global;

	struct tar_entry entry;
	bool named; /* entry.name is the entry's at hand */
	uint8_t header_name[256 + 1];
	uint8_t header_link[100];
	struct tar_xattr *xattrs;
	size_t xattrs_room;
	uint8_t last_name[sizeof((struct pc_unpack_error *)0)->name]; /* of the entry before */
	size_t last_name_n, last_name_whole;

	struct tar_map map;
	size_t segment;
	uint64_t at;   /* in the file, or in the segment */
	uint64_t left; /* of the data */
	uint32_t padding, padded;
};

/* tar.c */
void tar_begin(struct tar *t, const struct tar_sink *sink, void *context, struct pc_unpack_error *error);
int tar_feed(struct tar *t, const uint8_t *data, size_t n);
int tar_finish(struct tar *t);
void tar_free(struct tar *t);
int tar_fault(struct pc_unpack_error *e, enum pc_unpack_fault fault, uint64_t a, uint64_t b);
/* The entry is known, and its data comes next. */
int tar_entry_known(struct tar *t);
/* `array` with room for `need` elements of `size` bytes, perhaps moved; NULL, and as it was, without memory. */
void *tar_grow(void *array, size_t *room, size_t need, size_t size);

/* tar_number.c */
void tar_say(struct pc_unpack_error *e, const char *what, struct tar_text text);
int tar_number(struct pc_unpack_error *e, const uint8_t *raw, size_t n, const char *what, uint64_t *out); /* saturates */
int tar_size(struct pc_unpack_error *e, const uint8_t *raw, size_t n, const char *what, uint64_t *out);	  /* to 2^63-1 */
int tar_decimal(struct pc_unpack_error *e, struct tar_text text, const char *what, uint64_t *out);	  /* to 2^63-1 */
int tar_mtime(struct pc_unpack_error *e, const uint8_t *raw, struct tar_text text, struct timespec *out);

/* tar_pax.c */
int tar_pax_parse(struct tar_pax *p, const uint8_t *base, size_t from, size_t to, struct pc_unpack_error *e);
int tar_pax_merge(struct tar_pax *global, const struct tar_pax *fresh, const uint8_t *base, struct pc_unpack_error *e);
void tar_pax_clear(struct tar_pax *p);
void tar_pax_free(struct tar_pax *p);

/* tar_header.c */
/* The value of a record: the entry's own, or the global one; empty is unset. */
struct tar_text tar_record(const struct tar *t, enum tar_pax_key key);
int tar_read_header(struct tar *t, const uint8_t *block);

/* tar_sparse.c */
int tar_sparse_begin(struct tar *t, const uint8_t *block); /* 0: no map follows, or the state of its reader is set */
int tar_sparse_block(struct tar *t, const uint8_t *block);
int tar_sparse_text(struct tar *t, const uint8_t *block);

#endif
