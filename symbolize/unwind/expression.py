"""DWARF expressions (DWARF 5, 2.5) as call frame rules use them, for many frames at once.

Each entry of the expression's stack is a column of one value per frame. There are no branches
(DW_OP_bra, DW_OP_skip): compilers write none into call frame rules, so an expression takes as many
steps as it has operations. What isn't known makes the whole expression fail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from symbolize.unwind.reading import ADDRESS_MASK, BadUnwindData, read_fixed, read_sleb128, read_uleb128

_MOST_ENTRIES = 32
_LAST_REGISTER = 16

Column = NDArray[np.uint64]
SignedColumn = NDArray[np.int64]


class Frames(Protocol):
    """The frames an expression is evaluated in."""

    def __len__(self) -> int: ...

    def register(self, number: int) -> Column:
        """The values of a register by its DWARF number, 16 for the pc."""
        ...

    def load(self, addresses: Column) -> Column:
        """The words at addresses; frames whose word can't be read are noted as failed, and get 0."""
        ...


def evaluate(expression: bytes, frames: Frames, initial: Column | None = None) -> Column:
    """The top of the stack after the expression, uint64[n]; raises `BadUnwindData`.

    `initial` stands on the stack at the start (the CFA, for registers' expressions).
    """
    machine = _Machine(frames, [] if initial is None else [initial])
    at = 0
    while at < len(expression):
        at = machine.step(expression, at)
    return machine.pop()


class _Machine:
    def __init__(self, frames: Frames, stack: list[Column]) -> None:
        self._frames = frames
        self._stack = stack

    def pop(self) -> Column:
        if not self._stack:
            raise BadUnwindData("an expression takes from an empty stack")
        return self._stack.pop()

    def push(self, column: Column) -> None:
        if len(self._stack) >= _MOST_ENTRIES:
            raise BadUnwindData("an expression needs too large a stack")
        self._stack.append(column)

    def push_number(self, value: int) -> None:
        self.push(np.full(len(self._frames), value & ADDRESS_MASK, np.uint64))

    def pick(self, depth: int) -> None:
        if depth >= len(self._stack):
            raise BadUnwindData("an expression reaches below its stack")
        self.push(self._stack[-1 - depth])

    def step(self, code: bytes, at: int) -> int:
        """Does the operation at `at`; gives the position behind it."""
        operation = code[at]
        at += 1
        if 0x30 <= operation <= 0x4F:  # lit
            self.push_number(operation - 0x30)
        elif 0x70 <= operation <= 0x8F:  # breg
            offset, at = read_sleb128(code, at)
            self._push_register(operation - 0x70, offset)
        elif operation in _BINARY:
            second, first = self.pop(), self.pop()
            self.push(_BINARY[operation](first, second))
        elif operation in _UNARY:
            self.push(_UNARY[operation](self.pop()))
        elif operation in _CONSTANTS:
            value, at = _CONSTANTS[operation](code, at)
            self.push_number(value)
        else:
            return self._step_rare(operation, code, at)
        return at

    def _step_rare(self, operation: int, code: bytes, at: int) -> int:
        if operation == 0x06:  # deref
            self.push(self._frames.load(self.pop()))
        elif operation == 0x12:  # dup
            self.pick(0)
        elif operation == 0x13:  # drop
            self.pop()
        elif operation == 0x14:  # over
            self.pick(1)
        elif operation == 0x15:  # pick
            depth, at = read_fixed(code, at, 1)
            self.pick(depth)
        elif operation in (0x16, 0x17):  # swap, rot: the top goes below one or two others
            top = self.pop()
            others = [self.pop() for _ in range(operation - 0x15)]
            for column in (top, *reversed(others)):
                self.push(column)
        elif operation == 0x23:  # plus_uconst
            value, at = read_uleb128(code, at)
            self.push(self.pop() + _column(value))
        elif operation == 0x92:  # bregx
            number, at = read_uleb128(code, at)
            offset, at = read_sleb128(code, at)
            self._push_register(number, offset)
        elif operation != 0x96:  # nop
            raise BadUnwindData(f"operation {operation:#x}")
        return at

    def _push_register(self, number: int, offset: int) -> None:
        if number > _LAST_REGISTER:
            raise BadUnwindData(f"register {number}")
        self.push(self._frames.register(number) + _column(offset))


def _column(value: int) -> Column:
    # An array, not a scalar: numpy warns of overflow in scalars only.
    return np.array([value & ADDRESS_MASK], np.uint64)


def _signed(operation: Callable[[SignedColumn, SignedColumn], NDArray[Any]]) -> Callable[[Column, Column], Column]:
    def apply(first: Column, second: Column) -> Column:
        return operation(first.view(np.int64), second.view(np.int64)).astype(np.int64).view(np.uint64)

    return apply


def _divide(first: SignedColumn, second: SignedColumn) -> SignedColumn:
    """Rounded towards zero; 0 for what can't be divided."""
    possible = (second != 0) & (second != -1)
    divisor = np.where(possible, second, 1)
    quotient = first // divisor
    quotient += (quotient < 0) & (quotient * divisor != first)
    return np.where(possible, quotient, np.where(second == -1, 0 - first, 0))


def _shift_right_signed(first: SignedColumn, second: SignedColumn) -> SignedColumn:
    return np.right_shift(first, np.minimum(second.view(np.uint64), 63).astype(np.int64))


_BINARY: dict[int, Callable[[Column, Column], Column]] = {
    0x1A: np.bitwise_and,
    0x1B: _signed(_divide),
    0x1C: np.subtract,
    0x1D: lambda first, second: np.where(second == 0, second, first % np.maximum(second, 1)),
    0x1E: np.multiply,
    0x21: np.bitwise_or,
    0x22: np.add,
    0x24: np.left_shift,
    0x25: np.right_shift,
    0x26: _signed(_shift_right_signed),
    0x27: np.bitwise_xor,
    0x29: _signed(np.equal),
    0x2A: _signed(np.greater_equal),
    0x2B: _signed(np.greater),
    0x2C: _signed(np.less_equal),
    0x2D: _signed(np.less),
    0x2E: _signed(np.not_equal),
}
_UNARY: dict[int, Callable[[Column], Column]] = {
    0x19: lambda value: np.abs(value.view(np.int64)).view(np.uint64),
    0x1F: lambda value: 0 - value,
    0x20: np.bitwise_not,
}
_CONSTANTS: dict[int, Callable[[bytes, int], tuple[int, int]]] = {
    0x08: lambda code, at: read_fixed(code, at, 1),
    0x09: lambda code, at: read_fixed(code, at, 1, signed=True),
    0x0A: lambda code, at: read_fixed(code, at, 2),
    0x0B: lambda code, at: read_fixed(code, at, 2, signed=True),
    0x0C: lambda code, at: read_fixed(code, at, 4),
    0x0D: lambda code, at: read_fixed(code, at, 4, signed=True),
    0x0E: lambda code, at: read_fixed(code, at, 8),
    0x0F: lambda code, at: read_fixed(code, at, 8, signed=True),
    0x10: read_uleb128,
    0x11: read_sleb128,
}
