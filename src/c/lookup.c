/* Which file argv[0] is, and whether the way to it can be trusted. Child half, just before execve.
 *
 * Until execve this process is the engine's own program, and /proc/self/exe a way to it: a program or an interpreter line
 * that goes there would run it, and could later write to it (2019-5736). So no path to what is executed may lead through
 * such a link. What has been looked at can still be exchanged before execve where another container can write: on a mount
 * that is not the root's own. Then the program is executed by the sealed stub, and /proc/self/exe leads to a copy that
 * nobody can write to.
 */
#include "job.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>

/* What ends an interpreter's name for the kernel; every other byte, above 127 or below ' ', belongs to it. */
static bool ends_name(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\0';
}

/* The interpreter that a script names in its first line, into `out`; 0 when it is no script. */
static int script_interpreter(const char *line, size_t n, char *out, size_t room)
{
	size_t from = 2, to;

	if (n < 3 || line[0] != '#' || line[1] != '!')
		return 0;
	while (from < n && (line[from] == ' ' || line[from] == '\t'))
		from++;
	for (to = from; to < n && !ends_name(line[to]) && to - from < room - 1; to++)
		out[to - from] = line[to];
	out[to - from] = '\0';
	return to > from;
}

static long read_at(int fd, void *buf, size_t n, uint64_t offset)
{
	return PC_SYS4(SYS_pread64, fd, buf, n, (long)offset);
}

/* The loader that an ELF file names (PT_INTERP), into `out`; 0 when it names none that the kernel would take. */
static int elf_interpreter(int fd, const char *head, size_t n, char *out, size_t room)
{
	union {
		Elf32_Ehdr e32;
		Elf64_Ehdr e64;
	} e;
	union {
		Elf32_Phdr p32;
		Elf64_Phdr p64;
	} p;
	bool wide = head[EI_CLASS] == ELFCLASS64;

	if (n < sizeof e || head[0] != 0x7f || head[1] != 'E' || head[2] != 'L' || head[3] != 'F')
		return 0;
	__builtin_memcpy(&e, head, sizeof e);
	uint64_t at = wide ? e.e64.e_phoff : e.e32.e_phoff;
	unsigned count = wide ? e.e64.e_phnum : e.e32.e_phnum;
	size_t size = wide ? sizeof p.p64 : sizeof p.p32;
	for (unsigned i = 0; i < count && i < 1024; i++, at += size) { /* the kernel takes 64 kB of headers at most */
		if (read_at(fd, &p, size, at) != (long)size)
			return 0;
		if ((wide ? p.p64.p_type : p.p32.p_type) != PT_INTERP)
			continue;
		uint64_t where = wide ? p.p64.p_offset : p.p32.p_offset, length = wide ? p.p64.p_filesz : p.p32.p_filesz;
		if (length < 2 || length > room || read_at(fd, out, length, where) != (long)length || out[length - 1] != '\0')
			return length > room ? -ENAMETOOLONG : 0;
		return 1;
	}
	return 0;
}

/* Who would execute this file in its own place: a script's interpreter, an ELF file's loader. 0: nobody. */
static int read_interpreter(int fd, char *out, size_t room)
{
	char head[256]; /* as far as the kernel looks for either */
	long n = sys_read(fd, head, sizeof head);

	if (n <= 0)
		return 0;
	int found = script_interpreter(head, (size_t)n, out, room);
	return found ? found : elf_interpreter(fd, head, (size_t)n, out, room);
}

static int mount_id(int fd, uint64_t *id)
{
	struct statx st;
	int err = sys_statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st);

	*id = st.stx_mnt_id;
	return err;
}

/* Whether a path that begins at `from` ("/" or ".") stays on the root's own mount all the way. */
static bool on_root_mount(const char *path)
{
	const uint64_t how = RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
	scoped_fd int seen = sys_openat2(AT_FDCWD, path, O_PATH | O_CLOEXEC, 0, how);
	uint64_t root_id, cwd_id;

	if (seen < 0)
		return false;
	if (path[0] == '/')
		return true;
	scoped_fd int root = sys_openat2(AT_FDCWD, "/", O_PATH | O_CLOEXEC, 0, 0);
	scoped_fd int cwd = sys_openat2(AT_FDCWD, ".", O_PATH | O_CLOEXEC, 0, 0);
	return root >= 0 && cwd >= 0 && mount_id(root, &root_id) == 0 && mount_id(cwd, &cwd_id) == 0 && root_id == cwd_id;
}

/* -ELOOP when a path to what is executed leads through a magic link; *stub when the answer may not hold until execve. */
static int no_way_to_engine(const char *path, bool *stub)
{
	char interpreter[4096]; /* PATH_MAX, which a loader's path may have */

	for (int depth = 0; depth < 8; depth++) {
		scoped_fd int seen = sys_openat2(AT_FDCWD, path, O_PATH | O_CLOEXEC, 0, RESOLVE_NO_MAGICLINKS);
		if (seen == -EPERM || seen == -ENOSYS) { /* the caller's own seccomp profile, not the image, forbids openat2 */
			*stub = true;
			return 0;
		}
		if (!on_root_mount(path))
			*stub = true;
		if (seen < 0) /* an absent interpreter is execve's to report */
			return seen == -ELOOP || depth == 0 ? seen : 0;
		scoped_fd int fd = sys_openat2(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0, RESOLVE_NO_MAGICLINKS);
		if (fd < 0) /* who may execute and not read may not write to the engine either */
			return 0;
		int found = read_interpreter(fd, interpreter, sizeof interpreter);
		if (found <= 0)
			return found;
		path = interpreter;
	}
	return -ELOOP; /* deeper than the kernel follows */
}

static int executable(const char *path, bool *stub)
{
	struct statx st;
	int err = sys_statx(AT_FDCWD, path, 0, STATX_TYPE, &st);

	if (err < 0)
		return err;
	if (S_ISDIR(st.stx_mode))
		return -EISDIR;
	if (!S_ISREG(st.stx_mode))
		return -EACCES;
	err = sys_faccessat(AT_FDCWD, path, 1 /* X_OK */);
	return err < 0 ? err : no_way_to_engine(path, stub);
}

/* Like execvp: a name without a slash is looked for in PATH; a candidate that may not be run is remembered. */
int pc_find_program(struct pc_job *job, const char **found, bool *stub)
{
	const char *name = job->argv[0], *p = job->search_path;
	int denied = 0;

	*found = name;
	*stub = false;
	if (name[0] == '\0')
		return -ENOENT;
	for (const char *s = name; *s; s++)
		if (*s == '/')
			return executable(name, stub);
	if (p == NULL)
		return -ENOENT;
	for (;;) {
		char *out = job->exec_path;
		while (*p != '\0' && *p != ':')
			*out++ = *p++;
		if (out != job->exec_path) /* an empty entry would mean the working directory: never */ {
			*out++ = '/';
			for (const char *s = name; *s; s++)
				*out++ = *s;
			*out = '\0';
			*stub = false;
			int err = executable(job->exec_path, stub);
			if (err == 0) {
				*found = job->exec_path;
				return 0;
			}
			if (err == -EACCES || err == -ELOOP)
				denied = err;
		}
		if (*p++ == '\0')
			return denied ? denied : -ENOENT;
	}
}
