from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.top import FunctionRow, top_functions
from lockflame.profile import SAMPLES, FrameKind

NS = 10_000_000


def test_heaviest_first_with_self_and_total(profile_of):
    profile = profile_of([(["main", "work"], 6), (["main", "rest", "write[k]"], 3), (["main"], 1)])
    assert top_functions(profile, 3) == [
        FunctionRow("work", FrameKind.USER, 6 * NS, 6 * NS, 0.6),
        FunctionRow("write", FrameKind.KERNEL, 3 * NS, 3 * NS, 0.3),
        FunctionRow("main", FrameKind.USER, 1 * NS, 10 * NS, 0.1),
    ]
    assert [row.name for row in top_functions(profile, 10, by="total")] == ["main", "work", "write", "rest"]


def test_recursion_counts_once_in_total(profile_of):
    (row,) = top_functions(profile_of([(["fib"] * 30, 4)]), 5)
    assert (row.self_ns, row.total_ns, row.share) == (4 * NS, 4 * NS, 1.0)


def test_markers_are_no_functions(profile_of):
    rows = top_functions(
        profile_of([(["[truncated stack][m]", "work"], 1), (["[truncated stack][m]"], 1)]), 9, by="total"
    )
    assert [(row.name, row.share) for row in rows] == [("work", 0.5)]


def test_inlined_or_not_is_one_function(profile_of):
    rows = top_functions(profile_of([(["main", "work"], 1), ([("work", "main")], 2), ([("work", "work")], 4)]), 9)
    assert [(row.name, row.self_ns, row.total_ns) for row in rows] == [("work", 7 * NS, 7 * NS)]
    rows = top_functions(profile_of([(["work[k]", "a"], 1), ([("work", "a")], 2)]), 9, by="total")
    assert [(row.name, row.kind, row.total_ns) for row in rows] == [
        ("a", FrameKind.USER, 3 * NS),
        ("work", FrameKind.USER, 2 * NS),
        ("work", FrameKind.KERNEL, 1 * NS),
    ]


def test_ties_are_in_the_order_of_names(profile_of):
    stacks = [([name], 2) for name in "dbca"]
    assert [row.name for row in top_functions(profile_of(stacks), 9)] == list("abcd")


@pytest.mark.parametrize("stacks", [[], [(["a"], 0)], [([], 3)]])
def test_nothing_to_rank(profile_of, stacks):
    assert top_functions(profile_of(stacks), 5) == []


def test_no_cpu_time_no_rows(profile_of):
    base = profile_of([(["a"], 3)])
    samples = replace(base.samples, values=base.samples.values[:, :1])
    assert top_functions(replace(base, sample_types=(SAMPLES,), samples=samples), 5) == []


def test_limit(profile_of):
    profile = profile_of([(["a"], 1), (["b"], 2)])
    assert [row.name for row in top_functions(profile, 1)] == ["b"]
    assert top_functions(profile, 0) == []


@settings(deadline=None)
@given(stacks=st.lists(st.tuples(st.lists(st.sampled_from("abc"), max_size=6), st.integers(0, 9)), max_size=10))
def test_equals_a_naive_count(profile_of, stacks):
    own, total = Counter(), Counter()
    for path, count in stacks:
        if path:
            own[path[-1]] += count * NS
        for name in set(path):
            total[name] += count * NS
    rows = top_functions(profile_of(stacks), 100, by="total")
    assert {row.name: (row.self_ns, row.total_ns) for row in rows} == {
        name: (own[name], weight) for name, weight in total.items() if weight
    }
