// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
//
// How long each lock is waited for and held: exact counts and times for each lock and path, and stacks of some of them.
//
// Compiled by BCC. Programs run on uprobes, which are set in one process only. Arguments are where the calling convention
// of x86-64 has them. As in futex.bpf.c, stacks are taken by perf, with the registers and a copy of the stack.
//
// Given by the one who compiles it: THREAD_ENTRIES, HOLD_ENTRIES, PLACE_ENTRIES (sizes of tables).

#include "path.bpf.h"

enum kind { KIND_MUTEX, KIND_READ, KIND_WRITE, KIND_SPIN };
enum side { SIDE_WAIT, SIDE_HOLD };
enum count {
    COUNT_EVENTS,
    COUNT_NO_THREAD_ENTRY,
    COUNT_NO_HOLD_ENTRY,
    COUNT_MISSED_RELEASE,
    COUNT_UNKNOWN_HOLD,
    COUNT_SHORT,
    COUNT_REFUSED,
    COUNTS
};

#define BUCKETS 48
#define SAMPLE_INTERVAL_NS 1000000ULL
// Places without a stack come first: there may be thousands when a trace begins.
#define FIRST_BURST_NS 2000000000ULL
#define BURST_NS 200000000ULL
#define OWNER_DIED 130
// PTHREAD_MUTEX_RECURSIVE, of glibc and of musl.
#define TYPE_MASK 3
// No function for conditions is longer, and the frame of no lock function that calls another; a signal's frame is.
#define FUNCTION_BYTES 4096
#define FRAME_BYTES 512
#define TYPE_RECURSIVE 1

struct control {
    u64 start_ns, end_ns;
    u64 code_start, code_bytes; // of the program itself
    u64 only;                   // the lock to follow; 0 for all
    u64 least_wait_ns;
    u64 type_offset; // where a mutex has its type
    u64 hold_floor_ns; // what the probes themselves add to each hold, at least
};

struct wait {
    u64 start_ns; // of the call; 0: there is none
    u64 lock, stack;
    u32 kind, path, is_try, padding;
};

struct thread {
    struct wait waits[2]; // the second is of a signal handler, which came in the midst of the first
    u64 condition_mutex;  // given up by the condition that the thread waits for
    u64 condition_code;   // where in the condition's function that was seen
    u64 condition_stack;  // of that function's call to take it again; 0: there is none
};

struct hold_key {
    u64 lock;
    u32 tid, padding;
};

struct hold {
    u64 start_ns;
    u32 depth, kind;
};

struct place {
    u64 lock;
    u32 path, side;
};

struct sums {
    u64 count, total_ns, max_ns, min_ns;
    u32 samples, kind;
    u32 failed, padding;
    u32 buckets[BUCKETS];
};

struct sample {
    u32 side;
    u32 lock_low, lock_high;
    u32 path, kind;
    u32 rest[10];
};

BPF_PERCPU_ARRAY(stack_tops, struct stack_top, 1);
BPF_PERCPU_ARRAY(counts, u64, COUNTS);
BPF_ARRAY(this_control, struct control, 1);
BPF_ARRAY(next_sample, u64, 1);
BPF_ARRAY(blank, struct sums, 1);
BPF_ARRAY(rest, struct sums, 2); // what found no room in `places`: waits and holds
BPF_HASH(threads, u32, struct thread, THREAD_ENTRIES);
BPF_HASH(holds, struct hold_key, struct hold, HOLD_ENTRIES);
BPF_HASH(places, struct place, struct sums, PLACE_ENTRIES);
BPF_PERF_OUTPUT(samples);

static inline void count(int what)
{
    u64 *number = counts.lookup(&what);
    if (number)
        *number += 1;
}

// The control while locks are traced, else nothing. Counts the event: a call or a return that was looked at.
static inline struct control *control_now(u64 now)
{
    int zero = 0;
    struct control *control = this_control.lookup(&zero);
    if (!control || now < control->start_ns || now >= control->end_ns)
        return NULL;
    count(COUNT_EVENTS);
    return control;
}

static inline struct thread *find_or_add_thread(u32 tid)
{
    struct thread *thread = threads.lookup(&tid);
    if (thread)
        return thread;
    struct thread empty = {};
    threads.insert(&tid, &empty);
    thread = threads.lookup(&tid);
    if (!thread)
        count(COUNT_NO_THREAD_ENTRY);
    return thread;
}

static inline struct sums *find_or_add_place(struct place *place)
{
    struct sums *sums = places.lookup(place);
    if (sums)
        return sums;
    int zero = 0, side = place->side;
    struct sums *empty = blank.lookup(&zero);
    if (!empty)
        return NULL;
    places.insert(place, empty);
    sums = places.lookup(place);
    if (sums)
        return sums;
    return rest.lookup(&side);
}

// Has the stack taken of the first wait or hold at a place, and of each one by which their number doubles.
static inline void sample_place(struct registers *ctx, struct place *place, struct sums *sums, u32 kind, u64 now)
{
    u64 number = sums->count;
    if (sums->samples && (number & (number - 1)))
        return;
    int zero = 0;
    u64 *due = next_sample.lookup(&zero);
    if (!due || *due > now + (sums->samples ? BURST_NS : FIRST_BURST_NS))
        return;
    *due = (*due > now ? *due : now) + SAMPLE_INTERVAL_NS;
    struct sample sample = {
        .side = place->side, .lock_low = place->lock, .lock_high = place->lock >> 32, .path = place->path, .kind = kind};
    sums->kind = kind;
    // Where the buffer is full, the next one is to be taken.
    if (!samples.perf_submit(ctx, &sample, sizeof sample))
        sums->samples++;
}

static inline void add(struct sums *sums, u64 duration, u32 kind, u32 failed)
{
    u64 bucket = duration ? bpf_log2l(duration) : 0;
    asm volatile("" : "+r"(bucket)); // see futex.bpf.c
    if (bucket >= BUCKETS)
        bucket = BUCKETS - 1;
    sums->kind = kind;
    if (!sums->count || duration < sums->min_ns)
        sums->min_ns = duration;
    __sync_fetch_and_add(&sums->count, 1);
    __sync_fetch_and_add(&sums->total_ns, duration);
    __sync_fetch_and_add(&sums->buckets[bucket], 1);
    if (failed)
        __sync_fetch_and_add(&sums->failed, 1);
    if (duration > sums->max_ns)
        sums->max_ns = duration;
    if (duration > sums->max_ns) // should another CPU have put a smaller one there meanwhile
        sums->max_ns = duration;
}

// The path that calls a lock's function, at whose first instructions the return address is on top of the stack.
static inline u32 caller_path(struct control *control, u64 stack)
{
    int zero = 0;
    struct stack_top *top = stack_tops.lookup(&zero);
    u32 path = path_of(top, stack, control->code_start, control->code_bytes);
    return top ? (path ^ (u32)top->words[0]) * 0x9e3779b1 : 0;
}

// Whether it's by the condition's own function that a lock's is called, as musl's does. Any other call by a thread tells
// that it has left the condition another way than by its end: it was cancelled.
static inline int is_of_condition(struct registers *ctx, struct thread *thread, u64 lock)
{
    u64 caller = 0;
    if (thread->condition_mutex != lock)
        return 0;
    read_user(&caller, sizeof caller, (void *)ctx->sp);
    if (caller - thread->condition_code < FUNCTION_BYTES || thread->condition_stack - ctx->sp < FRAME_BYTES)
        return 1;
    thread->condition_mutex = 0;
    return 0;
}

static inline int enter(struct registers *ctx, u32 kind, u32 is_try)
{
    u64 now = bpf_ktime_get_ns(), lock = ctx->di, stack = ctx->sp;
    u32 tid = bpf_get_current_pid_tgid();
    struct control *control = control_now(now);
    if (!control || (control->only && control->only != lock))
        return 1;
    struct thread *thread = find_or_add_thread(tid);
    if (!thread)
        return 1;
    if (is_of_condition(ctx, thread, lock)) {
        if (!thread->condition_stack)
            thread->condition_stack = stack;
        return 1;
    }
    struct wait *wait = &thread->waits[0];
    if (wait->start_ns && stack <= wait->stack) {
        // A function that calls or jumps to another of these, such as musl's lock to timedlock.
        if (wait->lock == lock && wait->stack - stack < FRAME_BYTES)
            return 1;
        wait = &thread->waits[1];
        if (wait->start_ns && wait->lock == lock && wait->stack - stack < FRAME_BYTES)
            return 1;
    }
    wait->lock = lock;
    wait->stack = stack;
    wait->kind = kind;
    wait->is_try = is_try;
    wait->path = 0;
    if (!is_try) {
        struct place place = {.lock = lock, .path = caller_path(control, stack), .side = SIDE_WAIT};
        wait->path = place.path;
        struct sums *sums = find_or_add_place(&place);
        if (sums)
            sample_place(ctx, &place, sums, kind, now);
    }
    wait->start_ns = bpf_ktime_get_ns();
    return 1;
}

static inline void begin_hold(struct control *control, u64 lock, u32 tid, u32 kind)
{
    struct hold_key key = {.lock = lock, .tid = tid};
    struct hold *hold = holds.lookup(&key);
    if (hold) {
        u32 type = 0;
        if (kind == KIND_MUTEX)
            read_user(&type, sizeof type, (void *)(lock + control->type_offset));
        if (kind == KIND_READ || (type & TYPE_MASK) == TYPE_RECURSIVE) {
            hold->depth++;
            return;
        }
        count(COUNT_MISSED_RELEASE);
        hold->start_ns = bpf_ktime_get_ns();
        return;
    }
    struct hold first = {.start_ns = bpf_ktime_get_ns(), .kind = kind};
    if (holds.insert(&key, &first))
        count(COUNT_NO_HOLD_ENTRY);
}

static inline void end_hold(struct registers *ctx, struct control *control, u64 lock, u32 tid, u64 now)
{
    struct hold_key key = {.lock = lock, .tid = tid};
    struct hold *hold = holds.lookup(&key);
    if (!hold) {
        count(COUNT_UNKNOWN_HOLD);
        return;
    }
    if (hold->depth) {
        hold->depth--;
        return;
    }
    u64 duration = now - hold->start_ns, floor = control->hold_floor_ns;
    duration = duration > floor ? duration - floor : 0;
    u32 kind = hold->kind;
    holds.delete(&key);
    struct place place = {.lock = lock, .path = caller_path(control, ctx->sp), .side = SIDE_HOLD};
    struct sums *sums = find_or_add_place(&place);
    if (!sums)
        return;
    sample_place(ctx, &place, sums, kind, now);
    add(sums, duration, kind, 0);
}

int on_return(struct registers *ctx)
{
    u64 now = bpf_ktime_get_ns();
    u32 tid = bpf_get_current_pid_tgid(), result = ctx->ax;
    struct control *control = control_now(now);
    struct thread *thread = control ? threads.lookup(&tid) : NULL;
    // Of one of these functions that calls another, the outer one's return counts: it has popped its return address.
    if (!thread)
        return 1;
    if (ctx->sp == thread->condition_stack + 8)
        thread->condition_stack = 0;
    struct wait *wait = &thread->waits[1];
    if (!wait->start_ns || ctx->sp != wait->stack + 8)
        wait = &thread->waits[0];
    if (!wait->start_ns || ctx->sp != wait->stack + 8)
        return 1;
    u64 duration = now - wait->start_ns;
    wait->start_ns = 0;
    u32 is_taken = !result || result == OWNER_DIED, kind = wait->kind;
    if (!wait->is_try) {
        if (duration >= control->least_wait_ns) {
            struct place place = {.lock = wait->lock, .path = wait->path, .side = SIDE_WAIT};
            struct sums *sums = find_or_add_place(&place);
            if (sums)
                add(sums, duration, kind, !is_taken);
        } else {
            count(COUNT_SHORT);
        }
    }
    if (is_taken)
        begin_hold(control, wait->lock, tid, kind);
    else if (wait->is_try)
        count(COUNT_REFUSED);
    return 1;
}

#define ENTER(name, kind, is_try)                                                                                      \
    int name(struct registers *ctx)                                                                                    \
    {                                                                                                                  \
        return enter(ctx, kind, is_try);                                                                               \
    }

ENTER(on_mutex, KIND_MUTEX, 0)
ENTER(on_mutex_try, KIND_MUTEX, 1)
ENTER(on_read, KIND_READ, 0)
ENTER(on_read_try, KIND_READ, 1)
ENTER(on_write, KIND_WRITE, 0)
ENTER(on_write_try, KIND_WRITE, 1)
ENTER(on_spin, KIND_SPIN, 0)
ENTER(on_spin_try, KIND_SPIN, 1)

int on_unlock(struct registers *ctx)
{
    u64 now = bpf_ktime_get_ns(), lock = ctx->di;
    u32 tid = bpf_get_current_pid_tgid();
    struct control *control = control_now(now);
    if (!control || (control->only && control->only != lock))
        return 1;
    struct thread *thread = threads.lookup(&tid);
    if (!thread || !is_of_condition(ctx, thread, lock))
        end_hold(ctx, control, lock, tid, now);
    return 1;
}

int on_condition(struct registers *ctx)
{
    u64 now = bpf_ktime_get_ns(), lock = ctx->si;
    u32 tid = bpf_get_current_pid_tgid();
    struct control *control = control_now(now);
    if (!control || (control->only && control->only != lock))
        return 1;
    struct thread *thread = find_or_add_thread(tid);
    if (!thread)
        return 1;
    thread->condition_code = ctx->ip;
    thread->condition_stack = 0;
    if (thread->condition_mutex == lock)
        return 1;
    thread->condition_mutex = lock;
    end_hold(ctx, control, lock, tid, now);
    return 1;
}

int on_condition_return(struct registers *ctx)
{
    u64 now = bpf_ktime_get_ns();
    u32 tid = bpf_get_current_pid_tgid();
    struct control *control = control_now(now);
    struct thread *thread = control ? threads.lookup(&tid) : NULL;
    if (!thread || !thread->condition_mutex)
        return 1;
    u64 lock = thread->condition_mutex;
    thread->condition_mutex = 0;
    begin_hold(control, lock, tid, KIND_MUTEX);
    return 1;
}
