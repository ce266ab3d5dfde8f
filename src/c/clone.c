/* clone3 with a stack of the child's own. libc has no wrapper, and C cannot return on another stack. */
#include "job.h"

#if defined(__x86_64__)
__asm__(".text\n"
	".globl pc_clone3\n"
	".hidden pc_clone3\n"
	".type pc_clone3,@function\n"
	"pc_clone3:\n"
	"	.cfi_startproc\n"
	"	mov %rdx, %r8\n" /* fn and arg survive the call in r8 and r9; rcx and r11 do not */
	"	mov %rcx, %r9\n"
	"	mov $435, %eax\n"
	"	syscall\n"
	"	test %rax, %rax\n"
	"	jnz 1f\n"
	"	.cfi_undefined rip\n"
	"	xor %ebp, %ebp\n"
	"	mov %r9, %rdi\n"
	"	call *%r8\n"
	"	hlt\n"
	"1:	ret\n"
	"	.cfi_endproc\n"
	".size pc_clone3,.-pc_clone3\n");
#elif defined(__aarch64__)
__asm__(".text\n"
	".globl pc_clone3\n"
	".hidden pc_clone3\n"
	".type pc_clone3,%function\n"
	"pc_clone3:\n"
	"	.cfi_startproc\n"
	"	mov x8, #435\n"
	"	svc #0\n"
	"	cbnz x0, 1f\n"
	"	.cfi_undefined x30\n"
	"	mov x29, xzr\n"
	"	mov x30, xzr\n"
	"	mov x0, x3\n"
	"	blr x2\n"
	"	brk #1\n"
	"1:	ret\n"
	"	.cfi_endproc\n"
	".size pc_clone3,.-pc_clone3\n");
#endif
