/* One plain chain of calls, for questions about the binary rather than about its code: stripped, replaced, damaged.
 *
 *     unwind_chain [--depth N] [--seconds S]
 *
 * Prints the chain as unwind_truth does, then `ready`, then burns CPU for S seconds (0: until SIGTERM), then prints one
 * line of JSON with the number of burns. `recurses` stands N times on the stack (default 1), each time with a frame of
 * FRAME_BYTES. */
#include "target.h"

#ifndef FRAME_BYTES
#define FRAME_BYTES 40
#endif

/* The local variable gives it a frame pointer where frames are to have one. */
NAMED void chain_leaf(void)
{
    volatile char used = 1;
    spin(3000000);
    used = 0;
    (void)used;
}

NAMED void chain_inner(void)
{
    chain_leaf();
    KEEP_FRAME();
}

NAMED void recurses(int depth)
{
    volatile char room[FRAME_BYTES];
    room[0] = 1;
    if (depth > 1)
        recurses(depth - 1);
    else
        chain_inner();
    room[FRAME_BYTES - 1] = room[0];
}

NAMED void chain_outer(int depth)
{
    recurses(depth);
    KEEP_FRAME();
}

int main(int argc, char **argv)
{
    const int depth = (int)number_option(argc, argv, "--depth", 1);
    const double seconds = number_option(argc, argv, "--seconds", 0);
    hold_end_signals();
    printf("{\"scenario\": \"chain\", \"may_truncate\": false, \"chains\": [[\"chain_leaf\", \"chain_inner\"");
    for (int level = 0; level < depth; level++)
        printf(", \"recurses\"");
    printf(", \"chain_outer\", \"main\"]]}\n");
    say_ready();
    long burns = 0;
    const int64_t end = wall_ns() + (int64_t)(seconds * 1e9);
    for (; !end_was_asked_for() && (seconds <= 0 || wall_ns() < end); burns++)
        chain_outer(depth);
    printf("{\"burns\": %ld}\n", burns);
    return 0;
}
