/* Many threads of which most sleep.
 *
 *     many_threads [--threads N] [--working W] [--seconds S] [--counters FILE]
 *
 * N threads in all, W of them at work in `worker_work`, the others asleep in `sleeper`. `ready` when all have started.
 * Prints one line of JSON with the CPU time of the workers. FILE has a row for each thread; workers count their turns.
 */
#include "target.h"

#include <pthread.h>
#include <stdatomic.h>

static atomic_int started, ending;
static atomic_llong worked_ns;

static NAMED void worker_work(struct counter_row *turns)
{
    while (!atomic_load_explicit(&ending, memory_order_relaxed)) {
        spin(100000);
        count_one(turns);
    }
}

static NAMED void *worker(void *turns)
{
    atomic_fetch_add(&started, 1);
    worker_work(turns);
    atomic_fetch_add(&worked_ns, thread_cpu_ns());
    return NULL;
}

static NAMED void *sleeper(void *unused)
{
    (void)unused;
    atomic_fetch_add(&started, 1);
    while (!atomic_load(&ending))
        usleep(500000);
    return NULL;
}

int main(int argc, char **argv)
{
    const int threads = (int)number_option(argc, argv, "--threads", 1000);
    const int working = (int)number_option(argc, argv, "--working", 2);
    const double seconds = number_option(argc, argv, "--seconds", 0);
    pthread_t *ids = calloc((size_t)threads, sizeof *ids);
    struct counter_row *turns = counter_rows(argc, argv, (size_t)threads);
    pthread_attr_t small_stack;

    hold_end_signals();
    pthread_attr_init(&small_stack);
    pthread_attr_setstacksize(&small_stack, 64 * 1024);
    for (int index = 0; index < threads; index++) {
        if (pthread_create(&ids[index], &small_stack, index < working ? worker : sleeper, &turns[index]) != 0) {
            perror("pthread_create");
            return 1;
        }
    }
    while (atomic_load(&started) < threads)
        usleep(1000);
    say_ready();
    wait_for_end(seconds);
    atomic_store(&ending, 1);
    for (int index = 0; index < threads; index++)
        pthread_join(ids[index], NULL);
    printf("{\"threads\": %d, \"working\": %d, \"cpu_ns\": %lld}\n", threads, working,
           (long long)atomic_load(&worked_ns));
    free(ids);
    return 0;
}
