/* One thread whose CPU time is split 70 : 30 between two functions, by its own thread clock.
 *
 *     split_70_30 [--seconds S] [--counters FILE]
 *
 * The slices are of uneven length, so that no sampling rate falls into step with them. Prints one line of JSON with
 * the true split when S seconds have passed (0: at SIGTERM). Counts its turns of 60,000 steps in FILE's one row.
 */
#include "target.h"

#define CLOCK_CHECK_TURNS 60000

static int64_t seventy_ns, thirty_ns;
static struct counter_row *turns;

static NAMED void work_seventy(int64_t budget_ns)
{
    const int64_t start = thread_cpu_ns();
    int64_t now = start;
    while (now - start < budget_ns) {
        spin(CLOCK_CHECK_TURNS);
        now = thread_cpu_ns();
        count_one(turns);
    }
    seventy_ns += now - start;
}

static NAMED void work_thirty(int64_t budget_ns)
{
    const int64_t start = thread_cpu_ns();
    int64_t now = start;
    while (now - start < budget_ns) {
        spin(CLOCK_CHECK_TURNS);
        now = thread_cpu_ns();
        count_one(turns);
    }
    thirty_ns += now - start;
}

/* Half a millisecond to four and a half. */
static int64_t next_slice_ns(void)
{
    static uint32_t state = 12345;
    state = state * 1664525u + 1013904223u;
    return 500000 + (int64_t)(state >> 10);
}

int main(int argc, char **argv)
{
    const double seconds = number_option(argc, argv, "--seconds", 0);
    turns = counter_rows(argc, argv, 1);
    hold_end_signals();
    const int64_t end = wall_ns() + (int64_t)(seconds * 1e9);
    say_ready();
    while (!end_was_asked_for() && (seconds <= 0 || wall_ns() < end)) {
        if (seventy_ns * 3 <= thirty_ns * 7)
            work_seventy(next_slice_ns());
        else
            work_thirty(next_slice_ns());
    }
    const double total = (double)(seventy_ns + thirty_ns);
    printf("{\"work_seventy\": %.6f, \"work_thirty\": %.6f, \"cpu_ns\": %lld}\n", (double)seventy_ns / total,
           (double)thirty_ns / total, (long long)(seventy_ns + thirty_ns));
    return 0;
}
