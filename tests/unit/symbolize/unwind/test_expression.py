"""DWARF expressions on columns."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolize.unwind.expression import evaluate
from symbolize.unwind.reading import BadUnwindData
from tests.unit.symbolize.unwind.elf_writer import breg, sleb, uleb

MASK = (1 << 64) - 1


class TwoFrames:
    """Register r is 100 * r in the first frame and 1000 * r in the second; memory at x holds x + 1."""

    def __len__(self) -> int:
        return 2

    def register(self, number: int) -> np.ndarray:
        return np.array([100 * number, 1000 * number], np.uint64)

    def load(self, addresses: np.ndarray) -> np.ndarray:
        return addresses + 1


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (b"\x35", [5, 5]),
        (breg(7, 8), [708, 7008]),
        (b"\x92" + uleb(16) + sleb(-1), [1599, 15999]),
        (breg(6, -8) + b"\x06", [593, 5993]),
        (b"\x08\xff", [255, 255]),
        (b"\x09\xff", [MASK, MASK]),
        (b"\x0a\x01\x02\x0b\xff\xff\x22", [0x200, 0x200]),
        (b"\x0c\x01\x00\x00\x00\x0d\xfe\xff\xff\xff\x22", [MASK, MASK]),
        (b"\x0e" + bytes(7) + b"\x01\x0f" + bytes(8) + b"\x22", [1 << 56, 1 << 56]),
        (b"\x10\x81\x01\x11\x7f\x22", [128, 128]),
        (b"\x31\x12\x22", [2, 2]),  # dup
        (b"\x31\x32\x13", [1, 1]),  # drop
        (b"\x31\x32\x14\x1c", [1, 1]),  # over, minus
        (b"\x31\x32\x33\x15\x02", [1, 1]),  # pick
        (b"\x31\x34\x16\x1c", [3, 3]),  # swap
        (b"\x31\x32\x33\x17\x1c", [MASK, MASK]),  # rot: 3 1 2, then 1 - 2
        (b"\x11\x7b\x19", [5, 5]),  # abs
        (b"\x3f\x3a\x1a", [10, 10]),
        (b"\x11\x77\x32\x1b", [-4 & MASK, -4 & MASK]),  # -9 / 2, towards zero
        (b"\x35\x30\x1b", [0, 0]),  # a division by zero
        (b"\x39\x34\x1d", [1, 1]),
        (b"\x39\x30\x1d", [0, 0]),
        (b"\x39\x34\x1e", [36, 36]),
        (b"\x31\x1f", [MASK, MASK]),
        (b"\x30\x20", [MASK, MASK]),
        (b"\x38\x31\x21", [9, 9]),
        (b"\x31\x23\x81\x01", [130, 130]),
        (b"\x31\x34\x24", [16, 16]),
        (b"\x31\x08\x40\x24", [0, 0]),  # a shift by 64
        (b"\x11\x70\x31\x26", [-8 & MASK, -8 & MASK]),
        (b"\x11\x70\x08\xff\x26", [MASK, MASK]),
        (b"\x11\x7f\x31\x2d", [1, 1]),  # -1 < 1
        (b"\x96\x31\x31\x29", [1, 1]),
    ],
)
def test_operations(code: bytes, expected: list[int]) -> None:
    assert evaluate(code, TwoFrames()).tolist() == expected


def test_expressions_of_registers_start_with_the_cfa() -> None:
    cfa = np.array([10, 20], np.uint64)
    assert evaluate(b"\x23\x08\x06", TwoFrames(), cfa).tolist() == [19, 29]
    assert cfa.tolist() == [10, 20]


def test_plt_stub() -> None:
    """rsp + 8 + ((rip & 15) >= 11) * 8, as linkers write it."""

    class Stub(TwoFrames):
        def register(self, number: int) -> np.ndarray:
            return np.array([0x401020 + 6, 0x401030 + 11] if number == 16 else [5000, 5000], np.uint64)

    code = breg(7, 8) + breg(16, 0) + b"\x3f\x1a\x3b\x2a\x33\x24\x22"
    assert evaluate(code, Stub()).tolist() == [5008, 5016]


@pytest.mark.parametrize(
    "code", [b"", b"\x22", b"\x31\x22", b"\x31" * 100, b"\xff", b"\x31\x28\x00\x00", b"\x92\x7f\x00", b"\x15"]
)
def test_bad_expressions(code: bytes) -> None:
    with pytest.raises(BadUnwindData):
        evaluate(code, TwoFrames())


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=40))
def test_garbage_gives_a_column_or_says_so(code: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            column = evaluate(b"\x31\x70\x00\x77\x10" + code, TwoFrames())
        except BadUnwindData:
            return
    assert (column.dtype, column.shape) == (np.uint64, (2,))
