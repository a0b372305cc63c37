"""The text and the objects of a lock trace, made of a trace that is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lockflame.cli.trace.lock_notes import loss_notes
from lockflame.cli.trace.lock_profile import LockPath, LockTrace, paths_by_lock
from lockflame.cli.trace.lock_report import PATHS, Shown, detail_lines, lock_object, order, table_lines
from lockflame.profile import HISTOGRAM_BUCKETS, FutexOperation, HoldTimes, Lock, Memory, WaitEnds
from sampler.trace import lock_layout as layout
from sampler.trace.lock_probes import RawLockTrace
from tests.unit.flame.conftest import profile_of

BOTH = Shown(top=5, stack_depth=2, full_names=False, waits=True, holds=True)


def histogram(**counts: int) -> tuple[int, ...]:
    """Buckets by their number: `b4=3`."""
    return tuple(counts.get(f"b{bucket}", 0) for bucket in range(HISTOGRAM_BUCKETS))


def lock(name: str, waits: int, waited_ns: int, holds: int, held_ns: int) -> Lock:
    """A traced mutex."""
    return Lock(
        pid=1,
        address=0x1000 + waits,
        memory=Memory.STATIC,
        symbol=name,
        operation=FutexOperation.WAIT,
        has_owner=True,
        ends=WaitEnds(woken=waits),
        total_ns=waited_ns,
        max_ns=waited_ns,
        histogram=histogram(b10=waits),
        threads=0,
        name=name,
        kind="mutex",
        held=HoldTimes(holds, held_ns, held_ns, histogram(b12=holds)),
    )


def path(number: int, names: tuple[str, ...], total_ns: int, *, is_hold: bool = False) -> LockPath:
    """One path of a lock."""
    return LockPath(number, is_hold, names, 4, 1 if not is_hold else 0, total_ns, total_ns // 2, histogram(b10=4))


@pytest.fixture
def trace() -> LockTrace:
    """Two locks, of which the second is held longer; the first is waited for by five paths, one of next to no time."""
    locks = (lock("LOCK_first", 20, 10_000, 5, 2_000), lock("LOCK_\x1bsecond", 3, 500, 9, 90_000))
    callers = [path(0, ("pthread_mutex_lock", f"caller{number}(int)", "main"), 3_000 - number) for number in range(4)]
    paths = (*callers, path(0, ("pthread_mutex_lock", "seldom"), 1), path(1, ("release",), 90_000, is_hold=True))
    return LockTrace(replace(profile_of([(("main",), 1)]), locks=locks), paths_by_lock(paths, len(locks)))


def test_locks_are_ordered_by_what_is_shown(trace: LockTrace) -> None:
    assert order(trace.profile.locks, BOTH) == [0, 1]
    assert order(trace.profile.locks, replace(BOTH, waits=False)) == [1, 0]


def test_the_table_has_the_sides_that_are_shown(trace: LockTrace) -> None:
    locks = trace.profile.locks
    heading, first, second = table_lines(locks, [0, 1], BOTH)
    assert heading.split() == ["waits", "total", "mean", "p99", "max", "holds", "held", "mean", "max", "kind", "lock"]
    assert first.split()[:5] == ["20", "10", "µs", "500", "ns"]
    assert second.endswith("LOCK_\N{REPLACEMENT CHARACTER}second (0x1003)")
    heading, *_ = table_lines(locks, [0], replace(BOTH, waits=False))
    assert heading.split() == ["holds", "held", "mean", "max", "kind", "lock"]


def test_paths_of_next_to_no_time_are_counted_only(trace: LockTrace) -> None:
    lines = list(detail_lines(trace, 0, BOTH, 80))
    titles = [line for line in lines if line.startswith("LOCK_first waited for")]
    assert len(titles) == PATHS
    assert titles[0] == "LOCK_first waited for (1 time in vain) by: 4 waits, mean 750 ns, max 1.5 µs, total 3 µs"
    assert lines[2:5] == ["    pthread_mutex_lock", "    caller0", "    ... 1 more"]
    assert lines[-1] == "and 2 more paths that waited for it"


def test_objects_have_all_paths_with_whole_names(trace: LockTrace) -> None:
    found = lock_object(trace, 0, BOTH)
    assert (found["waits"], found["wait_total_ns"], found["wait_mean_ns"], found["holds"]) == (20, 10_000, 500, 5)
    assert found["wait_histogram"] == [[1024, 20]]
    stacks = found["wait_stacks"]
    assert isinstance(stacks, list)
    assert len(stacks) == 5
    assert stacks[0]["stack"] == ["pthread_mutex_lock", "caller0(int)", "main"]
    assert lock_object(trace, 1, replace(BOTH, waits=False)).keys().isdisjoint({"waits", "wait_stacks"})


def test_what_found_no_room_is_told_by_waits_and_holds() -> None:
    rest = (layout.SUMS_HEAD.pack(1, 10, 10, 10), layout.SUMS_HEAD.pack(1200, 10, 10, 10))
    counts: dict[str, int] = {name: 0 for name in layout.COUNTS}
    raw = RawLockTrace(1, (b"", b""), rest, {**counts, "unknown_hold": 1}, 0, 0, frozenset(), {}, "")
    beyond, unknown = loss_notes(raw)
    assert beyond.startswith("1 wait and 1,200 holds were by more than 16,384 paths and locks")
    assert unknown.startswith("1 time a lock was given back")
    assert not list(loss_notes(RawLockTrace(1, (b"", b""), (b"", b""), counts, 0, 0, frozenset(), {}, "")))
