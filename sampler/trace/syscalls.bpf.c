// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
//
// System calls, counted exactly: by call, measure, bucket and one further key. Nothing is sent for each call, so that a
// million of them a second cost no memory and are all counted.
//
// Compiled by BCC. Given by the one who compiles it: CALL_ENTRIES, OPEN_ENTRIES, CELL_ENTRIES, STACK_ENTRIES (sizes of
// tables); WITH_STACKS (user stacks are wanted: the kernel has to have the helpers for registers, since 5.15); and what
// filter.bpf.h asks for. Loaded once for each system call, with its number in place of CALL_MARK_TEXT: see `syscalls.py`.

// Libraries may lie between a program and the call, with buffers on the stack.
#define STACK_WORDS 128
#include "path.bpf.h"
#include "filter.bpf.h"

#define MEASURES 4
#define CALL_MARK_TEXT "0x7fca11"
#define ERRORS_MOST 4095 // MAX_ERRNO: results from -4095 to -1 are errors

enum measure_kind { MEASURE_ARGUMENT, MEASURE_RESULT, MEASURE_LATENCY, MEASURE_OUTCOME };
enum by { BY_NOTHING, BY_RESULT, BY_COMM, BY_PID, BY_TID, BY_FD, BY_ERROR, BY_STACK };
enum loss { LOSS_NO_OPEN_ENTRY, LOSS_NO_CELL, LOSS_NO_BEGIN, LOSS_NO_STACK_ENTRY, LOSS_NO_END, LOSSES };

// The same for all calls. `measures` is how many there are, and 0 before the start and after the end.
struct question {
    u32 measures, by;
    u32 at_enter; // only arguments are asked for: calls count when they begin
    u32 is_linear;
    s64 linear_min;
    u64 linear_step, linear_buckets;
};

// What is measured of one system call. An argument has 64 - `shift` bits.
struct measure {
    u32 kind, argument, shift, is_signed;
};

struct call {
    struct measure measures[MEASURES];
    u32 fd_argument, padding;
};

struct open_call {
    u64 start_ns; // 0: none
    u64 arguments[8]; // 6 of them; a power of two, to index it within bounds
    u32 call, padding;
};

// `bucket`: 0 for the value 0, k + 1 for 2^k to 2^(k+1) - 1, -k - 1 for the same below 0; or the number of a linear one,
// -1 below them all. `error` is an errno that has a row of its own. All bytes count in a key.
struct key {
    u32 call, measure;
    s32 bucket;
    u32 error;
    u64 by[2];
};

// The sum has 128 bits.
struct cell {
    u64 count, sum_low;
    s64 sum_high;
    u64 max;
};

struct outcome {
    s64 result;
    u64 latency_ns;
    u32 error;
};

BPF_ARRAY(this_question, struct question, 1);
BPF_ARRAY(calls, struct call, CALL_ENTRIES);
BPF_ARRAY(losses, u64, LOSSES);
BPF_PERCPU_ARRAY(entered, struct open_call, 1);
BPF_ARRAY(no_call, struct open_call, 1);
BPF_HASH(open_calls, u32, struct open_call, OPEN_ENTRIES); // by the machine's tid
BPF_PERCPU_HASH(cells, struct key, struct cell, CELL_ENTRIES);

static inline void lose(int loss)
{
    u64 *count = losses.lookup(&loss);
    if (count)
        __sync_fetch_and_add(count, 1);
}

// How many bits a value has. Without branches, as the verifier would follow all of their combinations.
static inline u32 bits_of(u64 value)
{
    value |= value >> 1;
    value |= value >> 2;
    value |= value >> 4;
    value |= value >> 8;
    value |= value >> 16;
    value |= value >> 32;
    value -= value >> 1 & 0x5555555555555555;
    value = (value & 0x3333333333333333) + (value >> 2 & 0x3333333333333333);
    value = (value + (value >> 4)) & 0x0f0f0f0f0f0f0f0f;
    return value * 0x0101010101010101 >> 56;
}

static inline s32 log2_bucket(u64 value, u32 is_signed)
{
    return is_signed && (s64)value < 0 ? -(s32)bits_of(-value) : (s32)bits_of(value);
}

static inline s32 linear_bucket(struct question *question, u64 value, u32 is_signed)
{
    u64 above = value - question->linear_min;
    if (is_signed ? (s64)value < question->linear_min : value < (u64)question->linear_min)
        return -1;
    above /= question->linear_step;
    return above < question->linear_buckets ? above : question->linear_buckets;
}

static inline u64 cut(u64 value, u32 shift, u32 is_signed)
{
    shift &= 63;
    return is_signed ? (u64)((s64)(value << shift) >> shift) : value << shift >> shift;
}

static inline void add(struct key *key, u64 value, u32 is_signed)
{
    struct cell *cell = cells.lookup(key);
    if (!cell) {
        struct cell empty = {};
        cells.insert(key, &empty);
        cell = cells.lookup(key);
        if (!cell) {
            lose(LOSS_NO_CELL);
            return;
        }
    }
    // Of this CPU, and with preemption off: nobody else is here.
    cell->sum_low += value;
    cell->sum_high += (cell->sum_low < value) - (is_signed && (s64)value < 0);
    if (!cell->count || (is_signed ? (s64)value > (s64)cell->max : value > cell->max))
        cell->max = value;
    cell->count++;
}

static inline void add_measure(struct question *question, struct call *call, u32 at, struct open_call *open,
                               struct outcome *outcome, struct key *key)
{
    struct measure *measure = &call->measures[at & (MEASURES - 1)];
    u64 value = 0;
    u32 is_signed = measure->is_signed;
    key->measure = at;
    key->bucket = 0;
    key->error = 0;
    if (measure->kind == MEASURE_ARGUMENT)
        value = cut(open->arguments[measure->argument & 7], measure->shift, is_signed);
    else if (measure->kind == MEASURE_RESULT)
        value = outcome->result;
    else
        value = outcome->latency_ns;
    if (measure->kind >= MEASURE_OUTCOME || (measure->kind == MEASURE_RESULT && outcome->error)) {
        key->error = outcome->error;
        if (measure->kind == MEASURE_RESULT)
            value = 0;
    } else if (question->is_linear) {
        key->bucket = linear_bucket(question, value, is_signed);
    } else {
        key->bucket = log2_bucket(value, is_signed);
    }
    add(key, value, is_signed);
}

#ifdef WITH_STACKS

struct stack_key {
    u32 pid, path;
};

// Sent with the registers and a copy of the stack: as many bytes as stacks.py reads.
struct stack_sample {
    u32 pid, path, padding[13];
};

BPF_PERCPU_ARRAY(stack_tops, struct stack_top, 1);
BPF_HASH(stacks, struct stack_key, u64, STACK_ENTRIES);
BPF_PERF_OUTPUT(samples);

// The number of the path that led to the call, and of the instruction that made it: a library may have several. Its stack
// is sampled the first time, and whenever its count is a power of two: a path may turn out to have been several.
static inline u64 stack_of(void *ctx, u32 pid, struct target *target)
{
    int zero = 0;
    u64 stack = 0, instruction = 0, first = 1;
    struct registers *registers = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
    bpf_probe_read_kernel(&stack, sizeof stack, &registers->sp);
    bpf_probe_read_kernel(&instruction, sizeof instruction, &registers->ip);
    struct stack_key key = {.pid = pid, .path = (u32)instruction * 0x85ebca6b};
    if (target)
        key.path ^= path_of(stack_tops.lookup(&zero), stack, target->code_start, target->code_bytes);
    u64 *count = stacks.lookup(&key), before = 0;
    if (count)
        before = __sync_fetch_and_add(count, 1);
    else if (stacks.insert(&key, &first))
        lose(LOSS_NO_STACK_ENTRY);
    if (!(before & (before + 1))) {
        struct stack_sample sample = {.pid = key.pid, .path = key.path};
        samples.perf_submit(ctx, &sample, sizeof sample);
    }
    return (u64)pid << 32 | key.path;
}

#else

static inline u64 stack_of(void *ctx, u32 pid, struct target *target)
{
    return 0;
}

#endif

static inline int count(void *ctx, struct question *question, struct filter *filter, struct target *target,
                        struct call *call, u32 number, struct open_call *open, struct outcome *outcome)
{
    struct key key = {.call = number};
    u64 ids = ids_seen(filter);
    switch (question->by) {
    case BY_RESULT:
        key.by[0] = outcome->result;
        break;
    case BY_COMM:
        bpf_get_current_comm(key.by, sizeof key.by);
        break;
    case BY_PID:
        key.by[0] = ids >> 32;
        break;
    case BY_TID:
        key.by[0] = ids;
        break;
    case BY_FD:
        key.by[0] = ids >> 32 << 32 | (u32)open->arguments[call->fd_argument & 7];
        break;
    case BY_ERROR:
        key.by[0] = outcome->error;
        break;
    case BY_STACK:
        key.by[0] = stack_of(ctx, ids >> 32, target);
        break;
    }
#pragma clang loop unroll(disable)
    for (u32 at = 0; at < MEASURES; at++) {
        if (at >= question->measures)
            break;
        add_measure(question, call, at, open, outcome, &key);
    }
    return 1;
}

// --- Hooks. Each returns 1: 0 would keep the event from other tools that listen to it by perf.

struct enter {
    u64 common, number, arguments[6];
};

struct leave {
    u64 common, number;
    s64 result;
};

// The call's number: an instruction that can be found and changed before it is loaded.
static inline u32 this_call(void)
{
    u64 number;
    asm volatile("%0 = " CALL_MARK_TEXT : "=r"(number));
    return number;
}

int on_enter(struct enter *ctx)
{
    int zero = 0;
    u32 number = this_call(), tid = bpf_get_current_pid_tgid();
    struct question *question = this_question.lookup(&zero);
    struct filter *filter = filters.lookup(&zero);
    struct open_call *open = entered.lookup(&zero), *empty = no_call.lookup(&zero);
    struct call *call = calls.lookup(&number);
    if (!question || !question->measures || !filter || !call || !open || !empty)
        return 1;
    struct target *target = find_target(ids_seen(filter) >> 32);
    if (!is_wanted(filter, target))
        return 1;
    if (!question->at_enter) {
        open = open_calls.lookup(&tid);
        if (!open) {
            open_calls.insert(&tid, empty);
            open = open_calls.lookup(&tid);
            if (!open) {
                lose(LOSS_NO_OPEN_ENTRY);
                return 1;
            }
        }
    }
    // Not by ctx->arguments: a program that could read more arguments than a call has may not be attached to it.
    bpf_probe_read_kernel(open->arguments, sizeof ctx->arguments, (void *)ctx + offsetof(struct enter, arguments));
    open->call = number;
    if (question->at_enter) {
        struct outcome none = {};
        return count(ctx, question, filter, target, call, number, open, &none);
    }
    open->start_ns = bpf_ktime_get_ns();
    return 1;
}

int on_leave(struct leave *ctx)
{
    u64 now = bpf_ktime_get_ns();
    int zero = 0;
    u32 number = this_call(), tid = bpf_get_current_pid_tgid();
    struct question *question = this_question.lookup(&zero);
    struct filter *filter = filters.lookup(&zero);
    struct open_call *open = open_calls.lookup(&tid);
    struct call *call = calls.lookup(&number);
    if (!question || !question->measures || !filter || !call)
        return 1;
    struct target *target = find_target(ids_seen(filter) >> 32);
    if (!open || !open->start_ns || open->call != number) {
        if (is_wanted(filter, target))
            lose(LOSS_NO_BEGIN);
        return 1;
    }
    struct outcome outcome = {.result = ctx->result, .latency_ns = now - open->start_ns};
    if (outcome.result < 0 && outcome.result >= -ERRORS_MOST)
        outcome.error = -outcome.result;
    open->start_ns = 0;
    return count(ctx, question, filter, target, call, number, open, &outcome);
}

// Such as within exit(2), or by a signal: the call never ends.
int on_thread_exit(void *ctx)
{
    u32 tid = bpf_get_current_pid_tgid();
    struct open_call *open = open_calls.lookup(&tid);
    if (!open)
        return 1;
    if (open->start_ns)
        lose(LOSS_NO_END);
    open_calls.delete(&tid);
    return 1;
}
