"""Stacks, as arrays of words, against rules."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolize.unwind import MOST_FRAMES, RuleTable, StackEnd
from symbolize.unwind.rules import RuleKind
from tests.unit.symbolize.unwind import elf_writer as w
from tests.unit.symbolize.unwind.elf_writer import Function, image_of
from tests.unit.symbolize.unwind.machine import JIT, SP, Machine, at, slot

LEAF, PUSHER, FRAMED, START, REALIGNED, PLT, RESTORE_RT, SCRATCH, HANDLER = range(0x1000, 0x1900, 0x100)
# glibc's __restore_rt: a signal frame whose registers are in the sigcontext, all relative to rsp
# (struct rt_sigframe and sigcontext: linux/arch/x86/include/uapi/asm/sigcontext.h).
CONTEXT = {
    8: 40, 9: 48, 10: 56, 11: 64, 12: 72, 13: 80, 14: 88, 15: 96, 5: 104, 4: 112,
    6: 120, 3: 128, 1: 136, 0: 144, 2: 152, 7: 160, 16: 168,
}  # fmt: skip
FUNCTIONS = [
    Function(LEAF, 0x40),
    Function(PUSHER, 0x40, w.advance(2) + w.def_cfa_offset(16) + w.offset(w.RBX, 2)),
    Function(
        FRAMED,
        0x40,
        w.advance(1) + w.def_cfa_offset(16) + w.offset(w.RBP, 2) + w.advance(3) + w.def_cfa_register(w.RBP),
    ),
    Function(START, 0x40, w.undefined(w.RIP)),
    Function(
        REALIGNED,
        0x40,
        w.def_cfa(10, 0)
        + w.advance(0x10)
        + w.def_cfa_expression(w.breg(w.RBP, -8) + w.DEREF)
        + w.expression(w.RBP, w.breg(w.RBP, 0)),
    ),
    Function(PLT, 0x40, w.def_cfa_expression(w.breg(w.RSP, 8) + w.breg(w.RIP, 0) + b"\x3f\x1a\x3b\x2a\x33\x24\x22")),
    Function(
        RESTORE_RT - 1,
        0x10,
        w.def_cfa_expression(w.breg(w.RSP, 160) + w.DEREF)
        + b"".join(w.expression(register, w.breg(w.RSP, at)) for register, at in CONTEXT.items()),
        signal=True,
        initial=b"",
    ),
    Function(SCRATCH, 0x40, w.def_cfa(0, 8)),  # CFA = rax + 8
    Function(HANDLER, 0x40),
]
IMAGE = image_of(FUNCTIONS)


@pytest.fixture
def machine() -> Machine:
    return Machine(IMAGE)


def test_leaf_first_up_to_the_start(machine: Machine) -> None:
    """A leaf, called by one that pushed rbx, called by one with a frame pointer, called by `_start`."""
    stack = [at(PUSHER + 9), 0xB, at(FRAMED + 9), 0xC, 0xD, slot(9), at(START + 5)]
    registers = {"ip": at(LEAF), "bp": slot(5)}
    assert machine.frames(registers, stack) == ([LEAF, PUSHER + 9, FRAMED + 9, START + 5], StackEnd.COMPLETE)


def test_cfas_and_which_addresses_are_exact(machine: Machine) -> None:
    result = machine.unwind(({"ip": at(PUSHER)}, [at(PUSHER + 9), 0xB, at(START + 5)]))
    assert result.is_exact.tolist() == [True, False, False]
    assert result.cfa.tolist() == [slot(1), slot(3), 0]


def test_a_return_address_behind_the_last_instruction_is_looked_up_before_itself(machine: Machine) -> None:
    """A call at the end of a function that never returns: its return address is the next function's."""
    registers, stack = {"ip": at(LEAF)}, [at(PUSHER + 0x40), 0xB, at(START + 0x40)]
    assert machine.frames(registers, stack) == ([LEAF, PUSHER + 0x40, START + 0x40], StackEnd.COMPLETE)


def test_many_stacks_of_different_depths(machine: Machine) -> None:
    deep = [*[at(PUSHER + 9), 0] * 50, at(START + 1)]
    result = machine.unwind(
        ({"ip": at(LEAF)}, deep), ({}, []), ({"ip": at(START)}, []), ({"ip": at(LEAF)}, [at(START + 1)])
    )
    assert np.diff(result.callchains.offsets).tolist() == [52, 0, 1, 2]
    assert result.end.tolist() == [StackEnd.COMPLETE, StackEnd.NO_REGISTERS, StackEnd.COMPLETE, StackEnd.COMPLETE]
    assert result.callchains[3].tolist() == [at(LEAF), at(START + 1)]


def test_a_return_address_of_zero_is_the_end(machine: Machine) -> None:
    assert machine.frames({"ip": at(LEAF)}, [at(LEAF + 9), 0]) == ([LEAF, LEAF + 9], StackEnd.COMPLETE)


def test_a_register_saved_by_one_frame_serves_an_outer_one(machine: Machine) -> None:
    """rbp is saved by the inner frame, kept by the middle one and is the outer one's frame pointer."""
    stack = [0xA, slot(6), at(LEAF + 9), at(FRAMED + 9), 0xB, 0xC, slot(20), at(START + 1)]
    registers = {"ip": at(FRAMED + 9), "bp": slot(1)}
    assert machine.frames(registers, stack)[0] == [FRAMED + 9, LEAF + 9, FRAMED + 9, START + 1]


def test_a_popped_register_has_its_value_back(machine: Machine) -> None:
    """In an epilogue the rules still name rbp's place, which is below the stack pointer by then."""
    functions = [*FUNCTIONS, Function(0x2000, 0x40, w.offset(w.RBP, 2))]
    stack = [at(FRAMED + 9), 0xA, slot(9), at(START + 1)]
    registers = {"ip": at(0x2000), "bp": slot(2)}
    assert Machine(image_of(functions)).frames(registers, stack)[0] == [0x2000, FRAMED + 9, START + 1]


def test_plt_stubs(machine: Machine) -> None:
    """The stub pushes the relocation's number with its second instruction, 11 bytes in."""
    for inside, stack in ((6, [at(START + 1)]), (11, [0x3, at(START + 1)])):
        assert machine.frames({"ip": at(PLT + inside)}, stack) == ([PLT + inside, START + 1], StackEnd.COMPLETE)


def test_a_realigned_stack(machine: Machine) -> None:
    """Its CFA is where r10 points in the prologue, then in the word below the saved rbp."""
    assert machine.frames({"ip": at(REALIGNED), "r10": slot(3)}, [0, 0, at(START + 1)])[0] == [REALIGNED, START + 1]
    stack = [0xA, slot(5), slot(9), 0xB, at(FRAMED + 9), 0xC, 0xD, 0xE, at(FRAMED + 9), slot(20), at(START + 1)]
    registers = {"ip": at(REALIGNED + 0x20), "bp": slot(2)}
    frames, end = machine.frames(registers, stack)
    # rbp was saved at [rbp]: slot 9, where the caller's own frame pointer stands.
    assert (frames, end) == ([REALIGNED + 0x20, FRAMED + 9, START + 1], StackEnd.COMPLETE)


def test_a_function_that_popped_its_return_address() -> None:
    """glibc's vfork keeps it in rdi during the system call: CFA = rsp, the return address is in rdi."""
    program = w.def_cfa(w.RSP, 0) + b"\x09\x10\x05"
    machine = Machine(image_of([*FUNCTIONS, Function(0x2000, 0x40, program)]))
    registers, stack = {"ip": at(0x2000), "di": at(PUSHER + 9)}, [0xB, at(START + 1)]
    assert machine.frames(registers, stack) == ([0x2000, PUSHER + 9, START + 1], StackEnd.COMPLETE)


def signal_stack(interrupted: dict[int, int]) -> list[int]:
    """What the kernel leaves for a handler that has just been called: __restore_rt's address, the context."""
    context = [0] * 22
    for register, value in interrupted.items():
        context[CONTEXT[register] // 8] = value
    return [at(RESTORE_RT), *context]


def test_through_a_signal_frame_all_registers_come_back(machine: Machine) -> None:
    """The interrupted function's CFA needs rax, which only the sigcontext has; its pc is looked up as it is.

    And so is the trampoline's, where nobody called: the handler returns to its very first instruction.
    """
    interrupted = {16: at(SCRATCH), 7: slot(30), 0: slot(32), 6: slot(36)}
    stack = signal_stack(interrupted)
    stack += [0] * (32 - len(stack)) + [at(FRAMED + 9), 0, 0, 0, 0, at(START + 1)]
    result = machine.unwind(({"ip": at(HANDLER), "ax": 0xDEAD}, stack))
    addresses = [at(HANDLER), at(RESTORE_RT), at(SCRATCH), at(FRAMED + 9), at(START + 1)]
    assert result.callchains[0].tolist() == addresses
    assert result.is_exact.tolist() == [True, True, True, False, False]
    assert result.end.tolist() == [StackEnd.COMPLETE]


def test_a_signal_handler_on_a_stack_of_its_own(machine: Machine) -> None:
    """The interrupted stack isn't in the copy: its function is still known."""
    for sp in (SP - 0x10000, SP + 0x10000, 0x1000):
        stack = signal_stack({16: at(LEAF + 2), 7: sp})
        frames, end = machine.frames({"ip": at(HANDLER)}, stack)
        assert frames == [HANDLER, RESTORE_RT, LEAF + 2]
        assert end in (StackEnd.OUT_OF_STACK, StackEnd.BAD)


def test_only_one_signal_may_lead_down_the_stack(machine: Machine) -> None:
    stack = signal_stack({16: at(LEAF), 7: slot(0)})  # it interrupted itself, endlessly
    frames, end = machine.frames({"ip": at(HANDLER)}, stack)
    assert frames == [HANDLER, RESTORE_RT, LEAF, RESTORE_RT]
    assert end is StackEnd.BAD


@pytest.mark.parametrize(
    ("registers", "stack", "frames", "end"),
    [
        ({"ip": at(LEAF)}, [], [LEAF], StackEnd.OUT_OF_STACK),
        ({"ip": at(LEAF)}, [at(LEAF + 4)], [LEAF, LEAF + 4], StackEnd.OUT_OF_STACK),
        ({"ip": at(FRAMED + 9), "bp": slot(100)}, [0], [FRAMED + 9], StackEnd.OUT_OF_STACK),
        ({"ip": at(FRAMED + 9), "bp": SP - 64}, [0] * 4, [FRAMED + 9], StackEnd.BAD),
        ({"ip": at(FRAMED + 9), "bp": SP + 4}, [0] * 4, [FRAMED + 9], StackEnd.BAD),
        ({"ip": at(FRAMED + 9), "bp": (1 << 64) - 8}, [0] * 4, [FRAMED + 9], StackEnd.BAD),
        ({"ip": at(LEAF)}, [1 << 63], [LEAF], StackEnd.BAD),
        ({"ip": at(LEAF)}, [1 << 47], [LEAF], StackEnd.BAD),
        ({"ip": at(LEAF)}, [0x1234], [LEAF], StackEnd.BAD),
        ({"ip": at(FRAMED + 9), "bp": slot(1)}, [0, slot(1), at(FRAMED + 9)], [FRAMED + 9] * 2, StackEnd.BAD),
        ({"ip": at(REALIGNED + 0x20), "bp": slot(9)}, [0], [REALIGNED + 0x20], StackEnd.OUT_OF_STACK),
        ({"ip": at(REALIGNED + 0x20), "bp": slot(1)}, [0, 0], [REALIGNED + 0x20], StackEnd.BAD),
    ],
)
def test_what_is_wrong_ends_that_stack(
    machine: Machine, registers: dict[str, int], stack: list[int], frames: list[int], end: StackEnd
) -> None:
    assert machine.frames(registers, stack) == (frames, end)


def test_depth_is_bounded(machine: Machine) -> None:
    frames, end = machine.frames({"ip": at(LEAF)}, [at(LEAF + 1)] * 3000)
    assert (len(frames), end) == (MOST_FRAMES, StackEnd.TOO_DEEP)


def test_no_samples(machine: Machine) -> None:
    result = machine.unwind()
    assert (len(result.callchains), len(result.end)) == (0, 0)


POOL = [at(function + by) for function in range(LEAF, 0x1900, 0x100) for by in (0, 4, 0x20)]
words = st.one_of(
    st.sampled_from(POOL),
    st.integers(-4, 64).map(slot),
    st.integers(0, (1 << 64) - 1),
    st.sampled_from([0, 1, JIT + 8, (1 << 64) - 1, 1 << 63]),
)
registers = st.dictionaries(st.sampled_from(["ax", "bx", "bp", "sp", "r10", "r12"]), words)
samples = st.tuples(
    st.tuples(words, registers).map(lambda pair: pair[1] | {"ip": pair[0]}), st.lists(words, max_size=60)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(samples, max_size=6))
def test_random_stacks_never_raise_nor_warn(stacks: list[tuple[dict[str, int], list[int]]]) -> None:
    machine = Machine(IMAGE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = machine.unwind(*stacks)
    assert np.all(result.end > 0)
    for row, (values, _) in enumerate(stacks):
        assert int(result.callchains[row][0]) == values["ip"]
        # Each stack is unwound as if it were alone.
        alone = machine.unwind(stacks[row])
        assert alone.callchains[0].tolist() == result.callchains[row].tolist()
        assert alone.end[0] == result.end[row]


@st.composite
def rule_tables(draw: st.DrawFn) -> RuleTable:
    """Rules that no compiler would write, for the code of the image."""
    count = draw(st.integers(1, 8))
    bounds = np.linspace(w.TEXT, w.TEXT + w.TEXT_SIZE, count + 1).astype(np.uint64)
    column = st.lists(st.integers(-300, 300), min_size=count, max_size=count)
    general = tuple(
        bytes([draw(st.booleans())]) + b"\0\5" + len(code).to_bytes(8, "little") + code
        for code in draw(st.lists(st.binary(max_size=12), min_size=1, max_size=3))
    )
    huge = st.integers(-(1 << 63), (1 << 63) - 1)
    return RuleTable(
        bounds[:-1],
        bounds[1:],
        np.array([number % len(RuleKind) for number in draw(column)], np.uint8),
        np.array([number % 7 for number in draw(column)], np.uint8),
        np.array(draw(st.lists(st.integers(-64, 64) | huge, min_size=count, max_size=count)), np.int64),
        np.array(
            [draw(st.lists(st.integers(-20, 20) | st.just(-32768), min_size=7, max_size=7)) for _ in range(count)],
            np.int16,
        ),
        np.array([number % len(general) for number in draw(column)], np.int32),
        general,
    )


@settings(max_examples=150, deadline=None)
@given(rule_tables(), st.lists(samples, min_size=1, max_size=4))
def test_random_rules_never_raise_nor_warn(table: RuleTable, stacks: list[tuple[dict[str, int], list[int]]]) -> None:
    machine = Machine(IMAGE)
    machine.cache.add(1, RuleTable.from_arrays(table.to_arrays()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = machine.unwind(*stacks)
    assert np.all(result.end > 0)
    assert np.all(np.diff(result.callchains.offsets) <= MOST_FRAMES)
