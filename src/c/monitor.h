/* pycontain-monitor's parts, and what it says and is told on its socket. ADR 15.
 *
 * One thread, no libc, no memory but what is here: what is not in use is given back before it sleeps.
 */
#ifndef PC_MONITOR_H
#define PC_MONITOR_H

#include <stdbool.h>

#include "fd.h"
#include "launch.h"

/* Frames, both ways: a byte of enum pc_frame, three zeros, the payload's length big-endian, the payload. Numbers in a payload
 * are big-endian, 32 bits. STDIN, STDOUT and STDERR are Docker's own. */
enum pc_frame {
	PC_FRAME_STDIN = 0,  /* to the monitor: for the container's standard input */
	PC_FRAME_STDOUT = 1, /* from it: what the container has said */
	PC_FRAME_STDERR = 2,
	PC_FRAME_ERROR = 3,  /* from it: why a request was refused, as text */
	PC_FRAME_ENDED = 4,  /* from it, to everyone: exit code, signal or 0, 1 when it starts again */
	PC_FRAME_DONE = 5,   /* from it: the type of the request that has been done */
	PC_ASK_ATTACH = 16,  /* streams: a bit set, 2 for standard output, 4 for standard error */
	PC_ASK_STDIN_END = 17,
	PC_ASK_RESIZE = 18,  /* rows, columns */
	PC_ASK_STOP = 19,    /* signal, seconds until SIGKILL, all ones for never. Ends the restart policy. With SHUTDOWN added to
				the signal it is the machine that stops, and nobody has asked for this container's end; with
				KEEP it is to be started again, and does not remove itself */
	PC_ASK_KILL = 20,    /* signal, 1 when it ends the restart policy */
	PC_ASK_POLICY = 21,  /* enum pc_policy, most restarts or 0 */
	PC_ASK_PAUSED = 22,  /* 1 when whoever asks freezes it, 0 when it is thawed: noted; no health check begins meanwhile */
	PC_ASK_DETACH = 23,
};

enum pc_policy { PC_POLICY_NO, PC_POLICY_ON_FAILURE, PC_POLICY_ALWAYS, PC_POLICY_UNLESS_STOPPED, PC_POLICIES };

enum phase {
	STARTING,  /* a launcher is at it */
	RUNNING,
	DRAINING,  /* it has ended; what it has said last is being read */
	FINISHING, /* a launcher executes the finish section */
	WAITING,   /* for its next start */
	OVER,	   /* clients are being told */
};

enum { SHUTDOWN = 256, KEEP = 512 };
enum { CLIENTS = 16, CHUNK = 65536, PIECE = 16384, STREAMS = 2, ASK_BYTES = 8 };

#define SECOND 1000000000ull
#define STALL_NS (10 * SECOND) /* a client that has taken nothing for so long is dropped */
#define FOREVER (~0ull)

struct client {
	int fd;		   /* -1: none */
	uint32_t streams;  /* it is sent: bits 1 << enum pc_frame */
	bool owed;	   /* it has not had all of the chunk yet */
	bool feeds;	   /* it has sent standard input, be it nothing */
	uint32_t sent;	   /* of the chunk */
	uint32_t got;	   /* of head and ask */
	uint32_t stdin_left; /* of a STDIN frame */
	uint64_t stall_at;
	uint8_t head[8];
	uint8_t ask[ASK_BYTES];
};

/* One output stream's line that has no end yet. */
struct line {
	uint32_t n;
	bool goes_on; /* a piece of it has been written */
	uint8_t stamp[32]; /* of its first piece */
	uint8_t bytes[PIECE];
};

struct log {
	int dir, fd; /* fd -1: no log is kept */
	int journal; /* a socket; -1: lines do not go to the journal */
	int err;     /* of the last write that failed */
	uint64_t size, max_size; /* max_size 0: never rotated */
	uint32_t max_file;
	uint64_t lost;	 /* bytes of output, since the beginning */
	uint64_t unsaid; /* of those, not yet told of in the log */
	uint64_t pending; /* bytes of output in the buffer */
	size_t n;	  /* bytes in the buffer */
};

struct instant {
	uint64_t at_ns; /* monotonic */
	struct timespec real; /* all zero: not yet */
};

enum health_status { HEALTH_STARTING, HEALTH_GOOD, HEALTH_BAD };

enum check {
	CHECK_NONE,
	CHECK_STARTING, /* a launcher is at it */
	CHECK_RUNNING,
	CHECK_ENDED,	/* what it has left is to be removed, once that can be */
	CHECK_CLEANING, /* a launcher is at that, or the check is not reaped yet */
};

enum { HEALTH_OUTPUT = 4096, HEALTH_RESULTS = 5 };

/* Checks of the container's health, one at a time. Times in nanoseconds. */
struct health {
	bool wanted;
	uint64_t interval_ns, timeout_ns, start_period_ns, start_interval_ns;
	uint32_t retries;
	int enter; /* pycontain-enter, sealed: what joins the container */
	enum health_status status;
	uint32_t streak; /* failures since the last success */
	uint32_t number; /* results since the container's start */
	enum check check;
	bool voided; /* what comes of it does not count */
	int launcher, answer, pid, out;
	uint64_t due_at, kill_at;
	struct instant began;
	uint32_t got; /* bytes of its output that are kept */
	bool cut;     /* there were more */
};

/* How one check has ended. `why`: it could not be started, when why.err is not 0. */
struct health_result {
	struct instant ended;
	int32_t exit_code;
	bool timed_out;
	struct pc_report why;
};

struct monitor {
	/* what was asked for */
	bool tty, open_stdin, stdin_once;
	uint32_t policy, max_restarts;
	const char *journal; /* the path of its socket, or NULL */
	char **remove; /* words "cgroup=PATH" and "remove=PATH" among others, up to NULL */
	/* descriptors */
	int data, run, lock, listener, signals, launcher_file, null, starter;
	const char *events; /* the journal's directory, NULL: none is kept */
	int n_slots, slots[256];
	int out[STREAMS]; /* standard output (or the pty's master), standard error; -1: ended */
	int in;		  /* standard input, or the pty's master again; -1: none */
	bool grown[STREAMS];
	int answer;	  /* of the launcher under way, or -1 */
	/* life */
	enum phase phase;
	int self, launcher, pid; /* 0: none */
	uint64_t pid_started;	 /* field 22 of /proc/PID/stat */
	bool ran;		 /* since this monitor lives */
	bool ends;		 /* its policy is over */
	bool asked, paused;	 /* ... for a client has said so, not a shutdown */
	bool stopping;		 /* ... by a stop, which is an event of its own; a removal is none */
	bool destroys;		 /* it removes the container at the end ... */
	bool keeps;		 /* ... but not this time */
	uint32_t stop_signal;	 /* asked for before it ran */
	uint64_t grace_ns, kill_at, restart_at, state_at, backoff_ns;
	struct instant started, finished;
	uint32_t exit_code, end_signal, restarts;
	bool oom_killed;
	struct pc_report failed; /* of the last start */
	int finish_err;
	uint32_t last_reads; /* that may still be made when it has ended */
	const char *dead; /* what could not be removed */
	/* standard input on its way */
	uint32_t feed_at, feed_n;
	bool feed_end;
	bool dirty; /* the buffers have been used since the last sleep */
	struct health health;
	struct log log;
	struct client clients[CLIENTS];
};

/* monitor.c */
void pc_stop(struct monitor *m, uint32_t signal, uint64_t grace_ns);

/* monitor_life.c */
void pc_life_begin(struct monitor *m);
void pc_life_answer(struct monitor *m);
void pc_life_reap(struct monitor *m);
/* Whatever can go on without anybody's word: ended and read to the end, time to start again. */
void pc_life_go_on(struct monitor *m, uint64_t now);
void pc_life_over(struct monitor *m);
bool pc_life_may_restart(const struct monitor *m);
/* A number of /proc/PID/stat, the fourth field or a later one; 0: not to be known, for there is no /proc. */
uint64_t pc_stat_field(int pid, int field);
/* A launcher with this verb for the Plan in this file of the data directory, given `n` descriptors. Its pid, with our end of the
 * socket for its answer; or -errno with nothing under way. */
int pc_launch(struct monitor *m, const char *verb, const char *plan, const int *fds, int n, int *answer);

/* monitor_health.c */
/* "INTERVAL:TIMEOUT:START_PERIOD:START_INTERVAL:RETRIES", all but the last in nanoseconds */
bool pc_health_ask(struct health *h, const char *numbers);
void pc_health_begin(struct monitor *m); /* the container has started */
void pc_health_end(struct monitor *m);	 /* it has ended */
void pc_health_pause(struct monitor *m); /* or goes on, as m->paused says */
void pc_health_answer(struct monitor *m);
void pc_health_read(struct monitor *m);
/* Whether the process that has ended, and been reaped, was one of a check's. */
bool pc_health_reaped(struct monitor *m, const siginfo_t *info);
void pc_health_go_on(struct monitor *m, uint64_t now);
uint64_t pc_health_deadline(const struct monitor *m);

/* monitor_streams.c: the chunk is what was read last, until every client has it */
extern struct chunk {
	uint8_t head[8];
	uint8_t data[CHUNK];
} pc_chunk;
/* The container's ends into theirs[3]; ours in m. 0, or -errno with nothing left open. */
int pc_streams_open(struct monitor *m, int theirs[3]);
void pc_streams_close(struct monitor *m);
bool pc_stream_read(struct monitor *m, int stream); /* false: nothing there now */
void pc_stdin_take(struct monitor *m, struct client *c);
void pc_stdin_push(struct monitor *m);
void pc_stdin_end(struct monitor *m);

/* monitor_log.c */
int pc_log_open(struct log *l, int dir);
void pc_log_write(struct log *l, int stream, const uint8_t *data, size_t n);
void pc_log_end(struct log *l); /* lines without an end, and what was lost */
void pc_log_release(void);	/* memory, before a sleep */

/* monitor_journal.c */
int pc_journal_open(struct log *l, int dir, const char *path);
/* `partial`: more of the line follows. */
void pc_journal_send(struct log *l, int stream, const uint8_t *data, size_t n, bool partial);

/* monitor_clients.c */
int pc_clients_listen(struct monitor *m);
void pc_clients_accept(struct monitor *m);
void pc_clients_first(struct monitor *m, int fd); /* one that is there before the container */
void pc_client_read(struct monitor *m, struct client *c);
void pc_client_send(struct monitor *m, struct client *c);
void pc_client_drop(struct monitor *m, struct client *c);
bool pc_clients_owed(const struct monitor *m);
/* pc_chunk.data[0..n) as a frame, to those who want it; `streams` ~0: to all. */
void pc_clients_tell(struct monitor *m, enum pc_frame type, uint32_t n, bool all);

/* monitor_state.c */
void pc_state_write(struct monitor *m);
/* What the last check has come to, and what it has said: the newest of HEALTH_RESULTS files. */
void pc_health_write(struct monitor *m, const struct health_result *r, const uint8_t *output);
void pc_instant_now(struct instant *t);
/* "2026-11-25T09:00:00.123456789Z", 30 bytes and no NUL */
enum { STAMP = 30 };
void pc_stamp(uint8_t out[STAMP], const struct timespec *t);
size_t pc_digits(char *out, uint64_t n); /* at most 20 */

/* monitor_event.c: what happens to the container, for whoever follows (ADR 18). What cannot be written is not said. */
/* `more`: further attributes, as `,"name":"value"`, or "". */
void pc_event(struct monitor *m, const char *action, const char *more);
void pc_event_kill(struct monitor *m, uint32_t signal);
void pc_event_die(struct monitor *m);
/* Who it is about, held over the removal of the file that says so. */
struct about {
	const char *text; /* NULL: nothing is known */
	size_t n;
};
struct about pc_event_about(const struct monitor *m);
void pc_event_of(struct monitor *m, const struct about *about, const char *action, const char *more);
void pc_event_forget(struct about *about);

static inline void pc_put32(uint8_t *to, uint32_t v)
{
	for (int i = 3; i >= 0; i--, v >>= 8)
		to[i] = (uint8_t)v;
}

static inline uint32_t pc_get32(const uint8_t *from)
{
	return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

static inline size_t pc_length(const char *s)
{
	size_t n = 0;

	while (s[n] != '\0')
		n++;
	return n;
}

#endif
