// Lets a program that callgrind watches say which of its work counts: client requests of callgrind.h
// (valgrind manual, "Client request reference"). Without valgrind they do nothing.
#include <valgrind/callgrind.h>
#include <valgrind/valgrind.h>

int is_under_valgrind(void) { return RUNNING_ON_VALGRIND > 0; }

void start_counting(void) {
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
}

void stop_counting(void) { CALLGRIND_STOP_INSTRUMENTATION; }

// For a forked child: what its parent had counted is the parent's.
void count_anew(void) { CALLGRIND_ZERO_STATS; }
