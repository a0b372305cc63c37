// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
//
// Signals, one event each: those that a system call sends, those that the kernel sends by itself, and calls that sent
// none, as they failed or only asked (signal 0). Laid out for Python in signal_layout.py; both files change together.
//
// Compiled by BCC. It reads no structure of the kernel but the arguments of tracepoints, whose offsets come from their
// format files. All events go through one ring, which keeps the order over all CPUs.
//
// Given by the one who compiles it, beside what filter.bpf.h needs: CALL_ENTRIES, THREAD_ENTRIES (sizes of tables);
// RING_PAGES; SIGNAL_NUMBER, SIGNAL_CODE, SIGNAL_COMM, SIGNAL_PID, SIGNAL_GROUP, SIGNAL_RESULT (offsets in the
// tracepoint signal:signal_generate); VICTIM_PID (in oom:mark_victim; left out where the kernel has none).

#include "filter.bpf.h"

enum kind { KIND_GENERATED, KIND_CALL_ENDED, KIND_OOM_VICTIM };
enum call_name { CALL_NONE, CALL_KILL, CALL_TKILL, CALL_TGKILL, CALL_SIGQUEUE, CALL_TGSIGQUEUE, CALL_PIDFD };
enum count { COUNT_RING_FULL, COUNT_NO_CALL_ENTRY, COUNT_NO_THREAD_ENTRY, COUNT_CHILDREN_HIDDEN, COUNTS };

// Of an event: the number of the target is one of our pid namespace; its stack was taken, or couldn't be; whether the
// target has the wanted name is left to the reader.
#define TARGET_IS_OURS 1
#define HAS_STACK 2
#define LOST_STACK 4
#define TO_CHECK_COMM 8

#define SIDE_SENDER 1
#define SIDE_TARGET 2

// siginfo's codes and the results of signal_generate (uapi/asm-generic/siginfo.h, trace/events/signal.h)
#define CODE_TIMER -2
#define CODE_KERNEL 128
#define RESULT_OVERFLOW 3
#define CHILD_ENDED 17 // SIGCHLD
#define NUMBERS 65

struct control {
    u32 is_on, sides;
    u32 with_stacks, only_failed;
    u32 with_children, is_by_number; // whether SIGCHLD of the kernel's counts; whether only those in `numbers` do
};

struct call {
    s32 target, signal;
    u32 target_pid;
    u16 name;
    u16 generated; // signals that it sent so far
};

struct event {
    u64 time_ns;
    u32 kind;
    s32 signal;
    s32 code;
    s32 result; // of signal_generate, or what the call returned
    u32 sender_pid, sender_tid;
    s32 target;     // a thread, or as the call was given it
    u32 target_pid; // 0: not known
    u32 machine_tid; // of the sender
    u8 call, is_group, flags, padding;
    u32 sender_comm[4], target_comm[4];
};

// With the size of the samples of lock waits, which are read by the same functions.
struct sample {
    u32 time_low, time_high;
    u32 machine_tid;
    u32 unused[12];
};

BPF_ARRAY(this_control, struct control, 1);
BPF_ARRAY(numbers, u32, NUMBERS); // by signal: whether it is asked for
BPF_ARRAY(counts, u64, COUNTS);
BPF_HASH(calls, u32, struct call, CALL_ENTRIES);
BPF_HASH(threads, u32, u32, THREAD_ENTRIES); // of the processes of -p: their other threads' processes
BPF_RINGBUF_OUTPUT(events, RING_PAGES);
BPF_PERF_OUTPUT(samples);

static inline void count(int index)
{
    u64 *value = counts.lookup(&index);
    if (value)
        __sync_fetch_and_add(value, 1);
}

static inline struct control *running(void)
{
    int zero = 0;
    struct control *control = this_control.lookup(&zero);
    return control && control->is_on ? control : NULL;
}

static inline int is_number_wanted(struct control *control, s32 signal)
{
    if (!control->is_by_number)
        return 1;
    u32 *wanted = numbers.lookup(&signal);
    return wanted && *wanted;
}

// Whether the current process sees the same process ids as we do.
static inline int is_in_our_namespace(struct filter *filter)
{
    struct bpf_pidns_info info = {};
    return !bpf_get_ns_current_pid_tgid(filter->namespace_device, filter->namespace_inode, &info, sizeof info);
}

static inline int is_comm(struct filter *filter, u32 *words)
{
    char *wanted = (char *)filter->comm, *comm = (char *)words;
#pragma unroll
    for (int at = 0; at < 16; at++) {
        if (wanted[at] != comm[at])
            return 0;
        if (!wanted[at])
            return 1; // what follows may be anything
    }
    return 1;
}

static inline int is_target_process(struct event *event)
{
    u32 pid = event->target_pid ? event->target_pid : event->target;
    if (targets.lookup(&pid))
        return 1;
#ifdef IN_NAMESPACE
    if (event->flags & TARGET_IS_OURS && seeds.lookup(&pid))
        return 1;
#endif
    return 0;
}

// Whether -p and --comm hold for the sender or for the target, whichever of them is asked. Of --cgroup only the current
// process can be asked, which for most of the kernel's signals is the one that they are about.
static inline int is_event_wanted(struct control *control, struct filter *filter, struct event *event, int has_sender)
{
    if (filter->wanted & FILTER_CGROUP && cgroups.check_current_task(0) != 1)
        return 0;
    if (!(filter->wanted & (FILTER_PIDS | FILTER_COMM)))
        return 1;
    if (control->sides & SIDE_SENDER && has_sender && has_wanted_comm(filter) &&
        (!(filter->wanted & FILTER_PIDS) || find_target(event->sender_pid)))
        return 1;
    if (!(control->sides & SIDE_TARGET) || (filter->wanted & FILTER_PIDS && !is_target_process(event)))
        return 0;
    if (!(filter->wanted & FILTER_COMM))
        return 1;
    if (event->kind == KIND_GENERATED)
        return is_comm(filter, event->target_comm);
    event->flags |= TO_CHECK_COMM; // nothing here tells the name of whom a call failed to reach
    return event->flags & TARGET_IS_OURS && event->target > 0;
}

static inline void fill_in_sender(struct filter *filter, struct event *event)
{
    u64 ids = ids_seen(filter);
    event->time_ns = bpf_ktime_get_ns();
    event->machine_tid = bpf_get_current_pid_tgid();
    event->sender_pid = ids >> 32;
    event->sender_tid = ids;
    bpf_get_current_comm(event->sender_comm, sizeof event->sender_comm);
}

static inline void send(void *ctx, struct control *control, struct event *event)
{
    if (control->with_stacks) {
        struct sample sample = {
            .time_low = event->time_ns,
            .time_high = event->time_ns >> 32,
            .machine_tid = event->machine_tid,
        };
        // First, so that who has read the event finds the stack.
        event->flags |= samples.perf_submit(ctx, &sample, sizeof sample) ? LOST_STACK : HAS_STACK;
    }
    if (events.ringbuf_output(event, sizeof *event, 0))
        count(COUNT_RING_FULL);
}

// --- Hooks. Each returns 1: 0 would keep the event from other tools that listen to it by perf.

struct enter {
    u64 common, number, arguments[6];
};

struct leave {
    u64 common, number;
    s64 result;
};

static inline int begin(u32 name, s32 target, s32 signal, u32 target_pid)
{
    u32 tid = bpf_get_current_pid_tgid();
    struct call call = {.name = name, .target = target, .signal = signal, .target_pid = target_pid};
    if (running() && calls.update(&tid, &call))
        count(COUNT_NO_CALL_ENTRY);
    return 1;
}

int on_kill(struct enter *ctx)
{
    return begin(CALL_KILL, ctx->arguments[0], ctx->arguments[1], 0);
}

int on_tkill(struct enter *ctx)
{
    return begin(CALL_TKILL, ctx->arguments[0], ctx->arguments[1], 0);
}

int on_tgkill(struct enter *ctx)
{
    return begin(CALL_TGKILL, ctx->arguments[1], ctx->arguments[2], ctx->arguments[0]);
}

int on_sigqueue(struct enter *ctx)
{
    return begin(CALL_SIGQUEUE, ctx->arguments[0], ctx->arguments[1], 0);
}

int on_tgsigqueue(struct enter *ctx)
{
    return begin(CALL_TGSIGQUEUE, ctx->arguments[1], ctx->arguments[2], ctx->arguments[0]);
}

int on_pidfd(struct enter *ctx)
{
    return begin(CALL_PIDFD, ctx->arguments[0], ctx->arguments[1], 0);
}

// A call that sent nothing: it failed, or only asked. Signals that were sent had events of their own.
int on_call_end(struct leave *ctx)
{
    int zero = 0;
    u32 tid = bpf_get_current_pid_tgid();
    struct call *call = calls.lookup(&tid);
    struct filter *filter = filters.lookup(&zero);
    struct control *control = running();
    if (!call)
        return 1;
    struct call ended = *call;
    calls.delete(&tid);
    if (!filter || !control || ended.generated || (control->only_failed && ctx->result >= 0))
        return 1;
    if (!is_number_wanted(control, ended.signal))
        return 1;
    struct event event = {
        .kind = KIND_CALL_ENDED,
        .signal = ended.signal,
        .result = ctx->result,
        .target = ended.target,
        .target_pid = ended.target_pid,
        .call = ended.name,
        .flags = ended.name != CALL_PIDFD && is_in_our_namespace(filter) ? TARGET_IS_OURS : 0,
    };
    fill_in_sender(filter, &event);
    if (is_event_wanted(control, filter, &event, 1))
        send(ctx, control, &event);
    return 1;
}

#define SIGNAL_FIELD(ctx, offset) (*(s32 *)((void *)(ctx) + (offset)))

// Which process the thread belongs to that a signal is for, as far as it is known without a look at /proc.
static inline void fill_in_target(struct filter *filter, struct event *event, struct call *call)
{
    u32 tid = event->target;
    int is_ours = call && is_in_our_namespace(filter);
#ifdef IN_NAMESPACE
    if (event->machine_tid == tid) {
        event->target = event->sender_tid;
        event->target_pid = event->sender_pid;
        event->flags |= TARGET_IS_OURS;
    } else if (is_ours && call->name != CALL_PIDFD && call->target > 0) {
        event->target = call->target;
        event->target_pid = call->target_pid;
        event->flags |= TARGET_IS_OURS;
    }
#else
    event->flags |= TARGET_IS_OURS;
    if (event->machine_tid == tid)
        event->target_pid = event->sender_pid;
    else if (is_ours)
        event->target_pid = call->target_pid;
#endif
    u32 *pid = event->target_pid ? NULL : threads.lookup(&tid);
    if (pid)
        event->target_pid = *pid;
}

int on_signal(void *ctx)
{
    int zero = 0;
    u32 tid = bpf_get_current_pid_tgid();
    s32 signal = SIGNAL_FIELD(ctx, SIGNAL_NUMBER), code = SIGNAL_FIELD(ctx, SIGNAL_CODE);
    struct control *control = running();
    struct filter *filter = filters.lookup(&zero);
    struct call *call = calls.lookup(&tid);
    // A timer may send one in the midst of a call.
    if (call && (call->signal != signal || code == CODE_KERNEL || code == CODE_TIMER))
        call = NULL;
    if (call)
        call->generated = 1;
    if (!control || !filter || !is_number_wanted(control, signal))
        return 1;
    struct event event = {
        .kind = KIND_GENERATED,
        .signal = signal,
        .code = code,
        .result = SIGNAL_FIELD(ctx, SIGNAL_RESULT),
        .target = SIGNAL_FIELD(ctx, SIGNAL_PID),
        .is_group = SIGNAL_FIELD(ctx, SIGNAL_GROUP),
        .call = call ? call->name : CALL_NONE,
    };
    if (control->only_failed && event.result != RESULT_OVERFLOW)
        return 1;
    for (int word = 0; word < 4; word++)
        event.target_comm[word] = SIGNAL_FIELD(ctx, SIGNAL_COMM + 4 * word);
    fill_in_sender(filter, &event);
    fill_in_target(filter, &event, call);
    // Beside calls, only some of what the kernel sends is sent on behalf of the current process.
    if (!is_event_wanted(control, filter, &event, call || (code <= 0 && code != CODE_TIMER)))
        return 1;
    if (signal == CHILD_ENDED && !call && !control->with_children)
        count(COUNT_CHILDREN_HIDDEN);
    else
        send(ctx, control, &event);
    return 1;
}

#ifdef VICTIM_PID
// The kernel takes a process's memory, to which it has just sent SIGKILL.
int on_victim(void *ctx)
{
    struct control *control = running();
    struct event event = {.kind = KIND_OOM_VICTIM, .target = SIGNAL_FIELD(ctx, VICTIM_PID)};
    event.time_ns = bpf_ktime_get_ns();
    if (control && events.ringbuf_output(&event, sizeof event, 0))
        count(COUNT_RING_FULL);
    return 1;
}
#endif

// --- Hooks that follow the threads of the processes of -p.

int on_new_thread(u32 *ctx)
{
    int zero = 0;
    u32 child = ctx[NEWTASK_PID / 4], pid = bpf_get_current_pid_tgid() >> 32;
    struct filter *filter = filters.lookup(&zero);
    if (!filter || !(*(u64 *)(ctx + NEWTASK_FLAGS / 4) & NEW_THREAD_FLAG))
        return 1;
    if (find_target(ids_seen(filter) >> 32) && threads.update(&child, &pid))
        count(COUNT_NO_THREAD_ENTRY);
    return 1;
}

int on_thread_free(u32 *ctx)
{
    u32 tid = ctx[FREED_PID / 4];
    threads.delete(&tid);
    return 1;
}
