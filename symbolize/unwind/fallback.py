"""One step of unwinding where there are no rules: hand-written assembly, code made at run time.

The frame pointer leads on (System V psABI for x86-64, 3.2.2): the caller's is at [rbp], the return
address at [rbp + 8]. Only a frame that was interrupted (a leaf, or under a signal) may not have set it
up yet: where [rsp] points right behind a call instruction, the code was just called, as PLT stubs and
small leaf functions in assembly are, and [rsp] is its return address. And where the frame pointer
leads to no call but [rsp + 8] does, the code has only aligned the stack. Assembly that has pushed
something else and uses no frame pointer skips its caller; that can't be seen.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from symbolize.unwind.general import Callers
from symbolize.unwind.rules import KEPT, RBP
from symbolize.unwind.stacks import GOES_ON, SP, LiveFrames, SampleColumns, StackEnd, load

_RBP = KEPT.index(RBP)
_LONGEST_CALL = 7
# What a call without frame pointer must push to keep the stack aligned (psABI, 3.2.2), as CPython 3.12's
# trampolines do (Python/asm_trampoline.S).
_PADDING_BYTES = 8

FollowsCall = Callable[[NDArray[np.int32], NDArray[np.uint64]], NDArray[np.bool_]]
"""Tells of each (space, address) whether it is right behind a call instruction in executable memory."""


def step_without_rules(samples: SampleColumns, frames: LiveFrames, follows_call: FollowsCall) -> Callers:
    """The callers of frames whose code has no rules; `StackEnd.NO_RULES` where no guess holds."""
    frame_pointer, sp = frames.kept[:, _RBP], frames.kept[:, SP]
    caller_pointer, pointer_status = load(samples, frames.sample, frame_pointer)
    pc, pc_status = load(samples, frames.sample, frame_pointer + 8)
    found = (pointer_status == GOES_ON) & (pc_status == GOES_ON) & (frame_pointer >= sp)
    status = np.where(found, np.uint8(GOES_ON), np.uint8(StackEnd.NO_RULES))
    # A frame pointer that points above the copy was likely good, and the copy too short.
    is_beyond = ~found & (frame_pointer >= sp) & (frame_pointer - sp < 1 << 20)
    is_beyond &= (pointer_status == StackEnd.OUT_OF_STACK) | (pc_status == StackEnd.OUT_OF_STACK)
    status[is_beyond] = StackEnd.OUT_OF_STACK
    # 0 marks the outermost frame (psABI, 3.4.1), which is all that the dynamic linker's `_start` has.
    status[(frame_pointer == 0) & ~frames.is_exact] = StackEnd.COMPLETE
    kept = frames.kept.copy()
    kept[:, _RBP] = caller_pointer
    kept[:, SP] = frame_pointer + 16
    callers = Callers(kept[:, SP].copy(), pc, kept, status)
    _prefer_calls_without_frame_pointer(samples, frames, follows_call, callers)
    return callers


def _prefer_calls_without_frame_pointer(
    samples: SampleColumns, frames: LiveFrames, follows_call: FollowsCall, callers: Callers
) -> None:
    """Takes a word near the top of the stack instead of the frame pointer's guess where it follows a call."""
    space = samples.space[frames.sample]
    just_called = np.flatnonzero(frames.is_exact)
    _take_return_address(samples, frames, follows_call, callers, just_called, 0)
    is_doubtful = ~frames.is_exact & (callers.status != StackEnd.COMPLETE)
    is_doubtful[is_doubtful] = ~follows_call(space[is_doubtful], callers.pc[is_doubtful])
    _take_return_address(samples, frames, follows_call, callers, np.flatnonzero(is_doubtful), _PADDING_BYTES)


def _take_return_address(
    samples: SampleColumns,
    frames: LiveFrames,
    follows_call: FollowsCall,
    callers: Callers,
    rows: NDArray[np.int64],
    above_sp: int,
) -> None:
    """Puts the word `above_sp` bytes above the stack pointer in place of those rows' return addresses."""
    if not len(rows):
        return
    sample = frames.sample[rows]
    words, status = load(samples, sample, frames.kept[rows, SP] + np.uint64(above_sp))
    is_called = (status == GOES_ON) & follows_call(samples.space[sample], words)
    rows = rows[is_called]
    callers.pc[rows] = words[is_called]
    callers.kept[rows] = frames.kept[rows]
    callers.kept[rows, SP] += np.uint64(above_sp + 8)
    callers.cfa[rows] = callers.kept[rows, SP]
    callers.status[rows] = GOES_ON


def ends_in_call(code: bytes) -> bool:
    """Whether bytes of code end in a call: E8 rel32, or FF /2 with any operand (Intel SDM, CALL)."""
    if len(code) >= 5 and code[-5] == 0xE8:
        return True
    for length in range(2, min(_LONGEST_CALL, len(code)) + 1):
        is_call = code[-length] == 0xFF and code[1 - length] & 0x38 == 0x10
        if is_call and _modrm_length(code[1 - length :]) == length - 1:
            return True
    return False


def _modrm_length(code: bytes) -> int:
    """The length of the operand that a ModRM byte starts, in 64-bit mode (Intel SDM, 2.1.5)."""
    mode, register = code[0] >> 6, code[0] & 7
    if mode == 3:
        return 1
    has_sib = register == 4
    displacement = (0, 1, 4)[mode]
    if mode == 0 and (register == 5 or (has_sib and len(code) > 1 and code[1] & 7 == 5)):
        displacement = 4
    return 1 + has_sib + displacement
