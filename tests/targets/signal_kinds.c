/* Brings about signals of many kinds, one after the other.
 *
 *     signal_kinds
 *
 * Prints `ready` and waits for SIGUSR1. Then: a process id that is nobody's is sent SIGTERM by `send_to_nobody`, itself
 * SIGUSR2 by `send_to_itself`, which it ignores, and SIGRTMIN+3 (twice, blocked) with data; a timer of setitimer(2) sends
 * SIGALRM, one of timer_create(2) SIGRTMIN+4; `write_for_nobody` brings SIGPIPE about; a child aborts; at last
 * `crash` accesses what isn't mapped. Prints a line of JSON before that: {"nobody": pid, "child": pid}.
 */
#include "target.h"

#include <pthread.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static NAMED void send_to_nobody(pid_t nobody)
{
    kill(nobody, SIGTERM);
    KEEP_FRAME();
}

static NAMED void send_to_itself(void)
{
    kill(getpid(), SIGUSR2);
    KEEP_FRAME();
}

static NAMED void write_for_nobody(void)
{
    int ends[2];
    if (pipe(ends) != 0)
        exit(1);
    close(ends[0]);
    if (write(ends[1], "x", 1) != 1)
        KEEP_FRAME();
}

static NAMED void crash(volatile int *nowhere)
{
    *nowhere = 1;
    KEEP_FRAME();
}

static void pass(int signal) { (void)signal; }

static void let_timers_send(void)
{
    const struct itimerval once = {.it_value = {.tv_usec = 2000}};
    const struct itimerspec soon = {.it_value = {.tv_nsec = 2000000}};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 4};
    timer_t timer;
    setitimer(ITIMER_REAL, &once, NULL);
    usleep(100000);
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &soon, NULL);
    usleep(100000);
}

int main(void)
{
    const union sigval data = {.sival_int = 7};
    sigset_t begin, queued;
    signal(SIGUSR2, SIG_IGN);
    signal(SIGALRM, pass);
    signal(SIGRTMIN + 4, pass);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&begin);
    sigaddset(&begin, SIGUSR1);
    sigprocmask(SIG_BLOCK, &begin, NULL);
    say_ready();
    sigwaitinfo(&begin, NULL);

    const pid_t nobody = fork();
    if (nobody == 0)
        _exit(0);
    waitpid(nobody, NULL, 0);
    send_to_nobody(nobody);
    send_to_itself();
    sigemptyset(&queued);
    sigaddset(&queued, SIGRTMIN + 3);
    sigprocmask(SIG_BLOCK, &queued, NULL);
    sigqueue(getpid(), SIGRTMIN + 3, data);
    sigqueue(getpid(), SIGRTMIN + 3, data);
    let_timers_send();
    write_for_nobody();
    const pid_t child = fork();
    if (child == 0)
        abort();
    waitpid(child, NULL, 0);
    printf("{\"nobody\": %d, \"child\": %d}\n", (int)nobody, (int)child);
    fflush(stdout);
    crash(NULL);
    return 0;
}
