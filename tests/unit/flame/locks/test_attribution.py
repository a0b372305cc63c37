# ruff: noqa: E501 - a stack stays on its line
"""Stacks as recordings have them, and the verdicts on them."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.locks.attribution import Attribution, Verdict, attribute
from flame.locks.rule_file import load_rules
from flame.locks.rules import LockRules, Meaning, Rule
from lockflame.profile import (
    CPU,
    SAMPLES,
    FrameKind,
    Function,
    Line,
    Location,
    Profile,
    Stacks,
    Thread,
    samples_of_no_lock,
)

OURS = load_rules()
CONTENDED, LOCKING, NONE = Verdict.CONTENDED, Verdict.LOCKING, Verdict.NONE

SYSCALL = "entry_SYSCALL_64_after_hwframe[k] do_syscall_64[k]"
FUTEX_WAIT = f"{SYSCALL} __x64_sys_futex[k] do_futex[k] futex_wait[k] __futex_wait[k] futex_do_wait[k] schedule[k]"
FUTEX_WAKE = f"{SYSCALL} __x64_sys_futex[k] do_futex[k] futex_wake[k] wake_up_q[k] try_to_wake_up[k]"
HASH_LOCK = (
    f"{SYSCALL} __x64_sys_futex[k] do_futex[k] futex_wake[k] _raw_spin_lock[k] native_queued_spin_lock_slowpath[k]"
)
FAULT = "asm_exc_page_fault[k] exc_page_fault[k] do_user_addr_fault[k]"


def stack(text: str) -> list[str | tuple[str, ...]]:
    """Root first, apart by blanks; `a|b` is b inlined into a. A tuple's order is innermost first."""
    return [tuple(reversed(frame.split("|"))) if "|" in frame else frame for frame in text.split()]


def verdict_on(profile: Profile, attribution: Attribution, index: int = 0) -> tuple[Verdict, str, str]:
    """The verdict, the kind and the site's name."""
    if attribution.verdict[index] == NONE:
        assert (attribution.kind[index], attribution.location[index]) == (-1, -1)
        assert (attribution.line[index], attribution.depth[index]) == (-1, -1)
        return NONE, "", ""
    location = profile.locations[attribution.location[index]]
    name = profile.functions[location.lines[attribution.line[index]].function].name
    frames = [
        profile.functions[line.function].name
        for at in profile.stacks[index].tolist()
        for line in profile.locations[at].lines
    ]
    assert frames[attribution.depth[index]] == name
    return Verdict(attribution.verdict[index]), attribution.kinds[attribution.kind[index]], name


# fmt: off
MUTEX = [
    ("main f pthread_mutex_lock", LOCKING, "mutex", "f"),
    ("main f pthread_mutex_unlock __pthread_mutex_unlock_usercnt", LOCKING, "mutex", "f"),
    ("main f pthread_mutex_trylock", LOCKING, "mutex", "f"),
    ("main f pthread_mutex_lock __lll_lock_wait", CONTENDED, "mutex", "f"),
    (f"main f pthread_mutex_lock __lll_lock_wait {FUTEX_WAIT}", CONTENDED, "mutex", "f"),
    # Without libc's debug symbols.
    (f"main f pthread_mutex_lock libc.so.6+0x8aac0 {FUTEX_WAIT}", CONTENDED, "mutex", "f"),
    ("main f pthread_mutex_lock libc.so.6+0x8aac0", LOCKING, "mutex", "f"),
    (f"main f pthread_mutex_lock {FUTEX_WAIT}", CONTENDED, "mutex", "f"),
    (f"main f libc.so.6+0x8aac0 {FUTEX_WAIT}", CONTENDED, "futex", "f"),
    # Unlock enters the kernel only when somebody waits.
    (f"main f __pthread_mutex_unlock_usercnt __lll_lock_wake {FUTEX_WAKE}", CONTENDED, "mutex", "f"),
    (f"main f pthread_mutex_unlock {SYSCALL}", LOCKING, "mutex", "f"),
    (f"main f pthread_mutex_lock __lll_lock_wait {HASH_LOCK}", CONTENDED, "mutex", "f"),
    # Inlined C++.
    ("main f|std::lock_guard<std::mutex>::lock_guard|__gthread_mutex_lock pthread_mutex_lock", LOCKING, "mutex", "f"),
    (f"main f|std::mutex::lock|__gthread_mutex_lock pthread_mutex_lock __lll_lock_wait {FUTEX_WAIT}", CONTENDED, "mutex", "f"),
    ("main g|f std::unique_lock<std::mutex>::lock() pthread_mutex_lock", LOCKING, "mutex", "f"),
    # malloc's arena.
    (f"main f malloc _int_malloc __lll_lock_wait_private {FUTEX_WAIT}", CONTENDED, "mutex", "_int_malloc"),
]
WAITS = [
    (f"main worker pthread_cond_wait@@GLIBC_2.3.2 __futex_abstimed_wait_common {FUTEX_WAIT}", LOCKING, "condition", "worker"),
    (f"main worker std::condition_variable::wait() pthread_cond_wait {FUTEX_WAIT}", LOCKING, "condition", "worker"),
    (f"main worker pthread_cond_wait {HASH_LOCK}", LOCKING, "condition", "worker"),
    (f"main f pthread_cond_signal {FUTEX_WAKE}", LOCKING, "condition", "f"),
    # It has its event, and now wants its mutex.
    (f"main w pthread_cond_wait __pthread_mutex_cond_lock __lll_lock_wait {FUTEX_WAIT}", CONTENDED, "mutex", "w"),
    (f"main w pthread_cond_wait __pthread_mutex_unlock_usercnt __lll_lock_wake {FUTEX_WAKE}", CONTENDED, "mutex", "w"),
    ("main w pthread_cond_wait __pthread_mutex_unlock_usercnt", LOCKING, "condition", "w"),
    (f"main f sem_wait __new_sem_wait_slow64.constprop.0 {FUTEX_WAIT}", LOCKING, "semaphore", "f"),
    (f"main f pthread_barrier_wait __futex_abstimed_wait_common {FUTEX_WAIT}", LOCKING, "barrier", "f"),
    (f"main f pthread_join __pthread_clockjoin_ex __futex_abstimed_wait_common {FUTEX_WAIT}", LOCKING, "join", "f"),
    ("main f pthread_rwlock_rdlock __pthread_rwlock_rdlock_full64", LOCKING, "rwlock", "f"),
    (f"main f pthread_rwlock_wrlock __futex_abstimed_wait_common {FUTEX_WAIT}", CONTENDED, "rwlock", "f"),
    (f"main f syscall {FUTEX_WAIT}", CONTENDED, "futex", "f"),
]
KERNEL = [
    (f"main read {SYSCALL} ksys_read[k] _raw_spin_lock[k]", LOCKING, "spinlock", "ksys_read"),
    (f"main aio {SYSCALL} io_submit[k] _raw_spin_lock[k] native_queued_spin_lock_slowpath[k]", CONTENDED, "spinlock", "io_submit"),
    (f"main read {SYSCALL} pipe_read[k] mutex_lock[k] __mutex_lock.constprop.0[k] schedule[k]", CONTENDED, "mutex", "pipe_read"),
    (f"main f {FAULT} down_read[k] rwsem_down_read_slowpath[k]", CONTENDED, "rwsem", "do_user_addr_fault"),
    # Woken by an interrupt, within a lock or not: no work of the lock.
    (f"main f pthread_mutex_lock {FAULT} clear_page_erms[k]", NONE, "", ""),
    (f"main f pthread_mutex_lock {FAULT} _raw_spin_lock[k]", LOCKING, "spinlock", "do_user_addr_fault"),
    ("main f pthread_mutex_lock __restore_rt on_signal work", NONE, "", ""),
    ("main f __restore_rt pthread_mutex_lock", LOCKING, "mutex", "__restore_rt"),
    (f"main write {SYSCALL} sock_def_readable[k] _raw_spin_unlock_irqrestore[k]", NONE, "", ""),
    (f"main poll {SYSCALL} do_sys_poll[k] schedule[k] finish_task_switch.isra.0[k]", NONE, "", ""),
]
PROGRAMS = [
    ("h srw_mutex_impl<true>::wait_and_lock() syscall " + FUTEX_WAIT, CONTENDED, "mutex", "h"),
    ("h ssux_lock_impl<true>::rd_wait() ut_delay(unsigned)", CONTENDED, "rwlock", "h"),
    ("h rw_lock_s_lock_spin(rw_lock_t*) sync_array_wait_event(x) os_event::wait() pthread_cond_wait", CONTENDED, "rwlock", "h"),
    ("h os_event::wait() pthread_cond_wait " + FUTEX_WAIT, LOCKING, "condition", "h"),
    ("open_table MDL_context::acquire_lock(MDL_request*) MDL_wait::timed_wait(x) pthread_cond_timedwait", CONTENDED, "metadata", "open_table"),
    ("open_table MDL_context::acquire_lock(MDL_request*) MDL_ticket::create malloc", NONE, "", ""),
    ("heap_insert LWLockAcquire PGSemaphoreLock sem_wait " + FUTEX_WAIT, CONTENDED, "lwlock", "heap_insert"),
    ("heap_insert LWLockAcquire", LOCKING, "lwlock", "heap_insert"),
    ("LockAcquireExtended WaitOnLock ProcSleep WaitLatch", CONTENDED, "heavyweight", "LockAcquireExtended"),
    ("shmem s_lock perform_spin_delay pg_usleep", CONTENDED, "spinlock", "shmem"),
    ("sock_recv PyEval_RestoreThread take_gil pthread_cond_timedwait " + FUTEX_WAIT, CONTENDED, "gil", "sock_recv"),
    ("_PyEval_EvalFrameDefault _Py_HandlePending drop_gil pthread_mutex_lock", LOCKING, "gil", "_PyEval_EvalFrameDefault"),
    ("obj _PyMutex_LockTimed _PyParkingLot_Park _PySemaphore_Wait sem_wait " + FUTEX_WAIT, CONTENDED, "mutex", "obj"),
    ("queue_get PyThread_acquire_lock_timed sem_clockwait " + FUTEX_WAIT, LOCKING, "condition", "queue_get"),
    ("J.run[j] SharedRuntime::complete_monitor_locking_C(x) ObjectMonitor::enter(x) PlatformEvent::park()", CONTENDED, "monitor", "J.run"),
    ("J.run[j] Unsafe_Park Parker::park(bool) pthread_cond_wait " + FUTEX_WAIT, LOCKING, "parker", "J.run"),
    ("main.work sync.(*Mutex).Lock sync.(*Mutex).lockSlow", CONTENDED, "mutex", "main.work"),
    ("main.work sync.(*Mutex).Lock", LOCKING, "mutex", "main.work"),
    (f"runtime.chansend runtime.lock2 runtime.futexsleep runtime.futex {FUTEX_WAIT}", CONTENDED, "mutex", "runtime.chansend"),
    (f"runtime.findRunnable runtime.stopm runtime.notesleep runtime.futexsleep runtime.futex {FUTEX_WAIT}", LOCKING, "condition", "runtime.stopm"),
    (f"w std::sys::sync::mutex::futex::Mutex::lock_contended syscall {FUTEX_WAIT}", CONTENDED, "mutex", "w"),
    (f"w parking_lot::raw_mutex::RawMutex::lock_slow parking_lot_core::parking_lot::park syscall {FUTEX_WAIT}", CONTENDED, "mutex", "w"),
    (f"w parking_lot::condvar::Condvar::wait_until_internal parking_lot_core::parking_lot::park syscall {FUTEX_WAIT}", LOCKING, "condition", "w"),
    ("arena_get je_malloc_mutex_lock_slow pthread_mutex_lock", CONTENDED, "mutex", "arena_get"),
    (f"free_list SpinLock::SlowLock() base::internal::SpinLockDelay(int) syscall {FUTEX_WAIT}", CONTENDED, "spinlock", "free_list"),
]
# fmt: on


@pytest.mark.parametrize(("text", "verdict", "kind", "site"), [*MUTEX, *WAITS, *KERNEL, *PROGRAMS])
def test_verdicts(profile_of, text: str, verdict: Verdict, kind: str, site: str) -> None:
    profile = profile_of([(stack(text), 1)])
    assert verdict_on(profile, attribute(profile, OURS)) == (verdict, kind, site)


@pytest.mark.parametrize(
    ("frames", "site"),
    [
        (["[truncated stack][m]", "pthread_mutex_lock"], "[truncated stack]"),
        (["pthread_mutex_lock", "__lll_lock_wait"], "pthread_mutex_lock"),
        (["syscall", *FUTEX_WAIT.split()], "syscall"),
    ],
)
def test_a_stack_that_ends_before_a_caller(profile_of, frames: list[str], site: str) -> None:
    profile = profile_of([(frames, 1)])
    assert verdict_on(profile, attribute(profile, OURS))[2] == site


def test_stacks_dont_touch_each_other(profile_of) -> None:
    texts = ["main", f"a pthread_mutex_lock {FUTEX_WAIT}", "b", "c pthread_cond_wait", "pthread_mutex_lock", "d e"]
    profile = profile_of([([], 1), *((stack(text), 1) for text in texts), ([], 1)])
    verdicts = attribute(profile, OURS).verdict.tolist()
    assert verdicts == [NONE, NONE, CONTENDED, NONE, LOCKING, LOCKING, NONE, NONE]


def test_weights_are_those_of_the_stacks(profile_of) -> None:
    profile = profile_of([(["f", "pthread_mutex_lock"], 2), (["f"], 4), (["f", "__lll_lock_wait"], 3)])
    attribution = attribute(profile, OURS)
    assert attribution.weights(profile, SAMPLES, LOCKING).tolist() == [2, 0, 0]
    assert attribution.weights(profile, SAMPLES, CONTENDED).tolist() == [0, 0, 3]


def test_an_empty_profile(profile_of) -> None:
    assert len(attribute(profile_of([]), OURS).verdict) == 0


LETTERS = {
    "l": Meaning.LOCKING,
    "c": Meaning.CONTENDED,
    "w": Meaning.WAITING,
    "m": Meaning.MECHANISM,
    "x": Meaning.WRAPPER,
    "b": Meaning.BOUNDARY,
}
LETTER_RULES = LockRules(Rule((letter,), means, "" if letter in "xb" else letter) for letter, means in LETTERS.items())


def by_hand(leaf_first: list[tuple[str, bool]]) -> tuple[Verdict, str, int]:
    """The definition, one frame after the other: verdict, kind, how many frames are leafward of the site."""
    segment = []
    for frame in leaf_first:
        if frame[0] == "b":
            break
        segment.append(frame)
    locks = [at for at, (letter, _) in enumerate(segment) if letter in "lcwm"]
    if not locks:
        return NONE, "", -1
    machinery = segment[: locks[-1] + 1]
    site = len(machinery)
    while site < len(leaf_first) and leaf_first[site][0] == "x":
        site += 1
    user = [letter for letter, kernel in machinery if letter in "lcw" and not kernel]
    idle = bool(user) and user[-1] == "w"
    slow = any(letter == "m" or (letter == "c" and kernel) for letter, kernel in machinery)
    contended = "c" in user or (slow and not idle)
    real = [letter for letter in user if letter != "w"]
    kind = real[-1] if contended and real else user[-1] if user else machinery[-1][0]
    return (CONTENDED if contended else LOCKING), kind, min(site, len(leaf_first) - 1)


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from("lcwmxbo"), st.booleans()), max_size=8), max_size=6))
def test_columns_say_what_the_definition_says(profile_of, root_first: list[list[tuple[str, bool]]]) -> None:
    stacks = [([letter + "[k]" * kernel for letter, kernel in frames], 1) for frames in root_first]
    profile = profile_of(stacks)
    attribution = attribute(profile, LETTER_RULES)
    for index, frames in enumerate(root_first):
        verdict, kind, depth = by_hand(frames[::-1])
        assert verdict_on(profile, attribution, index)[:2] == (verdict, kind)
        assert attribution.depth[index] == depth


IN_FUTEX = [
    # What no rule knows is charged as well, to the first function that is no part of how it called the kernel.
    ("main f", CONTENDED, "own", "f"),
    ("main f syscall", CONTENDED, "own", "f"),
    ("main f libc.so.6+0x98d60", CONTENDED, "own", "f"),
    ("syscall", CONTENDED, "own", "syscall"),
    ("main my_lock futex_wait", CONTENDED, "futex", "my_lock"),
    # The leaf need not say that it waits.
    ("main f pthread_mutex_lock libc.so.6+0x98d60", CONTENDED, "mutex", "f"),
    ("main f pthread_cond_wait libc.so.6+0x98d60", LOCKING, "condition", "f"),
    ("main f pthread_cond_wait __lll_lock_wait", CONTENDED, "mutex", "f"),
    ("main f pthread_once libc.so.6+0x98d60", CONTENDED, "once", "f"),
    ("main f pthread_once init", CONTENDED, "own", "init"),
    # What the kernel does above the call, such as running our probes, calls no lock.
    ("main f[k]", CONTENDED, "own", "main"),
    ("main f syscall do_syscall_64[k] perf_syscall_enter[k]", CONTENDED, "own", "f"),
    ("main __restore_rt", CONTENDED, "own", "__restore_rt"),
    # Markers take what no sample stands for.
    ("main [wait_not_sampled][m]", NONE, "", ""),
]


@pytest.mark.parametrize(("text", "verdict", "kind", "site"), IN_FUTEX)
def test_stacks_known_to_be_of_waits(profile_of, text: str, verdict: Verdict, kind: str, site: str) -> None:
    profile = profile_of([([], 1), (["main", "f"], 1), (stack(text), 1), (["main", "f"], 1), ([], 1)])
    found = attribute(profile, OURS, np.array([True, False, True, False, True]))
    assert verdict_on(profile, found, 2) == (verdict, kind, site)
    assert [verdict_on(profile, found, index)[0] for index in (0, 1, 3, 4)] == [NONE] * 4


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from("lcwmxbo"), st.booleans()), max_size=6), max_size=4))
def test_waits_are_judged_as_if_their_leaf_was_a_mechanism(
    profile_of, root_first: list[list[tuple[str, bool]]]
) -> None:
    """A kernel's futex frame put in front of each stack, and the stack as it is but known to be in a futex call."""
    root_first = [frames for frames in root_first if frames]
    stacks = [([letter + "[k]" * kernel for letter, kernel in frames], 1) for frames in root_first]
    with_leaf = profile_of([([*frames, "m[k]"], count) for frames, count in stacks])
    expected = attribute(with_leaf, LETTER_RULES)
    profile = profile_of(stacks)
    found = attribute(profile, LETTER_RULES, np.ones(len(stacks), np.bool_))
    for index, frames in enumerate(root_first):
        verdict, kind, site = verdict_on(profile, found, index)
        # The added frame gives the kind only where no other does.
        expected_kind = "m" if kind == "own" else kind
        assert (verdict, expected_kind) == verdict_on(with_leaf, expected, index)[:2]
        if frames[-1][1]:
            continue  # the kernel's own frames above the call are passed over
        if expected.depth[index] > 0:
            assert site == verdict_on(with_leaf, expected, index)[2]
        assert found.depth[index] == min(expected.depth[index] - 1, len(frames) - 1)


def test_two_million_frames_in_a_moment() -> None:
    count, depth, functions = 100_000, 20, 5_000
    names = ["pthread_mutex_lock", "__lll_lock_wait", *(f"Class{number}::method()" for number in range(functions))]
    frames = np.random.default_rng(7).integers(2, len(names), (count, depth)).astype(np.int32)
    frames[::3, :2] = (1, 0)
    profile = Profile(
        sample_types=(SAMPLES, CPU),
        mappings=(),
        functions=tuple(Function(name, name) for name in names),
        locations=tuple(Location(at, -1, (Line(at),), FrameKind.USER) for at in range(len(names))),
        threads=(Thread(1, 1, "t"),),
        stacks=Stacks(np.arange(0, count * depth + 1, depth), frames.reshape(-1)),
        samples=samples_of_no_lock(
            np.arange(count, dtype=np.int32), np.zeros(count, np.int32), np.ones((count, 2), np.int64)
        ),
    )
    start = time.process_time()
    attribution = attribute(profile, OURS)
    assert time.process_time() - start < 4
    assert np.array_equal(attribution.verdict == CONTENDED, np.arange(count) % 3 == 0)
