/* Steps: where a start can fail. The child answers with one fixed-size message; words are made in the parent. */
#ifndef PC_REPORT_H
#define PC_REPORT_H

#include "pycontain.h"

/* X(symbol, text). An op's own step is its op code; these are the steps that are no op, and the finer ones. */
#define PC_STEPS(X)                                                                                                    \
	X(NONE, "none")                                                                                                \
	X(READY, "ready")                 /* not a failure: everything before execve is done */                       \
	X(TTY, "tty")                     /* not a failure: the pty master comes with this message */                  \
	X(DECODE, "decode plan")                                                                                       \
	X(SLOTS, "fill slots")                                                                                         \
	X(ALLOCATE, "allocate")                                                                                        \
	X(SPAWNER, "start spawner thread")                                                                             \
	X(SPAWNER_MOUNTS, "build lean mount namespace")                                                                \
	X(SOCKET, "open report socket")                                                                                \
	X(CLONE, "clone3")                                                                                             \
	X(DEADLINE, "deadline")           /* the child was killed since it had not reached execve in time */           \
	X(KILLED, "killed")               /* the child ended before it had reported: killed from outside */            \
	X(PROTOCOL, "report")             /* an unexpected message on the report socket */                             \
	X(SIGNALS, "reset signals")                                                                                    \
	X(LOOKUP, "find program")                                                                                      \
	X(EXEC, "execve")                                                                                              \
	X(OP, "op")                       /* the op at `arg` failed as a whole */                                      \
	X(RESOLVE, "resolve path in root")                                                                             \
	X(MAKE_TARGET, "create mount point")                                                                           \
	X(NOT_CHAR_NULL, "verify /dev/null")                                                                           \
	X(NOT_PROC, "verify /proc")                                                                                    \
	X(OUTSIDE_ROOT, "verify working directory")                                                                    \
	X(ASK, "ask")                     /* not a failure: the child waits for the parent to do its part of op `arg` */ \
	X(FORKED, "forked")               /* not a failure: another process goes on, its pidfd comes with this message */ \
	X(END, "end")                     /* not a failure: the spawner's word that the child has executed or ended */ \
	X(COPY_UP, "copy up")                                                                                          \
	X(LABEL, "exec label")            /* said by the stub: a security module does not take the program's label */  \
	X(HOOK_RUN, "run hook")           /* the hook of op `arg` cannot be executed */                                \
	X(HOOK_STATUS, "hook")            /* it failed: `err` is its status, or 256 and the signal that ended it */    \
	X(HOOK_TIMEOUT, "hook timeout")   /* it was killed since it had not ended in its time */                       \
	X(PLAN_FILE, "read plan file")                                                                                 \
	X(STREAMS, "make streams")        /* the monitor's: pipes for the container's standard streams */              \
	X(LAUNCHER, "run launcher")       /* the monitor's: it cannot be executed, or has ended without an answer */   \
	X(MONITOR, "set up monitor")      /* the monitor's own directories, lock and socket */                         \
	X(ENTER, "enter program")         /* pycontain-enter cannot be given the Plan, or be executed */

#define PC_STEP_ENUM(symbol, text) PC_STEP_##symbol,
enum pc_step { PC_STEPS(PC_STEP_ENUM) PC_STEP_COUNT };

enum pc_section { PC_PREPARE, PC_CHILD, PC_FINISH, PC_SECTIONS };

#endif
