from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockflame.errors import LockflameError
from sampler.trace import syscall_layout as layout
from sampler.trace.syscalls import read_cell, with_number

WORD = 1 << 64


def cell_of(values: list[int]) -> bytes:
    """What the program in the kernel makes of these values on one CPU."""
    total = sum(values)
    largest = max(values, default=0) % WORD
    return layout.CELL.pack(len(values), total % WORD, total >> 64, largest)


@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5), min_size=1, max_size=4))
def test_signed_values_of_all_cpus_are_summed_up(cpus: list[list[int]]) -> None:
    values = [value for cpu in cpus for value in cpu]
    cell = read_cell(layout.KEY.pack(3, 1, -2, 11, b"key"), b"".join(map(cell_of, cpus)), is_signed=True)
    assert (cell.call, cell.measure, cell.bucket, cell.error, cell.by) == (3, 1, -2, 11, b"key".ljust(16, b"\0"))
    assert (cell.count, cell.total, cell.maximum) == (len(values), sum(values), max(values, default=0))


@given(st.lists(st.integers(0, WORD - 1), min_size=1, max_size=5))
def test_unsigned_values_may_fill_64_bits(values: list[int]) -> None:
    cell = read_cell(bytes(layout.KEY.size), cell_of(values), is_signed=False)
    assert (cell.count, cell.total, cell.maximum) == (len(values), sum(values), max(values))


def test_a_calls_number_takes_the_marks_place() -> None:
    mark = struct.pack("<BBhi", 0xB7, 1, 0, layout.CALL_MARK)
    other = struct.pack("<BBhi", 0xB7, 2, 0, 5)
    assert with_number(other + mark + other, 7) == other + struct.pack("<BBhi", 0xB7, 1, 0, 7) + other


@pytest.mark.parametrize("count", [0, 2])
def test_a_program_without_one_mark_is_refused(count: int) -> None:
    with pytest.raises(LockflameError):
        with_number(struct.pack("<BBhi", 0xB7, 1, 0, layout.CALL_MARK) * count, 7)
