/* A million short waits on one futex word, LOCK_million, with a single long one in their middle.
 *
 *     lock_million [--mode timeout|changed|wake|interrupt] [--waits N] [--long-ms MS] [--timeout-ns NS]
 *                  [--go line|signal]
 *
 * Prints `ready`, begins when a line comes on stdin (--go signal: at SIGUSR1), and ends by itself with a line of JSON:
 * for each word the exact number of waits, how they ended, and the time around the calls, as in lock_futex.h. Modes:
 *
 * - timeout: each wait has a timeout of NS (2000) nanoseconds. How long that takes is the machine's timers' affair.
 * - changed: the word has another value than expected: the call comes back at once.
 * - wake: a second thread, which waits for its turn on LOCK_turn, ends each wait by a wake-up. A wait that it is too
 *   fast for ends because the value has changed, or isn't begun.
 * - interrupt: no timeout; a timer's signal ends each wait after a millisecond.
 *
 * N waits are made, and the long one besides; in mode wake its last repeat may add one. The long one ends by a
 * timeout, in mode wake by a wake-up. The waits are made in short_wait and long_wait.
 */
#include "lock_futex.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <sys/time.h>

uint32_t LOCK_million, LOCK_turn;

static struct futex_counts million, turn;
static int64_t long_ns;
static int long_is_next, finished;

static uint32_t load(uint32_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static void store(uint32_t *word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

static NAMED void short_wait(uint32_t expected, int64_t timeout_ns)
{
    counted_wait(&million, &LOCK_million, expected, timeout_ns);
    KEEP_FRAME();
}

static NAMED void long_wait(int64_t timeout_ns)
{
    counted_wait(&million, &LOCK_million, 0, timeout_ns);
    KEEP_FRAME();
}

static NAMED void wait_alone(int64_t waits, uint32_t expected, int64_t timeout_ns)
{
    for (int64_t made = 0; made < waits; made++) {
        if (made == waits / 2)
            long_wait(long_ns);
        short_wait(expected, timeout_ns);
    }
}

static void post(uint32_t *word)
{
    store(word, 1);
    futex(word, FUTEX_WAKE, 1, NULL);
}

/* Hands the other thread its turn, and waits to get it back. */
static NAMED void take_turns(int64_t waits)
{
    int was_long = 0;
    while (million.waits < waits + 1) {
        const int is_long = !was_long && million.waits >= waits / 2;
        was_long |= is_long;
        long_is_next = is_long;
        post(&LOCK_turn);
        while (load(&LOCK_million) == 0) {
            if (is_long)
                long_wait(0);
            else
                short_wait(0, 0);
        }
        store(&LOCK_million, 0);
    }
    finished = 1;
    post(&LOCK_turn);
}

static NAMED void *wake_other(void *unused)
{
    (void)unused;
    for (;;) {
        while (load(&LOCK_turn) == 0)
            counted_wait(&turn, &LOCK_turn, 0, 0);
        store(&LOCK_turn, 0);
        if (finished)
            return NULL;
        if (long_is_next) {
            const struct timespec length = {long_ns / 1000000000, long_ns % 1000000000};
            clock_nanosleep(CLOCK_MONOTONIC, 0, &length, NULL);
        }
        post(&LOCK_million);
    }
}

static void ignore(int number) { (void)number; }

/* Signals come with a period from now on, or no more. */
static void set_timer(long period_us)
{
    const struct sigaction action = {.sa_handler = ignore};
    sigaction(SIGALRM, &action, NULL);
    const struct itimerval timer = {{0, period_us}, {0, period_us}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* The long wait is first here: no signal comes yet. */
static NAMED void wait_for_signals(int64_t waits)
{
    long_wait(long_ns);
    set_timer(1000);
    for (int64_t made = 0; made < waits; made++)
        short_wait(0, 0);
    set_timer(0);
}

int main(int argc, char **argv)
{
    const char *mode = text_option(argc, argv, "--mode", "timeout");
    const int64_t waits = (int64_t)number_option(argc, argv, "--waits", 1000000);
    const int64_t timeout_ns = (int64_t)number_option(argc, argv, "--timeout-ns", 2000);
    long_ns = (int64_t)(number_option(argc, argv, "--long-ms", 300) * 1e6);
    hold_go_signal();
    /* Else the kernel rounds timeouts up by 50 us. */
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);

    wait_for_go(argc, argv);
    const int64_t start_ns = wall_ns();
    if (strcmp(mode, "wake") == 0) {
        pthread_t waker;
        if (pthread_create(&waker, NULL, wake_other, NULL) != 0)
            return 1;
        take_turns(waits);
        pthread_join(waker, NULL);
    } else if (strcmp(mode, "interrupt") == 0) {
        wait_for_signals(waits);
    } else {
        wait_alone(waits, strcmp(mode, "changed") == 0, timeout_ns);
    }
    printf("{\"mode\": \"%s\", \"elapsed_ns\": %lld, \"LOCK_million\": ", mode, (long long)(wall_ns() - start_ns));
    print_counts(&million);
    printf(", \"LOCK_turn\": ");
    print_counts(&turn);
    puts("}");
    return 0;
}
