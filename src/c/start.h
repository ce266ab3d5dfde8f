/* The beginning of a program without libc: main(argc, argv, envp) by the kernel's own stack layout. */
#ifndef PC_START_H
#define PC_START_H

#include "sys.h"

int program(int argc, char **argv, char **envp);

__attribute__((noreturn, used)) static void start_c(long *stack)
{
	int argc = (int)stack[0];
	char **argv = (char **)(stack + 1);
	sys_exit_group(program(argc, argv, argv + argc + 1));
}

#if defined(__x86_64__)
__asm__(".text\n.globl _start\n.type _start,@function\n_start:\n	xor %ebp, %ebp\n	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n	call start_c\n	hlt\n");
#elif defined(__aarch64__)
__asm__(".text\n.globl _start\n.type _start,%function\n_start:\n	mov x29, xzr\n	mov x30, xzr\n	mov x0, sp\n"
	"	bl start_c\n	brk #1\n");
#endif

/* The compiler may call these for any struct copy. */
__attribute__((used)) void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
	char *d = dst;
	const char *s = src;
	while (n--)
		*d++ = *s++;
	return dst;
}

__attribute__((used)) void *memset(void *dst, int c, size_t n)
{
	char *d = dst;
	while (n--)
		*d++ = (char)c;
	return dst;
}

#endif
