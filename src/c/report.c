/* Names of steps; the only place that has words for them. */
#include "report.h"

#define PC_STEP_TEXT(symbol, text) [PC_STEP_##symbol] = text,
static const char *const step_names[] = {PC_STEPS(PC_STEP_TEXT)};

PC_EXPORT const char *pc_step_name(uint32_t step)
{
	return step < PC_STEP_COUNT ? step_names[step] : "unknown step";
}

PC_EXPORT const char *pc_version(void)
{
	return PC_VERSION;
}
