// Threads that contend for one lock, of the kind that is asked for.
//
//     lock_kinds --kind mutex|rwlock|condition|semaphore|pi|barrier|shared_mutex|once|join [--idle N]
//                [--threads N] [--seconds S] [--log FILE] [--hold sleep|burn]
//
// Options, the log and the line of JSON: lock_truth.h. Kinds with their locks and categories:
//
// - mutex LOCK_kinds, rwlock RWLOCK_kinds, shared_mutex SHARED_kinds, semaphore SEM_kinds (of 2), pi PI_kinds:
//   `reader` and `writer`, taken in take_in_reader (a quarter of the turns) and take_in_writer.
// - condition: `idle` is a pool of N workers (default: as many as threads) on COND_pool, which a producer signals 200
//   times a second; `lock` is contention for the mutex LOCK_pool among the others; `queue` is the rare wait for the
//   condition's own mutex, LOCK_queue.
// - barrier BARRIER_kinds: `barrier`, in all threads but the last that arrives.
// - once: `once`. A pthread_once_t serves once, so that ONCE_kinds is an array, with a new one every 10 ms.
// - join: `join`. Each thread starts a thread of 2 ms and joins it, again and again.
#include "lock_truth.h"

#include <semaphore.h>

#include <shared_mutex>
#include <vector>

// Not static: the compiler may rename or take apart what no other unit can see.
pthread_mutex_t LOCK_kinds = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t PI_kinds;
pthread_rwlock_t RWLOCK_kinds = PTHREAD_RWLOCK_INITIALIZER;
std::shared_mutex SHARED_kinds;
sem_t SEM_kinds;
pthread_barrier_t BARRIER_kinds;
pthread_mutex_t LOCK_pool = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t LOCK_queue = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t COND_pool = PTHREAD_COND_INITIALIZER;
pthread_once_t ONCE_kinds[60000];

static const int64_t microsecond = 1000, millisecond = 1000 * microsecond;

enum Kind { MUTEX, RWLOCK, SHARED_MUTEX, SEMAPHORE, PI, CONDITION, BARRIER, ONCE, JOIN };
static Kind kind;
static thread_local uint32_t random_state;

enum { READER = 0, WRITER = 1 };

// The first five kinds, as part of the function that takes the lock.
#define INTO_CALLER static inline __attribute__((always_inline))

INTO_CALLER bool fails_to_take(bool shared)
{
    switch (kind) {
    case RWLOCK:
        return (shared ? pthread_rwlock_tryrdlock(&RWLOCK_kinds) : pthread_rwlock_trywrlock(&RWLOCK_kinds)) != 0;
    case SHARED_MUTEX:
        return !(shared ? SHARED_kinds.try_lock_shared() : SHARED_kinds.try_lock());
    case SEMAPHORE:
        return sem_trywait(&SEM_kinds) != 0;
    default:
        return pthread_mutex_trylock(kind == PI ? &PI_kinds : &LOCK_kinds) != 0;
    }
}

INTO_CALLER void take(bool shared)
{
    switch (kind) {
    case RWLOCK:
        shared ? pthread_rwlock_rdlock(&RWLOCK_kinds) : pthread_rwlock_wrlock(&RWLOCK_kinds);
        return;
    case SHARED_MUTEX:
        shared ? SHARED_kinds.lock_shared() : SHARED_kinds.lock();
        return;
    case SEMAPHORE:
        while (sem_wait(&SEM_kinds) != 0) {
        }
        return;
    default:
        pthread_mutex_lock(kind == PI ? &PI_kinds : &LOCK_kinds);
    }
}

INTO_CALLER void release(bool shared)
{
    switch (kind) {
    case RWLOCK:
        pthread_rwlock_unlock(&RWLOCK_kinds);
        return;
    case SHARED_MUTEX:
        shared ? SHARED_kinds.unlock_shared() : SHARED_kinds.unlock();
        return;
    case SEMAPHORE:
        sem_post(&SEM_kinds);
        return;
    default:
        pthread_mutex_unlock(kind == PI ? &PI_kinds : &LOCK_kinds);
    }
}

extern "C" NAMED void hold_in_reader()
{
    hold_for(about(600 * microsecond, &random_state));
    KEEP_FRAME();
}

extern "C" NAMED void hold_in_writer()
{
    hold_for(about(1200 * microsecond, &random_state));
    KEEP_FRAME();
}

extern "C" NAMED void take_in_reader()
{
    TRUTH_ACQUIRE(READER, 0, fails_to_take(true), take(true));
    hold_in_reader();
    release(true);
    KEEP_FRAME();
}

extern "C" NAMED void take_in_writer()
{
    TRUTH_ACQUIRE(WRITER, 0, fails_to_take(false), take(false));
    hold_in_writer();
    release(false);
    KEEP_FRAME();
}

static void *run_reader_or_writer(void *)
{
    while (!truth_ending()) {
        if (next_random(&random_state) % 4 == 0)
            take_in_reader();
        else
            take_in_writer();
        nap(about(200 * microsecond, &random_state));
    }
    return nullptr;
}

// Conditions.
enum { IDLE = 0, LOCK = 1, QUEUE = 2 };
static int jobs;

INTO_CALLER void take_queue()
{
    TRUTH_ACQUIRE(QUEUE, 1, pthread_mutex_trylock(&LOCK_queue), pthread_mutex_lock(&LOCK_queue));
}

extern "C" NAMED bool wait_for_job()
{
    take_queue();
    while (jobs == 0 && !truth_ending())
        TRUTH_ACQUIRE(IDLE, 2, true, pthread_cond_wait(&COND_pool, &LOCK_queue));
    const bool has_job = jobs > 0;
    jobs -= has_job;
    pthread_mutex_unlock(&LOCK_queue);
    KEEP_FRAME();
    return has_job;
}

extern "C" NAMED void run_job() { spin(20000); }

static void *pool_worker(void *)
{
    while (wait_for_job())
        run_job();
    return nullptr;
}

extern "C" NAMED void signal_pool(int more_jobs)
{
    take_queue();
    jobs += more_jobs;
    pthread_mutex_unlock(&LOCK_queue);
    pthread_cond_signal(&COND_pool);
    KEEP_FRAME();
}

static void *produce_jobs(void *)
{
    while (!truth_ending()) {
        nap(5 * millisecond);
        signal_pool(1);
    }
    // A worker that read the flag too early has the mutex: it sleeps, or is about to, before this takes it.
    take_queue();
    pthread_cond_broadcast(&COND_pool);
    pthread_mutex_unlock(&LOCK_queue);
    return nullptr;
}

extern "C" NAMED void take_pool_lock()
{
    TRUTH_ACQUIRE(LOCK, 0, pthread_mutex_trylock(&LOCK_pool), pthread_mutex_lock(&LOCK_pool));
    hold_in_writer();
    pthread_mutex_unlock(&LOCK_pool);
    KEEP_FRAME();
}

static void *run_pool_lock(void *)
{
    while (!truth_ending()) {
        take_pool_lock();
        nap(about(200 * microsecond, &random_state));
    }
    return nullptr;
}

// Barriers. The one that is last in a round decides whether the next is the last round: all see that after it.
static size_t last_round;

extern "C" NAMED bool meet_at_barrier()
{
    const int64_t start_ns = wall_ns();
    const bool was_last = pthread_barrier_wait(&BARRIER_kinds) == PTHREAD_BARRIER_SERIAL_THREAD;
    if (!was_last)
        truth_add(TRUTH_WAIT, 0, 0, start_ns, wall_ns());
    return was_last;
}

static void *run_barrier(void *)
{
    for (size_t round = 1;; round++) {
        hold_for(about(3 * millisecond, &random_state));
        if (meet_at_barrier() && truth_ending() && !__atomic_load_n(&last_round, __ATOMIC_ACQUIRE))
            __atomic_store_n(&last_round, round + 1, __ATOMIC_RELEASE);
        if (__atomic_load_n(&last_round, __ATOMIC_ACQUIRE) == round)
            return nullptr;
    }
}

// Once.
static thread_local bool was_first;
static int64_t first_round_ns;

extern "C" NAMED void initialize_slowly()
{
    was_first = true;
    hold_for(4 * millisecond);
    KEEP_FRAME();
}

extern "C" NAMED void take_once(pthread_once_t *once)
{
    was_first = false;
    const int64_t start_ns = wall_ns();
    pthread_once(once, initialize_slowly);
    if (!was_first)
        truth_add(TRUTH_WAIT, 0, 0, start_ns, wall_ns());
    KEEP_FRAME();
}

static void *run_once(void *)
{
    for (pthread_once_t &once : ONCE_kinds) {
        const int64_t start_ns = first_round_ns + (&once - ONCE_kinds) * 10 * millisecond;
        if (truth_ending())
            break;
        nap(start_ns > wall_ns() ? start_ns - wall_ns() : 0);
        take_once(&once);
    }
    return nullptr;
}

// Joins.
static void *short_life(void *)
{
    nap(2 * millisecond);
    return nullptr;
}

extern "C" NAMED void join_child()
{
    pthread_t child;
    truth_start(&child, short_life, nullptr);
    TRUTH_ACQUIRE(0, 0, true, pthread_join(child, nullptr));
    KEEP_FRAME();
}

static void *run_join(void *)
{
    while (!truth_ending())
        join_child();
    return nullptr;
}

struct Description {
    const char *name;
    const char *lock;
    const void *address;
    void *(*run)(void *);
    const char *categories[4];
};

static const Description kinds[] = {
    {"mutex", "LOCK_kinds", &LOCK_kinds, run_reader_or_writer, {"reader", "writer"}},
    {"rwlock", "RWLOCK_kinds", &RWLOCK_kinds, run_reader_or_writer, {"reader", "writer"}},
    {"shared_mutex", "SHARED_kinds", &SHARED_kinds, run_reader_or_writer, {"reader", "writer"}},
    {"semaphore", "SEM_kinds", &SEM_kinds, run_reader_or_writer, {"reader", "writer"}},
    {"pi", "PI_kinds", &PI_kinds, run_reader_or_writer, {"reader", "writer"}},
    {"condition", "LOCK_pool", &LOCK_pool, run_pool_lock, {"idle", "lock", "queue"}},
    {"barrier", "BARRIER_kinds", &BARRIER_kinds, run_barrier, {"barrier"}},
    {"once", "ONCE_kinds", &ONCE_kinds, run_once, {"once"}},
    {"join", "", nullptr, run_join, {"join"}},
};

static const Description *find_kind(const char *name)
{
    for (const Description &description : kinds)
        if (strcmp(description.name, name) == 0)
            return &description;
    fprintf(stderr, "no such kind: %s\n", name);
    exit(2);
}

static void prepare(unsigned threads)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&PI_kinds, &attributes);
    pthread_barrier_init(&BARRIER_kinds, nullptr, threads);
    sem_init(&SEM_kinds, 0, 2);
    for (pthread_once_t &once : ONCE_kinds)
        once = PTHREAD_ONCE_INIT;
    first_round_ns = wall_ns() + 20 * millisecond;
}

struct Start {
    void *(*run)(void *);
    uint32_t seed;
    pthread_t thread;
};

extern "C" NAMED void *lock_thread(void *argument)
{
    const Start *start = static_cast<Start *>(argument);
    random_state = start->seed;
    start->run(nullptr);
    KEEP_FRAME();
    return nullptr;
}

int main(int argc, char **argv)
{
    const int threads = static_cast<int>(number_option(argc, argv, "--threads", 8));
    const Description *description = find_kind(text_option(argc, argv, "--kind", "mutex"));
    kind = static_cast<Kind>(description - kinds);
    const int idle = kind == CONDITION ? static_cast<int>(number_option(argc, argv, "--idle", threads)) : 0;

    truth_open(argc, argv, description->categories);
    prepare(static_cast<unsigned>(threads));
    std::vector<Start> starts(threads, Start{description->run, 0, {}});
    starts.insert(starts.end(), idle, Start{pool_worker, 0, {}});
    if (kind == CONDITION)
        starts.push_back(Start{produce_jobs, 0, {}});
    uint32_t seed = 1;
    for (Start &start : starts) {
        start.seed = seed++ * 7919;
        truth_start(&start.thread, lock_thread, &start);
    }
    truth_wait_for_end(argc, argv);
    for (const Start &start : starts)
        truth_join(start.thread);
    printf("{\"kind\": \"%s\", \"lock\": \"%s\", \"address\": %llu, \"threads\": %d, ", description->name,
           description->lock, (unsigned long long)(uintptr_t)description->address, threads);
    truth_close();
    return 0;
}
