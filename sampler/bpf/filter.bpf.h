// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
//
// Which threads the programs of a trace are for: -p, --comm and --cgroup, all at once. `trace/filters.py` says what is
// asked for, and attaches the programs at the end, which follow processes. Both files change together.
//
// Given by the one who compiles it (`filter_definitions`): TARGET_ENTRIES (size of the table of processes); NEWTASK_PID,
// NEWTASK_FLAGS, FREED_PID (offsets in the tracepoints task:task_newtask and sched:sched_process_free); IN_NAMESPACE
// (process ids are those of our namespace, not the machine's).

#define FILTER_PIDS 1
#define FILTER_CGROUP 2
#define FILTER_COMM 4
#define NEW_THREAD_FLAG 0x10000 // CLONE_THREAD of clone(2)

struct filter {
    u32 wanted; // FILTER_*: what is asked for
    u32 padding;
    u64 comm[2]; // padded with zeros, as the kernel has it
    u64 namespace_device, namespace_inode;
};

struct target {
    u64 code_start, code_bytes; // of the program itself; 0 where it isn't known
};

BPF_ARRAY(filters, struct filter, 1);
BPF_HASH(targets, u32, struct target, TARGET_ENTRIES); // by the machine's pid
#ifdef IN_NAMESPACE
BPF_HASH(seeds, u32, struct target, TARGET_ENTRIES); // by the pid in our namespace: all that is known at the start
#endif
BPF_CGROUP_ARRAY(cgroups, 1);
BPF_ARRAY(target_losses, u64, 1); // children that `targets` had no room for

// The thread's ids as those who asked see them: pid in the upper half.
static inline u64 ids_seen(struct filter *filter)
{
#ifdef IN_NAMESPACE
    struct bpf_pidns_info info = {};
    if (bpf_get_ns_current_pid_tgid(filter->namespace_device, filter->namespace_inode, &info, sizeof info))
        return 0;
    return (u64)info.tgid << 32 | info.pid;
#else
    return bpf_get_current_pid_tgid();
#endif
}

// Whether the current thread's name is the one that is asked for, if one is.
static inline int has_wanted_comm(struct filter *filter)
{
    u64 comm[2] = {};
    if (!(filter->wanted & FILTER_COMM))
        return 1;
    bpf_get_current_comm(comm, sizeof comm);
    return comm[0] == filter->comm[0] && comm[1] == filter->comm[1];
}

// The process of the current thread, `pid_seen` by `ids_seen`, if it is one of -p.
static inline struct target *find_target(u32 pid_seen)
{
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    struct target *target = targets.lookup(&pid);
#ifdef IN_NAMESPACE
    if (!target)
        target = seeds.lookup(&pid_seen);
#endif
    return target;
}

// Whether the current thread is asked for; `target` by `find_target`.
static inline int is_wanted(struct filter *filter, struct target *target)
{
    if (filter->wanted & FILTER_PIDS && !target)
        return 0;
    if (filter->wanted & FILTER_CGROUP && cgroups.check_current_task(0) != 1)
        return 0;
    return has_wanted_comm(filter);
}

// --- Hooks that follow processes. Each returns 1: 0 would keep the event from other tools that listen to it by perf.

int on_new_task(u32 *ctx)
{
    int zero = 0;
    u32 child = ctx[NEWTASK_PID / 4];
    u64 *lost = target_losses.lookup(&zero);
    struct filter *filter = filters.lookup(&zero);
    if (!filter || !lost || *(u64 *)(ctx + NEWTASK_FLAGS / 4) & NEW_THREAD_FLAG)
        return 1;
    struct target *target = find_target(ids_seen(filter) >> 32);
    if (!target)
        return 1;
    struct target forked = *target;
    if (targets.update(&child, &forked))
        __sync_fetch_and_add(lost, 1);
    return 1;
}

int on_exec(void *ctx)
{
    int zero = 0;
    struct filter *filter = filters.lookup(&zero);
    struct target *target = filter ? find_target(ids_seen(filter) >> 32) : NULL;
    if (target)
        target->code_bytes = 0;
    return 1;
}

// A process's number may be another one's from now on. No thread's number is a living process's.
int on_process_free(u32 *ctx)
{
    u32 pid = ctx[FREED_PID / 4];
    targets.delete(&pid);
    return 1;
}
