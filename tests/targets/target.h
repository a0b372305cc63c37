/* What the targets share: clocks, a way to burn CPU, counters to read from outside, the end on SIGTERM or in time. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

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
    const int64_t end = wall_ns() + (int64_t)(seconds * 1e9);
    /* SIGSTOP and SIGCONT, too, end a wait for signals with EINTR (signal(7)). */
    int came = -1;
    do {
        if (seconds <= 0) {
            came = sigwaitinfo(&ends, NULL);
        } else {
            const int64_t now = wall_ns(), left = now < end ? end - now : 0;
            const struct timespec limit = {left / 1000000000, left % 1000000000};
            came = sigtimedwait(&ends, NULL, &limit);
        }
    } while (came < 0 && errno == EINTR);
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

/* How far one thread is. Nobody else writes to its cache line. */
struct counter_row {
    uint64_t done;
    uint64_t unused[7];
};

static inline void count_one(struct counter_row *row)
{
    __atomic_store_n(&row->done, row->done + 1, __ATOMIC_RELAXED);
}

/* `count` rows, all zero. With `--counters FILE` they are that file's, mapped into memory: whoever reads it sees how
 * far the threads are at that moment. */
static inline struct counter_row *counter_rows(int argc, char **argv, size_t count)
{
    const char *path = text_option(argc, argv, "--counters", NULL);
    const size_t bytes = count * sizeof(struct counter_row);
    const int file = path ? open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    if (path && (file < 0 || ftruncate(file, (off_t)bytes) != 0)) {
        perror(path);
        exit(1);
    }
    const int kind = path ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void *rows = mmap(NULL, bytes, PROT_READ | PROT_WRITE, kind, file, 0);
    if (rows == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    if (path)
        close(file);
    return (struct counter_row *)rows;
}
