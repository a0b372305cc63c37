/* Code that no file holds: a loop written into anonymous memory, named in /tmp/perf-PID.map among lines that are bad.
 *
 *     jit_loop [--seconds S]
 *
 * Leaves its map behind: a profiler reads it after the recording, and whoever runs this removes it.
 */
#include "target.h"

#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

/* dec %rdi; jnz back; ret */
static const unsigned char loop_code[] = {0x48, 0xff, 0xcf, 0x75, 0xfb, 0xc3};

static void write_map(const void *code)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
    FILE *map = fopen(path, "w");
    if (!map) {
        perror(path);
        exit(1);
    }
    fputs("no line of a map\n", map);
    fputs("xyz 10 start_is_no_number\n", map);
    fprintf(map, "%" PRIxPTR " %zx hot_loop<jit> & co\n", (uintptr_t)code, sizeof loop_code);
    fputs("7f0000000000 10\n", map);
    fclose(map);
}

static NAMED void call_jit(void (*loop)(uint64_t turns))
{
    loop(1000000);
    KEEP_FRAME();
}

int main(int argc, char **argv)
{
    const double seconds = number_option(argc, argv, "--seconds", 0);
    void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED)
        return 1;
    memcpy(code, loop_code, sizeof loop_code);
    if (mprotect(code, 4096, PROT_READ | PROT_EXEC) != 0)
        return 1;
    write_map(code);
    hold_end_signals();
    const int64_t end = wall_ns() + (int64_t)(seconds * 1e9);
    say_ready();
    while (!end_was_asked_for() && (seconds <= 0 || wall_ns() < end))
        call_jit((void (*)(uint64_t))code);
    return 0;
}
