/* A parent that forks many short-lived children.
 *
 *     fork_storm [--rate N] [--at-once C] [--seconds S] [--burn-us U | --turns T] [--exec PATH] [--counters FILE]
 *
 * N children a second (0: as many as it can) for S seconds (0: until SIGTERM), at most C of them at a time (0: no
 * limit); each burns U microseconds of CPU or does T turns in child_work, then exits, or becomes PATH. Prints one line
 * of JSON: children forked and reaped, the CPU time of all of them together. FILE's one row counts the reaped.
 */
#include "target.h"

#include <limits.h>
#include <sys/resource.h>
#include <sys/wait.h>

static NAMED void child_work(int64_t budget_ns, uint64_t turns)
{
    if (turns) {
        spin(turns);
        return;
    }
    const int64_t end = thread_cpu_ns() + budget_ns;
    while (thread_cpu_ns() < end)
        spin(5000);
}

static NAMED void run_child(int64_t budget_ns, uint64_t turns, const char *program)
{
    child_work(budget_ns, turns);
    if (program) {
        execl(program, program, (char *)NULL);
        _exit(127);
    }
    _exit(0);
}

static struct counter_row *reaped;

/* As many children as have ended (or end, without WNOHANG), `most` of them at most. */
static void reap(int flags, long most, long *failed)
{
    int status;
    for (long count = 0; count < most && waitpid(-1, &status, flags) > 0; count++) {
        count_one(reaped);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            (*failed)++;
    }
}

static void sleep_until(int64_t when_ns)
{
    struct timespec when = {.tv_sec = when_ns / 1000000000, .tv_nsec = when_ns % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
}

int main(int argc, char **argv)
{
    const double rate = number_option(argc, argv, "--rate", 200);
    const long at_once = (long)number_option(argc, argv, "--at-once", 0);
    const double seconds = number_option(argc, argv, "--seconds", 0);
    const int64_t burn_ns = (int64_t)(number_option(argc, argv, "--burn-us", 1000) * 1000);
    const uint64_t turns = (uint64_t)number_option(argc, argv, "--turns", 0);
    const char *program = text_option(argc, argv, "--exec", NULL);
    long forked = 0, failed = 0;

    reaped = counter_rows(argc, argv, 1);
    hold_end_signals();
    const int64_t start = wall_ns();
    say_ready();
    while (!end_was_asked_for() && (seconds <= 0 || wall_ns() < start + (int64_t)(seconds * 1e9))) {
        const pid_t child = fork();
        if (child == 0)
            run_child(burn_ns, turns, program);
        if (child < 0 && errno != EAGAIN)
            perror("fork");
        if (child > 0)
            forked++;
        reap(WNOHANG, LONG_MAX, &failed);
        if (at_once > 0 && forked - (long)reaped->done >= at_once)
            reap(0, 1, &failed);
        if (rate > 0)
            sleep_until(start + (int64_t)((double)forked * 1e9 / rate));
    }
    reap(0, LONG_MAX, &failed);

    struct rusage children;
    getrusage(RUSAGE_CHILDREN, &children);
    const long long cpu_us = (children.ru_utime.tv_sec + children.ru_stime.tv_sec) * 1000000LL +
                             children.ru_utime.tv_usec + children.ru_stime.tv_usec;
    printf("{\"forked\": %ld, \"reaped\": %ld, \"failed\": %ld, \"children_cpu_ns\": %lld}\n", forked,
           (long)reaped->done, failed, cpu_us * 1000);
    return 0;
}
