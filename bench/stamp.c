/* The container's program for "until exec": writes the monotonic clock (ns) as the first thing it does.
 * Freestanding, so that nothing of a C library's start-up is counted. Built by bench/arena.py. */
#include <asm/unistd.h>

struct timespec64 {
    long long seconds, nanoseconds;
};

static long call3(long number, long a, long b, long c)
{
#if defined(__x86_64__)
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
#else
#error "stamp.c: add this architecture's system call"
#endif
}

__attribute__((noreturn)) void _start(void)
{
    struct timespec64 now;
    char text[24];
    int at = (int)sizeof text;
    (void)call3(__NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, (long)&now, 0);
    unsigned long long left = (unsigned long long)now.seconds * 1000000000ULL + (unsigned long long)now.nanoseconds;
    text[--at] = '\n';
    do
        text[--at] = (char)('0' + left % 10);
    while ((left /= 10) != 0);
    (void)call3(__NR_write, 1, (long)(text + at), (long)sizeof text - at);
    for (;;)
        (void)call3(__NR_exit, 0, 0, 0);
}
