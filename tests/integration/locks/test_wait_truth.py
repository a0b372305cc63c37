"""Lock waits as the targets log them themselves: exact totals, sampled paths, kinds, names, holders."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from lockflame.profile import CAUSED_DELAY, DELAY, Lock, Profile, SampleType, WaitEnds
from tests.support.lock_truth import HOLD, Watched, watch
from tests.support.process import running
from tests.support.recording import lockflame_session, record, recorded, stacks_of
from tests.support.targets import build_rust_target, build_target

pytestmark = [pytest.mark.integration, pytest.mark.requires_root]

EXACT = 0.02
# What a target measures around a lock call is more than the sleep within it: some microseconds for each.
OVERHEAD_NS = 20_000
# A path is charged with its ways into the calls that take and release the lock as well; and one that takes the lock and
# gives it back while a thread that was woken for it waits for a CPU isn't seen. Seen: 0.000 to 0.016. Charging those
# who wait, or by the number of holds, would be wrong by 0.46 or more.
WRONG_HOLDER = 0.1


def assert_exact(watched: Watched, total_ns: int, *categories: str) -> None:
    """The counted time equals the target's own, within the limit and what its clock calls add."""
    rows = watched.waits()
    expected = watched.truth.time_ns(rows, *categories)
    assert expected > 100_000_000, "the target hardly waited"
    assert total_ns == pytest.approx(expected, rel=EXACT, abs=OVERHEAD_NS * len(rows) / 10)


def path_weight(profile: Profile, lock: str, function: str, kind: SampleType = DELAY) -> int:
    """The weight of a lock's samples that have the function on their stack."""
    column = profile.sample_types.index(kind)
    stacks = stacks_of(profile)
    samples = profile.samples
    return sum(
        int(samples.values[row, column])
        for row in np.flatnonzero(samples.lock >= 0).tolist()
        if profile.locks[samples.lock[row]].name == lock and function in stacks[samples.stack[row]]
    )


@pytest.mark.parametrize(
    ("kind", "name", "shown"),
    [
        ("mutex", "LOCK_kinds", "mutex"),
        ("rwlock", "RWLOCK_kinds", "rwlock"),
        ("shared_mutex", "SHARED_kinds", "rwlock"),
        ("semaphore", "SEM_kinds", "semaphore"),
        ("pi", "PI_kinds", "PI mutex"),
        ("barrier", "BARRIER_kinds", "barrier"),
    ],
)
def test_waits_for_each_kind_of_lock(kind: str, name: str, shown: str, tmp_path: Path) -> None:
    program = build_target("lock_kinds.cpp")
    watched = watch(tmp_path, program, "--kind", kind, "--threads", 6)
    locks = [lock for lock in watched.profile.locks if lock.name.partition("+")[0] == name]
    assert {lock.kind for lock in locks} == {shown}
    assert_exact(watched, sum(lock.total_ns for lock in locks), *set(watched.truth.result["categories"]) - {"ending"})
    assert not any(lock.is_idle for lock in locks)


def test_paths_of_waiters(tmp_path: Path) -> None:
    """At about a thousand samples, each path's sampled time is the target's own."""
    watched = watch(
        tmp_path, build_target("lock_kinds.cpp"), "--kind", "mutex", "--threads", 6, seconds=3, arguments=("-F", 399)
    )
    rows = watched.waits()
    assert watched.profile.recording.wait_samples > 600
    for function, category in (("take_in_reader", "reader"), ("take_in_writer", "writer")):
        expected = watched.truth.time_ns(rows, category)
        share = path_weight(watched.profile, "LOCK_kinds", function) / expected
        assert share == pytest.approx(1, abs=0.1), function


def test_idle_pools_are_told_apart(tmp_path: Path) -> None:
    watched = watch(tmp_path, build_target("lock_kinds.cpp"), "--kind", "condition", "--threads", 6, "--idle", 100)
    pool = [lock for lock in watched.profile.locks if lock.is_idle and lock.name.startswith("COND_pool")]
    assert_exact(watched, sum(lock.total_ns for lock in pool), "idle")
    lock = watched.lock("LOCK_pool")
    assert not lock.is_idle
    assert_exact(watched, lock.total_ns, "lock")
    # The pool's hundred sleepers don't take the samples away from the lock.
    sampled = path_weight(watched.profile, "LOCK_pool", "take_pool_lock")
    assert sampled > 0.95 * lock.total_ns


@pytest.mark.parametrize(
    ("kind", "lock", "shown"),
    [("mutex", "LOCK_rust", "mutex"), ("rwlock", "RWLOCK_rust", "rwlock")],
)
def test_rust_locks(kind: str, lock: str, shown: str, tmp_path: Path) -> None:
    watched = watch(tmp_path, build_rust_target("lock_rust.rs"), "--kind", kind, "--threads", 6)
    found = [entry for entry in watched.profile.locks if lock in entry.name]
    assert {entry.kind for entry in found} == {shown}
    assert_exact(watched, sum(entry.total_ns for entry in found), *set(watched.truth.result["categories"]) - {"ending"})


@pytest.mark.parametrize(
    "options", [(), ("--hold", "burn", "--no-pause", 1)], ids=["in-turn", "taken-before-the-woken"]
)
def test_holders(options: tuple[object, ...], tmp_path: Path) -> None:
    """Each second that was waited belongs to who held the lock in it.

    Also where the CPUs are busy: whoever gives it back takes it again before the one that was woken has run.
    """
    target = (build_target("lock_holder.cpp"), "--threads", 6, *options)
    watched = watch(tmp_path, *target, seconds=3, arguments=("-F", 399))
    lock = watched.lock("LOCK_shared")
    assert lock.has_owner
    caused = sum(
        path_weight(watched.profile, "LOCK_shared", function, CAUSED_DELAY)
        for function in ("hold_long", "hold_medium", "hold_short", "wait_short")
    )
    assert caused + lock.unreleased_ns == pytest.approx(lock.total_ns, rel=0.01)
    shares = _held_while_waiting(watched)
    whole = sum(shares.values())
    wrong = 0.0
    for function, waited_ns in shares.items():
        charged = path_weight(watched.profile, "LOCK_shared", function, CAUSED_DELAY)
        wrong += abs(charged / caused - waited_ns / whole) / 2
    assert wrong < WRONG_HOLDER, shares
    assert_woken(lock, whole)


def test_a_lock_that_was_held_at_the_start_was_not_free(tmp_path: Path) -> None:
    """What began before the recording is charged to nobody."""
    watched = watch(tmp_path, build_target("lock_holder.cpp"), "--threads", 6, "--times", 200, seconds=2)
    assert_woken(watched.lock("LOCK_shared"), sum(_held_while_waiting(watched).values()))


def assert_woken(lock: Lock, held_ns: float) -> None:
    """Some of the time nobody had it, in which the thread that was woken had yet to run."""
    assert 0 < lock.woken_ns < lock.total_ns - held_ns + 0.01 * lock.total_ns


def test_a_mutex_held_for_a_microsecond_has_its_holder(tmp_path: Path) -> None:
    """Half of those who begin to wait for it find no owner yet, or no longer."""
    with running([build_target("thd_contention.cpp"), "--threads", "4"]) as target:
        profile = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 1.5, "--locks").profile
    lock = max(profile.locks, key=lambda entry: entry.total_ns)
    assert (lock.name, lock.kind, lock.has_owner) == ("lock taken in THD::set_query", "mutex", True)


def _held_while_waiting(watched: Watched) -> dict[str, float]:
    """The time waited while each path held the lock, by the target's log."""
    waits = watched.waits()
    holds = watched.truth.within(watched.start_ns, watched.end_ns, HOLD)
    times = np.sort(np.concatenate((waits["start"], waits["end"])))
    change = np.concatenate((np.ones(len(waits)), -np.ones(len(waits))))
    order = np.argsort(np.concatenate((waits["start"], waits["end"])), kind="stable")
    waiting = np.concatenate(([0], np.cumsum(change[order])))
    waited = np.concatenate(([0], np.cumsum(waiting[1:-1] * np.diff(times))))

    def until(moment: np.ndarray) -> np.ndarray:
        return np.interp(moment, times, waited)

    names = {"long": "hold_long", "medium": "hold_medium", "short": "wait_short"}
    found: dict[str, float] = {}
    for number, category in enumerate(watched.truth.result["categories"]):
        chosen = holds[holds["category"] == number]
        function = next((name for word, name in names.items() if word in category), None)
        if function is not None:
            found[function] = float((until(chosen["end"]) - until(chosen["start"])).sum())
    return found


@pytest.mark.parametrize("mode", ["changed", "wake"])
def test_a_million_short_waits_and_a_long_one(mode: str, tmp_path: Path) -> None:
    """Each wait is counted, however short, and the longest is seen."""
    waits = {"changed": 300_000, "wake": 20_000}[mode]
    command = [build_target("lock_million.c"), "--mode", mode, "--waits", waits, "--go", "signal"]
    with running(command) as target:
        output = tmp_path / "million.pb.gz"
        with lockflame_session("record", "-o", output, "-p", target.pid, "-d", 60, "--locks") as session:
            session.wait_until_recording()
            target.process.send_signal(10)
            target.wait()
            profile = recorded(session.finish(), output).profile
        counts = target.last_json()
    (lock,) = [lock for lock in profile.locks if lock.name == "LOCK_million"]
    for end in ("woken", "timed_out", "value_changed", "interrupted"):
        assert getattr(lock.ends, end) == counts["LOCK_million"][end], end
    assert lock.max_ns == pytest.approx(counts["LOCK_million"]["longest_ns"], rel=0.02)
    assert sum(sum(lock.histogram) for lock in profile.locks) == sum(lock.ends.total for lock in profile.locks)


def test_more_words_than_the_table_holds(tmp_path: Path) -> None:
    command = [build_target("lock_words.c"), "--words", 40_000, "--rounds", 1, "--mode", "changed", "--go", "signal"]
    with running(command) as target:
        output = tmp_path / "words.pb.gz"
        with lockflame_session("record", "-o", output, "-p", target.pid, "-d", 60, "--locks") as session:
            session.wait_until_recording()
            target.process.send_signal(10)
            target.wait()
            result = recorded(session.finish(), output)
        counts = target.last_json()
    profile = result.profile
    total = sum(lock.ends.total for lock in profile.locks)
    assert total == pytest.approx(counts["counts"]["value_changed"], abs=20)
    assert profile.recording.waits_left_out > 10_000
    assert "more futex words than the table" in result.stderr
    assert sum(1 for lock in profile.locks if lock.address) <= 16384


def test_waits_open_all_the_time(tmp_path: Path) -> None:
    """A thread that waits from before the beginning till after the end is in it, with its stack."""
    script = (
        "import sys, threading, time\n"
        "lock = threading.Lock(); lock.acquire()\n"
        "threading.Thread(target=lock.acquire, daemon=True).start()\n"
        "time.sleep(0.2); print('ready', flush=True); time.sleep(60)\n"
    )
    with running([sys.executable, "-c", script]) as target:
        profile = record(tmp_path / "open.pb.gz", "-p", target.pid, "-d", 1, "--locks").profile
    (lock,) = profile.locks
    assert lock.ends == WaitEnds(still_open=1)
    assert lock.total_ns == lock.max_ns == profile.recording.duration_ns
    assert path_weight(profile, lock.name, "start_thread") == lock.total_ns
