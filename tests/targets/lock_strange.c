/* Futex calls that a sound program doesn't make, each a fixed number of times; and threads that live for one wait.
 *
 *     lock_strange [--threads N] [--go line|signal]
 *
 * Prints `ready`, begins when a line comes on stdin (--go signal: at SIGUSR1), and ends by itself with a line of JSON:
 * - `bad_address`: 500 waits on address 4096, which nothing is mapped at.
 * - `bad_list`: 500 futex_waitv(2) whose list of words is nowhere, or names the address 4096.
 * - `several`: 20 futex_waitv(2) on LOCK_first and LOCK_second, 2 ms each.
 * - `unmapped`: a wait of 100 ms on a word in a page (`unmapped_address`) that is unmapped 50 ms later.
 * - `stopped`: a wait of 600 ms on LOCK_stopped; a child stops the process 200 ms later, for `stopped_ns`.
 * - `LOCK_brief`: N (20,000) threads, one after the other, each of which waits once in vain, in brief_life.
 */
#include "lock_futex.h"

#include <pthread.h>
#include <sys/mman.h>

#define FAR_FROM_ALL ((uint32_t *)4096)
#define REPEATS 500

uint32_t LOCK_first, LOCK_second, LOCK_stopped, LOCK_brief;

struct futex_waitv_entry {
    uint64_t value, address;
    uint32_t flags, reserved;
};

static struct futex_counts bad_address, several, unmapped, stopped, brief;
static int64_t bad_lists, *stopped_ns;

static long wait_for_several(const struct futex_waitv_entry *entries, unsigned count, int64_t timeout_ns)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += timeout_ns;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    return syscall(449, entries, count, 0, &until, CLOCK_MONOTONIC);
}

static void wait_nowhere(void)
{
    for (int made = 0; made < REPEATS; made++)
        counted_wait(&bad_address, FAR_FROM_ALL, 0, 0);
    const struct futex_waitv_entry bad = {0, 4096, FUTEX_32 | FUTEX_PRIVATE_FLAG, 0};
    for (int made = 0; made < REPEATS; made++) {
        const int is_list_bad = made % 2;
        bad_lists += wait_for_several(is_list_bad ? (void *)FAR_FROM_ALL : &bad, 1, 1000000) < 0 && errno == EFAULT;
    }
}

static void wait_for_two(void)
{
    const struct futex_waitv_entry two[] = {
        {0, (uint64_t)(uintptr_t)&LOCK_first, FUTEX_32 | FUTEX_PRIVATE_FLAG, 0},
        {0, (uint64_t)(uintptr_t)&LOCK_second, FUTEX_32 | FUTEX_PRIVATE_FLAG, 0},
    };
    for (int made = 0; made < 20; made++) {
        const int64_t start_ns = wall_ns();
        several.timed_out += wait_for_several(two, 2, 2000000) < 0 && errno == ETIMEDOUT;
        several.total_ns += wall_ns() - start_ns;
        several.waits++;
    }
}

static void *wait_on_page(void *page)
{
    counted_wait(&unmapped, page, 0, 100000000);
    return NULL;
}

static void wait_on_unmapped(void *page)
{
    pthread_t waiter;
    pthread_create(&waiter, NULL, wait_on_page, page);
    usleep(50000);
    munmap(page, 4096);
    pthread_join(waiter, NULL);
}

static void *wait_stopped(void *unused)
{
    counted_wait(&stopped, &LOCK_stopped, 0, 600000000);
    return unused;
}

/* A child makes it go on again, as nobody else may be there to do so. */
static void stop_in_wait(void)
{
    pthread_t waiter;
    pthread_create(&waiter, NULL, wait_stopped, NULL);
    const pid_t self = getpid();
    if (fork() == 0) {
        usleep(200000);
        const int64_t start_ns = wall_ns();
        kill(self, SIGSTOP);
        usleep(200000);
        kill(self, SIGCONT);
        *stopped_ns = wall_ns() - start_ns;
        _exit(0);
    }
    pthread_join(waiter, NULL);
}

static NAMED void *brief_life(void *unused)
{
    counted_wait(&brief, &LOCK_brief, 1, 0);
    KEEP_FRAME();
    return unused;
}

int main(int argc, char **argv)
{
    const int64_t threads = (int64_t)number_option(argc, argv, "--threads", 20000);
    hold_go_signal();
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stopped_ns = mmap(NULL, sizeof *stopped_ns, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || stopped_ns == MAP_FAILED)
        return 1;

    wait_for_go(argc, argv);
    wait_nowhere();
    wait_for_two();
    wait_on_unmapped(page);
    stop_in_wait();
    for (int64_t made = 0; made < threads; made++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, brief_life, NULL) != 0)
            return 1;
        pthread_join(thread, NULL);
    }
    printf("{\"unmapped_address\": %llu, \"stopped_ns\": %lld, \"bad_list\": %lld, \"bad_address\": ",
           (unsigned long long)(uintptr_t)page, (long long)*stopped_ns, (long long)bad_lists);
    print_counts(&bad_address);
    printf(", \"several\": ");
    print_counts(&several);
    printf(", \"unmapped\": ");
    print_counts(&unmapped);
    printf(", \"stopped\": ");
    print_counts(&stopped);
    printf(", \"LOCK_brief\": ");
    print_counts(&brief);
    puts("}");
    return 0;
}
