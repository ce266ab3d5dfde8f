/* Removal of directory trees and of cgroups; free of libc. */
#ifndef PC_TREE_H
#define PC_TREE_H

#include "sys.h"

int pc_tree_remove(const char *path);
/* The same of `name` in the directory `dirfd`, one component. */
int pc_tree_remove_at(int dirfd, const char *name);
int pc_cgroup_remove(const char *path);
/* The cgroup that all owners share, above `path`: gone with the last of them, refused (EBUSY, ENOTEMPTY) while there are others. */
void pc_parent_remove(const char *path);

#endif
