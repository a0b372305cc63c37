/* Threads that come and go: one after the other, each burns M milliseconds of CPU in late_work.
 *
 *     late_threads [--ms M]
 *
 * The first one starts after `ready`. At SIGTERM prints one line of JSON with their number and CPU time.
 */
#include "target.h"

#include <pthread.h>

static int64_t budget_ns, worked_ns;

static NAMED void late_work(void)
{
    while (thread_cpu_ns() < budget_ns)
        spin(20000);
}

static NAMED void *late_thread(void *unused)
{
    (void)unused;
    late_work();
    worked_ns += thread_cpu_ns();
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = 0;
    budget_ns = (int64_t)(number_option(argc, argv, "--ms", 8) * 1e6);
    hold_end_signals();
    say_ready();
    for (; !end_was_asked_for(); threads++) {
        pthread_t id;
        if (pthread_create(&id, NULL, late_thread, NULL) != 0) {
            perror("pthread_create");
            return 1;
        }
        pthread_join(id, NULL);
    }
    printf("{\"threads\": %d, \"cpu_ns\": %lld}\n", threads, (long long)worked_ns);
    return 0;
}
