"""Steps through code that has no rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbolize.unwind import StackEnd
from symbolize.unwind.fallback import ends_in_call
from tests.unit.symbolize.unwind import elf_writer as w
from tests.unit.symbolize.unwind.elf_writer import Function, image_of
from tests.unit.symbolize.unwind.machine import JIT, Machine, at, slot

ASSEMBLY, CALLER, START = 0x1000, 0x1100, 0x1200
CALLED = CALLER + 0x10
"""Behind a call instruction."""


@pytest.fixture
def machine() -> Machine:
    text = bytearray(b"\x90" * w.TEXT_SIZE)
    text[CALLED - 5 - w.TEXT : CALLED - w.TEXT] = b"\xe8\0\0\0\0"
    functions = [Function(CALLER, 0x40), Function(START, 0x40, w.undefined(w.RIP))]
    return Machine(image_of(functions, text=bytes(text)))


def test_by_frame_pointer_and_then_on(machine: Machine) -> None:
    stack = [0xA, slot(9), at(CALLER + 5), at(START + 1)]
    registers = {"ip": at(ASSEMBLY), "bp": slot(1)}
    assert machine.frames(registers, stack) == ([ASSEMBLY, CALLER + 5, START + 1], StackEnd.COMPLETE)


def test_in_the_middle_of_a_stack(machine: Machine) -> None:
    stack = [at(ASSEMBLY + 7), 0xA, slot(9), at(START + 1)]
    registers = {"ip": at(CALLER), "bp": slot(2)}
    assert machine.frames(registers, stack) == ([CALLER, ASSEMBLY + 7, START + 1], StackEnd.COMPLETE)


def test_a_leaf_that_was_just_called(machine: Machine) -> None:
    """The frame pointer is its caller's still: by it, the caller would be skipped."""
    stack = [at(CALLED), at(START + 1), slot(9), at(START + 2)]
    registers = {"ip": at(ASSEMBLY), "bp": slot(2)}
    assert machine.frames(registers, stack) == ([ASSEMBLY, CALLED, START + 1], StackEnd.COMPLETE)


def test_a_jump_to_nowhere(machine: Machine) -> None:
    """A call by a bad pointer: the pc isn't in any mapping, its return address is on top of the stack."""
    result = machine.unwind(({"ip": 0x10}, [at(CALLED), at(START + 1)]))
    assert result.callchains[0].tolist() == [0x10, at(CALLED), at(START + 1)]
    assert result.end.tolist() == [StackEnd.COMPLETE]


def test_code_made_at_run_time_is_walked_by_frame_pointers(machine: Machine) -> None:
    stack = [slot(2), JIT + 8, slot(5), JIT + 16, 0, slot(9), at(START + 1)]
    result = machine.unwind(({"ip": JIT, "bp": slot(0)}, stack))
    assert result.callchains[0].tolist() == [JIT, JIT + 8, JIT + 16, at(START + 1)]
    assert result.cfa.tolist() == [slot(2), slot(4), slot(7), 0]


@pytest.mark.parametrize(
    ("frame_pointer", "end"),
    [
        (0, StackEnd.NO_RULES),
        (slot(-2), StackEnd.NO_RULES),
        (slot(0) + 1, StackEnd.NO_RULES),
        (slot(1), StackEnd.OUT_OF_STACK),
        (slot(7), StackEnd.OUT_OF_STACK),
        (1 << 40, StackEnd.NO_RULES),
        ((1 << 64) - 8, StackEnd.NO_RULES),
    ],
)
def test_without_a_frame_pointer_the_stack_ends(machine: Machine, frame_pointer: int, end: StackEnd) -> None:
    assert machine.frames({"ip": at(ASSEMBLY), "bp": frame_pointer}, [0xA, 0xB]) == ([ASSEMBLY], end)


def test_a_frame_pointer_of_zero_marks_the_outermost_frame(machine: Machine) -> None:
    """As in the dynamic linker's `_start`, which has no rules."""
    assert machine.frames({"ip": at(CALLER)}, [at(ASSEMBLY + 8)]) == ([CALLER, ASSEMBLY + 8], StackEnd.COMPLETE)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("e800000000", True),
        ("ffd0", True),  # call *%rax
        ("41ffd4", True),  # call *%r12
        ("ff10", True),  # call *(%rax)
        ("ff5008", True),  # call *8(%rax)
        ("ff1424", True),  # call *(%rsp)
        ("ff542408", True),  # call *8(%rsp)
        ("ff1500000000", True),  # call *0(%rip)
        ("ff9000010000", True),  # call *0x100(%rax)
        ("ff14c500000000", True),  # call *(,%rax,8)
        ("ff94c100010000", True),  # call *0x100(%rcx,%rax,8)
        ("9090ffe0", False),  # jmp *%rax
        ("ff90000100", False),
        ("e8000000", False),
        ("90909090909090", False),
        ("", False),
    ],
)
def test_calls_are_told_by_their_bytes(code: str, expected: bool) -> None:
    assert ends_in_call(bytes.fromhex(code)) is expected


@given(st.binary(max_size=8))
def test_any_bytes_can_be_asked(code: bytes) -> None:
    assert ends_in_call(code) in (True, False)
