// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
//
// Lock waits: exact counts for each futex word, and samples of the stacks that wait and that release.
//
// Compiled by BCC. It reads no structure of the kernel but the user's registers, whose layout is fixed by ptrace(2), and
// the arguments of tracepoints, whose offsets come from their format files. Every hook runs for all processes: the first
// thing that each does is to leave those that aren't recorded.
//
// Given by the one who compiles it: WAIT_ENTRIES, LOCK_ENTRIES, PLACE_ENTRIES, TARGET_ENTRIES (sizes of tables);
// NEWTASK_PID, NEWTASK_FLAGS (offsets in the tracepoint task:task_newtask); WITH_KPROBES (hooks are kprobes on system
// calls, not tracepoints); WITH_REGISTERS (the kernel has the helpers for these); IN_NAMESPACE (process ids are those of
// the namespace in `control`, not the machine's).

#include "path.bpf.h"

#define CLONE_THREAD_FLAG 0x10000
#define TID_MASK 0x3fffffff
#define COMMAND_MASK 0x7f
#define PRIVATE_FLAG 0x80
// glibc's mutexes hold 2 where somebody waits, and their owner 8 bytes on; Rust's hold 2 as well.
#define CONTENDED_VALUE 2
#define OWNER_OFFSET 8
// How a call with a timeout ends that a signal without a handler has interrupted (ERESTART_RESTARTBLOCK): the thread
// calls restart_syscall(2) next, which goes on with it.
#define RESTART_BLOCK -516
#define VALUE_CHANGED -11 // EAGAIN

enum operation { OP_WAIT, OP_WAIT_BITSET, OP_LOCK_PI, OP_WAIT_REQUEUE_PI, OP_WAITV };
enum end { END_WOKEN, END_TIMED_OUT, END_VALUE_CHANGED, END_INTERRUPTED, END_FAILED, ENDS };
enum budget_index { BUDGET_LOCK, BUDGET_OTHER, BUDGET_LOCK_RELEASE, BUDGET_OTHER_RELEASE, BUDGETS };
enum sample_kind { SAMPLE_WAIT, SAMPLE_RELEASE };
enum loss { LOSS_NO_THREAD_ENTRY, LOSS_MISSED_END, LOSS_NO_PLACE_ENTRY, LOSS_DEFERRED_CHARGE, LOSS_NO_TARGET_ENTRY, LOSSES };

#define BUCKETS 48
#define WINDOW_NS 125000000ULL
#define BURST_NS 125000000ULL
#define PERIOD_LEAST_NS 20000ULL
#define PERIOD_MOST_NS 1000000000000ULL
// Of other waits, most are of threads that have nothing to do, and these are long: so much of one counts for its chance
// to be sampled, so that a pool that sleeps doesn't drown a lock that is waited for often.
#define OTHER_CREDIT_MOST_NS 10000000ULL

struct control {
    u64 start_ns, end_ns; // of the recording
    u64 sample_interval_ns; // of each budget
    u64 namespace_device, namespace_inode;
};

struct target {
    u32 generation; // how many programs it has run by exec
    u32 family;     // the same in processes that forked from one another: these share mappings at equal addresses
    u64 code_start, code_bytes; // of the program itself; 0 where it isn't known
};

struct key {
    u64 address;
    u32 pid; // 0 for words that processes share, for which `space` is a family
    u32 space;
};

struct thread {
    u64 start_ns; // 0: doesn't wait
    struct key key;
    u32 owner;
    u32 pid;
    u8 operation, budget, is_counted, has_registers;
    u8 is_contended, restarts; // whether the word had CONTENDED_VALUE; whether restart_syscall(2) goes on with the wait
    u8 padding[2];
    u64 code_start, code_bytes; // as in its target
    struct registers registers;
    u64 gap, charged; // what nobody was charged with when it was woken last, and what all had been by then
};

// What was waited for a word by a time t is `waiting * t + balance`: each wait adds its end's time and takes away its
// beginning's. `entered` and `left` count the changes under way: a reader that finds another one doesn't believe its sum.
struct lock {
    u64 entered, left;
    u64 waiting;
    s64 balance;
    u64 charged; // what releases have been charged with, or nobody
    u64 credit, next_sample, next_release_sample;

    u64 max_ns;
    u64 first_ns; // when it was first waited for
    u64 ends[ENDS];
    u32 pid, owner;
    u32 operation, budget;
    u64 is_free; // it was released, and no waiter has woken yet: nobody holds it, as far as is known
    u64 unowned; // what was waited while it was free, and what nobody is charged with because it began before the start
    u64 woken; // the former alone
    u64 buckets[BUCKETS];
};

struct budget {
    u64 period_ns; // so much waiting for a sample
    u64 window_start_ns, candidates;
    u64 next_due_ns;
};

// Who waited for a word or gave it back, and by which path, as far as the top of the stack tells: the sums here are exact,
// and samples tell what a path is.
struct place {
    u64 address;
    u32 tid, pid, space, path; // pid and space as in a key
};

struct place_sums {
    u64 waits, waited_ns, caused_ns;
};

struct sample {
    u32 kind;
    u32 address_low, address_high;
    u32 pid, space;
    u32 weight_low, weight_high;
    u32 duration_low, duration_high;
    u32 credit_low, credit_high; // what the duration counted as
    u32 owner, operation;
    u32 path, padding;
};

BPF_PERCPU_ARRAY(stack_tops, struct stack_top, 1);
BPF_ARRAY(this_control, struct control, 1);
BPF_ARRAY(budgets, struct budget, BUDGETS);
BPF_ARRAY(losses, u64, LOSSES);
BPF_ARRAY(rest, struct lock, 1); // stands for all the words for which `locks` has no room
BPF_ARRAY(blank, struct lock, 1);
BPF_ARRAY(blank_thread, struct thread, 1);
BPF_HASH(targets, u32, struct target, TARGET_ENTRIES);
BPF_HASH(threads, u32, struct thread, WAIT_ENTRIES);
BPF_HASH(locks, struct key, struct lock, LOCK_ENTRIES);
BPF_HASH(places, struct place, struct place_sums, PLACE_ENTRIES);
BPF_PERF_OUTPUT(samples);

static inline void lose(int loss)
{
    u64 *count = losses.lookup(&loss);
    if (count)
        __sync_fetch_and_add(count, 1);
}

// The thread's ids as those who asked see them: pid in the upper half.
static inline u64 current_ids(void)
{
#ifdef IN_NAMESPACE
    int zero = 0;
    struct control *control = this_control.lookup(&zero);
    struct bpf_pidns_info info = {};
    if (!control ||
        bpf_get_ns_current_pid_tgid(control->namespace_device, control->namespace_inode, &info, sizeof info))
        return 0;
    return (u64)info.tgid << 32 | info.pid;
#else
    return bpf_get_current_pid_tgid();
#endif
}

static inline u64 random_below(u64 limit)
{
    return bpf_get_prandom_u32() * (limit >> 10) >> 22;
}

// Adapts the period so that about one sample falls due in each interval, whatever the number of those who wait.
static inline void adapt(struct budget *budget, u64 now, u64 interval_ns)
{
    u64 elapsed_ns = now - budget->window_start_ns;
    if ((s64)elapsed_ns < (s64)WINDOW_NS)
        return;
    u64 candidates = budget->candidates + 1, wanted = elapsed_ns / interval_ns + 1, period = budget->period_ns;
    budget->window_start_ns = now;
    budget->candidates = 0;
    if (candidates > wanted * 4)
        candidates = wanted * 4;
    if (candidates < (wanted + 1) / 2)
        candidates = (wanted + 1) / 2;
    period = period * candidates / wanted;
    if (period < PERIOD_LEAST_NS)
        period = PERIOD_LEAST_NS;
    if (period > PERIOD_MOST_NS)
        period = PERIOD_MOST_NS;
    budget->period_ns = period;
}

// How much credit a sample now stands for; 0 where none is due. A word's credit passes marks that lie a period apart on
// average: a wait is sampled in proportion to what it adds, and stands for the marks that it passed.
static inline u64 due_weight(struct control *control, int index, u64 now, u64 credit, u64 *next)
{
    struct budget *budget = budgets.lookup(&index);
    if (!budget)
        return 0;
    adapt(budget, now, control->sample_interval_ns);
    u64 period = budget->period_ns, mark = *next;
    if (!mark)
        *next = mark = random_below(period) + 1;
    if (mark > credit + 2 * period) // the period was longer once
        *next = mark = credit + random_below(period) + 1;
    if (credit < mark)
        return 0;
    __sync_fetch_and_add(&budget->candidates, 1);
    u64 due_ns = budget->next_due_ns;
    if (due_ns > now + BURST_NS)
        return 0;
    budget->next_due_ns = (due_ns > now ? due_ns : now) + control->sample_interval_ns;
    u64 passed = (credit - mark) / period + 1;
    *next = mark + (passed - 1) * period + period / 2 + random_below(period);
    return passed * period;
}

static inline void take_sample(void *ctx, u32 kind, struct key *key, u64 weight, u64 duration, u64 credit, u32 owner,
                               u32 operation, u32 path)
{
    struct sample sample = {
        .kind = kind,
        .address_low = key->address,
        .address_high = key->address >> 32,
        .pid = key->pid,
        .space = key->space,
        .weight_low = weight,
        .weight_high = weight >> 32,
        .duration_low = duration,
        .duration_high = duration >> 32,
        .credit_low = credit,
        .credit_high = credit >> 32,
        .owner = owner,
        .operation = operation,
        .path = path,
    };
    samples.perf_submit(ctx, &sample, sizeof sample);
}

static inline struct key key_of(struct target *target, u32 pid, u64 address, u32 is_private)
{
    struct key key = {.address = address};
    key.pid = is_private ? pid : 0;
    key.space = is_private ? target->generation : target->family;
    return key;
}

static inline struct lock *find_lock(struct key *key)
{
    struct lock *lock = locks.lookup(key);
    if (lock)
        return lock;
    int zero = 0;
    return rest.lookup(&zero);
}

static inline struct lock *find_or_add_lock(struct key *key, struct thread *thread)
{
    struct lock *lock = locks.lookup(key);
    if (lock)
        return lock;
    // Too large for the stack of a program, which has 512 bytes: entries are copies of an empty one.
    int zero = 0;
    struct lock *empty = blank.lookup(&zero);
    if (!empty)
        return NULL;
    locks.insert(key, empty);
    lock = locks.lookup(key);
    if (!lock)
        return rest.lookup(&zero);
    lock->first_ns = bpf_ktime_get_ns();
    lock->pid = thread->pid;
    lock->operation = thread->operation;
    lock->budget = thread->budget;
    return lock;
}

static inline void add_to_place(struct key *key, u32 tid, u32 path, u64 waits, u64 waited_ns, u64 caused_ns)
{
    struct place place = {.address = key->address, .tid = tid, .pid = key->pid, .space = key->space, .path = path};
    struct place_sums *sums = places.lookup(&place);
    if (sums) { // of one thread, which is here alone
        sums->waits += waits;
        sums->waited_ns += waited_ns;
        sums->caused_ns += caused_ns;
        return;
    }
    struct place_sums first = {.waits = waits, .waited_ns = waited_ns, .caused_ns = caused_ns};
    if (places.insert(&place, &first))
        lose(LOSS_NO_PLACE_ENTRY);
}

#define DEFERRED -1

// What was waited for a word by now and nobody is charged with yet; DEFERRED where other changes are under way. The caller
// has counted itself as `entered`.
static inline s64 uncharged(struct lock *lock, u64 now)
{
    u64 left = *(volatile u64 *)&lock->left, entered = *(volatile u64 *)&lock->entered;
    s64 sum = *(volatile u64 *)&lock->waiting * now + *(volatile s64 *)&lock->balance - *(volatile u64 *)&lock->charged;
    if (entered != left + 1 || *(volatile u64 *)&lock->entered != entered) {
        lose(LOSS_DEFERRED_CHARGE);
        return DEFERRED;
    }
    return sum > 0 ? sum : 0;
}

// Nobody is charged with this. A wait that no release knew of, as it began before the start, is in the gap as a whole.
static inline void count_gap(struct lock *lock, struct thread *thread, u64 gap, u64 duration)
{
    __sync_fetch_and_add(&lock->charged, gap);
    __sync_fetch_and_add(&lock->unowned, gap);
    if (thread->is_counted) {
        __sync_fetch_and_add(&lock->woken, gap);
        thread->gap = gap;
        thread->charged = lock->charged;
    } else if (gap > duration) {
        __sync_fetch_and_add(&lock->woken, gap - duration);
    }
}

static inline void count_end(struct lock *lock, struct thread *thread, u64 now, u64 from, int end)
{
    u64 duration = now - from;
    __sync_fetch_and_add(&lock->entered, 1);
    if (thread->is_counted) {
        __sync_fetch_and_add(&lock->waiting, -1);
        __sync_fetch_and_add(&lock->balance, now);
    } else {
        __sync_fetch_and_add(&lock->balance, duration);
    }
    thread->gap = 0;
    if (end == END_WOKEN && lock->is_free) {
        s64 gap = uncharged(lock, now);
        lock->is_free = 0;
        if (gap > 0)
            count_gap(lock, thread, gap, duration);
    }
    __sync_fetch_and_add(&lock->left, 1);
    if (end >= 0 && end < ENDS)
        __sync_fetch_and_add(&lock->ends[end], 1);
    u64 bucket = duration ? bpf_log2l(duration) : 0;
    // Or the compiler checks one copy and uses another: the verifier of Linux 6.1 doesn't follow that.
    asm volatile("" : "+r"(bucket));
    if (bucket >= BUCKETS)
        bucket = BUCKETS - 1;
    __sync_fetch_and_add(&lock->buckets[bucket], 1);
    // Again, should another CPU have put a smaller one there meanwhile.
    if (duration > lock->max_ns)
        lock->max_ns = duration;
    if (duration > lock->max_ns)
        lock->max_ns = duration;
}

// A wait whose end was missed counts as none: what is known is when it began, and that it is over.
static inline void take_back(struct thread *thread)
{
    struct lock *lock = thread->is_counted ? find_lock(&thread->key) : NULL;
    if (lock) {
        __sync_fetch_and_add(&lock->entered, 1);
        __sync_fetch_and_add(&lock->waiting, -1);
        __sync_fetch_and_add(&lock->balance, thread->start_ns);
        __sync_fetch_and_add(&lock->left, 1);
    }
    thread->start_ns = 0;
    lose(LOSS_MISSED_END);
}

// Who is woken and waits again, and nobody has given the lock back between, has found it taken: it wasn't free, and who
// took it meanwhile is charged after all, at the next release. Called between `entered` and `left`.
static inline void charge_gap(struct lock *lock, u64 gap, u64 charged)
{
    // A release while nobody waited is charged with nothing, but leaves it free.
    if (lock->is_free || lock->charged != charged)
        return;
    __sync_fetch_and_add(&lock->woken, -gap);
    // `charged - unowned` is read meanwhile, and must not be below 0.
    __sync_fetch_and_add(&lock->unowned, -gap);
    __sync_fetch_and_add(&lock->charged, -gap);
}

static inline int begin_wait(u64 address, u32 operation, u32 is_private, u32 value, struct registers *registers)
{
    u64 ids = current_ids(), now = bpf_ktime_get_ns();
    u32 pid = ids >> 32, tid = ids, zero = 0;
    struct target *target = targets.lookup(&pid);
    struct control *control = this_control.lookup(&zero);
    if (!target || !control || now >= control->end_ns)
        return 1;
    struct thread *thread = threads.lookup(&tid);
    if (!thread) {
        struct thread *empty = blank_thread.lookup(&zero);
        if (!empty)
            return 1;
        threads.insert(&tid, empty);
        thread = threads.lookup(&tid);
        if (!thread) {
            lose(LOSS_NO_THREAD_ENTRY);
            return 1;
        }
    }
    if (thread->start_ns)
        take_back(thread);
    struct key key = key_of(target, pid, address, is_private);
    u32 owner = 0, has_owner = value == CONTENDED_VALUE && operation == OP_WAIT, is_pi = operation == OP_LOCK_PI;
    if (has_owner)
        read_user(&owner, sizeof owner, (void *)(address + OWNER_OFFSET));
    if (is_pi)
        read_user(&owner, sizeof owner, (void *)address);
    u64 gap = thread->gap, is_again = thread->is_contended && value == CONTENDED_VALUE;
    if (!is_again || thread->key.address != address || thread->key.space != key.space)
        gap = 0;
    thread->key = key;
    thread->pid = pid;
    thread->owner = owner & TID_MASK;
    thread->operation = operation;
    thread->budget = operation == OP_WAIT || is_pi || (operation == OP_WAIT_BITSET && value == CONTENDED_VALUE)
                         ? BUDGET_LOCK
                         : BUDGET_OTHER;
    thread->is_contended = value == CONTENDED_VALUE;
    thread->code_start = target->code_start;
    thread->code_bytes = target->code_bytes;
    thread->restarts = 0;
    thread->has_registers = 0;
    if (registers)
        thread->has_registers = !bpf_probe_read_kernel(&thread->registers, sizeof thread->registers, registers);
    thread->is_counted = now >= control->start_ns;
    if (thread->is_counted) {
        struct lock *lock = find_or_add_lock(&key, thread);
        if (lock) {
            if (thread->owner)
                lock->owner = thread->owner;
            __sync_fetch_and_add(&lock->entered, 1);
            __sync_fetch_and_add(&lock->waiting, 1);
            __sync_fetch_and_add(&lock->balance, -now);
            if (gap)
                charge_gap(lock, gap, thread->charged);
            __sync_fetch_and_add(&lock->left, 1);
        }
    }
    thread->start_ns = now;
    return 1;
}

static inline int end_of(s64 result)
{
    if (result >= 0)
        return END_WOKEN;
    if (result == -110) // ETIMEDOUT
        return END_TIMED_OUT;
    if (result == VALUE_CHANGED)
        return END_VALUE_CHANGED;
    // EINTR, and within the kernel ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK
    if (result == -4 || (result <= -512 && result >= -516))
        return END_INTERRUPTED;
    return END_FAILED;
}

static inline int end_wait(void *ctx, s64 result, int can_sample)
{
    u64 now = bpf_ktime_get_ns();
    u32 tid = current_ids(), zero = 0;
    struct thread *thread = threads.lookup(&tid);
    if (!thread || !thread->start_ns)
        return 1;
    struct control *control = this_control.lookup(&zero);
    if (!control || now >= control->end_ns)
        return 1;
    thread->restarts = result == RESTART_BLOCK;
    u64 from = thread->start_ns < control->start_ns ? control->start_ns : thread->start_ns;
    if (now <= from) {
        thread->start_ns = 0;
        return 1;
    }
    struct lock *lock = find_or_add_lock(&thread->key, thread);
    if (!lock) {
        thread->start_ns = 0;
        return 1;
    }
    count_end(lock, thread, now, from, end_of(result));
    u32 path = 0;
    if (result != VALUE_CHANGED) // that call took no time to speak of
        path = path_of(stack_tops.lookup(&zero), thread->registers.sp, thread->code_start, thread->code_bytes);
    add_to_place(&thread->key, tid, path, 1, now - from, 0);
    u64 duration = now - from, credit = duration;
    if (thread->budget == BUDGET_OTHER && credit > OTHER_CREDIT_MOST_NS)
        credit = OTHER_CREDIT_MOST_NS;
    __sync_fetch_and_add(&lock->credit, credit);
    u64 weight = can_sample ? due_weight(control, thread->budget, now, lock->credit, &lock->next_sample) : 0;
    thread->start_ns = 0;
    if (weight)
        take_sample(ctx, SAMPLE_WAIT, &thread->key, weight, duration, credit, thread->owner, thread->operation,
                    path);
    return 1;
}

// Charges who gives a lock back with all that was waited for it since it was last given back.
static inline int release(void *ctx, u64 address, u32 is_private, struct registers *registers)
{
    u64 ids = current_ids(), stack = 0;
    u32 pid = ids >> 32, zero = 0;
    struct target *target = targets.lookup(&pid);
    if (!target)
        return 1;
    struct key key = key_of(target, pid, address, is_private);
    struct lock *lock = locks.lookup(&key);
    struct control *control = this_control.lookup(&zero);
    if (!lock || !control)
        return 1;
    __sync_fetch_and_add(&lock->entered, 1);
    u64 now = bpf_ktime_get_ns();
    s64 charge = 0;
    if (now >= control->start_ns && now < control->end_ns) {
        charge = uncharged(lock, now);
        if (charge > 0)
            __sync_fetch_and_add(&lock->charged, charge);
        // What was waited until now would count as waited for a free lock.
        if (charge != DEFERRED)
            lock->is_free = 1;
    }
    __sync_fetch_and_add(&lock->left, 1);
    if (charge <= 0)
        return 1;
    if (registers)
        bpf_probe_read_kernel(&stack, sizeof stack, &registers->sp);
    u32 path = path_of(stack_tops.lookup(&zero), stack, target->code_start, target->code_bytes);
    add_to_place(&key, ids, path, 0, 0, charge);
    u64 credit = lock->charged - lock->unowned;
    u64 weight = due_weight(control, lock->budget + BUDGET_LOCK_RELEASE, now, credit, &lock->next_release_sample);
    if (weight)
        take_sample(ctx, SAMPLE_RELEASE, &key, weight, charge, charge, 0, lock->operation, path);
    return 1;
}

static inline int futex(void *ctx, u64 address, u32 command, u32 value, u64 second_address, struct registers *registers)
{
    u32 is_private = command & PRIVATE_FLAG, operation = OP_WAIT;
    switch (command & COMMAND_MASK) {
    case 0: // FUTEX_WAIT
        break;
    case 9: // FUTEX_WAIT_BITSET
        operation = OP_WAIT_BITSET;
        break;
    case 6:  // FUTEX_LOCK_PI
    case 13: // FUTEX_LOCK_PI2
        operation = OP_LOCK_PI;
        break;
    case 11: // FUTEX_WAIT_REQUEUE_PI
        operation = OP_WAIT_REQUEUE_PI;
        break;
    case 5: // FUTEX_WAKE_OP
        release(ctx, second_address, is_private, registers);
        return release(ctx, address, is_private, registers);
    case 1:  // FUTEX_WAKE
    case 3:  // FUTEX_REQUEUE
    case 4:  // FUTEX_CMP_REQUEUE
    case 7:  // FUTEX_UNLOCK_PI
    case 10: // FUTEX_WAKE_BITSET
    case 12: // FUTEX_CMP_REQUEUE_PI
        return release(ctx, address, is_private, registers);
    default:
        return 1;
    }
    return begin_wait(address, operation, is_private, value, registers);
}

// struct futex_waitv of futex_waitv(2): the first of several words stands for all.
struct waiter {
    u64 value, address;
    u32 flags, reserved;
};

static inline int futex_waitv(u64 waiters, struct registers *registers)
{
    struct waiter first = {};
    if (read_user(&first, sizeof first, (void *)waiters))
        return 1;
    return begin_wait(first.address, OP_WAITV, first.flags & PRIVATE_FLAG, 0, registers);
}

static inline int futex_requeue(void *ctx, u64 waiters, struct registers *registers)
{
    struct waiter first = {};
    if (read_user(&first, sizeof first, (void *)waiters))
        return 1;
    return release(ctx, first.address, first.flags & PRIVATE_FLAG, registers);
}

// What is left of a wait that a signal has interrupted, such as SIGCONT or a debugger's: another wait. The call still has
// the arguments of the one that it goes on with, which may be a sleep after a wait that ended with its signal's handler.
static inline int restart(struct registers *registers)
{
    u32 tid = current_ids();
    u64 address = 0;
    struct thread *thread = threads.lookup(&tid);
    if (!thread || !thread->restarts)
        return 1;
    // The tracepoint doesn't show arguments: restart_syscall(2) itself has none.
    if (registers && (bpf_probe_read_kernel(&address, sizeof address, &registers->di) || thread->key.address != address))
        return 1;
    struct key key = thread->key;
    return begin_wait(key.address, thread->operation, key.pid, thread->is_contended ? CONTENDED_VALUE : 0, registers);
}

// --- Hooks. Each returns 1: 0 would keep the event from other tools that listen to it by perf.

#ifdef WITH_KPROBES

// A kprobe on a system call's function, which is given the user's registers (since 4.17).
#define USER_REGISTERS(ctx)                                                                                            \
    struct registers *registers = (void *)ctx->di, user = {};                                               \
    if (bpf_probe_read_kernel(&user, sizeof user, registers))                                                          \
        return 1;                                                                                                      \
    u64 arguments[6] = {user.di, user.si, user.dx, user.r10, user.r8, user.r9};

#define ENTER_CONTEXT struct registers
#define LEAVE_CONTEXT struct registers
#define RESULT(ctx) ((s64)ctx->ax)

#else

struct enter {
    u64 common, number, arguments[6];
};

struct leave {
    u64 common, number;
    s64 result;
};

#ifdef WITH_REGISTERS
#define USER_REGISTERS(ctx)                                                                                            \
    u64 *arguments = ctx->arguments;                                                                                   \
    struct registers *registers = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
#else
#define USER_REGISTERS(ctx)                                                                                            \
    u64 *arguments = ctx->arguments;                                                                                   \
    struct registers *registers = NULL;
#endif

#define ENTER_CONTEXT struct enter
#define LEAVE_CONTEXT struct leave
#define RESULT(ctx) (ctx->result)

#endif

int on_futex(ENTER_CONTEXT *ctx)
{
    USER_REGISTERS(ctx)
    return futex(ctx, arguments[0], arguments[1], arguments[2], arguments[4], registers);
}

int on_futex_wait(ENTER_CONTEXT *ctx)
{
    USER_REGISTERS(ctx)
    return begin_wait(arguments[0], OP_WAIT_BITSET, arguments[3] & PRIVATE_FLAG, arguments[1], registers);
}

int on_futex_waitv(ENTER_CONTEXT *ctx)
{
    USER_REGISTERS(ctx)
    return futex_waitv(arguments[0], registers);
}

int on_futex_wake(ENTER_CONTEXT *ctx)
{
    USER_REGISTERS(ctx)
    return release(ctx, arguments[0], arguments[3] & PRIVATE_FLAG, registers);
}

int on_futex_requeue(ENTER_CONTEXT *ctx)
{
    USER_REGISTERS(ctx)
    return futex_requeue(ctx, arguments[0], registers);
}

int on_restart(ENTER_CONTEXT *ctx)
{
    USER_REGISTERS(ctx)
    return restart(registers);
}

int on_wait_end(LEAVE_CONTEXT *ctx)
{
    return end_wait(ctx, RESULT(ctx), 1);
}

// --- Hooks on what becomes of processes: always tracepoints.

#ifndef IN_NAMESPACE
int on_new_task(u32 *ctx)
{
    u32 child = ctx[NEWTASK_PID / 4], parent = current_ids() >> 32;
    if (*(u64 *)(ctx + NEWTASK_FLAGS / 4) & CLONE_THREAD_FLAG)
        return 1;
    struct target *target = targets.lookup(&parent);
    if (!target) {
        targets.delete(&child); // the number was a target's once
        return 1;
    }
    struct target forked = *target;
    forked.generation = 0;
    if (targets.update(&child, &forked))
        lose(LOSS_NO_TARGET_ENTRY);
    return 1;
}
#endif

// A CPU sample, taken on every CPU: 0 leaves those out that are of others.
int on_cpu_sample(void *ctx)
{
    u32 pid = current_ids() >> 32;
    return targets.lookup(&pid) ? 1 : 0;
}

int on_exec(void *ctx)
{
    u32 pid = current_ids() >> 32;
    struct target *target = targets.lookup(&pid);
    if (target) {
        target->generation += 1;
        target->code_bytes = 0;
        target->family = pid | target->generation << 22;
    }
    return 1;
}

int on_exit(void *ctx)
{
    u32 tid = current_ids();
    if (!threads.lookup(&tid))
        return 1;
    end_wait(ctx, -4, 0);
    threads.delete(&tid);
    return 1;
}
