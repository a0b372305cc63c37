"""A small machine for tests: one image of code, stacks given as lists of words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lockflame.registers import X86_64_REGISTERS
from lockflame.samples import StackCopies
from symbolize.elf import ElfImage
from symbolize.unwind import UNMAPPED, RuleCache, StackEnd, UnwindData, UnwoundStacks, unwind
from tests.unit.symbolize.unwind.elf_writer import TEXT, TEXT_SIZE

BIAS = 0x7F0000000000
SP = 0x7FFE00001000
JIT, JIT_SIZE = 0x600000, 0x1000

Sample = tuple[dict[str, int], Sequence[int]]
"""Registers by name (ip as an address of the image; sp unless it is `SP`), the stack's words."""


class Machine:
    """The code of an image at `BIAS`, image 1, and code without a file at `JIT`, image 2, in space 0."""

    def __init__(self, image: ElfImage) -> None:
        self._data = UnwindData(image)
        self.cache = RuleCache(lambda number: self._data if number == 1 else None)

    def find(self, space: np.ndarray, address: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        linked = address - np.uint64(BIAS)
        in_image = (linked >= TEXT) & (linked < TEXT + TEXT_SIZE) & (space == 0)
        in_jit = (address >= JIT) & (address < JIT + JIT_SIZE)
        image = np.where(in_image, 1, np.where(in_jit, 2, UNMAPPED)).astype(np.int32)
        return image, np.where(in_image, linked, address)

    def unwind(self, *samples: Sample) -> UnwoundStacks:
        registers = np.zeros((len(samples), len(X86_64_REGISTERS)), np.uint64)
        words: list[int] = []
        starts: list[int] = []
        for row, (values, stack) in enumerate(samples):
            for name, value in ({"sp": SP} | values).items():
                registers[row, X86_64_REGISTERS.index(name)] = value
            starts.append(len(words))
            words += stack
        counts = [len(stack) for _, stack in samples]
        copies = StackCopies(np.array(words, np.uint64), np.array(starts, np.int64), np.array(counts, np.int64))
        has_registers = np.array([bool(values) for values, _ in samples], np.bool_)
        return unwind(registers, has_registers, copies, np.zeros(len(samples), np.int32), self, self.cache)

    def frames(self, registers: dict[str, int], stack: Sequence[int]) -> tuple[list[int], StackEnd]:
        """One stack: its addresses as those of the image, and why it ends."""
        result = self.unwind((registers, stack))
        return [address - BIAS for address in result.callchains[0].tolist()], StackEnd(int(result.end[0]))


def at(elf_address: int) -> int:
    """The address in the process."""
    return BIAS + elf_address


def slot(index: int) -> int:
    """The address of a word of the stack."""
    return SP + 8 * index
