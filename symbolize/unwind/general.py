"""One step of unwinding by a `GeneralRule`: signal frames, PLT stubs, realigned stacks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from symbolize.unwind.expression import Column, evaluate
from symbolize.unwind.reading import ADDRESS_MASK, BadUnwindData
from symbolize.unwind.rules import KEPT, RETURN_ADDRESS, RSP, GeneralRule, Where
from symbolize.unwind.stacks import GOES_ON, SP, FrameGroup, LiveFrames, SampleColumns, StackEnd


@dataclass(frozen=True, slots=True, eq=False)
class Callers:
    """The callers of some frames: `cfa` and `pc` uint64[n], `kept` uint64[n, 7] as in `LiveFrames`.

    `status` uint8[n]: `GOES_ON`, or the `StackEnd` of those that have no caller; their other columns mean
    nothing.
    """

    cfa: NDArray[np.uint64]
    pc: NDArray[np.uint64]
    kept: NDArray[np.uint64]
    status: NDArray[np.uint8]


def apply_general(rule: GeneralRule, samples: SampleColumns, frames: LiveFrames) -> Callers:
    """The callers of frames that all have the same rule.

    Changes the rows of `samples.registers` when the rule restores registers that calls don't keep.
    """
    group = FrameGroup(samples, frames)
    try:
        cfa = evaluate(rule.cfa, group)
        status = group.take_status()
        found = {number: _find(group, cfa, where, value) for number, where, value in rule.registers}
    except BadUnwindData:
        return _nowhere(frames)
    pc, pc_status = found.pop(RETURN_ADDRESS, None) or _find(group, cfa, Where.OFFSET, -8)
    sp, sp_status = found.pop(RSP, (cfa, status))
    for failed in (pc_status, sp_status):
        status = np.where(status == GOES_ON, failed, status)
    kept = frames.kept.copy()
    kept[:, SP] = sp
    for number, (values, value_status) in found.items():
        column = kept[:, KEPT.index(number)] if number in KEPT else None
        _restore(samples.registers[:, number], frames.sample, column, values, value_status == GOES_ON)
    return Callers(cfa, pc, kept, status)


def _nowhere(frames: LiveFrames) -> Callers:
    nothing = np.zeros(len(frames), np.uint64)
    return Callers(nothing, nothing, frames.kept, np.full(len(frames), StackEnd.BAD, np.uint8))


def _find(group: FrameGroup, cfa: Column, where: Where, value: int | bytes) -> tuple[Column, NDArray[np.uint8]]:
    """A register's values in the callers, and for each frame `GOES_ON` or why it can't be told."""
    if isinstance(value, bytes):
        values = evaluate(value, group, cfa)
    elif where is Where.REGISTER:
        values = group.register(value)
    else:
        values = cfa + np.array([value & ADDRESS_MASK], np.uint64)
    if where in (Where.OFFSET, Where.EXPRESSION):
        values = group.load(values)
    return values, group.take_status()


def _restore(
    scratch: Column, sample: NDArray[np.int64], kept: Column | None, values: Column, is_known: NDArray[np.bool_]
) -> None:
    """Writes a register where it is known into its column; the others keep their value.

    Registers that functions needn't keep are saved below the stack pointer's reach only, so a value that
    can't be read is still in its register.
    """
    if kept is not None:
        np.copyto(kept, values, where=is_known)
    else:
        scratch[sample[is_known]] = values[is_known]
