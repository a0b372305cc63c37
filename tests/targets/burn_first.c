/* All its work is in its first 50 milliseconds of CPU: whoever attaches late sees none of it.
 *
 *     burn_first
 */
#include "target.h"

static NAMED void first_work(void)
{
    const int64_t end = thread_cpu_ns() + 50000000;
    while (thread_cpu_ns() < end)
        spin(20000);
}

int main(void)
{
    first_work();
    return 0;
}
