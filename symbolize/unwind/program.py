"""Call frame instructions (DWARF 5, 6.4.2) run into rows of rules.

The work is bounded by the length of the instructions: each takes at least one byte, and rows, rules
and remembered states have limits of their own, far above what compilers write (the longest program in
Debian's libLLVM, node and chromium is 3,131 bytes).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from symbolize.unwind.entries import FrameEntry
from symbolize.unwind.reading import (
    BadUnwindData,
    PointerBases,
    read_fixed,
    read_pointer,
    read_sleb128,
    read_uleb128,
)

_MOST_ROWS = 1 << 13
_MOST_STATES = 64
_LONGEST_EXPRESSION = 256
_LONGEST_PROGRAM = 1 << 15
_LAST_REGISTER = 16

OFFSET, VAL_OFFSET, REGISTER, EXPRESSION, VAL_EXPRESSION, UNDEFINED, SAME = range(1, 8)
"""Kinds of register rules (DWARF 5, 6.4.1); the first five are those of `rules.Where`."""

Cfa = tuple[int, int] | bytes
"""The CFA: (register, offset) or an expression."""
Registers = dict[int, tuple[int, int | bytes]]
"""DWARF register number -> (kind, offset or register number or expression)."""


@dataclass(frozen=True, slots=True)
class Row:
    """The rules of the code in [start, end)."""

    start: int
    end: int
    cfa: Cfa
    registers: Registers


def run(entry: FrameEntry, bases: PointerBases) -> list[Row]:
    """The rows of an FDE, which cover it without gaps; `bases` are its section's. Raises `BadUnwindData`."""
    common = entry.common
    machine = _Machine(entry, PointerBases(bases.section + entry.position, bases.text, bases.data))
    machine.run(common.instructions)
    machine.initial = machine.registers.copy()
    if machine.location != entry.start:
        raise BadUnwindData("a CIE that advances")
    machine.run(entry.instructions)
    machine.emit(entry.end)
    return machine.rows


@dataclass(slots=True)
class _Machine:
    entry: FrameEntry
    bases: PointerBases
    location: int = 0
    cfa: Cfa | None = None
    registers: Registers = field(default_factory=lambda: {})
    initial: Registers | None = None
    states: list[tuple[Cfa | None, Registers]] = field(default_factory=lambda: [])
    rows: list[Row] = field(default_factory=lambda: [])

    def __post_init__(self) -> None:
        self.location = self.entry.start

    def emit(self, end: int) -> None:
        """Ends the current row at `end`."""
        end = min(end, self.entry.end)
        if end > self.location:
            if self.cfa is None or len(self.rows) >= _MOST_ROWS:
                raise BadUnwindData("code without a CFA, or too many rows")
            self.rows.append(Row(self.location, end, self.cfa, self.registers.copy()))
        elif end < self.location:
            raise BadUnwindData("a row that goes back")
        self.location = end

    def advance(self, steps: int) -> None:
        self.emit(self.location + steps * self.entry.common.code_alignment)

    def run(self, program: bytes) -> None:
        """The three instructions that hold an operand in their opcode here; they are nearly all there are."""
        if len(program) > _LONGEST_PROGRAM:
            raise BadUnwindData("too many instructions")
        at, size = 0, len(program)
        scale = self.entry.common.data_alignment
        while at < size:
            opcode = program[at]
            at += 1
            operand = opcode & 0x3F
            if opcode < 0x40:
                if opcode:
                    at = self.extended(opcode, program, at)
            elif opcode < 0x80:
                self.advance(operand)
            elif opcode < 0xC0:
                offset, at = read_uleb128(program, at)
                if operand <= _LAST_REGISTER:
                    self.registers[operand] = (OFFSET, offset * scale)
            else:
                self.restore(operand)

    def extended(self, opcode: int, program: bytes, at: int) -> int:
        """An instruction whose operands all follow its opcode; gives the position behind them."""
        if opcode in _ADVANCES:
            steps, at = read_fixed(program, at, _ADVANCES[opcode])
            self.advance(steps)
        elif opcode == 0x01:  # set_loc
            target, at = read_pointer(program, at, self.entry.common.pointer_encoding, self.bases)
            self.emit(target)
        elif opcode == 0x0A:
            if len(self.states) >= _MOST_STATES:
                raise BadUnwindData("too many remembered states")
            self.states.append((self.cfa, self.registers.copy()))
        elif opcode == 0x0B:
            if not self.states:
                raise BadUnwindData("a state that wasn't remembered")
            self.cfa, self.registers = self.states.pop()
        elif opcode in _CFA_INSTRUCTIONS:
            return self.define_cfa(opcode, program, at)
        elif opcode in _REGISTER_RULES:
            return self.define_register(opcode, program, at)
        elif opcode == 0x06:
            register, at = read_uleb128(program, at)
            self.restore(register)
        elif opcode == 0x2E:  # GNU_args_size: what to pop at a landing pad; no rule
            _, at = read_uleb128(program, at)
        else:
            raise BadUnwindData(f"instruction {opcode:#x}")
        return at

    def restore(self, register: int) -> None:
        if self.initial is None:
            raise BadUnwindData("a restore in a CIE")
        if register in self.initial:
            self.registers[register] = self.initial[register]
        else:
            self.registers.pop(register, None)

    def define_cfa(self, opcode: int, program: bytes, at: int) -> int:
        if opcode == 0x0F:
            self.cfa, at = _read_block(program, at)
            return at
        first, at = read_sleb128(program, at) if opcode == 0x13 else read_uleb128(program, at)
        if opcode == 0x0C:
            offset, at = read_uleb128(program, at)
            self.cfa = (first, offset)
        elif opcode == 0x12:
            offset, at = read_sleb128(program, at)
            self.cfa = (first, offset * self.entry.common.data_alignment)
        elif not isinstance(self.cfa, tuple):
            raise BadUnwindData("half of a CFA changed where there is none")
        elif opcode == 0x0D:
            self.cfa = (first, self.cfa[1])
        else:
            self.cfa = (self.cfa[0], first * (self.entry.common.data_alignment if opcode == 0x13 else 1))
        return at

    def define_register(self, opcode: int, program: bytes, at: int) -> int:
        kind, operand, is_scaled = _REGISTER_RULES[opcode]
        register, at = read_uleb128(program, at)
        value: int | bytes = 0
        if operand == "block":
            value, at = _read_block(program, at)
        elif operand:
            number, at = read_sleb128(program, at) if operand == "signed" else read_uleb128(program, at)
            value = number * (self.entry.common.data_alignment if is_scaled else 1)
        # Vector registers and such: nothing is found through them.
        if register <= _LAST_REGISTER:
            self.registers[register] = (kind, value)
        return at


_ADVANCES = {0x02: 1, 0x03: 2, 0x04: 4, 0x1D: 8}
_CFA_INSTRUCTIONS = frozenset((0x0C, 0x0D, 0x0E, 0x0F, 0x12, 0x13))
# Opcode -> the kind of rule, its operand, whether that is multiplied by the data alignment.
_REGISTER_RULES: dict[int, tuple[int, str, bool]] = {
    0x05: (OFFSET, "unsigned", True),
    0x07: (UNDEFINED, "", False),
    0x08: (SAME, "", False),
    0x09: (REGISTER, "unsigned", False),
    0x10: (EXPRESSION, "block", False),
    0x11: (OFFSET, "signed", True),
    0x14: (VAL_OFFSET, "unsigned", True),
    0x15: (VAL_OFFSET, "signed", True),
    0x16: (VAL_EXPRESSION, "block", False),
}


def _read_block(program: bytes, position: int) -> tuple[bytes, int]:
    size, at = read_uleb128(program, position)
    if size > _LONGEST_EXPRESSION or at + size > len(program):
        raise BadUnwindData("an expression that is too long")
    return program[at : at + size], at + size
