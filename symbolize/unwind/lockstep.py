"""All stacks unwound in lockstep: one frame of every stack that still goes on per step, as columns.

A pure function of registers, stack copies and rules. Whatever is wrong with a stack ends that one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lockflame.registers import X86_64_REGISTERS
from lockflame.samples import Callchains, StackCopies
from symbolize.unwind.cache import RuleCache
from symbolize.unwind.fallback import ends_in_call, step_without_rules
from symbolize.unwind.general import Callers, apply_general
from symbolize.unwind.reading import USER_ADDRESS_END
from symbolize.unwind.rules import KEPT, RSP, SLOTS, RuleKind, RuleTable
from symbolize.unwind.stacks import (
    GOES_ON,
    SP,
    LiveFrames,
    SampleColumns,
    StackEnd,
    by_dwarf_number,
    why_unreadable,
)

MOST_FRAMES = 1024
UNMAPPED = 0
"""The image of addresses that no executable mapping holds."""
_CALL_BYTES = 7


class CodeMap(Protocol):
    """Where code is: executable mappings of address spaces."""

    def find(
        self, space: NDArray[np.int32], address: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
        """The number of the image mapped at each address, or `UNMAPPED`, and the address within that image."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class UnwoundStacks:
    """The frames of each sample's user stack.

    `callchains`: leaf first, the first address is the pc, the others are return addresses as they stand
    on the stack. Flat columns beside its addresses: `is_exact` bool: look the address up as it is (a
    leaf, what a signal interrupted, or where its handler returns to), else at address - 1; `cfa`
    uint64: the stack pointer in the caller, 0 where no caller was found. By sample: `end` uint8 of
    `StackEnd`.
    """

    callchains: Callchains
    is_exact: NDArray[np.bool_]
    cfa: NDArray[np.uint64]
    end: NDArray[np.uint8]


def unwind(
    registers: NDArray[np.uint64],
    has_registers: NDArray[np.bool_],
    stacks: StackCopies,
    space: NDArray[np.int32],
    code: CodeMap,
    rules: RuleCache,
) -> UnwoundStacks:
    """Unwinds the user stacks of samples.

    `registers` uint64[n, 20] as in `SampleTable`, `space` int32[n] the address space of each sample, by
    whatever numbers `code` understands. `rules` learns what it doesn't know yet.
    """
    samples, frames = _start(registers, has_registers, stacks, space)
    end = np.where(has_registers, np.uint8(GOES_ON), np.uint8(StackEnd.NO_REGISTERS))
    stepper = _Stepper(samples, code, rules)
    steps: list[_Recorded] = []
    while len(frames) and len(steps) < MOST_FRAMES:
        image, elf_address = code.find(samples.space[frames.sample], frames.pc - ~frames.is_exact)
        if steps:
            frames, image, elf_address = _drop_lost(frames, image, elf_address, end)
            if not len(frames):
                break
        rows = rules.find(image, elf_address)
        if not steps:
            frames, rows = stepper.step_back_into_trampolines(frames, image, elf_address, rows)
        step = stepper.step(frames, rows)
        # A trampoline was not called: the handler's return address is its very first instruction.
        is_exact = frames.is_exact | (step.is_trampoline & (len(steps) > 0))
        steps.append(_Recorded(frames.sample, frames.pc, is_exact, step.callers.cfa))
        end[frames.sample] = step.callers.status
        frames = step.next_frames(frames)
    end[end == GOES_ON] = StackEnd.TOO_DEEP
    return _collect(steps, end)


def _start(
    registers: NDArray[np.uint64], has_registers: NDArray[np.bool_], stacks: StackCopies, space: NDArray[np.int32]
) -> tuple[SampleColumns, LiveFrames]:
    numbered = by_dwarf_number(registers)
    base = numbered[:, RSP].copy()
    # Index 0 stands for words that can't be read, so there has to be one.
    # And a plain array: numpy's memory-mapped ones are slow to index.
    words = np.asarray(stacks.words) if len(stacks.words) else np.zeros(1, np.uint64)
    samples = SampleColumns(words, stacks.start, stacks.count.astype(np.uint64), base, space, numbered)
    first = np.flatnonzero(has_registers)
    pc = registers[first, X86_64_REGISTERS.index("ip")]
    is_exact = np.ones(len(first), np.bool_)
    return samples, LiveFrames(first, pc, is_exact, np.zeros(len(first), np.bool_), numbered[first][:, list(KEPT)])


def _drop_lost(
    frames: LiveFrames, image: NDArray[np.int32], elf_address: NDArray[np.uint64], end: NDArray[np.uint8]
) -> tuple[LiveFrames, NDArray[np.int32], NDArray[np.uint64]]:
    """Without the callers that aren't in executable memory: what led there was wrong."""
    is_lost = image == UNMAPPED
    if not is_lost.any():
        return frames, image, elf_address
    end[frames.sample[is_lost]] = StackEnd.BAD
    rest = ~is_lost
    return frames.select(rest), image[rest], elf_address[rest]


@dataclass(frozen=True, slots=True, eq=False)
class _Recorded:
    """One frame of each stack that had one at this depth."""

    sample: NDArray[np.int64]
    pc: NDArray[np.uint64]
    is_exact: NDArray[np.bool_]
    cfa: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """The callers of all live frames. `is_exact` and `has_moved` are theirs.

    `is_trampoline`: the frame itself is where a signal handler returns to.
    """

    callers: Callers
    is_exact: NDArray[np.bool_]
    has_moved: NDArray[np.bool_]
    is_trampoline: NDArray[np.bool_]

    def put(self, rows: NDArray[np.int64], callers: Callers) -> None:
        """Replaces some of the callers."""
        ours = self.callers
        ours.cfa[rows], ours.pc[rows] = callers.cfa, callers.pc
        ours.kept[rows], ours.status[rows] = callers.kept, callers.status

    def next_frames(self, frames: LiveFrames) -> LiveFrames:
        """The callers as the frames of the next step, of those stacks that go on."""
        callers = self.callers
        following = LiveFrames(frames.sample, callers.pc, self.is_exact, self.has_moved, callers.kept)
        goes_on = callers.status == GOES_ON
        return following if goes_on.all() else following.select(goes_on)


class _Stepper:
    def __init__(self, samples: SampleColumns, code: CodeMap, rules: RuleCache) -> None:
        self._samples = samples
        self._code = code
        self._rules = rules

    def step_back_into_trampolines(
        self,
        frames: LiveFrames,
        image: NDArray[np.int32],
        elf_address: NDArray[np.uint64],
        rows: NDArray[np.int64],
    ) -> tuple[LiveFrames, NDArray[np.int64]]:
        """The first frames and their rows, where those in rt_sigreturn(2) count as in the trampoline that called it.

        Its system call is its last instruction, behind which the kernel leaves the pc: in no function.
        """
        unruled = np.flatnonzero((self._rules.table.kind[rows] == RuleKind.NONE) & (image != UNMAPPED))
        if not len(unruled):
            return frames, rows
        before = self._rules.find(image[unruled], elf_address[unruled] - 1)
        in_trampoline = unruled[self._are_signal_rows(before)]
        looked_up = elf_address.copy()
        looked_up[in_trampoline] -= np.uint64(1)
        is_exact = frames.is_exact.copy()
        is_exact[in_trampoline] = False
        # Learning has moved the rows.
        return replace(frames, is_exact=is_exact), self._rules.find(image, looked_up)

    def _are_signal_rows(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        table = self._rules.table
        general = np.where(table.kind[rows] == RuleKind.GENERAL, table.general[rows], -1)
        signal_rules = [
            number
            for number in sorted(set(general.tolist()))
            if number >= 0 and self._rules.general_rule(number).is_signal_frame
        ]
        return np.isin(general, signal_rules)

    def step(self, frames: LiveFrames, rows: NDArray[np.int64]) -> _Step:
        """The callers of all frames, given their rows in the table of rules."""
        table = self._rules.table
        callers = _step_plain(self._samples, table, frames, rows)
        step = _Step(callers, np.zeros(len(frames), np.bool_), frames.has_moved.copy(), np.zeros(len(frames), np.bool_))
        kind = table.kind[rows]
        special = np.flatnonzero(kind != RuleKind.PLAIN)
        if len(special):
            self._step_special(frames, special, kind[special], table.general[rows[special]], step)
        # 0 wraps to the largest number: one comparison finds both.
        is_odd = callers.pc - 1 >= USER_ADDRESS_END - 1
        if is_odd.any():
            ends = np.where(callers.pc == 0, np.uint8(StackEnd.COMPLETE), np.uint8(StackEnd.BAD))
            np.copyto(callers.status, ends, where=is_odd & (callers.status == GOES_ON))
        callers.cfa[callers.status != GOES_ON] = 0
        return step

    def _step_special(
        self,
        frames: LiveFrames,
        special: NDArray[np.int64],
        kind: NDArray[np.uint8],
        general: NDArray[np.int32],
        step: _Step,
    ) -> None:
        """The callers of those frames, `special` of all, whose row isn't plain."""
        step.callers.status[special[kind == RuleKind.END]] = StackEnd.COMPLETE
        unruled = special[kind == RuleKind.NONE]
        if len(unruled):
            step.put(unruled, step_without_rules(self._samples, frames.select(unruled), self._follow_call))
        general[kind != RuleKind.GENERAL] = -1
        for number in sorted(set(general.tolist())):
            if number >= 0:
                self._step_general(frames, special[general == number], number, step)

    def _step_general(self, frames: LiveFrames, rows: NDArray[np.int64], number: int, step: _Step) -> None:
        rule = self._rules.general_rule(number)
        group = frames.select(rows)
        callers = apply_general(rule, self._samples, group)
        # A running function may have popped its return address already, as glibc's vfork does.
        shrinks = (callers.kept[:, SP] <= group.kept[:, SP]) & ~group.is_exact
        if rule.is_signal_frame:
            # The interrupted code may have been on another stack (sigaltstack), wherever that is; once.
            shrinks = callers.kept[:, SP] <= group.kept[:, SP]
            step.is_exact[rows] = step.is_trampoline[rows] = True
            step.has_moved[rows] = group.has_moved | shrinks
            shrinks &= group.has_moved
        np.copyto(callers.status, np.uint8(StackEnd.BAD), where=shrinks & (callers.status == GOES_ON))
        step.put(rows, callers)

    def _follow_call(self, space: NDArray[np.int32], address: NDArray[np.uint64]) -> NDArray[np.bool_]:
        image, elf_address = self._code.find(space, address - 1)
        pairs, places = np.unique(np.stack([image.astype(np.uint64), elf_address]), axis=1, return_inverse=True)
        found = [
            ends_in_call(self._rules.code_before(image_number, at + 1, _CALL_BYTES))
            for image_number, at in zip(pairs[0].astype(np.int64).tolist(), pairs[1].tolist(), strict=True)
        ]
        return np.array(found, np.bool_)[places.reshape(-1)]


def _step_plain(samples: SampleColumns, table: RuleTable, frames: LiveFrames, rows: NDArray[np.int64]) -> Callers:
    """The callers of all frames as if all had plain rules: CFA = register + offset, the rest in slots."""
    sample = frames.sample
    column = np.arange(0, len(rows) * SLOTS, SLOTS) + table.cfa_register[rows]
    cfa = frames.kept.ravel()[column] + table.cfa_offset[rows].view(np.uint64)
    position = cfa - samples.base[sample]
    saved = table.saved[rows]
    slot = (position >> 3).view(np.int64)[:, None] + saved
    is_inside = slot.view(np.uint64) < samples.count[sample][:, None]
    values = samples.words[np.where(is_inside, slot + samples.start[sample][:, None], 0)]
    # A register whose place is below the stack pointer has been popped: it has its value again.
    values = np.where(is_inside & (saved != 0), values, frames.kept)
    pc = values[:, -1].copy()
    values[:, SP] = cfa
    status = np.zeros(len(rows), np.uint8)
    is_wrong = ~is_inside[:, -1] | (position & 7 != 0) | (cfa <= frames.kept[:, SP])
    if is_wrong.any():
        wrong = np.flatnonzero(is_wrong)
        is_short = ~is_inside[wrong, -1] & (cfa[wrong] > frames.kept[wrong, SP])
        reasons = why_unreadable(position[wrong])
        status[wrong] = np.where(is_short, reasons, np.uint8(StackEnd.BAD))
    return Callers(cfa, pc, values, status)


def _collect(steps: list[_Recorded], end: NDArray[np.uint8]) -> UnwoundStacks:
    """The frames of all steps, put together by sample."""
    depth = np.zeros(len(end), np.int64)
    for number, step in enumerate(steps, 1):
        depth[step.sample] = number
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(depth)])
    addresses = np.zeros(offsets[-1], np.uint64)
    cfa = np.zeros(offsets[-1], np.uint64)
    is_exact = np.zeros(offsets[-1], np.bool_)
    for number, step in enumerate(steps):
        places = offsets[step.sample] + number
        addresses[places], cfa[places], is_exact[places] = step.pc, step.cfa, step.is_exact
    return UnwoundStacks(Callchains(offsets, addresses), is_exact, cfa, end)
