/* Waits on many distinct futex words: for the tables of a profiler.
 *
 *     lock_words [--words N] [--rounds N] [--mode changed|timeout] [--timeout-ns NS] [--go line|signal]
 *
 * 100,000 words of a heap array, 64 bytes apart; in each round touch_word waits once on each. Modes, the beginning, and
 * the exact counts in the line of JSON are those of lock_million.c; `address` is the first word's.
 */
#include "lock_futex.h"

#include <sys/prctl.h>

struct word {
    uint32_t value;
    char padding[60];
};

static struct futex_counts counts;

static NAMED void touch_word(uint32_t *word, uint32_t expected, int64_t timeout_ns)
{
    counted_wait(&counts, word, expected, timeout_ns);
    KEEP_FRAME();
}

int main(int argc, char **argv)
{
    const int64_t words = (int64_t)number_option(argc, argv, "--words", 100000);
    const int64_t rounds = (int64_t)number_option(argc, argv, "--rounds", 1);
    const int64_t timeout_ns = (int64_t)number_option(argc, argv, "--timeout-ns", 1000);
    const uint32_t expected = strcmp(text_option(argc, argv, "--mode", "changed"), "changed") == 0;
    struct word *array = calloc((size_t)words, sizeof *array);
    if (!array)
        return 1;
    hold_go_signal();
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);

    wait_for_go(argc, argv);
    const int64_t start_ns = wall_ns();
    for (int64_t round = 0; round < rounds; round++)
        for (int64_t index = 0; index < words; index++)
            touch_word(&array[index].value, expected, timeout_ns);
    printf("{\"words\": %lld, \"address\": %llu, \"elapsed_ns\": %lld, \"counts\": ", (long long)words,
           (unsigned long long)(uintptr_t)array, (long long)(wall_ns() - start_ns));
    print_counts(&counts);
    puts("}");
    free(array);
    return 0;
}
