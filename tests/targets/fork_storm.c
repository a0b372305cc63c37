/* A parent that forks many short-lived children.
 *
 *     fork_storm [--rate N] [--seconds S] [--burn-us U] [--exec PATH]
 *
 * N children a second for S seconds (0: until SIGTERM); each burns U microseconds of CPU in child_work, then exits, or
 * becomes PATH. Prints one line of JSON: children forked and reaped, the CPU time of all of them together.
 */
#include "target.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static NAMED void child_work(int64_t budget_ns)
{
    const int64_t end = thread_cpu_ns() + budget_ns;
    while (thread_cpu_ns() < end)
        spin(5000);
}

static NAMED void run_child(int64_t budget_ns, const char *program)
{
    child_work(budget_ns);
    if (program) {
        execl(program, program, (char *)NULL);
        _exit(127);
    }
    _exit(0);
}

static void reap(int flags, long *reaped, long *failed)
{
    int status;
    while (waitpid(-1, &status, flags) > 0) {
        (*reaped)++;
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
    const double seconds = number_option(argc, argv, "--seconds", 0);
    const int64_t burn_ns = (int64_t)(number_option(argc, argv, "--burn-us", 1000) * 1000);
    const char *program = text_option(argc, argv, "--exec", NULL);
    long forked = 0, reaped = 0, failed = 0;

    hold_end_signals();
    const int64_t start = wall_ns();
    say_ready();
    while (!end_was_asked_for() && (seconds <= 0 || wall_ns() < start + (int64_t)(seconds * 1e9))) {
        const pid_t child = fork();
        if (child == 0)
            run_child(burn_ns, program);
        if (child < 0 && errno != EAGAIN)
            perror("fork");
        if (child > 0)
            forked++;
        reap(WNOHANG, &reaped, &failed);
        sleep_until(start + (int64_t)((double)forked * 1e9 / rate));
    }
    reap(0, &reaped, &failed);

    struct rusage children;
    getrusage(RUSAGE_CHILDREN, &children);
    const long long cpu_us = (children.ru_utime.tv_sec + children.ru_stime.tv_sec) * 1000000LL +
                             children.ru_utime.tv_usec + children.ru_stime.tv_usec;
    printf("{\"forked\": %ld, \"reaped\": %ld, \"failed\": %ld, \"children_cpu_ns\": %lld}\n", forked, reaped, failed,
           cpu_us * 1000);
    return 0;
}
