/* Whom this thread makes files as. Parent half.
 *
 * A mount whose owners are translated takes no file from somebody whom its translation does not have: root outside is nobody
 * there (EOVERFLOW). Who writes for the container's root makes files as him, with his own powers.
 */
#include "pycontain.h"
#include "sys.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static int raise_all(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
	struct __user_cap_data_struct data[2] = {{0}};

	if (syscall(SYS_capget, &head, data) < 0)
		return -errno;
	data[0].effective = data[0].permitted;
	data[1].effective = data[1].permitted;
	return sys_capset(&head, data);
}

PC_EXPORT int pc_act_as(uint32_t uid, uint32_t gid)
{
	const int dumpable = prctl(PR_GET_DUMPABLE);

	/* the raw calls: of this thread alone; they answer with who it was, and never fail aloud */
	(void)syscall(SYS_setfsgid, gid);
	(void)syscall(SYS_setfsuid, uid);
	const bool is_he = (uint32_t)syscall(SYS_setfsuid, -1) == uid && (uint32_t)syscall(SYS_setfsgid, -1) == gid;
	const int err = raise_all(); /* of those over files the change has taken away, or given */
	if (dumpable == 1) /* the change has cleared that, too */
		(void)prctl(PR_SET_DUMPABLE, 1);
	return err < 0 ? err : is_he ? 0 : -EPERM;
}
