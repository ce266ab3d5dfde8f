/* The C core's public face: what Python sees through cffi, and what the static programs share.
 *
 * Everything between the two marks is read by build_ffi.py as it stands: fixed-width types, no macro logic.
 * Every function returns >= 0, or -errno; none prints, exits, or touches its outputs on failure unless said.
 */
#ifndef PYCONTAIN_H
#define PYCONTAIN_H

#include <stdint.h>

#define PC_EXPORT __attribute__((visibility("default")))

/* cffi-begin */

/* What went wrong where: `step` is an enum pc_step, `err` a positive errno, `section` 0 prepare, 1 child, 2 finish,
 * `arg` the index of the op inside its section. */
struct pc_report {
	uint32_t step;
	int32_t err;
	uint32_t section;
	uint32_t arg;
};

/* For tests: make op `op` of `section` fail with `err` (kind 1), be killed there (kind 2), have the parent killed
 * there (kind 3), or hang there (kind 4). kind 0: none. */
struct pc_fault {
	uint32_t kind;
	uint32_t section;
	uint32_t op;
	int32_t err;
};

/* `fds` fills the Plan's first `n_fds` slots; they stay the caller's; -1 leaves one empty. `sync`, when not NULL, is
 * called in the caller's thread while the child waits at an op: `what` is an enum pc_sync, `pid` the child's, `fd` what the
 * op hands over (closed afterwards) or -1; it returns 0, or -errno, with which the start then fails. `trace_ns`, when not NULL, receives the monotonic
 * time after each op: first the prepare section, then the child section; it must lie in memory that a forked child
 * shares (pc_trace_alloc). `sibling` 1: the child becomes the child of the caller's own parent, who reaps it, after a failed
 * start as well; only for a caller that is about to end. */
struct pc_start_args {
	const uint8_t *plan;
	uint64_t plan_len;
	const int32_t *fds;
	uint32_t n_fds;
	uint32_t n_trace;
	uint64_t *trace_ns;
	uint64_t deadline_ns;
	int32_t (*sync)(void *context, uint32_t what, int32_t pid, int32_t fd);
	void *context;
	struct pc_fault fault;
	uint32_t sibling;
	uint32_t reserved;
};

/* Monotonic nanoseconds. `gate_fd` is the socket of a gated start (write one byte to let it go), else -1. */
struct pc_process {
	int32_t pid;
	int32_t pidfd;
	int32_t tty_fd;
	int32_t gate_fd;
	uint64_t begun_ns;
	uint64_t prepared_ns;
	uint64_t cloned_ns;
	uint64_t execed_ns;
	struct pc_report report;
};

/* How the process ended: `code` is CLD_EXITED, CLD_KILLED or CLD_DUMPED; `status` the exit status or the signal. */
struct pc_exit {
	int32_t code;
	int32_t status;
	uint64_t user_ns;
	uint64_t system_ns;
	uint64_t max_rss_bytes;
};

/* Read from the cgroups by the finish section. `have` is a bit set of enum pc_usage_kind. */
struct pc_usage {
	uint64_t cpu_user_ns;
	uint64_t cpu_system_ns;
	uint64_t cpu_total_ns;
	uint64_t memory_peak_bytes;
	uint64_t io_read_bytes;
	uint64_t io_write_bytes;
	uint64_t oom_kills;
	uint32_t have;
	uint32_t reserved;
};

const char *pc_version(void);
const char *pc_step_name(uint32_t step);

/* Checks a Plan without executing it. On -EBADMSG `*where` is the byte offset of the first thing wrong. */
int pc_plan_check(const uint8_t *plan, uint64_t plan_len, uint32_t *where);

/* Executes prepare, clones the child, executes child. Returns 0 when the program is running (or, gated, waits);
 * otherwise -errno with out->report filled, the child reaped and, unless not even the first prepare op had succeeded
 * (what lies there is then not ours), the finish section executed. */
int pc_start(const struct pc_start_args *args, struct pc_process *out);

/* Executes the finish section: usage, then removal of what prepare made. Every op is tried; the first failure is
 * reported. Safe to repeat. */
int pc_finish(const uint8_t *plan, uint64_t plan_len, const struct pc_fault *fault, struct pc_usage *usage,
	      struct pc_report *report);

/* Reaps the process behind `pidfd`: 1 when it had ended and `out` is filled, 0 when it still runs (`block` 0). */
int pc_reap(int32_t pidfd, int32_t block, struct pc_exit *out);

/* Reads one usage file of a running container into `usage` (kind: enum pc_usage_kind). */
int pc_usage_read(uint32_t kind, const char *directory, struct pc_usage *usage);

uint64_t *pc_trace_alloc(uint32_t count);
void pc_trace_free(uint64_t *trace, uint32_t count);

/* Clone + exec + wait of `argv[0]` with nothing else: the floor of every start. Nanoseconds. */
int pc_spawn_floor(char **argv, uint64_t *until_exec_ns, uint64_t *until_exit_ns);

/* A sealed, nameless copy of the program at `path` (memfd): nobody can write to it, whoever executes it. Its fd. */
int pc_sealed_copy(const char *path);

/* A user namespace for id-mapped mounts; nobody is in it. `uid_map` and `gid_map` as in user_namespaces(7). Its fd. */
int pc_make_userns(const char *uid_map, const char *gid_map);

/* Starts a helper that outlives this call (the guardian): `fd` becomes its fd 3; standard streams are /dev/null. */
int pc_spawn_helper(const char *path, char **argv, int32_t fd, int32_t *pidfd);

/* Detached filesystems for templates. `options` is "key=value,flag". The fd is the root of a detached mount. */
int pc_mount_detached(const char *type, const char *options, uint64_t attributes);
int pc_superblock_readonly(int32_t fd);
/* Attributes of the mount behind `fd` (mount_setattr); `userns_fd` >= 0: its id map. */
int pc_mount_attributes(int32_t fd, uint64_t set, uint64_t clear, int32_t userns_fd, int32_t recursive);
/* A detached copy of the mount at `path`. */
int pc_open_tree(int32_t dirfd, const char *path, int32_t recursive);
/* The detached mount `fd` on the file or directory `path` below `dirfd`; no symbolic link is followed. */
int pc_move_mount(int32_t fd, int32_t dirfd, const char *path);
int pc_unshare(uint64_t flags);
int pc_setns(int32_t fd, int32_t type);

/* Recursively removes `path`; never follows a symbolic link, never leaves the file system. 0 when it is gone. */
int pc_remove_tree(const char *path);
/* Kills everything in the cgroup directory and removes it with its children. 0 when it is gone. */
int pc_remove_cgroup(const char *path);

/* From here on this thread makes files as this user and group, with all of its powers. */
int pc_act_as(uint32_t uid, uint32_t gid);

int pc_openat2(int32_t dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
int pc_syncfs(int32_t fd);
/* The number of `name` for the architecture `audit_arch`, by libseccomp: negative when that architecture lacks it.
 * -2147483648 when libseccomp cannot be loaded. */
int pc_seccomp_resolve(const char *name, uint32_t audit_arch);

/* Unpacking a layer: a tar is fed in chunks of any size and written below a directory, which only this unpacker changes. */

/* An id of the tar in [inside, inside + count) becomes outside + (id - inside). */
struct pc_id_range {
	uint32_t inside;
	uint32_t outside;
	uint32_t count;
};

enum pc_unpack_flags {
	/* into a directory that others use: no name is a whiteout, the root stays as it is, and neither does a directory take
	 * the place of anything else nor anything else that of a directory */
	PC_UNPACK_PLAIN = 1,
	PC_UNPACK_OWNED = 2, /* all belongs to owner_uid and owner_gid */
	/* what comes from somebody who is not trusted: no set-user-ID and set-group-ID bits, no attributes but user.*, and devices
	 * are their owner's alone */
	PC_UNPACK_SOBER = 4,
};

/* `root_fd` stays the caller's. `in_user_namespace`: no device nodes, and overlayfs' marks as user.*. Without ranges every
 * id is itself. `max_bytes` counts the tar with its headers, `max_meta_bytes` the extended headers of one entry. */
struct pc_unpack_options {
	int32_t root_fd;
	uint32_t in_user_namespace;
	uint64_t max_bytes;
	uint64_t max_entries;
	uint32_t max_depth;
	uint32_t max_path_bytes;
	uint32_t max_meta_bytes;
	uint32_t n_uid_map;
	uint32_t n_gid_map;
	uint32_t flags;
	uint32_t owner_uid;
	uint32_t owner_gid;
	const struct pc_id_range *uid_map;
	const struct pc_id_range *gid_map;
};

/* `skipped_xattrs` holds `n_skipped_xattrs` different names, a NUL after each; more than fit are left out. */
struct pc_unpack_stats {
	uint64_t entries;
	uint64_t bytes_read;
	uint64_t file_bytes;
	uint64_t whiteouts;
	uint64_t opaque_dirs;
	uint64_t skipped_nodes;
	uint32_t n_skipped_xattrs;
	uint32_t skipped_bytes;
	uint8_t skipped_xattrs[4096];
};

/* `fault` is an enum pc_unpack_fault; `err` a positive errno when it is "system". `name` is the entry's, or that of the one
 * before it (`after` 1), `text` what the fault is about: the beginning of each, and its whole length. */
struct pc_unpack_error {
	uint32_t fault;
	int32_t err;
	uint64_t numbers[2];
	uint64_t entry;
	uint32_t uid;
	uint32_t gid;
	uint32_t after;
	uint32_t name_bytes;
	uint32_t text_bytes;
	char kind[12];
	char what[24];
	uint8_t name[124];
	uint8_t text[124];
};

struct pc_unpack;

const char *pc_unpack_fault_name(uint32_t fault);
int pc_unpack_new(const struct pc_unpack_options *options, struct pc_unpack **out);
/* -EBADMSG, or -errno of the system call that failed, with `error` filled; the same again for whatever follows. */
int pc_unpack_feed(struct pc_unpack *u, const uint8_t *data, uint64_t n, struct pc_unpack_error *error);
/* The tar has ended: checks that it may, and sets the times of the directories. */
int pc_unpack_finish(struct pc_unpack *u, struct pc_unpack_stats *stats, struct pc_unpack_error *error);
void pc_unpack_free(struct pc_unpack *u);

/* Directory trees into a tar stream. pack.h has how; every function below is the caller's one thread's at a time. */

/* Owners `outside` to outside + count - 1 are written as those from `inside` on. */
struct pc_pack_range {
	uint32_t inside;
	uint32_t outside;
	uint32_t count;
};

enum pc_pack_mode {
	PC_PACK_LAYER,   /* one root, an overlay upper directory: whiteouts and opaque marks as image-spec layer.md has them */
	PC_PACK_MERGED,  /* all roots as overlayfs shows them */
	PC_PACK_CHANGES, /* no tar: what the first root changes in the others, as "KIND/PATH" and a NUL each */
};
enum pc_pack_flags {
	PC_PACK_USERXATTR = 1, /* overlayfs's marks are user.overlay.*, not trusted.overlay.* */
	PC_PACK_ROOT = 2,      /* begin with an entry "./" for the root itself */
	/* one root, as it is: marks of overlayfs mean nothing, other mounts are entered (but those of the kernel's own file
	 * systems, which are empty here), and whom the maps do not have is nobody, as the container sees him */
	PC_PACK_TREE = 4,
	PC_PACK_ONE = 8, /* with PC_PACK_TREE: the root may be anything but a directory, and is all there is */
};

/* `roots`: directories, topmost first, the caller's; O_PATH will do. The maps are for the first `n_mapped` of them.
 * `exclude`: `n_exclude` paths, each with its NUL, that are passed over in the first root, with what is below them.
 * `name`: what the root is called in the tar, instead of "."; NULL or empty: that.
 * Times after `mtime_max` (seconds) are written as it. */
struct pc_pack_args {
	const int32_t *roots;
	const struct pc_pack_range *uids;
	const struct pc_pack_range *gids;
	const char *exclude;
	const char *name;
	int64_t mtime_max;
	uint32_t n_roots;
	uint32_t n_mapped;
	uint32_t n_uids;
	uint32_t n_gids;
	uint32_t n_exclude;
	uint32_t mode;
	uint32_t flags;
};

/* `vanished`: names that were gone when they were looked at. `blocks`: of 512 bytes, of headers and contents, without what is
 * said beside a header. */
struct pc_pack_counts {
	uint64_t entries;
	uint64_t whiteouts;
	uint64_t opaque_dirs;
	uint64_t file_bytes;
	uint64_t sockets;
	uint64_t vanished;
	uint64_t blocks;
};

/* `step` is an enum pc_pack_step, `err` a positive errno, `path` where in the tree; not NUL-terminated, the packer's. */
struct pc_pack_failure {
	const char *path;
	uint64_t path_len;
	uint32_t step;
	int32_t err;
};

struct pc_pack;
/* NULL: no memory. Anything else that is wrong is said by the first read. */
struct pc_pack *pc_pack_new(const struct pc_pack_args *args);
/* Fills `buffer` as far as there is something; how much, 0 at the end, -errno of a failure, which is final. */
int64_t pc_pack_read(struct pc_pack *p, uint8_t *buffer, uint64_t len);
void pc_pack_failed(const struct pc_pack *p, struct pc_pack_failure *out);
void pc_pack_counted(const struct pc_pack *p, struct pc_pack_counts *out);
const char *pc_pack_step_name(uint32_t step);
void pc_pack_free(struct pc_pack *p);

/* A descriptor that is readable when something in the directory has been written, made or renamed (inotify), or -errno. */
int pc_watch_directory(const char *path);

/* cffi-end */

#endif
