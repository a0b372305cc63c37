/* What the targets share: clocks, a way to burn CPU, the end on SIGTERM or after some seconds. */
#pragma once

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A function that keeps its name and its frame: no inlining, no clones, nothing inferred about it. */
#define NAMED __attribute__((noipa, noinline))

/* After a call: what follows keeps the compiler from turning that call into a jump. */
#define KEEP_FRAME() __asm__ volatile("" ::: "memory")

static inline int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t thread_cpu_ns(void) { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }
static inline int64_t wall_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* Part of its caller: the CPU it burns is its caller's own. No calls, no memory. */
static inline __attribute__((always_inline)) void spin(uint64_t turns)
{
    for (uint64_t turn = 0; turn < turns; turn++)
        __asm__ volatile("" : "+r"(turn));
}

static inline void say_ready(void)
{
    puts("ready");
    fflush(stdout);
}

/* Before any thread is started: these signals then wait for wait_for_end. */
static inline void hold_end_signals(void)
{
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
}

/* Returns after that many seconds (0: never), or on SIGTERM or SIGINT. */
static inline void wait_for_end(double seconds)
{
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    if (seconds <= 0) {
        sigwaitinfo(&ends, NULL);
        return;
    }
    struct timespec limit;
    limit.tv_sec = (time_t)seconds;
    limit.tv_nsec = (long)((seconds - (double)limit.tv_sec) * 1e9);
    sigtimedwait(&ends, NULL, &limit);
}

/* Whether SIGTERM or SIGINT has come: for programs whose only thread is at work. */
static inline int end_was_asked_for(void)
{
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGTERM) || sigismember(&pending, SIGINT);
}

/* The value of `--name VALUE` among the arguments, or `otherwise`. */
static inline const char *text_option(int argc, char **argv, const char *name, const char *otherwise)
{
    for (int index = 1; index + 1 < argc; index++)
        if (strcmp(argv[index], name) == 0)
            return argv[index + 1];
    return otherwise;
}

static inline double number_option(int argc, char **argv, const char *name, double otherwise)
{
    const char *text = text_option(argc, argv, name, NULL);
    return text ? atof(text) : otherwise;
}
