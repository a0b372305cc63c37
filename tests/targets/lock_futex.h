/* Futex calls that a program makes itself, and counts: exact to the call. And a `go` before the first of them.
 *
 * How a wait ended is told by what the call returned: 0 woken, ETIMEDOUT timed out, EAGAIN the word had another value,
 * EINTR interrupted by a signal's handler. (Inside the kernel an interrupted call ends with -ERESTARTSYS or
 * -ERESTART_RESTARTBLOCK; it becomes EINTR, or is started again, on the way out.)
 */
#pragma once

#include "target.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

struct futex_counts {
    int64_t waits, woken, timed_out, value_changed, interrupted, failed, total_ns, longest_ns;
};

static inline long futex(uint32_t *word, int operation, uint32_t value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

/* One FUTEX_WAIT, part of its caller. `timeout_ns` counts from now; 0: no limit. */
static inline __attribute__((always_inline)) void counted_wait(struct futex_counts *counts, uint32_t *word,
                                                               uint32_t expected, int64_t timeout_ns)
{
    const struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    const int64_t start_ns = wall_ns();
    const long result = futex(word, FUTEX_WAIT, expected, timeout_ns ? &timeout : NULL);
    const int error = result == 0 ? 0 : errno;
    const int64_t length_ns = wall_ns() - start_ns;
    counts->waits++;
    counts->woken += error == 0;
    counts->timed_out += error == ETIMEDOUT;
    counts->value_changed += error == EAGAIN;
    counts->interrupted += error == EINTR;
    counts->failed += error != 0 && error != ETIMEDOUT && error != EAGAIN && error != EINTR;
    counts->total_ns += length_ns;
    if (length_ns > counts->longest_ns)
        counts->longest_ns = length_ns;
}

/* One object of JSON, without what stands around it. */
static inline void print_counts(const struct futex_counts *counts)
{
    printf("{\"waits\": %lld, \"woken\": %lld, \"timed_out\": %lld, \"value_changed\": %lld, \"interrupted\": %lld, "
           "\"failed\": %lld, \"total_ns\": %lld, \"longest_ns\": %lld}",
           (long long)counts->waits, (long long)counts->woken, (long long)counts->timed_out,
           (long long)counts->value_changed, (long long)counts->interrupted, (long long)counts->failed,
           (long long)counts->total_ns, (long long)counts->longest_ns);
}

/* Before any thread is started: SIGUSR1 then waits for wait_for_go. */
static inline void hold_go_signal(void)
{
    sigset_t go;
    sigemptyset(&go);
    sigaddset(&go, SIGUSR1);
    sigprocmask(SIG_BLOCK, &go, NULL);
}

/* Says `ready`; returns when a line or the end of stdin has come, or with `--go signal` on SIGUSR1. */
static inline void wait_for_go(int argc, char **argv)
{
    say_ready();
    if (strcmp(text_option(argc, argv, "--go", "line"), "signal") == 0) {
        sigset_t go;
        sigemptyset(&go);
        sigaddset(&go, SIGUSR1);
        sigwaitinfo(&go, NULL);
        return;
    }
    int byte;
    do
        byte = getchar();
    while (byte != EOF && byte != '\n');
}
