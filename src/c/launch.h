/* What pycontain-launch answers on its fd 3: one message, and with it, as SCM_RIGHTS, the pty's master when there is one. */
#ifndef PC_LAUNCH_H
#define PC_LAUNCH_H

#include <assert.h>

#include "report.h"

enum { PC_LAUNCH_ANSWER = 3 }; /* the descriptor */

/* `err` 0, or a positive errno with the report filled. start: `pid` of the container, a child of the launcher's parent. finish:
 * `usage`, whatever `err` is. */
struct pc_launch_answer {
	int32_t err;
	int32_t pid;
	struct pc_report report;
	struct pc_usage usage;
};
static_assert(sizeof(struct pc_launch_answer) == 88, "the monitor and the launcher are built together, the tests are not");

#endif
