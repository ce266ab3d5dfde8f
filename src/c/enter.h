/* What pycontain-enter is told: a sealed file that begins with this struct; the Plan follows. Its descriptor is the one word
 * in argv. Every other descriptor that the struct names has been left open under its own number, and none else from 3 on.
 */
#ifndef PC_ENTER_H
#define PC_ENTER_H

#include "plan.h"

struct pc_enter {
	uint64_t plan_len;
	struct pc_fault fault;
	int32_t sock;
	int32_t slots[PC_MAX_SLOTS];
	int32_t reserved;
};
static_assert(sizeof(struct pc_enter) % 8 == 0, "the Plan behind it is 8-byte aligned");

#endif
