from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.contention import find_contention
from flame.locks.attribution import attribute
from flame.locks.rule_file import load_rules
from flame.locks.sites import lock_sites
from flame.locks.wait_cpu import split
from flame.locks.wait_json import wait_json
from flame.locks.wait_stacks import WeightedStack, callers_tree
from flame.locks.wait_table import WaitRow, WaitTable, sorted_rows, wait_table
from lockflame.profile import Location, Lock, Memory, Profile, Thread, WaitEnds
from tests.unit.flame.locks.lock_profiles import (
    NOT_SAMPLED,
    SECOND,
    Taken,
    histogram_of,
    lock_of,
    profile_with_locks,
)

OURS = load_rules()
WAIT, RELEASE = "pthread_mutex_lock/__lll_lock_wait", "pthread_mutex_unlock/__lll_lock_wake"


def table_of(locks: list[Lock], rows: list[Taken]) -> WaitTable:
    return wait_table(profile_with_locks(locks, rows), OURS)


def only_row(locks: list[Lock], rows: list[Taken]) -> WaitRow:
    (row,) = table_of(locks, rows).rows
    return row


def two_connections() -> tuple[list[Lock], list[Taken]]:
    """Two locks of a class, of which each of two threads waits for both."""
    locks = [
        lock_of(
            30,
            address=0x1000,
            ends=WaitEnds(woken=2, timed_out=1),
            max_ns=20,
            histogram=histogram_of([5, 5, 20]),
            threads=2,
            unreleased_ns=4,
            woken_ns=7,
        ),
        lock_of(70, address=0x2000, ends=WaitEnds(woken=1, still_open=1), max_ns=60, histogram=histogram_of([10, 60])),
    ]
    rows = [
        Taken(f"main/run/serve/set_query/{WAIT}", 0, 30, thread=0),
        Taken(f"main/run/serve/set_query/{WAIT}", 1, 40, thread=0),
        Taken(f"main/list/show/{WAIT}", 1, 20, thread=1),
        Taken(NOT_SAMPLED, 1, 10),
        Taken(f"main/list/show/{RELEASE}", 0, caused=26),
        Taken(f"main/run/serve/set_query/{RELEASE}", 1, caused=30),
        Taken(f"main/list/show/{RELEASE}", 1, caused=40),
    ]
    return locks, rows


def test_a_class_is_one_row_of_exact_counts() -> None:
    row = only_row(*two_connections())
    assert (row.lock, row.kind, row.is_idle, row.addresses) == ("lock taken in set_query", "mutex", False, 2)
    assert (row.waits, row.total_ns, row.mean_ns, row.max_ns) == (5, 100, 20, 60)
    assert row.ends == WaitEnds(woken=3, timed_out=1, still_open=1)
    assert row.histogram == histogram_of([5, 5, 20, 10, 60])
    assert row.share == pytest.approx(100 / SECOND)
    assert (row.caused_ns, row.unreleased_ns, row.woken_ns, row.has_owner) == (96, 4, 7, True)
    assert row.members == (1, 0)
    assert row.wait_path == ("set_query", "serve", "run")
    assert row.hold_path == ("show", "list", "main")


def test_threads_are_counted_once_as_far_as_is_known() -> None:
    locks, rows = two_connections()
    assert only_row(locks, rows).threads == 2
    more = [*rows, Taken(f"main/x/set_query/{WAIT}", 1, 1, thread=2), Taken(f"main/{RELEASE}", 0, caused=1, thread=3)]
    assert only_row(locks, more).threads == 3
    # A thread that changes its name is one thread.
    profile = profile_with_locks(locks, more)
    renamed = replace(profile, threads=(Thread(7, 7, "a"), Thread(7, 8, "b"), Thread(7, 8, "c"), Thread(7, 9, "d")))
    assert wait_table(renamed, OURS).rows[0].threads == 2
    # For one address the kernel's count holds, whatever was sampled.
    assert only_row(locks[:1], rows[:1]).threads == 2


def test_stacks_merge_by_name_and_are_whole() -> None:
    locks, rows = two_connections()
    profile = profile_with_locks(locks, rows)
    # The same functions at other addresses.
    twins = tuple(replace(location, address=location.address + 0x1000) for location in profile.locations)
    shift = len(profile.locations)
    stacks = replace(
        profile.stacks,
        offsets=np.append(profile.stacks.offsets, profile.stacks.offsets[-1] + len(profile.stacks[0])),
        locations=np.append(profile.stacks.locations, profile.stacks[0] + shift).astype(np.int32),
    )
    samples = replace(profile.samples, stack=profile.samples.stack.copy())
    samples.stack[1] = len(profile.stacks)
    table = wait_table(replace(profile, locations=(*profile.locations, *twins), stacks=stacks, samples=samples), OURS)
    waiters = table.waiters(table.rows[0])
    assert [(stack.weight_ns, stack.depth) for stack in waiters] == [(70, 2), (20, 2), (10, 0)]
    assert waiters[0].names == ("__lll_lock_wait", "pthread_mutex_lock", "set_query", "serve", "run", "main")
    assert waiters[2].names == (NOT_SAMPLED,)
    holders = table.holders(table.rows[0])
    assert [(stack.weight_ns, stack.names[stack.depth]) for stack in holders] == [(66, "show"), (30, "set_query")]


def test_the_keys_that_readers_of_json_rely_on() -> None:
    table = table_of(*two_connections())
    (found,) = [json.loads(json.dumps(wait_json(table, row))) for row in table.rows]
    promised = {
        "lock": "lock taken in set_query", "kind": "mutex", "addresses": 2, "waits": 5, "threads": 2, "total_ns": 100,
        "mean_ns": 20, "max_ns": 60, "contended_cpu_ns": 0, "holders_are": "holders", "woken": 3, "still_open": 1,
        "caused_ns": 96, "unreleased_ns": 4, "woken_ns": 7,
    }  # fmt: skip
    assert {key: found[key] for key in promised} == promised
    assert found["histogram"] == [[8, 2], [16, 1], [32, 1], [64, 1]]
    assert found["waiters"][0] == {
        "stack": ["__lll_lock_wait", "pthread_mutex_lock", "set_query", "serve", "run", "main"],
        "weight_ns": 70,
    }
    assert [member["address"] for member in found["members"]] == ["0x2000", "0x1000"]
    assert 8 <= found["p50_ns"] <= 16
    assert found["p99_ns"] == 60


def test_a_lock_apart_from_its_class() -> None:
    rows = wait_table(profile_with_locks(*two_connections()), OURS, {0}).rows
    assert [(row.members, row.total_ns, row.caused_ns, row.lock) for row in rows] == [
        ((1,), 70, 70, "lock taken in set_query"),
        ((0,), 30, 26, "lock taken in set_query"),
    ]


def test_who_wakes_waiters_of_a_lock_without_owner_is_no_holder() -> None:
    lock = lock_of(SECOND, has_owner=False)
    row = only_row([lock], [Taken("main/f/pthread_cond_wait", 0, SECOND), Taken("main/g/syscall", 0, caused=SECOND)])
    assert (row.is_idle, row.has_owner, row.hold_path) == (True, False, ("g", "main"))


def test_spinning_and_sleeping_are_one_row() -> None:
    named = lock_of(60, memory=Memory.STATIC, symbol="LOCK_open", address=0x10)
    other = lock_of(20, memory=Memory.STATIC, symbol="LOCK_status", address=0x20)
    rows = [
        Taken(f"main/f/{WAIT}", 0, 60),
        Taken(f"main/f/{WAIT}", 1, 20),
        Taken(f"main/f/{WAIT}", cpu=101),
        Taken(f"main/g/{WAIT}", cpu=7),
        Taken("main/f/pthread_mutex_lock", cpu=1000),
        Taken("main/f", cpu=1000),
    ]
    found = {row.lock: row for row in table_of([named, other], rows).rows}
    cpu = {name: row.contended_cpu_ns for name, row in found.items()}
    assert cpu == {"LOCK_open": 75, "LOCK_status": 26, "lock taken in g": 7}
    alone = found["lock taken in g"]
    assert (alone.waits, alone.total_ns, alone.members, alone.kind) == (0, 0, (), "mutex")
    assert alone.wait_path == ("g", "main")


def test_rows_by_each_column() -> None:
    table = table_of(
        [lock_of(60), lock_of(20, has_owner=False)], [Taken(f"a/{WAIT}", 0, 60), Taken("b/sem_wait", 1, 20)]
    )
    assert [row.total_ns for row in sorted_rows(table.rows, "total_ns")] == [60, 20]
    assert [row.kind for row in sorted_rows(table.rows, "kind")] == ["mutex", "semaphore"]
    assert [row.lock[0] for row in sorted_rows(table.rows, "lock")] == ["l", "s"]


def test_waits_are_no_cpu_samples() -> None:
    """A wait's stack counts for nothing where CPU time is shown, even if a CPU sample has the same."""
    locks, rows = two_connections()
    cpu = [Taken(f"main/run/serve/set_query/{WAIT}", cpu=5 * SECOND, thread=3), Taken("main", cpu=5 * SECOND, thread=3)]
    both, alone = profile_with_locks(locks, rows + cpu), profile_with_locks([], cpu)

    def shown(profile: Profile) -> list[tuple[object, ...]]:
        sites = lock_sites(profile, attribute(profile, OURS))
        return [(row.site, row.contended_cpu_ns, row.samples, row.threads, row.share_low) for row in sites]

    assert shown(both) == shown(alone)
    found, expected = find_contention(both, OURS), find_contention(alone, OURS)
    assert found is not None
    assert expected is not None
    assert (found.share, found.reach) == (expected.share, expected.reach)
    assert find_contention(profile_with_locks(locks, rows), OURS) is None


def test_no_locks_no_rows() -> None:
    assert table_of([], []).rows == ()
    assert table_of([lock_of(5)], [Taken("main", cpu=1)]).rows[0].wait_path == ()


def tree_of(*paths: tuple[str, int], least_ns: int = 0) -> list[tuple[int, str, int]]:
    stacks = [WeightedStack(tuple(path.split("/")), 0, weight) for path, weight in paths]
    return [(node.level, "/".join(node.names), node.weight_ns) for node in callers_tree(stacks, least_ns)]


def test_a_tree_of_callers() -> None:
    assert tree_of(("f/a/main", 5), ("f/b/x/main", 9), ("f/b/x/thread", 1), ("g", 3), ("f/b", 2)) == [
        (0, "f", 17),
        (1, "b", 12),
        (2, "x", 10),
        (3, "main", 9),
        (3, "thread", 1),
        (1, "a/main", 5),
        (0, "g", 3),
    ]
    assert tree_of(("f/a", 99), ("f/b", 1), least_ns=2) == [(0, "f", 100), (1, "a", 99)]
    assert tree_of() == []


def test_a_tree_of_a_recursion_without_end() -> None:
    deep = [("/".join(["f"] * depth), 1) for depth in range(1, 3_000, 7)]
    nodes = tree_of(*deep)
    assert nodes[0] == (0, "f", len(deep))
    assert len(nodes) == len(deep)


@given(st.integers(0, 10**18), st.dictionaries(st.integers(0, 9), st.integers(1, 10**12), min_size=1))
def test_parts_sum_up(total: int, weights: dict[int, int]) -> None:
    parts = split(total, weights)
    assert sum(parts.values()) == total
    assert all(
        abs(parts[key] - total * weight / sum(weights.values())) <= 1 + total * 1e-9 for key, weight in weights.items()
    )


PLACES = st.tuples(
    st.sampled_from("abc"), st.sampled_from([WAIT, "pthread_cond_wait", "sem_wait", "syscall", "take_gil", RELEASE])
).map("/".join)
ROWS = st.lists(
    st.builds(Taken, PLACES | st.just(NOT_SAMPLED), st.integers(0, 3), st.integers(0, 9), st.integers(0, 9))
    | st.builds(Taken, PLACES, st.just(-1), st.just(0), st.just(0), st.integers(1, 99)),
    max_size=12,
)


@settings(deadline=None)
@given(ROWS)
def test_sums_are_preserved(rows: list[Taken]) -> None:
    totals = [sum(row.delay for row in rows if row.lock == index) for index in range(4)]
    locks = [lock_of(total, address=0x1000 * index, has_owner=index < 2) for index, total in enumerate(totals)]
    profile = profile_with_locks(locks, rows)
    table = wait_table(profile, OURS)
    assert sum(row.total_ns for row in table.rows) == sum(row.delay for row in rows)
    assert sum(row.caused_ns for row in table.rows) == sum(row.caused for row in rows if row.lock >= 0)
    for row in table.rows:
        assert sum(stack.weight_ns for stack in table.waiters(row)) == row.total_ns
        assert sum(stack.weight_ns for stack in table.holders(row)) == row.caused_ns
    contended = sum(site.contended_cpu_ns for site in lock_sites(profile, attribute(profile, OURS)))
    assert sum(row.contended_cpu_ns for row in table.rows) == contended
    assert sorted(member for row in table.rows for member in row.members) == [0, 1, 2, 3]


def test_a_site_that_is_inlined_is_a_site() -> None:
    profile = profile_with_locks([lock_of(5)], [Taken(f"main/inner/{WAIT}", 0, 5)])
    inner = next(index for index, function in enumerate(profile.functions) if function.name == "inner")
    locations = [
        Location(1, -1, (location.lines[0], profile.locations[0].lines[0]), location.kind)
        if index == inner
        else location
        for index, location in enumerate(profile.locations)
    ]
    row = wait_table(replace(profile, locations=tuple(locations)), OURS).rows[0]
    assert row.lock == "lock taken in inner"
    assert row.wait_path == ("inner", "main", "main")
