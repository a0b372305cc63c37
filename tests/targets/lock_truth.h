/* How the targets that contend for locks tell what they waited for.
 *
 * A program cannot look into libc. So a wait is the wall time around a lock call, taken only where a trylock just
 * before has failed: that call sleeps in futex(2), and the rest of it is short against the sleep, because locks are
 * held for 0.2 to 20 ms. A call that finds the lock free after all is logged too, with its some ten nanoseconds.
 * One lock call may sleep several times (another thread was faster): that is one wait here.
 *
 * Common options: --seconds S (0, the default: until SIGTERM), --threads N, --log FILE, --hold sleep|burn.
 * A program prints `ready` when all its threads run, and one line of JSON at the end:
 *
 *     {..., "categories": ["reader", ..., "ending"], "waits": [..], "wait_ns": [..], "longest_ns": [..],
 *      "holds": [..], "hold_ns": [..], "started_ns": t, "ended_ns": t, "records": n, "lost": 0}
 *
 * with one number for each category. The category `ending` is the main thread's, which joins the others at the end.
 * Times are of CLOCK_MONOTONIC. FILE gets the records as they are in memory, 32 bytes each, in numpy's terms
 *
 *     [("start_ns", "<i8"), ("end_ns", "<i8"), ("category", "<i4"), ("tid", "<i4"), ("what", "<i4"), ("lock", "<i4")]
 *
 * in the order of their ends, roughly. `what` is 0 for a wait and 1 for a time in which the thread held the lock,
 * from after it was taken until before it was released. `lock` numbers the locks where there are several. A test cuts
 * each record to the time of its recording. Every thread is joined before the log is written: no wait is left open.
 * Records beyond TRUTH_CAPACITY are counted as `lost`.
 */
#pragma once

#include "target.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TRUTH_CAPACITY 2000000
#define TRUTH_MOST_CATEGORIES 8

enum { TRUTH_WAIT, TRUTH_HOLD };

struct truth_record {
    int64_t start_ns, end_ns;
    int32_t category, tid, what, lock;
};

/* In a shared mapping, so that forked processes write to the same log. Pages that aren't used cost nothing. */
struct truth_log {
    int64_t taken;
    int32_t ending;
    struct truth_record records[TRUTH_CAPACITY];
};

static struct truth_log *truth;
static const char *truth_path;
static const char *truth_categories[TRUTH_MOST_CATEGORIES];
static int truth_category_count;
static int64_t truth_started_ns;
static int truth_burns;

/* First of all, before any thread is started. `categories` ends with NULL. */
static inline void truth_open(int argc, char **argv, const char *const *categories)
{
    hold_end_signals();
    void *memory =
        mmap(NULL, sizeof *truth, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    truth = (struct truth_log *)memory;
    truth_path = text_option(argc, argv, "--log", NULL);
    truth_burns = strcmp(text_option(argc, argv, "--hold", "sleep"), "burn") == 0;
    while (categories[truth_category_count] && truth_category_count < TRUTH_MOST_CATEGORIES - 1) {
        truth_categories[truth_category_count] = categories[truth_category_count];
        truth_category_count++;
    }
    truth_categories[truth_category_count++] = "ending";
    truth_started_ns = wall_ns();
}

static inline void truth_add(int what, int category, int lock, int64_t start_ns, int64_t end_ns)
{
    static __thread int32_t tid;
    if (!tid)
        tid = (int32_t)syscall(SYS_gettid);
    const int64_t index = __atomic_fetch_add(&truth->taken, 1, __ATOMIC_RELAXED);
    if (index >= TRUTH_CAPACITY)
        return;
    struct truth_record *record = &truth->records[index];
    record->start_ns = start_ns;
    record->end_ns = end_ns;
    record->category = category;
    record->tid = tid;
    record->what = what;
    record->lock = lock;
}

/* Part of its caller, whose frame then stands above the lock call. Logs `acquire` as a wait if `failed_to_take`. */
#define TRUTH_ACQUIRE(category, lock, failed_to_take, acquire)                                                         \
    do {                                                                                                               \
        if (failed_to_take) {                                                                                          \
            const int64_t wait_start_ns = wall_ns();                                                                   \
            acquire;                                                                                                   \
            truth_add(TRUTH_WAIT, category, lock, wait_start_ns, wall_ns());                                           \
        }                                                                                                              \
    } while (0)

/* Whether the end has come: for all threads, and all processes that were forked. */
static inline int truth_ending(void) { return __atomic_load_n(&truth->ending, __ATOMIC_ACQUIRE); }

/* Says `ready`, waits for the end of the program's time, and tells the others. */
static inline void truth_wait_for_end(int argc, char **argv)
{
    say_ready();
    wait_for_end(number_option(argc, argv, "--seconds", 0));
    __atomic_store_n(&truth->ending, 1, __ATOMIC_RELEASE);
}

static inline void truth_start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    static pthread_attr_t attributes;
    static int initialized;
    if (!initialized) {
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, 128 * 1024);
        initialized = 1;
    }
    if (pthread_create(thread, &attributes, run, argument) != 0) {
        fputs("pthread_create failed\n", stderr);
        exit(1);
    }
}

/* Joins a thread; the wait for it is the main thread's, under `ending`. */
static inline void truth_join(pthread_t thread)
{
    const int64_t start_ns = wall_ns();
    pthread_join(thread, NULL);
    truth_add(TRUTH_WAIT, truth_category_count - 1, 0, start_ns, wall_ns());
}

/* Waits that are no lock's: clock_nanosleep. */
static inline void nap(int64_t length_ns)
{
    const struct timespec length = {(time_t)(length_ns / 1000000000), (long)(length_ns % 1000000000)};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &length, NULL);
}

/* What is done with a lock held: it sleeps, or with `--hold burn` burns CPU until that wall time has passed. */
static inline void hold_for(int64_t length_ns)
{
    if (!truth_burns) {
        nap(length_ns);
        return;
    }
    const int64_t end = wall_ns() + length_ns;
    while (wall_ns() < end)
        spin(1000);
}

/* A thread's own sequence: the same in every run, another for each seed. */
static inline uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* From half of that length to one and a half: no thread falls into step with another, nor with a sampler. */
static inline int64_t about(int64_t length_ns, uint32_t *state)
{
    return length_ns / 2 + (int64_t)(next_random(state) % 1024) * length_ns / 1024;
}

static inline void truth_print_numbers(const char *name, const int64_t *numbers)
{
    printf("\"%s\": [", name);
    for (int category = 0; category < truth_category_count; category++)
        printf("%s%lld", category ? ", " : "", (long long)numbers[category]);
    printf("], ");
}

static inline int64_t truth_kept(void) { return truth->taken < TRUTH_CAPACITY ? truth->taken : TRUTH_CAPACITY; }

static inline void truth_write_log(void)
{
    FILE *file = fopen(truth_path, "wb");
    const size_t kept = (size_t)truth_kept();
    if (!file || fwrite(truth->records, sizeof truth->records[0], kept, file) != kept || fclose(file) != 0) {
        perror(truth_path);
        exit(1);
    }
}

/* Writes the log, and ends the line of JSON that the program has begun with `{` and fields of its own. */
static inline void truth_close(void)
{
    int64_t count[2][TRUTH_MOST_CATEGORIES] = {{0}}, total_ns[2][TRUTH_MOST_CATEGORIES] = {{0}};
    int64_t longest_ns[TRUTH_MOST_CATEGORIES] = {0};
    for (int64_t index = 0; index < truth_kept(); index++) {
        const struct truth_record *record = &truth->records[index];
        const int64_t length_ns = record->end_ns - record->start_ns;
        count[record->what][record->category]++;
        total_ns[record->what][record->category] += length_ns;
        if (record->what == TRUTH_WAIT && length_ns > longest_ns[record->category])
            longest_ns[record->category] = length_ns;
    }
    if (truth_path)
        truth_write_log();
    printf("\"categories\": [");
    for (int category = 0; category < truth_category_count; category++)
        printf("%s\"%s\"", category ? ", " : "", truth_categories[category]);
    printf("], ");
    truth_print_numbers("waits", count[TRUTH_WAIT]);
    truth_print_numbers("wait_ns", total_ns[TRUTH_WAIT]);
    truth_print_numbers("longest_ns", longest_ns);
    truth_print_numbers("holds", count[TRUTH_HOLD]);
    truth_print_numbers("hold_ns", total_ns[TRUTH_HOLD]);
    printf("\"started_ns\": %lld, \"ended_ns\": %lld, \"records\": %lld, \"lost\": %lld}\n",
           (long long)truth_started_ns, (long long)wall_ns(), (long long)truth_kept(),
           (long long)(truth->taken - truth_kept()));
}
