/* Memory that runs out at a chosen allocation; linked with --wrap=malloc,--wrap=realloc,--wrap=calloc. */
#ifndef PC_SCARCE_H
#define PC_SCARCE_H

#include <stddef.h>

static long allocations_left = -1; /* -1: as many as there are */

void *__real_malloc(size_t n);
void *__real_realloc(void *p, size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_calloc(size_t n, size_t size);

static int is_the_last(void)
{
	return allocations_left >= 0 && allocations_left-- == 0;
}

void *__wrap_malloc(size_t n)
{
	return is_the_last() ? NULL : __real_malloc(n);
}

void *__wrap_realloc(void *p, size_t n)
{
	return is_the_last() ? NULL : __real_realloc(p, n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return is_the_last() ? NULL : __real_calloc(n, size);
}

#endif
