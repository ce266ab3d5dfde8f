/* The walk of a layer or a merged tree, in the order of the tar: a directory, its opaque mark and its whiteouts (which come
 * before their siblings, as image-spec layer.md asks), then its entries sorted by name, each directory with what is below.
 */
#include "pack.h"

#include <dirent.h>

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"
#define NOBODY 65534u /* /proc/sys/kernel/overflowuid: what a user namespace shows of those whom it does not have */
enum { PHASE_OPAQUE, PHASE_WHITEOUTS, PHASE_ENTRIES };

/* --- levels ----------------------------------------------------------------------------------------------------- */

/* As overlayfs looks a directory up: down through the roots until one has something else there, or an opaque directory. */
static int add_merged(struct pc_pack *p, uint32_t member, const char *name)
{
	struct pc_look look = {.fd = pc_dirs_open(p, member, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK)};

	if (look.fd < 0) {
		if (look.fd == -ENOENT || look.fd == -ESTALE)
			return 1;
		return look.fd == -ENOTDIR || look.fd == -ELOOP ? 0 : pc_pack_fail(p, PC_PACK_STEP_OPEN, look.fd);
	}
	int err = sys_statx(look.fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &look.st);
	if (err < 0)
		(void)pc_pack_fail(p, PC_PACK_STEP_OPEN, err);
	if (err == 0)
		err = pc_look_xattrs(p, &look, false, false);
	if (err == 0)
		err = pc_dirs_add(p, p->members[member].root, member, fd_take(&look.fd), &look.st);
	pc_look_close(&look);
	return err < 0 ? err : !look.opaque;
}

int pc_walk_enter(struct pc_pack *p, uint32_t member, const char *name, struct pc_look *look, bool through)
{
	const struct pc_level *parent = &p->levels[p->n_levels - 1];
	const uint32_t end = parent->first_member + parent->n_members;
	const bool inherited = through && parent->opaque;
	int more = pc_dirs_push(p);

	if (more < 0)
		return more;
	struct pc_level *level = &p->levels[p->n_levels - 1];
	level->opaque = look->opaque || inherited;
	level->xwhiteouts = look->xwhiteouts;
	int err = pc_dirs_add(p, p->members[member].root, member, fd_take(&look->fd), &look->st);
	if (err < 0 || (look->opaque && !through))
		return err;
	for (uint32_t below = member + 1; below < end; below++)
		if ((more = add_merged(p, below, name)) <= 0)
			return more;
	return 0;
}

static int read_names(struct pc_pack *p)
{
	return pc_names_read(p, p->levels[p->n_levels - 1].n_members);
}

/* --- entries ---------------------------------------------------------------------------------------------------- */

static int put_header(struct pc_pack *p, const struct pc_tar_entry *e)
{
	int err = pc_tar_header(&p->out, e);

	if (err < 0)
		return pc_pack_fail(p, err == -E2BIG ? PC_PACK_STEP_XATTR : PC_PACK_STEP_MEMORY, err);
	p->counts.entries++;
	p->counts.blocks++;
	return 1;
}

/* A mark of our own: with nobody's owner and time, so that it is the same however overlayfs came to make it. */
static int put_mark(struct pc_pack *p, const char *prefix, const char *name, size_t len)
{
	int err = pc_dirs_path(p, prefix, strlen(prefix));

	if (err == 0 && (err = pc_bytes_add(&p->path, name, len)) < 0)
		return pc_pack_fail(p, PC_PACK_STEP_MEMORY, err);
	if (err < 0)
		return err;
	const struct pc_tar_entry e = {.path = (const char *)p->path.data, .path_len = p->path.n, .mode = 0600, .type = '0'};
	return put_header(p, &e);
}

static int put_whiteout(struct pc_pack *p, const char *name, size_t len)
{
	p->counts.whiteouts++;
	return put_mark(p, WHITEOUT, name, len);
}

static int translate_owner(struct pc_pack *p, const struct statx *st, struct pc_tar_entry *e)
{
	int err = pc_ids_inside(p->uids, p->n_uids, st->stx_uid, &e->uid);

	if (err < 0 && p->flags & PC_PACK_TREE) {
		e->uid = NOBODY;
		err = 0;
	}
	if (err == 0)
		err = pc_ids_inside(p->gids, p->n_gids, st->stx_gid, &e->gid);
	if (err < 0 && p->flags & PC_PACK_TREE) {
		e->gid = NOBODY;
		err = 0;
	}
	return err < 0 ? pc_pack_fail(p, PC_PACK_STEP_OWNER, err) : 0;
}

static char type_of(unsigned mode)
{
	switch (mode & S_IFMT) {
	case S_IFLNK: return '2';
	case S_IFCHR: return '3';
	case S_IFBLK: return '4';
	case S_IFDIR: return '5';
	case S_IFIFO: return '6';
	default: return '0';
	}
}

/* The target of a symbolic link, or the first name of a file of several, into p->value. */
static int find_link(struct pc_pack *p, const struct pc_look *look, struct pc_tar_entry *e)
{
	if (e->type != '5' && look->st.stx_nlink > 1) {
		int found = pc_links_find(p, &look->st, &p->value);
		if (found < 0)
			return pc_pack_fail(p, PC_PACK_STEP_MEMORY, found);
		if (found > 0)
			e->type = '1';
	}
	if (e->type == '2') {
		p->value.n = 0;
		int err = pc_bytes_reserve(&p->value, 8192); /* no file system keeps more than PATH_MAX */
		if (err < 0)
			return pc_pack_fail(p, PC_PACK_STEP_MEMORY, err);
		int n = sys_readlinkat(look->fd, "", (char *)p->value.data, p->value.room);
		if (n < 0 || (size_t)n == p->value.room)
			return pc_pack_fail(p, PC_PACK_STEP_READ_LINK, n < 0 ? n : -ENAMETOOLONG);
		p->value.n = (size_t)n;
	}
	if (e->type == '1' || e->type == '2') {
		e->link = (const char *)p->value.data;
		e->link_len = p->value.n;
	}
	return 0;
}

/* The header of what `look` shows, under p->path (or "." for the root); *type is what it was written as. */
static int put_entry(struct pc_pack *p, const struct pc_look *look, uint32_t root, char *type)
{
	const struct statx *st = &look->st;
	struct pc_tar_entry e = {
		.path = p->path.n > 0 ? (const char *)p->path.data : ".",
		.path_len = p->path.n > 0 ? p->path.n : 1,
		.mode = st->stx_mode,
		.uid = st->stx_uid,
		.gid = st->stx_gid,
		.mtime_s = st->stx_mtime.tv_sec,
		.mtime_ns = st->stx_mtime.tv_nsec,
		.type = type_of(st->stx_mode),
		.xattrs = &p->xattrs,
	};
	int err = root < p->n_mapped ? translate_owner(p, st, &e) : 0;

	if (err == 0)
		err = find_link(p, look, &e);
	if (err < 0)
		return err;
	if (e.mtime_s > p->mtime_max || (e.mtime_s == p->mtime_max && e.mtime_ns > 0)) {
		e.mtime_s = p->mtime_max;
		e.mtime_ns = 0;
	}
	if (e.type == '0')
		e.size = st->stx_size;
	if (e.type == '3' || e.type == '4') {
		e.dev_major = st->stx_rdev_major;
		e.dev_minor = st->stx_rdev_minor;
	}
	*type = e.type;
	return put_header(p, &e);
}

/* The contents follow the header, from p->file. */
static void begin_contents(struct pc_pack *p, struct pc_look *look)
{
	p->file_at = p->data_begin = p->data_end = 0;
	p->file_size = look->st.stx_size;
	p->padding = (uint32_t)(-look->st.stx_size % 512);
	p->file_sparse = look->st.stx_blocks * 512 < look->st.stx_size;
	p->counts.file_bytes += look->st.stx_size;
	p->counts.blocks += (look->st.stx_size + 511) / 512;
	if (p->file_size > 0)
		p->file = fd_take(&look->fd);
}

/* Of another mount than the directory that it is in, and the kernel's own: 1, 0, -errno. */
static int is_kernels(struct pc_pack *p, const struct pc_look *look, uint32_t member)
{
	const struct pc_member *in = &p->members[member];

	if (!(p->flags & PC_PACK_TREE) || (in->dev_major == look->st.stx_dev_major && in->dev_minor == look->st.stx_dev_minor))
		return 0;
	int found = pc_look_is_kernels(look);
	return found < 0 ? pc_pack_fail(p, PC_PACK_STEP_OPEN, found) : found;
}

static int take_entry(struct pc_pack *p, const struct pc_name *name, const char *text, struct pc_look *look)
{
	const uint32_t root = p->members[name->member].root;
	const int empty = is_kernels(p, look, name->member);
	int err = empty < 0 ? empty : pc_look_xattrs(p, look, true, root < p->n_mapped);
	char type;

	if (err < 0)
		return err;
	if (empty && !S_ISDIR(look->st.stx_mode))
		return 0;
	if (look->whiteout)
		return p->mode == PC_PACK_LAYER ? put_whiteout(p, text, name->len) : 0;
	if (S_ISSOCK(look->st.stx_mode)) {
		p->counts.sockets++; /* nobody could connect to it: tar has no kind for it */
		return 0;
	}
	if (p->mode == PC_PACK_LAYER && strncmp(text, WHITEOUT, strlen(WHITEOUT)) == 0)
		return pc_pack_fail(p, PC_PACK_STEP_NAME, -EINVAL);
	err = put_entry(p, look, root, &type);
	if (err > 0 && type == '0')
		begin_contents(p, look);
	if (err < 0 || type != '5' || empty)
		return err;
	err = pc_walk_enter(p, name->member, text, look, false);
	if (err == 0)
		err = read_names(p);
	return err < 0 ? err : 1;
}

/* By value: entering a directory moves the names. */
static int entry(struct pc_pack *p, const struct pc_name copy)
{
	const struct pc_name *name = &copy;
	const char *text = pc_name_of(p, &p->levels[p->n_levels - 1], name);
	struct pc_look look;
	int err = pc_dirs_path(p, text, name->len);

	if (err < 0 || name->done)
		return err;
	err = pc_look_at(p, name->member, text, name->type, &look);
	if (err < 0) {
		p->counts.vanished += pc_has_vanished(err);
		return pc_has_vanished(err) ? 0 : err;
	}
	err = take_entry(p, name, text, &look);
	pc_look_close(&look);
	return err;
}

/* Whiteouts that the directory's own listing gives away. One that is met later is written then: that is allowed, too. */
static int whiteout(struct pc_pack *p, struct pc_name *name)
{
	const struct pc_level *level = &p->levels[p->n_levels - 1];
	const char *text = pc_name_of(p, level, name);
	struct pc_look look;

	if (name->type != DT_CHR && name->type != DT_UNKNOWN && !(name->type == DT_REG && level->xwhiteouts))
		return 0;
	int err = pc_dirs_path(p, text, name->len);
	if (err < 0)
		return err;
	err = pc_look_at(p, name->member, text, name->type, &look);
	if (err < 0)
		return pc_has_vanished(err) ? 0 : err;
	err = pc_look_xattrs(p, &look, false, false);
	pc_look_close(&look);
	if (err < 0 || !look.whiteout)
		return err;
	name->done = true;
	return put_whiteout(p, text, name->len);
}

/* --- the walk --------------------------------------------------------------------------------------------------- */

int pc_walk_begin(struct pc_pack *p, struct pc_look *top)
{
	int err = pc_dirs_push(p);

	for (uint32_t i = 0; err == 0 && i < p->n_roots; i++) {
		if ((err = sys_statx(p->root_fds[i], "", AT_EMPTY_PATH, STATX_BASIC_STATS, &top->st)) < 0)
			(void)pc_pack_fail(p, PC_PACK_STEP_OPEN, err);
		else
			err = pc_dirs_add(p, i, 0, -1, &top->st);
	}
	if (err == 0 && (err = sys_statx(p->root_fds[0], "", AT_EMPTY_PATH, STATX_BASIC_STATS, &top->st)) < 0)
		(void)pc_pack_fail(p, PC_PACK_STEP_OPEN, err);
	if (err < 0)
		return err;
	top->fd = p->root_fds[0];
	err = pc_look_xattrs(p, top, true, p->n_mapped > 0);
	p->levels[0].opaque = top->opaque; /* a layer's to say; overlayfs itself does not look at its roots' */
	p->levels[0].xwhiteouts = top->xwhiteouts;
	return err;
}

/* What is asked for itself is refused, where in a tree it would be passed over. */
static int refuse_kernels(struct pc_pack *p, const struct pc_look *look)
{
	int found = p->flags & PC_PACK_TREE && !S_ISLNK(look->st.stx_mode) ? pc_look_is_kernels(look) : 0;

	return found == 0 ? 0 : pc_pack_fail(p, PC_PACK_STEP_KERNEL, found < 0 ? found : -EOPNOTSUPP);
}

/* PC_PACK_ONE: the root is all there is. */
static int only(struct pc_pack *p)
{
	struct pc_look look;
	char type;
	int err = pc_look_at_root(p, &look);

	if (err < 0)
		return err;
	look.st.stx_nlink = 1; /* its other names are not in this tar */
	err = refuse_kernels(p, &look);
	if (err == 0 && S_ISSOCK(look.st.stx_mode))
		p->counts.sockets++;
	else if (err == 0 && (err = pc_look_xattrs(p, &look, true, p->n_mapped > 0)) == 0)
		err = put_entry(p, &look, 0, &type);
	if (err > 0 && type == '0')
		begin_contents(p, &look);
	pc_look_close(&look);
	return err;
}

static int begin(struct pc_pack *p)
{
	struct pc_look top = {.fd = -1};
	char type;

	if (p->name.n > 0 && pc_bytes_add(&p->path, p->name.data, p->name.n) < 0)
		return pc_pack_fail(p, PC_PACK_STEP_MEMORY, -ENOMEM);
	if (p->flags & PC_PACK_ONE)
		return only(p);
	int err = pc_walk_begin(p, &top);

	if (err == 0)
		err = refuse_kernels(p, &top);
	if (err == 0 && (p->flags & PC_PACK_ROOT))
		err = put_entry(p, &top, 0, &type);
	if (err < 0)
		return err;
	const int said = err;
	err = read_names(p);
	return err < 0 ? err : said;
}

static int advance(struct pc_pack *p)
{
	struct pc_level *level = &p->levels[p->n_levels - 1];

	if (level->phase == PHASE_OPAQUE) {
		level->phase = p->mode == PC_PACK_LAYER ? PHASE_WHITEOUTS : PHASE_ENTRIES;
		if (p->mode != PC_PACK_LAYER || !level->opaque)
			return 0;
		p->counts.opaque_dirs++;
		return put_mark(p, OPAQUE, "", 0);
	}
	if (level->next < level->n_names) {
		struct pc_name *name = &p->names[level->first_name + level->next++];
		return level->phase == PHASE_WHITEOUTS ? whiteout(p, name) : entry(p, *name);
	}
	if (level->phase == PHASE_WHITEOUTS) {
		level->phase = PHASE_ENTRIES;
		level->next = 0;
		return 0;
	}
	pc_dirs_pop(p);
	return 0;
}

int pc_walk_next(struct pc_pack *p)
{
	int result = 0;

	if (!p->begun) {
		p->begun = true;
		result = begin(p);
	}
	while (result == 0 && p->n_levels > 0)
		result = advance(p);
	return result;
}
