/* The Plan: one flat byte string (header, ops, strings) that says which system calls happen in which order.
 *
 *   header | prepare ops | child ops | finish ops | string table
 *
 * Little-endian by definition of the two architectures we know. A Plan holds no file descriptors, only slots: the
 * first `n_given` are filled by the caller, the others by prepare ops. Strings are offsets into the table; offset 0 is
 * the empty string. plan.c is the only reader of the bytes; what it has accepted needs no further bounds check.
 */
#ifndef PC_PLAN_H
#define PC_PLAN_H

#include <assert.h>
#include <stdbool.h>

#include "report.h"

#define PC_PLAN_MAGIC 0x314e4350u /* "PCN1" */
#define PC_PLAN_VERSION 2u
#define PC_PLAN_MAX (16u << 20)
#define PC_MAX_OPS 4096u
#define PC_MAX_SLOTS 256u
#define PC_NO_SLOT (-1)

/* header flags */
#define PC_PLAN_SHARE_VM 1u /* clone with CLONE_VM|CLONE_VFORK: only together with a new pid namespace */
#define PC_PLAN_GATED 2u    /* after READY wait for one byte on the report socket */
#define PC_PLAN_LEAN 4u     /* clone from a thread in a nearly empty mount namespace */
#define PC_PLAN_VISIBLE 8u  /* LEAN, and that namespace has a procfs and a sysfs: without one in sight the kernel lets no
			     * user namespace mount its own. ROOT_PIVOT takes them away again. */
#define PC_PLAN_STUB 16u    /* execute through the sealed stub whatever the program's path is */
#define PC_PLAN_ENTER 32u   /* an exec: pycontain-enter, in enter_slot, executes the child ops, in memory of its own */
#define PC_PLAN_FLAGS 63u

struct pc_plan_header {
	uint32_t magic;
	uint32_t version;
	uint32_t total_len;
	uint32_t flags;
	uint64_t clone_flags;
	uint32_t n_given;
	uint32_t n_slots;
	uint32_t n_ops[PC_SECTIONS];
	uint32_t strings_off;
	uint32_t strings_len;
	uint32_t argv_off; /* in the string table: argc strings one after another */
	uint32_t argc;
	uint32_t env_off;
	uint32_t envc;
	int32_t cgroup_slot; /* for CLONE_INTO_CGROUP, else -1 */
	int32_t stub_slot;   /* the sealed stub, else -1 */
	uint32_t enter_slot; /* with PC_PLAN_ENTER the sealed pycontain-enter, else 0 */
};
static_assert(sizeof(struct pc_plan_header) == 80, "the header's layout is the wire format");

struct pc_op {
	uint16_t code;
	uint16_t flags;
	int16_t slot;
	int16_t slot2;
	uint32_t s1;
	uint32_t s2;
	uint32_t s3;
	uint32_t n;
	uint64_t x;
	uint64_t y;
	uint64_t z;
};
static_assert(sizeof(struct pc_op) == 48, "the op's layout is the wire format");

/* What an op's fields mean to the decoder. */
enum {
	PC_S1 = 1,       /* s1 is a string */
	PC_S2 = 2,       /* s2 is a string */
	PC_S3 = 4,       /* s3 is a string */
	PC_LIST = 8,     /* s3 starts n strings, one after another */
	PC_BLOB = 16,    /* s3 starts n bytes, 8-byte aligned */
	PC_SLOT = 32,    /* slot must be one */
	PC_SLOT2 = 64,   /* slot2 must be one */
	PC_MAKES = 128,  /* fills slot, which must not be a given one */
	PC_IN_P = 256,   /* allowed in prepare, child, finish */
	PC_IN_C = 512,
	PC_IN_F = 1024,
	PC_N_STRING = 2048, /* n is a string */
	PC_ASKS = 4096,	    /* the child stops there until the parent has done its part */
};

/* op flags */
enum {
	PC_F_OPTIONAL = 1,   /* the path may be absent (ENOENT): nothing to do then; CGROUP_MAKE: it may be there (EEXIST) */
	PC_F_RECURSIVE = 2,  /* TREE_CLONE, ROOT_READONLY */
	PC_F_NOSYMLINK = 4,  /* MOUNT, MASK, READONLY, MAKE_NODE, MAKE_LINK: no symbolic link anywhere in the path;
			      * TREE_CLONE: as well, and s1 is a directory */
	PC_F_CREATE = 8,     /* MOUNT, MOUNT_TREE: make a missing mount point; CHDIR: make the directory */
	PC_F_CLASSIC = 16,   /* MASK, READONLY: by mount(2), for kernels that cannot clone detached trees */
	PC_F_VOLATILE = 32,  /* OVERLAY: no sync of the upper layer, which will be thrown away */
	PC_F_LAYER_FDS = 64, /* OVERLAY: "lowerdir+" takes fds (6.13) */
	PC_F_PIVOT = 128,    /* ROOT_ATTACH: keep the old root for ROOT_PIVOT, which comes later */
	PC_F_LAYER_PLUS = 256, /* OVERLAY: "lowerdir+" takes strings (6.5) */
	PC_F_COPY_UP = 512,    /* MOUNT: a tmpfs that begins as a copy of what it covers */
	PC_F_LIKE_BELOW = 2048, /* MOUNT: owner and mode of the directory that it covers; flags x are MOUNT_ATTR_*, as for
				 * COPY_UP */
	PC_F_KERNEL_TREE = 4096, /* MASK, READONLY: the first directory of s1 is a procfs or sysfs of the Plan's own */
	PC_F_DEVICES = 8192, /* MOUNT: the Plan's own /dev, as LIKE_BELOW; MAKE_NODE, MAKE_LINK: only on that */
	PC_F_USERXATTR = 1024, /* OVERLAY: marks in user.* (inside a user namespace) */
	PC_F_REMOUNT = 16384,  /* READONLY, ROOT_READONLY, MOUNT_ATTR: by mount(2), before mount_setattr (5.12) */
};

/* X(symbol, fields). Codes are the wire format: append only. The executor of each says what its fields are. */
#define PC_OPS(X)                                                                                                      \
	X(NONE, 0)                                                                                                     \
	/* prepare */                                                                                                  \
	X(DIR_MAKE, PC_IN_P | PC_S1)                          /* mkdir s1, mode x, owner y:z */                        \
	X(CGROUP_MAKE, PC_IN_P | PC_S1 | PC_SLOT | PC_MAKES)  /* mkdir s1, open it as slot */                          \
	X(CGROUP_OPEN, PC_IN_P | PC_S1 | PC_SLOT | PC_MAKES)  /* open the existing cgroup s1 as slot */                \
	X(CGROUP_WRITE, PC_IN_P | PC_S1 | PC_S2 | PC_SLOT)    /* write s2 to the file s1 of slot */                    \
	X(CGROUP_DEVICES, PC_IN_P | PC_SLOT | PC_BLOB)        /* attach the eBPF device program to slot */             \
	X(OVERLAY, PC_IN_P | PC_S1 | PC_S2 | PC_LIST | PC_SLOT | PC_MAKES) /* upper s1, work s2, n lower: detached mount in slot; slot2: id map of the lower */ \
	X(TREE_CLONE, PC_IN_P | PC_S1 | PC_SLOT | PC_MAKES)   /* detached copy of s1; attributes x set, y cleared, z propagation, slot2 id map */ \
	/* child */                                                                                                    \
	X(CGROUP_JOIN, PC_IN_C | PC_SLOT)                     /* move the child into slot */                           \
	X(UNSHARE, PC_IN_C)                                   /* unshare(x) */                                         \
	X(SETNS, PC_IN_C | PC_SLOT)                           /* setns(slot, x); a process's pidfd: several at once */ \
	X(ROOT_ATTACH, PC_IN_C | PC_S1 | PC_SLOT)             /* the detached mount in slot becomes /, over s1 ("": over /) */               \
	X(ROOT_READONLY, PC_IN_C)                             /* through the fd that ROOT_ATTACH kept */               \
	X(MOUNT, PC_IN_C | PC_S1 | PC_S2 | PC_S3 | PC_N_STRING) /* file system s2 on s1, data s3, flags x, source n */ \
	X(MOUNT_TREE, PC_IN_C | PC_S1 | PC_SLOT)              /* the detached mount in slot on s1; x 1 for a file */   \
	X(MASK, PC_IN_C | PC_S1 | PC_SLOT)                    /* hide s1 by the template in slot */                    \
	X(READONLY, PC_IN_C | PC_S1)                          /* s1 becomes a read-only mount of itself, attributes x */ \
	X(MAKE_DIR, PC_IN_C | PC_S1)                          /* mkdir -p s1, mode x */                                \
	X(MAKE_NODE, PC_IN_C | PC_S1)                         /* device node s1: mode x, device y, owner z */          \
	X(MAKE_LINK, PC_IN_C | PC_S1 | PC_S2)                 /* symbolic link s1 -> s2 */                             \
	X(WRITE_FILE, PC_IN_C | PC_S1 | PC_BLOB)              /* replace the file s1 by n bytes at s3, mode x */       \
	X(PROC_WRITE, PC_IN_C | PC_S1 | PC_S2)                /* write s2 to s1 of a private procfs */                 \
	X(HOSTNAME, PC_IN_C | PC_S1)                                                                                   \
	X(DOMAINNAME, PC_IN_C | PC_S1)                                                                                 \
	X(LOOPBACK_UP, PC_IN_C)                                                                                        \
	X(RLIMIT, PC_IN_C)                                    /* resource n: soft x, hard y */                         \
	X(SESSION, PC_IN_C)                                   /* setsid */                                             \
	X(STDIO, PC_IN_C)                                     /* slots slot, slot2, n (as int) become 0, 1, 2 */       \
	X(TTY, PC_IN_C)                                       /* new pty as 0, 1, 2 and (n 0) /dev/console: rows x, cols y, uid z */ \
	X(PDEATHSIG, PC_IN_C)                                 /* signal x */                                           \
	X(UMASK, PC_IN_C)                                                                                              \
	X(CAP_BOUND, PC_IN_C)                                 /* bounding set x */                                     \
	X(IDS, PC_IN_C | PC_BLOB)                             /* uid x, gid y, n bytes of additional gids (u32) */     \
	X(CAPS, PC_IN_C)                                      /* effective x, permitted y, inheritable z */            \
	X(CAP_AMBIENT, PC_IN_C)                               /* ambient set x */                                      \
	X(NO_NEW_PRIVS, PC_IN_C)                                                                                       \
	X(SECCOMP, PC_IN_C | PC_BLOB)                         /* filter, flags x */                                    \
	X(CHDIR, PC_IN_C | PC_S1)                                                                                      \
	X(CLOSE_FDS, PC_IN_C)                                 /* close-on-exec from fd x on */                         \
	/* finish */                                                                                                   \
	X(USAGE, PC_IN_F | PC_S1)                             /* kind x from cgroup s1 */                              \
	X(CGROUP_REMOVE, PC_IN_F | PC_S1)                     /* kill what is in s1; x 1: an empty one takes its place */\
	X(TREE_REMOVE, PC_IN_F | PC_S1)                                                                                \
	/* prepare */                                                                                                  \
	X(NS_OPEN, PC_IN_P | PC_S1 | PC_SLOT | PC_MAKES)      /* the namespace file s1, of type x, as slot */          \
	X(USERNS_MAKE, PC_IN_P | PC_S1 | PC_S2 | PC_SLOT | PC_MAKES) /* an id map: uid_map s1, gid_map s2 */           \
	X(TREE_ATTR, PC_IN_P | PC_IN_C | PC_SLOT)             /* of the mount, detached or (child) attached: x set, y cleared, z propagation, slot2 id map */ \
	X(FS_MAKE, PC_IN_P | PC_S1 | PC_LIST | PC_SLOT | PC_MAKES) /* file system s1, n options, attributes x: detached mount in slot */ \
	/* child */                                                                                                    \
	X(PARENT_WRITE, PC_IN_C | PC_S1 | PC_S2 | PC_ASKS)    /* the parent writes s2 to /proc/<child>/s1 */           \
	X(FORK, PC_IN_C)                                      /* go on in a process cloned with x; this one ends */    \
	X(MOUNT_ATTR, PC_IN_C | PC_S1)                        /* of the mount s1: x set, y cleared, z propagation */   \
	X(ROOT_PIVOT, PC_IN_C)                                /* away with the old root that ROOT_ATTACH kept */       \
	X(KEYRING, PC_IN_C | PC_S1)                           /* a session keyring of its own, named s1 */             \
	X(SCHEDULER, PC_IN_C | PC_BLOB)                       /* a struct sched_attr */                                \
	X(IO_PRIORITY, PC_IN_C)                               /* ioprio x */                                           \
	X(PERSONALITY, PC_IN_C)                               /* persona x */                                          \
	X(MEMORY_POLICY, PC_IN_C | PC_BLOB)                   /* mode and flags x, node mask */                        \
	X(LISTENER, PC_IN_C | PC_BLOB | PC_ASKS)              /* SECCOMP whose notifications go to the caller */       \
	X(SYNC, PC_IN_C | PC_ASKS)                            /* the caller does its part x (enum pc_sync) */           \
	/* prepare */                                                                                                  \
	X(PIPE_OWNER, PC_IN_P | PC_SLOT)                      /* the pipe in slot, if it is one, is given to uid x, gid y */ \
	/* child */                                                                                                    \
	X(ID_MAPS, PC_IN_C | PC_S1 | PC_S2 | PC_ASKS)         /* the parent writes the child's uid_map s1 and gid_map s2 */ \
	X(EXEC_LABEL, PC_IN_C | PC_S1 | PC_S2)                /* the stub writes s2 to s1 of a procfs, just before the program's execve */ \
	X(HOOK, PC_IN_C | PC_S1 | PC_LIST | PC_SLOT | PC_SLOT2) /* the program s1, n words (stub.h): now (x CREATE_CONTAINER) or by the stub (x START_CONTAINER); state, what it said */ \
	X(NET_DEVICE, PC_IN_C | PC_S1 | PC_S2 | PC_ASKS)      /* the parent moves its network device s1 into the child's namespace, as s2 ("": the same) */

#define PC_OP_ENUM(symbol, fields) PC_OP_##symbol,
enum pc_op_code { PC_OPS(PC_OP_ENUM) PC_OP_COUNT };

/* What USAGE and pc_usage_read can read; struct pc_usage.have is a bit set of them. */
enum pc_usage_kind {
	PC_USAGE_CPU_V1,    /* cpuacct.usage, usage_user, usage_sys */
	PC_USAGE_CPU_V2,    /* cpu.stat */
	PC_USAGE_MEMORY_V1, /* memory.max_usage_in_bytes, memory.oom_control */
	PC_USAGE_MEMORY_V2, /* memory.peak, memory.events */
	PC_USAGE_IO_V1,     /* blkio.throttle.io_service_bytes_recursive */
	PC_USAGE_IO_V2,     /* io.stat */
	PC_USAGE_KINDS
};

/* Where a child waits for the caller; the first argument of its callback. */
enum pc_sync {
	PC_SYNC_LISTENER = 1,	      /* fd: the seccomp listener */
	PC_SYNC_CREATE_RUNTIME = 2,   /* namespaces are there, the root is not */
	PC_SYNC_CREATE_CONTAINER = 3, /* the root's mounts are there */
	PC_SYNC_START_CONTAINER = 4,  /* all but execve */
	PC_SYNC_SIGNAL = 5,	      /* nobody waits: a signal came to the caller's thread, which may want to give up */
};

/* A decoded Plan. Pointers reach into `bytes`, which outlives it. */
struct pc_plan {
	const uint8_t *bytes;
	struct pc_plan_header head;
	const struct pc_op *ops[PC_SECTIONS];
	const char *strings;
	bool asks; /* some child op needs the parent */
};

/* 0, or -EBADMSG with *where set to the offset of the first fault. `bytes` must be 8-byte aligned. */
int pc_plan_decode(const uint8_t *bytes, uint64_t len, struct pc_plan *plan, uint32_t *where);

static inline const char *pc_str(const struct pc_plan *plan, uint32_t off)
{
	return plan->strings + off;
}

/* Whether the child waits at this op for the parent. */
bool pc_op_asks(uint16_t code);

/* Whether the op's answer is an fd for its slot. */
bool pc_op_makes_fd(uint16_t code);

/* The string that follows `s` in a list. */
const char *pc_next(const char *s);

#endif
