/* What a container has changed: its upper directory against the roots below, as `docker diff` lists it.
 *
 * A: added, D: deleted, C: changed. Every file in an upper directory is there because it was changed. A directory may be
 * there for what is below it alone: it counts as changed when its mode, owner or time differ, or something directly in it
 * came or went. What an opaque directory hides was deleted, name by name; what is below a deleted directory is not listed.
 */
#include "pack.h"

#include <dirent.h>

static int put(struct pc_pack *p, char kind, size_t path_len)
{
	int err = pc_bytes_add(&p->out, &kind, 1);

	if (err == 0)
		err = pc_bytes_add(&p->out, "/", 1);
	if (err == 0)
		err = pc_bytes_add(&p->out, p->path.data, path_len);
	if (err == 0)
		err = pc_bytes_zeros(&p->out, 1);
	if (err < 0)
		return pc_pack_fail(p, PC_PACK_STEP_MEMORY, err);
	p->counts.entries++;
	return 1;
}

/* p->path came or went: that changes the directory it is in. */
static int put_with_parent(struct pc_pack *p, char kind)
{
	struct pc_level *parent = &p->levels[p->n_levels - 1];

	if (parent->unsaid) {
		parent->unsaid = false;
		int err = put(p, 'C', parent->path_len);
		if (err < 0)
			return err;
	}
	return put(p, kind, p->path.n);
}

/* Whether the roots below show `name`, from `member` of this level on: 1 and what they show, 0, -errno. */
static int find_below(struct pc_pack *p, uint32_t member, const char *name, struct pc_look *found)
{
	const struct pc_level *level = &p->levels[p->n_levels - 1];

	for (; member < level->first_member + level->n_members; member++) {
		int err = pc_look_at(p, member, name, DT_UNKNOWN, found);
		if (err < 0 && !pc_has_vanished(err))
			return err;
		if (err < 0)
			continue;
		err = pc_look_xattrs(p, found, false, false);
		pc_look_close(found);
		return err < 0 ? err : !found->whiteout;
	}
	return 0;
}

static bool same_owner(const struct pc_pack *p, const struct statx *upper, const struct statx *lower)
{
	uint32_t uid = upper->stx_uid, gid = upper->stx_gid;

	if (p->n_mapped > 0 && (pc_ids_inside(p->uids, p->n_uids, upper->stx_uid, &uid) < 0 ||
				pc_ids_inside(p->gids, p->n_gids, upper->stx_gid, &gid) < 0))
		return false;
	return uid == lower->stx_uid && gid == lower->stx_gid;
}

static bool same_directory(const struct pc_pack *p, const struct statx *upper, const struct statx *lower)
{
	return upper->stx_mode == lower->stx_mode && same_owner(p, upper, lower) &&
	       upper->stx_mtime.tv_sec == lower->stx_mtime.tv_sec && upper->stx_mtime.tv_nsec == lower->stx_mtime.tv_nsec;
}

static int enter(struct pc_pack *p, uint32_t member, const char *name, struct pc_look *look)
{
	int err = pc_walk_enter(p, member, name, look, true);

	if (err < 0)
		return err;
	const struct pc_level *level = &p->levels[p->n_levels - 1];
	return pc_names_read(p, level->opaque ? level->n_members : 1);
}

static int compare(struct pc_pack *p, uint32_t member, const char *name, struct pc_look *look)
{
	struct pc_look below = {.fd = -1};
	int err = pc_look_xattrs(p, look, false, false);
	int found = err < 0 ? err : find_below(p, member + 1, name, &below);

	if (found < 0)
		return found;
	if (look->whiteout)
		return found ? put_with_parent(p, 'D') : 0;
	const bool is_dir = S_ISDIR(look->st.stx_mode), both = found && is_dir && S_ISDIR(below.st.stx_mode);
	const bool unsaid = both && same_directory(p, &look->st, &below.st);
	int said = unsaid ? 0 : found ? put(p, 'C', p->path.n) : put_with_parent(p, 'A');
	if (said < 0 || !is_dir)
		return said;
	if ((err = enter(p, member, name, look)) < 0)
		return err;
	p->levels[p->n_levels - 1].unsaid = unsaid;
	return said;
}

static int change(struct pc_pack *p, const struct pc_name name)
{
	const char *text = pc_name_of(p, &p->levels[p->n_levels - 1], &name);
	struct pc_look look;
	int err = pc_dirs_path(p, text, name.len);

	if (err < 0)
		return err;
	if (p->members[name.member].root > 0) { /* in an opaque directory, and only below it */
		int found = find_below(p, name.member, text, &look);
		return found > 0 ? put_with_parent(p, 'D') : found;
	}
	err = pc_look_at(p, name.member, text, name.type, &look);
	if (err < 0) {
		p->counts.vanished += pc_has_vanished(err);
		return pc_has_vanished(err) ? 0 : err;
	}
	err = compare(p, name.member, text, &look);
	pc_look_close(&look);
	return err;
}

static int begin(struct pc_pack *p)
{
	struct pc_look top = {.fd = -1};
	int err = pc_walk_begin(p, &top);

	p->begun = true;
	return err < 0 ? err : pc_names_read(p, 1);
}

int pc_changes_next(struct pc_pack *p)
{
	int result = p->begun ? 0 : begin(p);

	while (result == 0 && p->n_levels > 0) {
		struct pc_level *level = &p->levels[p->n_levels - 1];
		if (level->next < level->n_names)
			result = change(p, p->names[level->first_name + level->next++]);
		else
			pc_dirs_pop(p);
	}
	return result;
}
