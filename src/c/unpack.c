/* Unpacking a layer: the parser's sink, and the calls that Python makes. */
#include "unpack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool has_whiteout_parent(const struct unpack_path *p)
{
	const char *text = p->text; /* the parent's, up to its NUL */

	if (p->parent_n == 0)
		return false;
	return unpack_is_whiteout_name(text) || strstr(text, "/.wh.") != NULL;
}

static int write_kind(struct pc_unpack *u, const struct tar_entry *e, int parent)
{
	int err = e->kind == TAR_HARDLINK ? 0 : unpack_shift(u, e);

	if (err < 0)
		return err;
	switch (e->kind) {
	case TAR_FILE:
		return unpack_open_file(u, e, parent);
	case TAR_DIR:
		return unpack_directory(u, e, parent);
	case TAR_SYMLINK:
		return unpack_symlink(u, e, parent);
	case TAR_HARDLINK:
		return unpack_hardlink(u, e, parent);
	case TAR_CHAR:
	case TAR_BLOCK_DEVICE:
	case TAR_FIFO:
		return unpack_node(u, e, parent);
	}
	return -EINVAL; /* not reached */
}

static int write_entry(struct pc_unpack *u, const struct tar_entry *e)
{
	int err = unpack_split(u, e->name, &u->path);

	if (err < 0)
		return err;
	if (u->path.n == 0 && e->kind != TAR_DIR) /* CVE-2021-29136: the root itself replaced by a link */
		return tar_fault(&u->error, PC_UNPACK_ROOT_KIND, 0, 0);
	const bool plain = u->o.flags & PC_UNPACK_PLAIN;
	if (!plain && has_whiteout_parent(&u->path))
		return tar_fault(&u->error, PC_UNPACK_WHITEOUT_PARENT, 0, 0);
	if (u->path.n == 0)
		return unpack_root(u, e);
	int parent = unpack_open_parent(u, &u->path, true);
	if (parent < 0)
		return parent;
	struct unpack_kept kept;
	err = unpack_keep_time(u, parent, &kept);
	if (err == 0)
		err = !plain && unpack_is_whiteout_name(u->path.text + u->path.name) ? unpack_whiteout(u, e, parent)
										     : write_kind(u, e, parent);
	return err < 0 ? err : unpack_restore_time(&kept);
}

/* A program must not get the powers of whoever copies it, nor a device be for all who can see the copy. */
static void sober(struct tar_entry *e)
{
	e->mode &= e->kind == TAR_CHAR || e->kind == TAR_BLOCK_DEVICE ? 0600u : 01777u;
}

static int on_entry(void *context, const struct tar_entry *e)
{
	struct pc_unpack *u = context;

	u->error.entry = ++u->stats.entries;
	if (u->stats.entries > u->o.max_entries)
		return tar_fault(&u->error, PC_UNPACK_ENTRIES, u->o.max_entries, 0);
	if (u->o.flags & PC_UNPACK_SOBER)
		sober(&u->tar.entry);
	u->uid = e->uid;
	u->gid = e->gid;
	int err = write_entry(u, e);
	u->error.uid = u->uid;
	u->error.gid = u->gid;
	return err;
}

static int on_data(void *context, uint64_t offset, const uint8_t *bytes, size_t n)
{
	struct pc_unpack *u = context;

	return u->file >= 0 ? unpack_write(u, offset, bytes, n) : 0; /* a whiteout's data, say, is passed over */
}

static int on_end(void *context)
{
	struct pc_unpack *u = context;

	return u->file >= 0 ? unpack_close_file(u, &u->tar.entry) : 0;
}

static const struct tar_sink writer = {.entry = on_entry, .data = on_data, .end = on_end};

/* --- what Python calls -------------------------------------------------------------------------------------------- */

static int copy_map(const struct pc_id_range *from, uint32_t n, struct pc_id_range **to)
{
	if (n == 0)
		return 0;
	*to = malloc(n * sizeof **to);
	if (*to == NULL)
		return -ENOMEM;
	memcpy(*to, from, n * sizeof **to);
	return 0;
}

static int prepare(struct pc_unpack *u)
{
	const size_t room = (size_t)u->o.max_path_bytes + 1;

	u->root = sys_fcntl(u->o.root_fd, F_DUPFD_CLOEXEC, 3);
	if (u->root < 0)
		return u->root;
	u->path.text = malloc(room);
	u->target.text = malloc(room);
	if (u->path.text == NULL || u->target.text == NULL)
		return -ENOMEM;
	u->path.text[0] = u->target.text[0] = '\0';
	u->times.max = UNPACK_TIMES;
	u->times.max_bytes = UNPACK_TIMES_BYTES;
	u->own_uid = geteuid();
	u->own_gid = getegid();
	u->default_acls = sys_fgetxattr(u->root, "system.posix_acl_default", NULL, 0) > 0;
	int err = copy_map(u->o.uid_map, u->o.n_uid_map, &u->uid_map);
	return err < 0 ? err : copy_map(u->o.gid_map, u->o.n_gid_map, &u->gid_map);
}

PC_EXPORT int pc_unpack_new(const struct pc_unpack_options *options, struct pc_unpack **out)
{
	struct pc_unpack *u = calloc(1, sizeof *u);

	if (u == NULL)
		return -ENOMEM;
	u->o = *options;
	u->root = u->file = -1;
	for (size_t i = 0; i < UNPACK_PARENTS; i++)
		u->parents[i].fd = -1;
	tar_begin(&u->tar, &writer, u, &u->error);
	u->tar.max_bytes = options->max_bytes;
	u->tar.max_meta_bytes = options->max_meta_bytes;
	int err = prepare(u);
	if (err < 0) {
		pc_unpack_free(u);
		return err;
	}
	*out = u;
	return 0;
}

PC_EXPORT int pc_unpack_feed(struct pc_unpack *u, const uint8_t *data, uint64_t n, struct pc_unpack_error *error)
{
	int err = tar_feed(&u->tar, data, n);

	if (err < 0)
		*error = u->error;
	return err;
}

PC_EXPORT int pc_unpack_finish(struct pc_unpack *u, struct pc_unpack_stats *stats, struct pc_unpack_error *error)
{
	int err = tar_finish(&u->tar);

	if (err == 0) {
		err = unpack_set_times(u);
		if (err < 0) {
			u->error.fault = PC_UNPACK_SYSTEM;
			u->error.err = -err;
		}
	}
	if (err < 0) {
		*error = u->error;
		return err;
	}
	u->stats.bytes_read = u->tar.consumed;
	*stats = u->stats;
	return 0;
}

PC_EXPORT void pc_unpack_free(struct pc_unpack *u)
{
	if (u == NULL)
		return;
	unpack_forget_parents(u);
	for (size_t i = 0; i < UNPACK_PARENTS; i++)
		free(u->parents[i].path);
	unpack_free_times(&u->times);
	fd_close(&u->file);
	fd_close(&u->root);
	free(u->path.text);
	free(u->target.text);
	free(u->uid_map);
	free(u->gid_map);
	tar_free(&u->tar);
	free(u);
}
