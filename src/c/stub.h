/* What pycontain-exec is told, and by which descriptors. Its words (argv):
 *
 *	LABEL_FILE LABEL [PATH OP TIMEOUT_MS ARGC ENVC ARGS... ENV...]... "" [PROGRAM ARGV0 ...]
 *
 * LABEL_FILE is "" or a file of the procfs that is PC_STUB_PROCFS. Each PATH is a hook's, OP the index of its op, for the report; ""
 * ends them. Without a PROGRAM that is all.
 */
#ifndef PC_STUB_H
#define PC_STUB_H

enum {
	PC_STUB_REPORT = 3, /* the report socket */
	PC_STUB_PROCFS = 4, /* when there is a label */
	PC_STUB_STATE = 5,  /* what hooks read: a sealed file, from its beginning */
	PC_STUB_SAID = 6,   /* a file for the last that a hook has said */
};

/* The word LABEL_FILE, LABEL; the first hook or "" is after them. */
enum { PC_STUB_LABEL_FILE, PC_STUB_LABEL, PC_STUB_HOOKS };
enum { PC_HOOK_PATH, PC_HOOK_OP, PC_HOOK_TIMEOUT, PC_HOOK_ARGC, PC_HOOK_ENVC, PC_HOOK_WORDS };

struct pc_report;

/* exec_stub.c */
int pc_write_label(const char *file, const char *label);

/* hook_run.c: runs the hook whose words begin at `word` and advances it past them; 0, or -errno with the report's step and op. */
int pc_run_hook(char ***word, char *const label[2], struct pc_report *r);

#endif
