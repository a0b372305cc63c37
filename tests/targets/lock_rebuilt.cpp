// A program to be built twice, the second time with another hold time: what a fix is.
//
//     lock_rebuilt [--threads N] [--seconds S] [--log FILE]
//
// Each thread has a turn every 24 ms: it burns 0.8 ms of CPU in parse_request, and HOLD_US microseconds in rebuild_index,
// under LOCK_index. CPU is burnt by the thread's own clock: a turn costs what it costs, however busy the machine is.
// With -DREBUILT, burn_index is a part of rebuild_index rather than a function, and all code lies elsewhere.
// Waits and holds are logged as lock_truth.h has it; "turns" is how many turns there were, of all threads together.
#include "lock_truth.h"

#include <vector>

#ifndef HOLD_US
#define HOLD_US 2000
#endif

pthread_mutex_t LOCK_index = PTHREAD_MUTEX_INITIALIZER;

static const int64_t microsecond = 1000;
static const int64_t period_ns = 24000 * microsecond;
static const char *const categories[] = {"rebuild_index", nullptr};
static int64_t turns;

#ifdef REBUILT
extern "C" NAMED void another_function() { spin(1); }
#define INDEX_FUNCTION static inline __attribute__((always_inline))
#else
#define INDEX_FUNCTION extern "C" NAMED
#endif

static inline __attribute__((always_inline)) void burn(int64_t length_ns)
{
    const int64_t end_ns = thread_cpu_ns() + length_ns;
    while (thread_cpu_ns() < end_ns)
        spin(20000);
}

INDEX_FUNCTION void burn_index()
{
    burn(HOLD_US * microsecond);
    KEEP_FRAME();
}

extern "C" NAMED void rebuild_index()
{
    TRUTH_ACQUIRE(0, 0, pthread_mutex_trylock(&LOCK_index), pthread_mutex_lock(&LOCK_index));
    const int64_t taken_ns = wall_ns();
    burn_index();
    truth_add(TRUTH_HOLD, 0, 0, taken_ns, wall_ns());
    pthread_mutex_unlock(&LOCK_index);
    KEEP_FRAME();
}

extern "C" NAMED void parse_request()
{
    burn(800 * microsecond);
    KEEP_FRAME();
}

struct Worker {
    pthread_t thread;
    uint32_t seed;
};

extern "C" NAMED void *serve(void *argument)
{
    uint32_t random_state = static_cast<const Worker *>(argument)->seed;
    int64_t due_ns = wall_ns();
    while (!truth_ending()) {
        parse_request();
        rebuild_index();
        __atomic_fetch_add(&turns, 1, __ATOMIC_RELAXED);
        due_ns += about(period_ns, &random_state);
        if (due_ns > wall_ns())
            nap(due_ns - wall_ns());
    }
    return nullptr;
}

int main(int argc, char **argv)
{
    const int threads = static_cast<int>(number_option(argc, argv, "--threads", 4));
    truth_open(argc, argv, categories);
    std::vector<Worker> workers(threads);
    for (int index = 0; index < threads; index++) {
        workers[index].seed = static_cast<uint32_t>(index + 1) * 7919;
        truth_start(&workers[index].thread, serve, &workers[index]);
    }
    truth_wait_for_end(argc, argv);
    for (const Worker &worker : workers)
        truth_join(worker.thread);
#ifdef REBUILT
    another_function();
#endif
    printf("{\"turns\": %lld, ", (long long)turns);
    truth_close();
    return 0;
}
