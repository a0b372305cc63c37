from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flame.filters import focused
from flame.folded import folded_lines
from flame.lock_marks import ViewName
from flame.lock_views import cpu_part, default_view, only_locks, view_of
from flame.locks.rule_file import load_rules
from lockflame.errors import LockflameError
from lockflame.pprof import decode, encode
from lockflame.profile import CAUSED_DELAY, CONTENTIONS, CPU, DELAY, SAMPLES, TRUNCATED_STACK, RecordingInfo
from tests.unit.flame.lock_profiles import (
    LOCKS,
    MS,
    OPEN,
    RECORDING,
    RELEASING,
    ROWS,
    WAITING,
    lock,
    lock_profile,
    small_profile,
)

SET_QUERY = "lock taken in THD::set_query(char*) (mutex)"
WAITS = {
    "start;do_command(THD*);open_table(THD*, TABLE_LIST*);[LOCK_open (mutex)]": 7000,
    "start;do_command(THD*);THD::set_query(char*);[LOCK_open (mutex)]": 2000,
    f"start;do_command(THD*);THD::set_query(char*);[{SET_QUERY}]": 900,
    f"[waiter not sampled];[{SET_QUERY}]": 100,
    "start;producer;[queue.full (condition)]": 400,
}
IDLE = {"start;pool_worker;[pool.ready (condition)]": 30_000}


def shown(profile, name, **options):
    return view_of(profile, ViewName(name), load_rules(), **options)


def folded(profile, sample_type=None):
    lines = (line.rpartition(" ") for line in folded_lines(profile, sample_type))
    return {stack: int(weight) // MS for stack, _, weight in lines}


def folded_view(name, **options):
    return folded(shown(small_profile(), name, **options).profile)


def test_waits_end_with_the_lock():
    view = shown(small_profile(), "wait")
    assert view.profile.sample_types == (DELAY, CONTENTIONS)
    assert folded(view.profile) == WAITS
    assert view.profile.total(CONTENTIONS) == 60
    assert view.idle_ns == 30_000 * MS


def test_idle_waits_come_back():
    view = shown(small_profile(), "wait", with_idle=True)
    assert folded(view.profile) == WAITS | IDLE
    assert view.idle_ns == 0


def test_holders_have_all_the_time_that_was_waited():
    found = folded_view("holder")
    assert found == {
        "start;do_command(THD*);trans_commit(THD*);ha_commit(THD*);[LOCK_open (mutex), held]": 5900,
        "start;purge_thread;flush_all();inlined_flush_[i];[LOCK_open (mutex), held]": 3000,
        "[not released in the recording];[LOCK_open (mutex), held]": 100,
        f"[holder not sampled];[{SET_QUERY}, held]": 1000,
        "start;consumer;[queue.full (condition), woken]": 400,
    }
    assert sum(found.values()) == sum(WAITS.values())


def test_chains_have_the_holder_upside_down_on_the_lock():
    view = shown(small_profile(), "chain")
    found = folded(view.profile)
    opened = "start;do_command(THD*);open_table(THD*, TABLE_LIST*);[LOCK_open (mutex), held by]"
    assert {stack.removeprefix(opened): time for stack, time in found.items() if stack.startswith(opened)} == {
        ";ha_commit(THD*);trans_commit(THD*);do_command(THD*);start": 7000 * 59 // 90,
        ";inlined_flush;flush_all();purge_thread;start": 7000 * 30 // 90,
        ";[not released in the recording]": 7000 * 1 // 90,
    }
    assert found["start;producer;[queue.full (condition), woken by];consumer;start"] == 400
    assert found[f"[waiter not sampled];[{SET_QUERY}, held by];[holder not sampled]"] == 100
    assert view.profile.total(DELAY) == sum(WAITS.values()) * MS


def test_every_waiters_time_is_kept_in_chains():
    waits, chains = (shown(small_profile(), name).profile for name in ("wait", "chain"))
    assert [
        int(part.samples.values[part.samples.lock == number, 0].sum())
        for part in (waits, chains)
        for number in range(3)
    ] == [9000 * MS, 1000 * MS, 400 * MS] * 2


def test_cpu_time_is_that_of_before():
    profile = small_profile()
    only_cpu = [row for row in ROWS if not row[1]]
    assert folded(cpu_part(profile)) == folded(lock_profile(only_cpu, ())) != {}
    assert cpu_part(profile).sample_types == (SAMPLES, CPU)
    assert cpu_part(profile).total(SAMPLES) == 1000
    without = lock_profile(only_cpu, ())
    assert cpu_part(without) is without


@pytest.mark.parametrize(
    ("rows", "locks", "expected"),
    [(ROWS, LOCKS, "cpu"), (ROWS[2:], LOCKS, "wait"), (ROWS[:2], (), "cpu"), ((), (), "cpu")],
)
def test_the_default_is_cpu_time_where_there_is_some(rows, locks, expected):
    assert default_view(lock_profile(rows, locks)) == expected


@pytest.mark.parametrize("name", ["wait", "holder", "chain"])
def test_a_profile_without_waits(name):
    profile = lock_profile(ROWS[:2], (), RecordingInfo())
    with pytest.raises(LockflameError, match="record --locks"):
        shown(profile, name)
    with pytest.raises(LockflameError, match="record --locks"):
        only_locks(profile, ["x"])
    # Recorded with probes, it is just that nobody waited.
    assert folded(shown(replace(profile, recording=RECORDING), name).profile) == {}


@pytest.mark.parametrize("name", ["wait", "holder", "chain"])
def test_locks_without_any_row(name):
    assert folded(shown(lock_profile((), (lock("a"),), threads=0), name).profile) == {}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["LOCK_open"], {"LOCK_open"}),
        (["0x10"], {"LOCK_open"}),
        (["LOCK_"], {"LOCK_open"}),
        (["set_query"], {LOCKS[1].name}),
        (["queue.full", "0x20"], {"queue.full", LOCKS[1].name}),
        (["."], {"pool.ready", "queue.full"}),
    ],
)
def test_locks_by_name_and_address(wanted, found):
    part = only_locks(small_profile(), wanted)
    assert {item.name for item in part.locks} == found
    assert set(part.samples.lock.tolist()) == set(range(len(found)))
    assert part.recording.notes[0].startswith(f"Only locks {', '.join(wanted)}: ")


def test_a_full_name_is_no_part_of_others():
    profile = lock_profile((), (lock("a"), lock("a.b")))
    assert [item.name for item in only_locks(profile, ["a"]).locks] == ["a"]


@pytest.mark.parametrize("wanted", ["LOCK_close", "", "0x1"])
def test_an_unknown_lock_names_those_there_are(wanted):
    with pytest.raises(LockflameError, match=r"no lock .* It has pool\.ready \(condition\), LOCK_open \(mutex\), "):
        only_locks(small_profile(), [wanted])


def test_locks_of_one_name_are_one_frame():
    rows = [((*OPEN, *WAITING), f"m{number}", 0, 10) for number in range(5)]
    profile = lock_profile(rows, [lock(f"m{number}") for number in range(5)])
    profile = replace(profile, locks=tuple(replace(item, name="lock taken in f") for item in profile.locks))
    assert folded(shown(profile, "wait").profile) == {f"{';'.join(OPEN)};[lock taken in f (mutex)]": 50}


def test_threads_are_waiters_or_who_released():
    waiters = folded_view("wait", threads=["4711"])
    assert list(waiters.values()) == [6000]
    holders = folded_view("holder", threads=["worker2"])
    assert sorted(holders.values()) == [400, 3000]
    chains = folded_view("chain", threads=["4711"])
    assert sorted(chains.values()) == sorted([6000 * 59 // 90, 2000, 6000 // 90])
    note = shown(small_profile(), "wait", threads=["4711"]).profile.recording.notes[0]
    assert note == "Only threads 4711: 57.7 % of all time waited."


def test_focus_knows_both_sides_of_a_chain_and_the_lock():
    chains = shown(small_profile(), "chain").profile
    assert set(folded(focused(chains, "^consumer$"))) == {
        "start;producer;[queue.full (condition), woken by];consumer;start"
    }
    assert focused(chains, "LOCK_open").total(DELAY) == 9000 * MS


def test_kernel_and_lock_are_trimmed_where_they_are_inlined_too():
    waiting = ("start", ("pthread_mutex_lock", "std::mutex::lock()", "caller"), "futex_wait[k]")
    unknown = ("start", "own_lock", "strange_syscall[k]", "strange[k]")
    profile = lock_profile(
        [
            (waiting, "m", 0, 10),
            (unknown, "m", 0, 20),
            (("idle[k]",), "m", 0, 5),
            ((f"{TRUNCATED_STACK}[m]", "f"), "m", 0, 1),
        ],
        [lock("m")],
    )
    assert folded(shown(profile, "wait").profile) == {
        "start;caller;[m (mutex)]": 10,
        "start;own_lock;[m (mutex)]": 20,
        "idle_[k];[m (mutex)]": 5,
        f"{TRUNCATED_STACK};f;[m (mutex)]": 1,
    }


def test_a_thousand_locks_are_quick_and_bounded(monkeypatch):
    monkeypatch.setattr("flame.lock_merging.FRAMES_MOST", 2000)
    paths = [("start", f"a{number}", f"b{number % 7}") for number in range(200)]
    rows = []
    for number in range(1000):
        rows += [((*paths[(number + step) % 200], *WAITING), f"m{number}", 0, 10 + step) for step in range(3)]
        rows += [((*paths[(number * 7 + step) % 200], *RELEASING), f"m{number}", 1, -11) for step in range(3)]
    profile = lock_profile(rows, [lock(f"m{number}") for number in range(1000)])
    chains = shown(profile, "chain").profile
    assert chains.total(DELAY) == profile.total(DELAY) == profile.total(CAUSED_DELAY)
    assert len(chains.stacks.locations) < 2000 + 3000 * (3 + 2)
    assert any("[other holders]" in stack for stack in folded(chains))


@pytest.mark.parametrize("name", ["wait", "holder", "chain"])
def test_views_are_profiles_that_files_can_hold(name):
    view = shown(small_profile(), name).profile
    again = decode(encode(view), "x")
    assert folded(again) == folded(view)
    assert np.array_equal(np.sort(again.samples.values, axis=0), np.sort(view.samples.values, axis=0))
