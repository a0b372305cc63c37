/* Takes signals one after the other, with a handler that does nothing: samples hit the way into it and the way back.
 * Arguments and output are those of unwind_chain. */
#include "target.h"

static volatile sig_atomic_t handled;

static void count(int signal_number) { handled += signal_number > 0; }

NAMED void raises_again(void)
{
    for (int turn = 0; turn < 1000; turn++)
        raise(SIGUSR1);
}

int main(int argc, char **argv)
{
    const double seconds = number_option(argc, argv, "--seconds", 0);
    hold_end_signals();
    signal(SIGUSR1, count);
    puts("{\"scenario\": \"sigreturn\", \"may_truncate\": false, \"chains\": "
         "[[\"raises_again\", \"main\"], [\"*\", \"raises_again\", \"main\"]]}");
    say_ready();
    long burns = 0;
    const int64_t end = wall_ns() + (int64_t)(seconds * 1e9);
    for (; !end_was_asked_for() && (seconds <= 0 || wall_ns() < end); burns++)
        raises_again();
    printf("{\"burns\": %ld}\n", burns);
    return 0;
}
