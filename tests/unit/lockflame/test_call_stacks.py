from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockflame.cli.trace import call_stacks
from lockflame.cli.trace.call_stacks import SEVERAL
from lockflame.samples import Callchains, SampleTable, StackCopies

STACKS = st.lists(st.lists(st.sampled_from("abc"), max_size=5).map(tuple), min_size=1, max_size=4)


def table(*times: int) -> SampleTable:
    """Samples whose columns all tell the time: their stacks have a word of it, and as many user frames."""
    column = np.array(times, np.int64)
    narrow = column.astype(np.int32)
    return SampleTable(
        time_ns=column,
        pid=narrow,
        tid=narrow,
        cpu=narrow,
        period=column,
        kernel=Callchains(np.arange(len(times) + 1, dtype=np.int64), column.astype(np.uint64)),
        user=Callchains(np.concatenate(([0], np.cumsum(column))), np.repeat(column, column).astype(np.uint64)),
        registers=np.repeat(column.astype(np.uint64)[:, None], 20, axis=1),
        has_registers=np.ones(len(times), np.bool_),
        stacks=StackCopies(column.astype(np.uint64), np.arange(len(times)), np.ones(len(times), np.int64)),
    )


@pytest.mark.parametrize(
    ("stacks", "expected"),
    [
        ([("a", "b", "c")], ("a", "b", "c")),
        ([("a", "b"), ("a", "b")], ("a", "b")),
        ([("a", "x", "m"), ("a", "y", "z", "m")], ("a", SEVERAL, "m")),
        ([("x", "m"), ("y", "m")], (SEVERAL, "m")),
        ([("a", "a"), ("a", "a", "a")], ("a", "a", SEVERAL)),
        ([("a",), ("b",)], (SEVERAL,)),
        ([("a",), ()], (SEVERAL,)),
    ],
)
def test_a_path_is_told_as_far_as_its_stacks_agree(stacks: list[tuple[str, ...]], expected: tuple[str, ...]) -> None:
    assert call_stacks.agreed(stacks) == expected


@given(STACKS)
def test_what_is_told_is_in_all_stacks(stacks: list[tuple[str, ...]]) -> None:
    told = call_stacks.agreed(stacks)
    if SEVERAL not in told:
        assert set(stacks) == {told}
        return
    leaf, root = told[: told.index(SEVERAL)], told[told.index(SEVERAL) + 1 :]
    for stack in stacks:
        assert stack[: len(leaf)] == leaf
        assert not root or stack[-len(root) :] == root
        assert len(leaf) + len(root) <= len(stack)


@given(st.lists(st.lists(st.integers(0, 6), max_size=4), min_size=1, max_size=4))
def test_samples_of_several_reads_are_put_into_order_with_all_that_is_theirs(reads: list[list[int]]) -> None:
    samples, order = call_stacks.in_order(call_stacks.joined([table(*read) for read in reads]))
    flat = [time for read in reads for time in read]
    assert [flat[row] for row in order.tolist()] == samples.time_ns.tolist() == sorted(flat)
    for row, time in enumerate(sorted(flat)):
        assert (samples.pid[row], samples.cpu[row], samples.period[row], samples.registers[row, 7]) == (time,) * 4
        assert samples.user[row].tolist() == [time] * time
        assert samples.stacks.words[samples.stacks.start[row]] == time
