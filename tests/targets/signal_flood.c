/* Sends itself so many signals, which it ignores, as fast as it can.
 *
 *     signal_flood COUNT
 *
 * Prints `ready` and waits for SIGUSR1.
 */
#include "target.h"

#include <unistd.h>

int main(int argc, char **argv)
{
    const int count = argc > 1 ? atoi(argv[1]) : 0;
    sigset_t begin;
    signal(SIGUSR2, SIG_IGN);
    sigemptyset(&begin);
    sigaddset(&begin, SIGUSR1);
    sigprocmask(SIG_BLOCK, &begin, NULL);
    say_ready();
    sigwaitinfo(&begin, NULL);
    for (int sent = 0; sent < count; sent++)
        kill(getpid(), SIGUSR2);
    return 0;
}
