/* Two shared objects that take turns, mostly at the same address: each is closed before the other is opened.
 *
 *     dlopen_reuse FIRST.so SECOND.so [--seconds S] [--turn-ms M]
 *
 * Both are built from reuse_library.c. Prints one line of JSON: turns, how many of them reused the address, CPU of both.
 */
#include "target.h"

#include <dlfcn.h>

typedef void (*work_function)(int64_t budget_ns);

static NAMED void call_library(work_function work, int64_t budget_ns)
{
    work(budget_ns);
    KEEP_FRAME();
}

/* Returns the address at which the work was done, and adds its CPU time. */
static NAMED void *take_turn(const char *path, int64_t budget_ns, int64_t *cpu_ns)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    work_function work = (work_function)dlsym(library, "library_work");
    const int64_t start = thread_cpu_ns();
    call_library(work, budget_ns);
    *cpu_ns += thread_cpu_ns() - start;
    dlclose(library);
    return (void *)work;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: dlopen_reuse FIRST.so SECOND.so [--seconds S] [--turn-ms M]\n");
        return 2;
    }
    const double seconds = number_option(argc, argv, "--seconds", 0);
    const int64_t turn_ns = (int64_t)(number_option(argc, argv, "--turn-ms", 50) * 1e6);
    const int64_t end = wall_ns() + (int64_t)(seconds * 1e9);
    int64_t cpu_ns[2] = {0, 0};
    int turns = 0, reused = 0;
    void *last = NULL;

    hold_end_signals();
    say_ready();
    while (!end_was_asked_for() && (seconds <= 0 || wall_ns() < end)) {
        void *here = take_turn(argv[1 + turns % 2], turn_ns, &cpu_ns[turns % 2]);
        reused += here == last;
        last = here;
        turns++;
    }
    printf("{\"turns\": %d, \"reused_address\": %d, \"first_cpu_ns\": %lld, \"second_cpu_ns\": %lld}\n", turns, reused,
           (long long)cpu_ns[0], (long long)cpu_ns[1]);
    return 0;
}
