# ruff: noqa: E501 - a stack stays on its line
from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.locks.naming import BEYOND_TABLE, UNSAMPLED, name_locks, object_address
from flame.locks.rule_file import load_rules
from lockflame.profile import FutexOperation, Lock, Memory, WaitEnds
from tests.unit.flame.locks.lock_profiles import NOT_SAMPLED, SECOND, Taken, lock_of, profile_with_locks

OURS = load_rules()
NO_OWNER: dict[str, object] = {"has_owner": False}
FUTEX = "libc.so.6+0x98d60"


def named(lock: Lock, *stacks: tuple[str, int]) -> Lock:
    """The lock, waited for with these stacks for so many ns, with its name."""
    rows = [Taken(stack, 0, delay) for stack, delay in stacks]
    return name_locks(profile_with_locks([lock], rows), OURS).locks[0]


# fmt: off
VERDICTS = [
    ("main/THD::set_query(char*)/pthread_mutex_lock/__lll_lock_wait", "mutex", False, "lock taken in THD::set_query"),
    # A libc without debug symbols has the names of its public functions only.
    (f"main/f/pthread_mutex_lock/{FUTEX}", "mutex", False, "lock taken in f"),
    (f"main/f/std::mutex::lock()/pthread_mutex_lock@@GLIBC_2.2.5/{FUTEX}", "mutex", False, "lock taken in f"),
    (f"main/f/pthread_rwlock_wrlock@GLIBC_2.34/{FUTEX}", "rwlock", False, "lock taken in f"),
    ("main/f/std::shared_mutex::lock_shared()/___pthread_rwlock_rdlock/__pthread_rwlock_rdlock_full64", "rwlock", False, "lock taken in f"),
    (f"main/w/pthread_cond_wait@@GLIBC_2.3.2/{FUTEX}", "condition", True, "condition waited for in w"),
    ("main/w/pthread_cond_timedwait/__pthread_cond_wait_common/__futex_abstimed_wait_common", "condition", True, "condition waited for in w"),
    # It has its event, and now wants its mutex.
    ("main/w/pthread_cond_wait/__pthread_mutex_cond_lock/__lll_lock_wait", "mutex", False, "lock taken in w"),
    (f"main/f/sem_wait/{FUTEX}", "semaphore", False, "semaphore waited for in f"),
    (f"main/f/pthread_barrier_wait/{FUTEX}", "barrier", False, "barrier waited for in f"),
    (f"main/f/pthread_join/{FUTEX}", "join", True, "thread joined in f"),
    ("main/f/std::thread::join()/pthread_join/__pthread_clockjoin_ex", "join", True, "thread joined in f"),
    (f"main/f/pthread_once/{FUTEX}", "once", False, "lock taken in f"),
    ("main/f/std::call_once<void (&)()>/pthread_once/__pthread_once_slow/futex_wait", "once", False, "lock taken in f"),
    ("main/f/__cxa_guard_acquire/syscall", "once", False, "lock taken in f"),
    # What runs once may wait for other locks.
    ("main/f/pthread_once/init/pthread_mutex_lock", "mutex", False, "lock taken in init"),
    ("main/f/pthread_once/init/syscall", "own", False, "lock taken in init"),
    # Locks made of condition variables are locks.
    ("main/_PyEval/take_gil/pthread_cond_timedwait", "gil", False, "lock taken in _PyEval"),
    ("main/h/rw_lock_s_lock_spin(x)/sync_array_wait_event(x)/os_event::wait()/pthread_cond_wait", "rwlock", False, "lock taken in h"),
    ("main/heap_insert/LWLockAcquire/PGSemaphoreLock/sem_wait", "lwlock", False, "lock taken in heap_insert"),
    ("main/idle/os_event::wait()/pthread_cond_wait", "condition", True, "condition waited for in idle"),
    ("java/Unsafe_Park/Parker::park(bool)/pthread_cond_wait", "parker", True, "parker waited for in java"),
    ("go/runtime.stopm/runtime.notesleep/runtime.futexsleep/runtime.futex", "condition", True, "condition waited for in runtime.stopm"),
    ("w/std::sys::sync::mutex::futex::Mutex::lock_contended/syscall", "mutex", False, "lock taken in w"),
    # No rule knows these.
    ("main/my_lock/syscall", "own", False, "lock taken in my_lock"),
    ("main/my_lock", "own", False, "lock taken in my_lock"),
    ("main/my_lock/std::sys::pal::futex::futex_wait", "own", False, "lock taken in my_lock"),
]
# fmt: on


@pytest.mark.parametrize(("stack", "kind", "is_idle", "name"), VERDICTS)
def test_kind_and_name_by_the_callers_frames(stack: str, kind: str, is_idle: bool, name: str) -> None:
    lock = named(lock_of(SECOND, **NO_OWNER), (stack, SECOND))
    assert (lock.kind, lock.is_idle, lock.name) == (kind, is_idle, name)


def test_most_of_the_time_decides() -> None:
    lock = named(lock_of(SECOND), ("f/pthread_mutex_lock", 3), ("f/pthread_cond_wait", 2), ("g/pthread_mutex_lock", 1))
    assert (lock.kind, lock.is_idle, lock.name) == ("mutex", False, "lock taken in f")


@pytest.mark.parametrize(
    ("values", "kind", "is_idle"),
    [
        ({}, "mutex", False),
        (NO_OWNER, "futex", False),
        ({"operation": FutexOperation.LOCK_PI}, "PI mutex", False),
        (NO_OWNER | {"operation": FutexOperation.WAIT_REQUEUE_PI}, "condition", True),
        (NO_OWNER | {"ends": WaitEnds(timed_out=2, interrupted=1, still_open=1)}, "sleep", True),
        (NO_OWNER | {"ends": WaitEnds(timed_out=1)}, "futex", False),
        (NO_OWNER | {"ends": WaitEnds(timed_out=9, woken=1)}, "futex", False),
        ({"ends": WaitEnds(timed_out=2)}, "mutex", False),
    ],
)
def test_without_a_sampled_wait(values: dict[str, object], kind: str, is_idle: bool) -> None:
    lock = named(lock_of(SECOND, **values), (NOT_SAMPLED, SECOND))
    assert (lock.kind, lock.is_idle, lock.name) == (kind, is_idle, UNSAMPLED)


def test_the_operation_tells_more_than_frames_of_a_mutex() -> None:
    lock = named(lock_of(SECOND, operation=FutexOperation.LOCK_PI), ("f/pthread_mutex_lock", SECOND))
    assert (lock.kind, lock.name) == ("PI mutex", "lock taken in f")


def test_an_owner_tells_a_mutex_where_frames_say_nothing() -> None:
    assert named(lock_of(SECOND), ("f/libfoo.so+0x10", SECOND)).kind == "mutex"


def test_sleeps_are_idle_but_a_mutex_that_wasnt_got_isnt() -> None:
    ends = {"ends": WaitEnds(timed_out=5)}
    slept = named(lock_of(SECOND, **NO_OWNER, **ends), ("main/nap/syscall", SECOND))
    assert (slept.kind, slept.is_idle, slept.name) == ("sleep", True, "sleep in nap")
    tried = named(lock_of(SECOND, **NO_OWNER, **ends), ("main/f/pthread_mutex_timedlock", SECOND))
    assert (tried.kind, tried.is_idle) == ("mutex", False)


def test_a_lock_with_a_symbol_is_called_so() -> None:
    assert named(lock_of(memory=Memory.STATIC, symbol="cache.mutex+0x8"), ("f/pthread_mutex_lock", 1)).name == (
        "cache.mutex+0x8"
    )
    shared = {"memory": Memory.SHARED, "symbol": "/dev/shm/queue+0x40"}
    assert named(lock_of(**shared), ("f/pthread_mutex_lock", 1)).name == "/dev/shm/queue+0x40"
    nameless = {"memory": Memory.SHARED, "symbol": "/dev/zero (deleted)+0x40"}
    assert named(lock_of(**nameless), ("f/pthread_mutex_lock", 1)).name == "lock taken in f"


@pytest.mark.parametrize(
    ("symbol", "name"),
    [("ready+0x2c", "ready+0x28"), ("ready+0x28", "ready+0x28"), ("word+0x4", "word"), ("odd", "odd")],
)
def test_the_two_words_of_a_condition_variable_are_one(symbol: str, name: str) -> None:
    lock = lock_of(memory=Memory.STATIC, symbol=symbol, address=0x102C, **NO_OWNER)
    found = named(lock, ("f/pthread_cond_wait", 1))
    assert (found.name, object_address(found)) == (name, 0x1028)
    kept = named(lock, ("f/sem_wait", 1))
    assert (kept.name, object_address(kept)) == (symbol, 0x102C)


def test_the_gil_of_a_stripped_python() -> None:
    """Only functions that extensions call have names: the others' wait is on a condition variable of the runtime's."""
    eval_loop, restore = (
        "main/_PyEval/python3.11+0x15/pthread_cond_timedwait",
        "main/PyEval_RestoreThread/python3.11+0x15",
    )
    word = lock_of(memory=Memory.STATIC, symbol="_PyRuntime+0x1cc", **NO_OWNER)
    found = named(word, (eval_loop, 9))
    assert (found.kind, found.is_idle, found.name) == ("gil", False, "_PyRuntime+0x1c8")
    found = named(lock_of(**NO_OWNER), (eval_loop, 9), (f"{restore}/pthread_cond_timedwait", 1))
    assert (found.kind, found.is_idle) == ("gil", False)


def test_what_the_table_had_no_room_for() -> None:
    lock = named(lock_of(memory=Memory.UNKNOWN, has_owner=False), ("f/pthread_cond_wait", 1))
    assert (lock.name, lock.kind, lock.is_idle) == (BEYOND_TABLE, "futex", False)


def test_one_class_whichever_of_its_sites_was_seen() -> None:
    """Three connections' locks: the third was seen waiting at a lesser place only, and given back at the main one."""
    main, other = "loop/set_query/pthread_mutex_lock", "loop/show/pthread_mutex_lock"
    release = "loop/set_query/pthread_mutex_unlock"
    rows = [
        Taken(main, 0, 50), Taken(other, 0, 60), Taken(main, 1, 40), Taken(other, 1, 1),
        Taken(other, 2, 5), Taken(release, 2, caused=5),
    ]  # fmt: skip
    locks = name_locks(profile_with_locks([lock_of(), lock_of(), lock_of()], rows), OURS).locks
    assert [lock.name for lock in locks] == ["lock taken in set_query"] * 3


def test_kinds_and_named_locks_dont_mix_with_a_class() -> None:
    rows = [
        Taken("f/pthread_rwlock_rdlock", 0, 99), Taken("g/pthread_rwlock_rdlock", 0, 1),
        Taken("f/pthread_mutex_lock", 1, 1), Taken("g/pthread_mutex_lock", 1, 2),
        Taken("f/pthread_mutex_lock", 2, 99),
    ]  # fmt: skip
    locks = [lock_of(**NO_OWNER), lock_of(), lock_of(memory=Memory.STATIC, symbol="big")]
    found = name_locks(profile_with_locks(locks, rows), OURS).locks
    assert [(lock.name, lock.kind) for lock in found] == [
        ("lock taken in f", "rwlock"),
        ("lock taken in g", "mutex"),
        ("big", "mutex"),
    ]


def test_a_class_is_idle_as_a_whole() -> None:
    words = [lock_of(time, memory=Memory.SHARED, symbol="/dev/shm/q+0x8", **NO_OWNER) for time in (9, 1)]
    rows = [Taken("f/pthread_cond_wait", 0, 9), Taken("f/pthread_cond_wait/__pthread_cond_wait_common", 1, 1)]
    rows += [Taken("f/pthread_cond_wait/__lll_lock_wait", 1, 2)]
    locks = [replace(lock, operation=FutexOperation.WAIT) for lock in words]
    found = name_locks(profile_with_locks(locks, rows), OURS).locks
    assert [(lock.kind, lock.is_idle) for lock in found] == [("condition", True), ("mutex", False)]
    same = name_locks(profile_with_locks(locks, rows[:2]), OURS).locks
    assert [lock.is_idle for lock in same] == [True, True]


def test_a_profile_without_locks_stays() -> None:
    profile = profile_with_locks([], [Taken("main/f", cpu=5)])
    assert name_locks(profile, OURS) is profile


FUNCTIONS = ["a", "b", "c"]
CALLS = ["pthread_mutex_lock", "pthread_cond_wait", "sem_wait", "syscall", "libc.so.6+0x10"]
ROWS = st.lists(
    st.builds(
        Taken,
        st.tuples(st.sampled_from(FUNCTIONS), st.sampled_from(CALLS)).map("/".join) | st.just(NOT_SAMPLED),
        st.integers(0, 3),
        st.integers(1, 9),
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_order_changes_no_name(rows: list[Taken], rng: random.Random) -> None:
    locks = [lock_of(10 + index, address=0x1000 * index) for index in range(4)]
    before = name_locks(profile_with_locks(locks, rows), OURS).locks
    order = rng.sample(range(4), 4)
    moved = [replace(row, lock=order.index(row.lock)) for row in rng.sample(rows, len(rows))]
    after = name_locks(profile_with_locks([locks[index] for index in order], moved), OURS).locks
    assert list(after) == [before[index] for index in order]
    assert all(lock.name and lock.kind for lock in after)
