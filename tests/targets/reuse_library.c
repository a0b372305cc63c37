/* A shared object for dlopen_reuse.c; -DLEAF=name names the function that burns the CPU. */
#include "target.h"

NAMED void LEAF(int64_t budget_ns)
{
    const int64_t end = thread_cpu_ns() + budget_ns;
    while (thread_cpu_ns() < end)
        spin(50000);
}

NAMED void library_work(int64_t budget_ns)
{
    LEAF(budget_ns);
    KEEP_FRAME();
}
