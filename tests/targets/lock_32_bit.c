/* Waits of 1 ms, a thousand a second, without libc: a 32-bit one is hardly ever installed.
 *
 *     cc -m32 -static -nostdlib -fno-stack-protector lock_32_bit.c
 */
static long call(long number, long first, long second, long third, long fourth)
{
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(first), "c"(second), "d"(third), "S"(fourth)
                     : "memory");
    return result;
}

static int word;
static const long millisecond[2] = {0, 1000000};

/* System calls of asm/unistd_32.h: write is 4, futex 240. The operation is FUTEX_WAIT_PRIVATE. */
void _start(void)
{
    call(4, 1, (long)"ready\n", 6, 0);
    for (;;)
        call(240, (long)&word, 128, 0, (long)millisecond);
}
