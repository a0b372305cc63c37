/* A JIT that uses its memory anew: two functions take turns at one address, and each turn is logged in a jitdump.
 *
 *     jit_reuse [--seconds S] [--turn-ms M] [--folder F] [--format dump|map] [--delete 1]
 *
 * `dump` writes F/jit-PID.dump with source lines (jit.src:11 and :22), `map` writes F/perf-PID.map, where both have
 * addresses of their own. With --delete it deletes its file as it ends. Prints one line of JSON: the
 * turns, and the CPU time that each function used.
 */
#include "target.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

/* push %rbp; mov %rsp,%rbp; dec %rdi; jnz back; pop %rbp; ret. The second one has a nop more in its loop. */
static const unsigned char first_code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0xff, 0xcf, 0x75, 0xfb, 0x5d, 0xc3};
static const unsigned char second_code[] = {0x55, 0x48, 0x89, 0xe5, 0x90, 0x48, 0xff, 0xcf, 0x75, 0xfa, 0x5d, 0xc3};
static const unsigned char *const codes[] = {first_code, second_code};
static const size_t sizes[] = {sizeof first_code, sizeof second_code};
static const char *const names[] = {"first_jitted", "second_jitted"};
static const unsigned lines[] = {11, 22};
static const char source[] = "/src/jit.src";

static FILE *file;
static char path[4096];

struct header {
    uint32_t magic, version, size, machine, pad, pid;
    uint64_t time, flags;
};

struct record {
    uint32_t kind, size;
    uint64_t time;
};

struct load {
    struct record record;
    uint32_t pid, tid;
    uint64_t vma, address, size, index;
};

struct debug {
    struct record record;
    uint64_t address, count, entry_address;
    uint32_t line, column;
};

static void open_file(const char *folder, int is_dump)
{
    snprintf(path, sizeof path, is_dump ? "%s/jit-%d.dump" : "%s/perf-%d.map", folder, (int)getpid());
    int descriptor = open(path, O_CREAT | O_TRUNC | O_RDWR, 0644);
    if (descriptor < 0) {
        perror(path);
        exit(1);
    }
    file = fdopen(descriptor, "w");
    if (!is_dump)
        return;
    const struct header header = {0x4A695444, 1, sizeof header, 62, 0, (uint32_t)getpid(), (uint64_t)wall_ns(), 0};
    fwrite(&header, sizeof header, 1, file);
    fflush(file);
    /* So that a profiler sees it (tools/perf/jvmti/jvmti_agent.c does it, too). */
    if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, descriptor, 0) == MAP_FAILED)
        exit(1);
}

static void log_load(int which, const void *place, uint64_t index)
{
    const uint64_t now = (uint64_t)wall_ns(), address = (uint64_t)(uintptr_t)place;
    const uint32_t pid = (uint32_t)getpid();
    const struct debug debug = {{2, sizeof debug + sizeof source, now}, address, 1, address, lines[which], 0};
    fwrite(&debug, sizeof debug, 1, file);
    fwrite(source, sizeof source, 1, file);
    const uint32_t size = (uint32_t)(sizeof(struct load) + strlen(names[which]) + 1 + sizes[which]);
    const struct load load = {{0, size, now}, pid, pid, address, address, sizes[which], index};
    fwrite(&load, sizeof load, 1, file);
    fwrite(names[which], strlen(names[which]) + 1, 1, file);
    fwrite(codes[which], sizes[which], 1, file);
    fflush(file);
}

static NAMED void call_jit(void (*loop)(uint64_t turns), int64_t budget_ns)
{
    const int64_t end = thread_cpu_ns() + budget_ns;
    while (thread_cpu_ns() < end)
        loop(200000);
    KEEP_FRAME();
}

int main(int argc, char **argv)
{
    const double seconds = number_option(argc, argv, "--seconds", 0);
    const int64_t turn_ns = (int64_t)(number_option(argc, argv, "--turn-ms", 20) * 1e6);
    const char *folder = text_option(argc, argv, "--folder", "/tmp");
    const int is_dump = strcmp(text_option(argc, argv, "--format", "dump"), "dump") == 0;
    const int is_deleted = number_option(argc, argv, "--delete", 0) != 0;
    int64_t cpu_ns[2] = {0, 0};
    uint64_t turns = 0;

    unsigned char *memory =
        mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return 1;
    open_file(folder, is_dump);
    for (int which = 0; which < 2 && !is_dump; which++)
        fprintf(file, "%" PRIxPTR " %zx %s\n", (uintptr_t)(memory + 4096 * which), sizes[which], names[which]);
    fflush(file);
    hold_end_signals();
    say_ready();
    const int64_t end = wall_ns() + (int64_t)(seconds * 1e9);
    while (!end_was_asked_for() && (seconds <= 0 || wall_ns() < end)) {
        /* Twice as long in the first one. */
        const int which = turns % 3 == 2;
        unsigned char *place = is_dump ? memory : memory + 4096 * which;
        memcpy(place, codes[which], sizes[which]);
        if (is_dump)
            log_load(which, place, turns);
        const int64_t start = thread_cpu_ns();
        call_jit((void (*)(uint64_t))(uintptr_t)place, turn_ns);
        cpu_ns[which] += thread_cpu_ns() - start;
        turns++;
    }
    printf("{\"turns\": %llu, \"first_cpu_ns\": %lld, \"second_cpu_ns\": %lld}\n", (unsigned long long)turns,
           (long long)cpu_ns[0], (long long)cpu_ns[1]);
    fclose(file);
    if (is_deleted)
        unlink(path);
    return 0;
}
