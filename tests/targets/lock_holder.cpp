// One mutex, LOCK_shared: those that hold it long are others than those that wait for it.
//
//     lock_holder [--threads N] [--seconds S] [--log FILE] [--hold sleep|burn] [--no-pause 1] [--times N]
//
// A quarter of the threads (at least one) hold it for some 2 ms in slow_update -> hold_long, as many for some 0.3 ms
// in middle_scan -> hold_medium, the others for 20 us in quick_lookup -> wait_short; all of them N times as long. Each
// of these three takes and releases the lock itself, and is a category: the log (lock_truth.h) has its waits, and the
// times in which it held the lock. Between two turns they pause, unless told not to: then they take the lock again
// before the one that they woke for it has run.
// So each moment of a wait belongs to the category that held the lock then. Between a release and the next thread's
// taking of the lock nobody holds it: the time that its wake-up takes.
#include "lock_truth.h"

#include <vector>

pthread_mutex_t LOCK_shared = PTHREAD_MUTEX_INITIALIZER;

static const int64_t microsecond = 1000;
static const char *const categories[] = {"hold_long", "hold_medium", "wait_short", nullptr};
enum { HOLD_LONG, HOLD_MEDIUM, WAIT_SHORT };

static thread_local uint32_t random_state;
static double times;

// Part of its caller, which thereby takes and releases the lock.
static inline __attribute__((always_inline)) void use_lock(int category, int64_t length_ns)
{
    TRUTH_ACQUIRE(category, 0, pthread_mutex_trylock(&LOCK_shared), pthread_mutex_lock(&LOCK_shared));
    const int64_t taken_ns = wall_ns();
    hold_for(about(static_cast<int64_t>(times * length_ns), &random_state));
    truth_add(TRUTH_HOLD, category, 0, taken_ns, wall_ns());
    pthread_mutex_unlock(&LOCK_shared);
    KEEP_FRAME();
}

extern "C" NAMED void hold_long() { use_lock(HOLD_LONG, 2000 * microsecond); }
extern "C" NAMED void hold_medium() { use_lock(HOLD_MEDIUM, 300 * microsecond); }
extern "C" NAMED void wait_short() { use_lock(WAIT_SHORT, 20 * microsecond); }

extern "C" NAMED void slow_update()
{
    hold_long();
    KEEP_FRAME();
}

extern "C" NAMED void middle_scan()
{
    hold_medium();
    KEEP_FRAME();
}

extern "C" NAMED void quick_lookup()
{
    wait_short();
    KEEP_FRAME();
}

struct Worker {
    void (*turn)();
    int64_t pause_ns;
    uint32_t seed;
    pthread_t thread;
};

extern "C" NAMED void *serve(void *argument)
{
    const Worker *worker = static_cast<Worker *>(argument);
    random_state = worker->seed;
    while (!truth_ending()) {
        worker->turn();
        if (worker->pause_ns)
            nap(about(worker->pause_ns, &random_state));
    }
    return nullptr;
}

int main(int argc, char **argv)
{
    const int threads = static_cast<int>(number_option(argc, argv, "--threads", 8));
    const int quarter = threads / 4 > 0 ? threads / 4 : 1;
    const bool pauses = !number_option(argc, argv, "--no-pause", 0);
    times = number_option(argc, argv, "--times", 1);
    truth_open(argc, argv, categories);
    std::vector<Worker> workers(threads);
    for (int index = 0; index < threads; index++) {
        Worker &worker = workers[index];
        worker.turn = index < quarter ? slow_update : index < 2 * quarter ? middle_scan : quick_lookup;
        worker.pause_ns = !pauses ? 0 : (index < quarter ? 2000 : index < 2 * quarter ? 1000 : 300) * microsecond;
        worker.seed = static_cast<uint32_t>(index + 1) * 7919;
        truth_start(&worker.thread, serve, &worker);
    }
    truth_wait_for_end(argc, argv);
    for (const Worker &worker : workers)
        truth_join(worker.thread);
    printf("{\"lock\": \"LOCK_shared\", \"address\": %llu, \"threads\": %d, ",
           (unsigned long long)(uintptr_t)&LOCK_shared, threads);
    truth_close();
    return 0;
}
