"""The frames that are being unwound, as columns, and how they read their stacks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lockflame.registers import X86_64_REGISTERS
from symbolize.unwind.rules import KEPT, RETURN_ADDRESS

_LARGEST_STACK = 1 << 32
"""What lies further above the stack pointer than this isn't on its stack."""

SP = len(KEPT) - 1
"""The column of rsp in `LiveFrames.kept`."""

_DWARF_NAMES = ("ax", "dx", "cx", "bx", "si", "di", "bp", "sp", *(f"r{number}" for number in range(8, 16)))
_SAMPLE_COLUMNS = [X86_64_REGISTERS.index(name) for name in _DWARF_NAMES]
_KEPT_INDEX = {register: index for index, register in enumerate(KEPT)}


class StackEnd(IntEnum):
    """Why a stack ends where it does."""

    COMPLETE = 1
    """At its outermost frame: a rule says so, or the return address is 0."""
    OUT_OF_STACK = 2
    """The next word that is needed lies beyond the copy."""
    NO_RULES = 3
    """Code without rules, and no frame pointer to go on with."""
    BAD = 4
    """Something that can't be: a CFA that doesn't grow, a return address that isn't in code."""
    TOO_DEEP = 5
    """At the most frames that are unwound."""
    NO_REGISTERS = 6
    """The sample has no user registers."""


GOES_ON = 0


@dataclass(frozen=True, slots=True, eq=False)
class SampleColumns:
    """What doesn't change while stacks are unwound, by sample.

    `words` uint64, `start` int64[n] and `count` uint64[n] in words, `base` uint64[n] the address of the
    first word, `space` int32[n]; `registers` uint64[n, 16] by DWARF number: those that calls don't
    keep, as they were last known (only signal frames change them).
    """

    words: NDArray[np.uint64]
    start: NDArray[np.int64]
    count: NDArray[np.uint64]
    base: NDArray[np.uint64]
    space: NDArray[np.int32]
    registers: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class LiveFrames:
    """One frame of each stack that goes on.

    `sample` int64[n], `pc` uint64[n], `is_exact` bool[n]: `pc` is an instruction that was running, not
    a return address; `has_moved` bool[n]: a signal frame led to another stack; `kept` uint64[n, 7] the
    registers of `KEPT`.
    """

    sample: NDArray[np.int64]
    pc: NDArray[np.uint64]
    is_exact: NDArray[np.bool_]
    has_moved: NDArray[np.bool_]
    kept: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.sample)

    def select(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> LiveFrames:
        """Some of the frames (indices or a mask)."""
        return LiveFrames(self.sample[rows], self.pc[rows], self.is_exact[rows], self.has_moved[rows], self.kept[rows])


def by_dwarf_number(registers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The registers of samples (uint64[n, 20] by `X86_64_REGISTERS`) as uint64[n, 16] by DWARF number."""
    return registers[:, _SAMPLE_COLUMNS]


def load(
    samples: SampleColumns, sample: NDArray[np.int64], addresses: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """The stack words at addresses (0 where there is none) and `GOES_ON` or why there is none."""
    position = addresses - samples.base[sample]
    slot = position >> 3
    is_inside = (slot < samples.count[sample]) & (position & 7 == 0)
    index = np.where(is_inside, slot.view(np.int64) + samples.start[sample], 0)
    values = np.where(is_inside, samples.words[index], 0)
    return values, np.where(is_inside, np.uint8(GOES_ON), why_unreadable(position))


def why_unreadable(position: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Why a word that far above the start of a copy, and not in it, can't be read."""
    is_beyond = (position < _LARGEST_STACK) & (position & 7 == 0)
    return np.where(is_beyond, np.uint8(StackEnd.OUT_OF_STACK), np.uint8(StackEnd.BAD))


class FrameGroup:
    """Some live frames that one general rule is applied to (`expression.Frames`).

    `status` uint8[n] collects `GOES_ON` or why a frame failed.
    """

    def __init__(self, samples: SampleColumns, frames: LiveFrames) -> None:
        self._samples = samples
        self._frames = frames
        self.status = np.zeros(len(frames), np.uint8)

    def __len__(self) -> int:
        return len(self._frames)

    def register(self, number: int) -> NDArray[np.uint64]:
        """A register's values by its DWARF number."""
        if number == RETURN_ADDRESS:
            return self._frames.pc
        if number in _KEPT_INDEX:
            return self._frames.kept[:, _KEPT_INDEX[number]]
        return self._samples.registers[self._frames.sample, number]

    def load(self, addresses: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The stack words at addresses; 0 and a `status` for those that can't be read."""
        values, status = load(self._samples, self._frames.sample, addresses)
        self.status = np.where(self.status == GOES_ON, status, self.status)
        return values

    def take_status(self) -> NDArray[np.uint8]:
        """The status so far, which starts anew."""
        status, self.status = self.status, np.zeros(len(self), np.uint8)
        return status
