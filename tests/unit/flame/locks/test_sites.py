from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.locks.attribution import attribute
from flame.locks.rule_file import load_rules
from flame.locks.sites import LockSite, lock_sites, worst_paths
from flame.locks.table import COLUMNS, json_row, place_of, sorted_sites
from lockflame.profile import CPU, SAMPLES, FrameKind, Function, Line, Mapping, Profile, Thread

NS = 10_000_000
OURS = load_rules()
LOCK, SLOW = "pthread_mutex_lock", "__lll_lock_wait"


def sites_of(profile: Profile) -> list[LockSite]:
    return lock_sites(profile, attribute(profile, OURS))


def test_contended_and_locking_are_apart_and_the_share_is_of_both(profile_of) -> None:
    (row,) = sites_of(profile_of([(["main", "f", LOCK, SLOW], 3), (["main", "f", LOCK], 1), (["main", "g"], 6)]))
    assert (row.site, row.kind, row.frame_kind) == ("f", "mutex", FrameKind.USER)
    assert (row.contended_cpu_ns, row.locking_cpu_ns, row.samples, row.threads) == (3 * NS, 1 * NS, 4, 1)
    assert row.share == pytest.approx(0.4)
    # R: prop.test(4, 10, correct = FALSE)
    assert (row.share_low, row.share_high) == pytest.approx((0.1682, 0.6873), abs=1e-4)


def test_a_site_in_the_kernel_says_who_called_the_kernel(profile_of) -> None:
    kernel = ["do_syscall_64[k]", "pipe_read[k]", "mutex_lock[k]", "__mutex_lock_slowpath[k]"]
    (row,) = sites_of(profile_of([(["main", "read", *kernel], 1)]))
    assert (row.site, row.user_caller, row.frame_kind) == ("pipe_read", "read", FrameKind.KERNEL)
    (row,) = sites_of(profile_of([(["main", "f", LOCK], 1)]))
    assert row.user_caller == ""


def test_the_most_contended_comes_first(profile_of) -> None:
    stacks = [(["a", LOCK], 9), (["b", LOCK, SLOW], 1), (["c", LOCK, SLOW], 2), (["d", LOCK], 9)]
    assert [row.site for row in sites_of(profile_of(stacks))] == ["c", "b", "a", "d"]


def test_kinds_of_lock_in_one_function_are_apart(profile_of) -> None:
    rows = sites_of(profile_of([(["f", LOCK], 2), (["f", "pthread_rwlock_rdlock"], 1)]))
    assert [(row.site, row.kind) for row in rows] == [("f", "mutex"), ("f", "rwlock")]


def in_two_places(profile: Profile, first_line: int, second_line: int) -> Profile:
    """The profile, with its functions `f1` and `f2` made one function, called `f`, in a binary."""
    functions = tuple(
        replace(function, name="f", path="/src/f.c") if function.name in ("f1", "f2") else function
        for function in profile.functions
    )
    lines = {"f1": first_line, "f2": second_line}
    locations = tuple(
        replace(
            location,
            mapping=0,
            lines=tuple(
                Line(line.function, lines.get(profile.functions[line.function].name, 0)) for line in location.lines
            ),
        )
        for location in profile.locations
    )
    mapping = Mapping(0, 1 << 20, 0, "/usr/bin/server", "")
    return replace(profile, functions=functions, locations=locations, mappings=(mapping,))


def test_lines_of_a_function_are_sites_of_their_own(profile_of) -> None:
    profile = in_two_places(profile_of([(["f1", LOCK, SLOW], 2), (["f2", LOCK, SLOW], 1)]), 10, 14)
    assert [(row.site, row.line, place_of(row)) for row in sites_of(profile)] == [
        ("f", 10, "f.c:10"),
        ("f", 14, "f.c:14"),
    ]


def test_addresses_of_one_line_are_one_site(profile_of) -> None:
    profile = in_two_places(profile_of([(["f1", LOCK, SLOW], 2), (["f2", LOCK], 5)]), 10, 10)
    (row,) = sites_of(profile)
    assert (row.line, row.contended_cpu_ns, row.locking_cpu_ns) == (10, 2 * NS, 5 * NS)


def test_without_lines_each_address_is_a_site(profile_of) -> None:
    profile = in_two_places(profile_of([(["f1", LOCK, SLOW], 2), (["f2", LOCK, SLOW], 1)]), 0, 0)
    rows = sites_of(profile)
    assert [row.module for row in rows] == ["server", "server"]
    assert len({row.address for row in rows}) == 2
    assert place_of(rows[0]) == f"server+0x{rows[0].address:x}"


def test_threads_are_counted_once(profile_of) -> None:
    base = profile_of([(["f", LOCK], 1), (["f", LOCK, SLOW], 1), (["main", "f", LOCK], 1)])
    samples = replace(base.samples, thread=np.array([0, 1, 1], np.int32))
    profile = replace(base, threads=(Thread(1, 1, "a"), Thread(1, 2, "b"), Thread(1, 3, "c")), samples=samples)
    assert [row.threads for row in sites_of(profile)] == [2]


@pytest.mark.parametrize("stacks", [[], [(["main", "f"], 5)], [(["f", LOCK], 0)], [([], 3)]])
def test_no_sites(profile_of, stacks) -> None:
    profile = profile_of(stacks)
    assert sites_of(profile) == []
    assert worst_paths(profile, attribute(profile, OURS)) == []


def test_no_cpu_time_no_sites(profile_of) -> None:
    base = profile_of([(["f", LOCK, SLOW], 3)])
    samples = replace(base.samples, values=base.samples.values[:, :1])
    profile = replace(base, sample_types=(SAMPLES,), samples=samples)
    assert sites_of(profile) == []
    assert worst_paths(profile, attribute(profile, OURS)) == []


def test_worst_paths_lead_to_the_functions_that_wait_most(profile_of) -> None:
    stacks = [
        (["main", "a", "f", LOCK, SLOW], 2),
        (["main", "b", "f", LOCK, SLOW], 3),
        (["main", "g", LOCK, SLOW], 4),
        (["main", "h", LOCK], 8),
        (["main", "i", LOCK, SLOW], 1),
        (["main"], 2),
    ]
    profile = profile_of(stacks)
    paths = worst_paths(profile, attribute(profile, OURS), 2)
    assert [(path.site, path.stack, path.depth, path.share) for path in paths] == [("f", 1, 2, 0.25), ("g", 2, 2, 0.2)]
    assert worst_paths(profile, attribute(profile, OURS), 0) == []


def test_rows_as_json_and_by_each_column(profile_of) -> None:
    rows = sites_of(profile_of([(["b", LOCK, SLOW], 1), (["a", LOCK], 3), (["c", "sem_post"], 2)]))
    objects = json.loads(json.dumps([json_row(row) for row in rows]))
    assert [list(entry) for entry in objects] == [list(COLUMNS)] * 3
    assert objects[0]["address"] == hex(rows[0].address)
    by = {column: "".join(row.site for row in sorted_sites(rows, column)) for column in COLUMNS}
    assert (by["site"], by["contended_cpu_ns"], by["locking_cpu_ns"]) == ("abc", "bac", "acb")
    assert (by["samples"], by["share"], by["kind"]) == ("acb", "acb", "bac")


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["f", "g", LOCK, SLOW, "sem_wait", "do_futex[k]"]), max_size=5), st.integers(0, 9)
        ),
        max_size=6,
    )
)
def test_all_charged_time_is_in_the_rows(profile_of, stacks) -> None:
    profile = profile_of(stacks)
    rows = sites_of(profile)
    charged = sum(row.contended_cpu_ns + row.locking_cpu_ns for row in rows)
    expected = sum(
        count * NS
        for frames, count in stacks
        if any(frame in frames for frame in (LOCK, SLOW, "sem_wait", "do_futex[k]"))
    )
    assert charged == expected
    assert sum(row.samples for row in rows) * NS == expected
    assert all(0 <= row.share_low <= row.share <= row.share_high <= 1 for row in rows)
    paths = worst_paths(profile, attribute(profile, OURS), 99)
    assert sum(path.contended_cpu_ns for path in paths) == sum(row.contended_cpu_ns for row in rows)


def test_other_peoples_profiles_have_no_functions_we_know(profile_of) -> None:
    base = profile_of([(["f", LOCK], 1)])
    functions = tuple(Function("x" * 10_000 + "\x1b[31m", "") for _ in base.functions)
    profile = replace(base, functions=functions)
    assert profile.total(CPU) > 0
    assert sites_of(profile) == []
