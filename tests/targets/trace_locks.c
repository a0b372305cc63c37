/* Takes and gives back locks of all kinds a known number of times, and says how often and for how long by its own clock.
 *
 *     trace_locks [TURNS]
 *
 * Prints "ready", begins at SIGUSR1, ends by itself, and prints one line of JSON: for each lock and path the number of
 * calls that took it and the nanoseconds that these took, and likewise of holds; in "seen" the calls that got nothing.
 */
#include "target.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

enum { THREADS = 3, NAMES = 12 };

pthread_mutex_t LOCK_shared = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t LOCK_recursive;
pthread_mutex_t LOCK_busy = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t LOCK_condition = PTHREAD_MUTEX_INITIALIZER;
pthread_rwlock_t LOCK_rows = PTHREAD_RWLOCK_INITIALIZER;
pthread_spinlock_t LOCK_spin;
pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;

struct times {
    int64_t count, total_ns;
};

static const char *const names[NAMES] = {
    "wait LOCK_shared take_short", "hold LOCK_shared take_short", "wait LOCK_shared take_long", "hold LOCK_shared take_long",
    "wait LOCK_rows read_rows",    "hold LOCK_rows read_rows",    "wait LOCK_rows write_rows",  "hold LOCK_rows write_rows",
    "wait LOCK_spin take_spin",    "hold LOCK_spin take_spin",    "wait LOCK_recursive take_twice", "hold LOCK_recursive take_twice",
};
static struct times all[NAMES];
static int64_t refused, timed_out, waited_on_condition, hold_without_condition_ns;
static long turns;
static int turn_of;

static void add(int name, int64_t from_ns, int64_t to_ns)
{
    __atomic_fetch_add(&all[name].count, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&all[name].total_ns, to_ns - from_ns, __ATOMIC_RELAXED);
}

static void rest(int64_t length_ns)
{
    const struct timespec length = {0, length_ns};
    nanosleep(&length, NULL);
}

NAMED void take_short(void)
{
    const int64_t asked = wall_ns();
    pthread_mutex_lock(&LOCK_shared);
    const int64_t taken = wall_ns();
    rest(200000);
    const int64_t given = wall_ns();
    pthread_mutex_unlock(&LOCK_shared);
    add(0, asked, taken);
    add(1, taken, given);
}

NAMED void take_long(void)
{
    const int64_t asked = wall_ns();
    pthread_mutex_lock(&LOCK_shared);
    const int64_t taken = wall_ns();
    rest(2000000);
    const int64_t given = wall_ns();
    pthread_mutex_unlock(&LOCK_shared);
    add(2, asked, taken);
    add(3, taken, given);
}

NAMED void read_rows(void)
{
    const int64_t asked = wall_ns();
    pthread_rwlock_rdlock(&LOCK_rows);
    const int64_t taken = wall_ns();
    rest(300000);
    const int64_t given = wall_ns();
    pthread_rwlock_unlock(&LOCK_rows);
    add(4, asked, taken);
    add(5, taken, given);
}

NAMED void write_rows(void)
{
    const int64_t asked = wall_ns();
    pthread_rwlock_wrlock(&LOCK_rows);
    const int64_t taken = wall_ns();
    rest(1000000);
    const int64_t given = wall_ns();
    pthread_rwlock_unlock(&LOCK_rows);
    add(6, asked, taken);
    add(7, taken, given);
}

NAMED void take_spin(void)
{
    const int64_t asked = wall_ns();
    pthread_spin_lock(&LOCK_spin);
    const int64_t taken = wall_ns();
    spin(1000);
    const int64_t given = wall_ns();
    pthread_spin_unlock(&LOCK_spin);
    add(8, asked, taken);
    add(9, taken, given);
}

/* Two waits and one hold: the inner one is a part of the outer. */
NAMED void take_twice(void)
{
    int64_t asked = wall_ns();
    pthread_mutex_lock(&LOCK_recursive);
    const int64_t taken = wall_ns();
    add(10, asked, taken);
    asked = wall_ns();
    pthread_mutex_lock(&LOCK_recursive);
    add(10, asked, wall_ns());
    rest(300000);
    pthread_mutex_unlock(&LOCK_recursive);
    const int64_t given = wall_ns();
    pthread_mutex_unlock(&LOCK_recursive);
    add(11, taken, given);
}

/* While the main thread holds it all the time: one attempt that is refused, one that waits 3 ms in vain. */
NAMED void try_busy(void)
{
    if (pthread_mutex_trylock(&LOCK_busy) == EBUSY)
        __atomic_fetch_add(&refused, 1, __ATOMIC_RELAXED);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 3000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    if (pthread_mutex_timedlock(&LOCK_busy, &until) == ETIMEDOUT)
        __atomic_fetch_add(&timed_out, 1, __ATOMIC_RELAXED);
    KEEP_FRAME();
}

/* Holds LOCK_condition but while it waits for its turn, which is most of the time. */
NAMED void take_turns(int own)
{
    pthread_mutex_lock(&LOCK_condition);
    for (int number = 0; number < 20; number++) {
        int64_t held_from = wall_ns();
        while (turn_of != own) {
            __atomic_fetch_add(&hold_without_condition_ns, wall_ns() - held_from, __ATOMIC_RELAXED);
            waited_on_condition++;
            pthread_cond_wait(&turn_changed, &LOCK_condition);
            held_from = wall_ns();
        }
        rest(500000);
        turn_of = (own + 1) % THREADS;
        pthread_cond_broadcast(&turn_changed);
        __atomic_fetch_add(&hold_without_condition_ns, wall_ns() - held_from, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&LOCK_condition);
}

static void *work(void *argument)
{
    const int own = (int)(intptr_t)argument;
    for (long turn = 0; turn < turns; turn++) {
        take_short();
        if (turn % 4 == own)
            take_long();
        read_rows();
        if (turn % 5 == own)
            write_rows();
        take_spin();
        take_twice();
        if (turn % 16 == 0)
            try_busy();
    }
    take_turns(own);
    return NULL;
}

int main(int argc, char **argv)
{
    turns = argc > 1 ? atol(argv[1]) : 200;
    pthread_mutexattr_t recursive;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&LOCK_recursive, &recursive);
    pthread_spin_init(&LOCK_spin, PTHREAD_PROCESS_PRIVATE);
    sigset_t begin;
    sigemptyset(&begin);
    sigaddset(&begin, SIGUSR1);
    sigprocmask(SIG_BLOCK, &begin, NULL);
    say_ready();
    sigwaitinfo(&begin, NULL);
    pthread_mutex_lock(&LOCK_busy);
    pthread_t threads[THREADS];
    for (int number = 0; number < THREADS; number++)
        pthread_create(&threads[number], NULL, work, (void *)(intptr_t)number);
    for (int number = 0; number < THREADS; number++)
        pthread_join(threads[number], NULL);
    pthread_mutex_unlock(&LOCK_busy);
    printf("{");
    for (int name = 0; name < NAMES; name++)
        printf("\"%s\": [%lld, %lld], ", names[name], (long long)all[name].count, (long long)all[name].total_ns);
    printf("\"refused\": %lld, \"timed_out\": %lld, \"condition\": [%lld, %lld]}\n", (long long)refused,
           (long long)timed_out, (long long)waited_on_condition, (long long)hold_without_condition_ns);
    fflush(stdout);
    /* Long enough for a trace to be ended: what is mapped has to be there still. */
    usleep(300000);
    return 0;
}
