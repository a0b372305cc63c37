/* One process that becomes itself again, and works in another function each time.
 *
 *     exec_chain [--ms M]
 *
 * M milliseconds of CPU in before_exec, then exec; M in between_execs, then exec; then after_exec until SIGTERM, or
 * for M milliseconds with --end. The addresses differ from one to the next, as the program is position-independent.
 */
#include "target.h"

#include <unistd.h>

static inline __attribute__((always_inline)) void burn_here(int64_t budget_ns)
{
    const int64_t end = thread_cpu_ns() + budget_ns;
    while (thread_cpu_ns() < end && !end_was_asked_for())
        spin(50000);
}

static NAMED void before_exec(int64_t budget_ns) { burn_here(budget_ns); }
static NAMED void between_execs(int64_t budget_ns) { burn_here(budget_ns); }
static NAMED void after_exec(int64_t budget_ns) { burn_here(budget_ns); }

static int become(const char *self, const char *stage, const char *ms, int ends)
{
    execl(self, self, "--stage", stage, "--ms", ms, ends ? "--end" : (char *)NULL, (char *)NULL);
    perror("execl");
    return 1;
}

int main(int argc, char **argv)
{
    static const char self[] = "/proc/self/exe";
    const char *stage = text_option(argc, argv, "--stage", "before");
    const char *ms = text_option(argc, argv, "--ms", "500");
    const int ends = argc > 1 && strcmp(argv[argc - 1], "--end") == 0;
    const int64_t budget_ns = (int64_t)(atof(ms) * 1e6);

    hold_end_signals();
    if (strcmp(stage, "before") == 0) {
        say_ready();
        before_exec(budget_ns);
        return become(self, "between", ms, ends);
    }
    if (strcmp(stage, "between") == 0) {
        between_execs(budget_ns);
        return become(self, "after", ms, ends);
    }
    do
        after_exec(budget_ns);
    while (!ends && !end_was_asked_for());
    printf("{\"stages\": 3, \"ms_each\": %s}\n", ms);
    return 0;
}
