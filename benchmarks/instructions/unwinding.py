"""Unwinding: stacks of a program that is nothing but call frame information; stacks and rules are made together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.instructions.mapped import START, code_map_of
from benchmarks.instructions.part import Input, Part, check
from lockflame.registers import X86_64_REGISTERS
from lockflame.samples import StackCopies
from symbolize.unwind import RuleCache, StackEnd, unwind
from tests.unit.symbolize.unwind.elf_writer import (
    FRAMES,
    HEADER,
    RBP,
    RBX,
    RIP,
    TEXT,
    Function,
    advance,
    def_cfa_offset,
    def_cfa_register,
    offset,
    undefined,
    write_elf,
    write_frames,
    write_header,
)

STACKS = 8_000
FUNCTIONS = 200
DEEPEST = 40
SHALLOWEST = 8
FUNCTION_BYTES = 32
BODY = 16
"""How far into its code a function calls: its frame is there by then."""
ENTRY = FUNCTIONS
"""The outermost function of each stack, which nobody has called."""
STACK_TOP = 0x7FFE_0000_0000


def frame_words(function: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many words a function's frame has, its return address included."""
    return 4 + function % 13


def has_frame_pointer(function: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which functions keep rbp as a frame pointer: every fourth."""
    return function % 4 == 0


def make(folder: Path, count: int, seed: int) -> Input:
    """Stacks of random functions; every fourth of these uses rbp, which the others leave as it is."""
    program = folder / "program"
    program.write_bytes(_program())
    random = np.random.default_rng(seed)
    depths = random.integers(SHALLOWEST, DEEPEST + 1, count)
    chains = random.integers(0, FUNCTIONS, (count, DEEPEST))
    chains[np.arange(count), depths - 1] = ENTRY
    registers, stacks = _stacks(chains, depths)
    space = np.zeros(count, np.int32)
    has_registers = np.ones(count, np.bool_)
    expected = chains[np.arange(DEEPEST) < depths[:, None]]

    def work() -> None:
        code = code_map_of(program)
        unwound = unwind(registers, has_registers, stacks, space, code, RuleCache(code.unwind_data))
        found = (unwound.callchains.addresses - np.uint64(START + TEXT + BODY)) // np.uint64(FUNCTION_BYTES)
        check(bool((unwound.end == StackEnd.COMPLETE).all()), "stacks are not complete")
        check(np.array_equal(found, expected), "stacks have other frames")

    return Input(int(depths.sum()), work)


def _program() -> bytes:
    frames, places = write_frames([_function(number) for number in range(FUNCTIONS + 1)])
    assert FRAMES + len(frames) <= HEADER, "the ELF file has no room for so many functions"
    return write_elf({".eh_frame": (FRAMES, frames), ".eh_frame_hdr": (HEADER, write_header(places))})


def _function(number: int) -> Function:
    start = TEXT + number * FUNCTION_BYTES
    if number == ENTRY:
        return Function(start, FUNCTION_BYTES, undefined(RIP))
    one = np.array([number])
    if has_frame_pointer(one)[0]:
        program = advance(1) + def_cfa_offset(16) + offset(RBP, 2) + advance(3) + def_cfa_register(RBP)
    else:
        bytes_of_frame = int(frame_words(one)[0]) * 8
        program = advance(1) + def_cfa_offset(16) + offset(RBX, 2) + advance(4) + def_cfa_offset(bytes_of_frame)
    return Function(start, FUNCTION_BYTES, program)


def _stacks(chains: NDArray[np.int64], depths: NDArray[np.int64]) -> tuple[NDArray[np.uint64], StackCopies]:
    """The registers and stack copies of samples whose functions `chains` (leaf first, `depths` of them) are.

    All copies have room for the deepest; rbp and what is saved of it follow from the outermost frame inwards.
    """
    frames = np.where(np.arange(DEEPEST) < depths[:, None], frame_words(chains), 0)
    ends = np.cumsum(frames, axis=1)
    words = np.zeros((len(chains), int(ends.max()) + 1), np.uint64)
    base = np.uint64(STACK_TOP) - np.arange(len(chains), dtype=np.uint64) * np.uint64(0x1000)
    frame_pointer = np.zeros(len(chains), np.uint64)
    for level in range(DEEPEST - 2, -1, -1):
        rows = np.flatnonzero(level < depths - 1)
        words[rows, ends[rows, level] - 1] = _return_address(chains[rows, level + 1])
        rows = rows[has_frame_pointer(chains[rows, level])]
        slot = ends[rows, level] - 2
        words[rows, slot] = frame_pointer[rows]
        frame_pointer[rows] = base[rows] + slot.astype(np.uint64) * np.uint64(8)
    registers = np.zeros((len(chains), len(X86_64_REGISTERS)), np.uint64)
    leaf_pc = _return_address(chains[:, 0])
    for name, values in (("ip", leaf_pc), ("sp", base), ("bp", frame_pointer)):
        registers[:, X86_64_REGISTERS.index(name)] = values
    starts = np.arange(len(chains), dtype=np.int64) * words.shape[1]
    return registers, StackCopies(words.reshape(-1), starts, np.full(len(chains), words.shape[1], np.int64))


def _return_address(function: NDArray[np.int64]) -> NDArray[np.uint64]:
    return (START + TEXT + BODY + function * FUNCTION_BYTES).astype(np.uint64)


PART = Part(
    "unwind",
    "frame",
    f"{STACKS:,} stacks of {SHALLOWEST} to {DEEPEST} frames, {FUNCTIONS:,} functions' rules decoded",
    STACKS,
    make,
)
