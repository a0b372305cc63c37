"""Which rules come out of which unwind data."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolize.elf import ElfImage
from symbolize.unwind import RuleKind, RuleTable, UnwindData
from symbolize.unwind.rules import KEPT, GeneralRule, Where
from tests.unit.symbolize.unwind import elf_writer as w
from tests.unit.symbolize.unwind.elf_writer import Function, image_of, write_elf, write_frames, write_header


def addresses(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def describe(table: RuleTable) -> list[tuple[object, ...]]:
    """The rows but those without rules: start, end, then the CFA and saved registers or the kind."""
    rows: list[tuple[object, ...]] = []
    for row in range(len(table)):
        kind = RuleKind(int(table.kind[row]))
        what: tuple[object, ...] = (kind.name,)
        if kind is RuleKind.PLAIN:
            what = (KEPT[table.cfa_register[row]], int(table.cfa_offset[row]), table.saved[row].tolist())
        if kind is not RuleKind.NONE:
            rows.append((int(table.start[row]), int(table.end[row]), *what))
    return rows


NOTHING_SAVED = [0, 0, 0, 0, 0, 0, -1]
FRAME_POINTER = w.advance(1) + w.def_cfa_offset(16) + w.offset(w.RBP, 2) + w.advance(3) + w.def_cfa_register(w.RBP)
FRAME_POINTER_ROWS = [
    (0x1100, 0x1101, w.RSP, 8, NOTHING_SAVED),
    (0x1101, 0x1104, w.RSP, 16, [0, -2, 0, 0, 0, 0, -1]),
    (0x1104, 0x1140, w.RBP, 16, [0, -2, 0, 0, 0, 0, -1]),
]


@pytest.mark.parametrize("header", [True, False])
def test_only_the_function_that_is_hit_is_decoded(header: bool) -> None:
    functions = [Function(0x1000, 0x80), Function(0x1100, 0x40, FRAME_POINTER), Function(0x1200, 0x40)]
    data = UnwindData(image_of(functions, header=header))
    table = data.decode(addresses(0x1120))
    assert describe(table) == FRAME_POINTER_ROWS
    assert (int(table.start[-1]), int(table.end[-1]), int(table.kind[-1])) == (0x1140, 0x1200, RuleKind.NONE)


@pytest.mark.parametrize("encoding", [0x00, 0x02, 0x03, 0x04, 0x0A, 0x0B, 0x0C, 0x1B, 0x1C, 0x14, 0x2B, 0x3B])
def test_pointer_encodings(encoding: int) -> None:
    data = UnwindData(image_of([Function(0x1100, 0x40, FRAME_POINTER, encoding=encoding)], header=False))
    assert describe(data.decode(addresses(0x1100))) == FRAME_POINTER_ROWS
    assert [int(bound[0]) for bound in data.function_starts(addresses(0x113F))] == [0x1100, 0x1140]


def test_addresses_without_a_function_get_a_row_without_rules() -> None:
    data = UnwindData(image_of([Function(0x1100, 0x40), Function(0x1200, 0x40)]))
    asked = addresses(0x10, 0x1140, 0x1FFF, 0x1200)
    table = data.decode(asked)
    rows = np.searchsorted(table.start, asked, side="right") - 1
    assert np.all(table.end[rows] > asked)
    assert table.kind[rows].tolist() == [RuleKind.NONE] * 3 + [RuleKind.PLAIN]
    starts, ends = data.function_starts(asked)
    assert (starts.tolist(), ends.tolist()) == ([0, 0, 0, 0x1200], [0, 0, 0, 0x1240])


def test_states_are_remembered_and_rules_restored() -> None:
    program = (
        w.advance(2) + w.offset(w.RBX, 2) + w.def_cfa_offset(16) + w.REMEMBER
        + w.advance(4) + b"\xc3" + w.def_cfa_offset(8) + w.advance(1) + w.RESTORE
    )  # fmt: skip
    table = UnwindData(image_of([Function(0x1100, 0x40, program)])).decode(addresses(0x1100))
    saved = [-2, 0, 0, 0, 0, 0, -1]
    assert describe(table) == [
        (0x1100, 0x1102, w.RSP, 8, NOTHING_SAVED),
        (0x1102, 0x1106, w.RSP, 16, saved),
        (0x1106, 0x1107, w.RSP, 8, NOTHING_SAVED),
        (0x1107, 0x1140, w.RSP, 16, saved),
    ]


def test_gnu_args_size_changes_nothing() -> None:
    program = b"\x2e\x10" + FRAME_POINTER + b"\x2e\x00"
    table = UnwindData(image_of([Function(0x1100, 0x40, program)])).decode(addresses(0x1100))
    assert describe(table) == FRAME_POINTER_ROWS


def test_every_form_of_the_same_rule() -> None:
    forms = [
        w.def_cfa(w.RBP, 16) + w.offset(w.RBX, 3),
        b"\x12\x06" + w.sleb(-2) + b"\x11\x03" + w.sleb(3),  # def_cfa_sf, offset_extended_sf
        w.def_cfa(w.RBP, 0) + b"\x13" + w.sleb(-2) + b"\x05\x03\x03",  # def_cfa_offset_sf, offset_extended
    ]
    for program in forms:
        table = UnwindData(image_of([Function(0x1100, 0x40, program)])).decode(addresses(0x1100))
        assert describe(table) == [(0x1100, 0x1140, w.RBP, 16, [-3, 0, 0, 0, 0, 0, -1])]


def test_advances_of_all_sizes() -> None:
    program = b"".join(
        step + w.def_cfa_offset(16 + 8 * number)
        for number, step in enumerate([b"\x41", b"\x02\x10", b"\x03\x00\x01", b"\x04\x00\x02\x00\x00"])
    )
    table = UnwindData(image_of([Function(0x1100, 0x1000, program)])).decode(addresses(0x1100))
    assert [row[0] for row in describe(table)] == [0x1100, 0x1101, 0x1111, 0x1211, 0x1411]


def test_set_loc_uses_the_encoding_of_addresses() -> None:
    program = b"\x01" + (0x1120).to_bytes(4, "little") + w.def_cfa_offset(32)
    table = UnwindData(image_of([Function(0x1100, 0x40, program, encoding=0x03)])).decode(addresses(0x1100))
    assert [row[:4] for row in describe(table)] == [(0x1100, 0x1120, w.RSP, 8), (0x1120, 0x1140, w.RSP, 32)]


def test_undefined_return_address_ends_the_stack() -> None:
    table = UnwindData(image_of([Function(0x1100, 0x40, w.undefined(w.RIP))])).decode(addresses(0x1100))
    assert describe(table) == [(0x1100, 0x1140, "END")]


def test_what_columns_cannot_tell_is_a_general_rule() -> None:
    program = w.def_cfa_expression(w.breg(w.RBP, -8) + w.DEREF) + w.expression(w.RBX, w.breg(w.RBP, -24))
    table = UnwindData(image_of([Function(0x1100, 0x40, program)])).decode(addresses(0x1100))
    assert describe(table) == [(0x1100, 0x1140, "GENERAL")]
    rule = GeneralRule.decode(table.general_rules[0])
    assert rule == GeneralRule(
        False, b"\x76\x78\x06", ((w.RBX, Where.EXPRESSION, b"\x76\x68"), (w.RIP, Where.OFFSET, -8))
    )


@pytest.mark.parametrize(
    "program",
    [
        w.def_cfa(10, 0),  # r10, as in the prologue of a function that realigns its stack
        b"\x09\x03\x02",  # rbx is in rcx
        b"\x14\x06\x02",  # rbp is CFA - 16
        w.offset(0, 3),  # rax is saved
        w.def_cfa(w.RSP, 8) + b"\x11\x03" + w.sleb(1 << 20),  # further than a column reaches
    ],
)
def test_rare_rules_are_general_rules(program: bytes) -> None:
    table = UnwindData(image_of([Function(0x1100, 0x40, program)])).decode(addresses(0x1100))
    assert describe(table) == [(0x1100, 0x1140, "GENERAL")]


def test_signal_frames_are_marked() -> None:
    table = UnwindData(image_of([Function(0x1100, 0x40, signal=True)])).decode(addresses(0x1100))
    assert GeneralRule.decode(table.general_rules[int(table.general[0])]).is_signal_frame


@pytest.mark.parametrize(
    "program",
    [
        b"\x3f",  # no such instruction
        w.RESTORE,  # nothing remembered
        w.REMEMBER * 1000,
        b"\x0e" + b"\xff" * 20,  # an endless number
        b"\x0f\x7f\x70",  # an expression longer than what is left
        w.def_cfa(99, 8),  # no such register
        b"\x08\x10",  # the return address keeps its value: it would return to itself
    ],
)
def test_bad_instructions_leave_that_function_without_rules(program: bytes) -> None:
    data = UnwindData(image_of([Function(0x1100, 0x40, program), Function(0x1200, 0x40)]))
    table = data.decode(addresses(0x1100, 0x1200))
    assert describe(table) == [(0x1200, 0x1240, w.RSP, 8, NOTHING_SAVED)]


def test_a_hostile_amount_of_instructions_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    program = b"\x41\x0e\x10" * 1000
    monkeypatch.setattr("symbolize.unwind.cfi._MOST_INSTRUCTION_BYTES", len(program) + 100)
    data = UnwindData(image_of([Function(0x1000 + 0x10 * number, 0x10, program) for number in range(3)]))
    assert [row[0] for row in describe(data.decode(addresses(0x1000, 0x1010, 0x1020)))] == [*range(0x1000, 0x1010)]
    too_long = Function(0x1000, 0x4000, b"\x41\x0e\x10" * 12000)
    assert describe(UnwindData(image_of([too_long], header=False)).decode(addresses(0x1000))) == []


@pytest.mark.parametrize("header", [True, False])
def test_a_function_outside_of_the_image_has_no_rules(header: bool) -> None:
    functions = [Function(0x1100, 0x40), Function(0x1200, 1 << 20), Function(0x900000, 0x40)]
    data = UnwindData(image_of(functions, header=header))
    table = data.decode(addresses(0x1100, 0x1210, 0x900000))
    assert describe(table) == [(0x1100, 0x1140, w.RSP, 8, NOTHING_SAVED)]
    assert data.function_starts(addresses(0x900001))[0].tolist() == [0]


def test_overlapping_functions_are_cut_at_the_next_start() -> None:
    data = UnwindData(image_of([Function(0x1100, 0x200), Function(0x1180, 0x40)]))
    table = data.decode(addresses(0x1100, 0x1180))
    assert [row[:2] for row in describe(table)] == [(0x1100, 0x1180), (0x1180, 0x11C0)]
    assert np.all(table.end[:-1] <= table.start[1:])


def test_a_header_in_another_encoding_or_unsorted_is_not_used() -> None:
    frames, places = write_frames([Function(0x1100, 0x40), Function(0x1200, 0x40)])
    good = write_header(places)
    unsorted = good[:12] + good[20:28] + good[12:20]
    for header in (good[:3] + b"\x1b" + good[4:], b"\2" + good[1:], good[:14], b"", unsorted, good[:8] + b"\xff" * 4):
        image = ElfImage(write_elf({".eh_frame": (w.FRAMES, frames), ".eh_frame_hdr": (w.HEADER, header)}))
        index = UnwindData(image).index
        assert index.starts.tolist() == [0x1100, 0x1200]


def test_a_header_that_lies_about_a_function() -> None:
    frames, places = write_frames([Function(0x1100, 0x40), Function(0x1200, 0x40)])
    header = write_header([(0x1108, places[0][1]), places[1]])
    data = UnwindData(ElfImage(write_elf({".eh_frame": (w.FRAMES, frames), ".eh_frame_hdr": (w.HEADER, header)})))
    assert describe(data.decode(addresses(0x1110))) == []
    assert data.function_starts(addresses(0x1110))[0].tolist() == [0]


def debug_frame(start: int, program: bytes, *, version: int = 3, is_long: bool = False) -> bytes:
    sizes = b"\x08\x00" if version == 4 else b""
    common = bytes([version]) + b"\0" + sizes + w.uleb(1) + w.sleb(-8) + b"\x10" + w.USUAL
    frame = struct.pack("<QQ", start, 0x40) + program
    if not is_long:
        first = struct.pack("<II", len(common) + 4, 0xFFFFFFFF) + common
        return first + struct.pack("<II", len(frame) + 4, 0) + frame
    first = struct.pack("<IQQ", 0xFFFFFFFF, len(common) + 8, (1 << 64) - 1) + common
    return first + struct.pack("<IQQ", 0xFFFFFFFF, len(frame) + 8, 0) + frame


@pytest.mark.parametrize("version", [1, 3, 4])
@pytest.mark.parametrize("is_long", [False, True])
def test_debug_frame_where_that_is_all_there_is(version: int, is_long: bool) -> None:
    section = debug_frame(0x1100, FRAME_POINTER, version=version, is_long=is_long)
    data = UnwindData(ElfImage(write_elf({".debug_frame": (w.FRAMES, section)})))
    assert describe(data.decode(addresses(0x1100))) == FRAME_POINTER_ROWS
    assert data.function_starts(addresses(0x1101))[0].tolist() == [0x1100]


def test_compressed_debug_frame() -> None:
    packed = zlib.compress(debug_frame(0x1100, FRAME_POINTER))
    section = struct.pack("<IIQQ", 1, 0, 1000, 1) + packed
    data = UnwindData(ElfImage(write_elf({".debug_frame": (w.FRAMES, section)})))
    assert describe(data.decode(addresses(0x1100))) == FRAME_POINTER_ROWS
    damaged = section[:30] + b"\xff" * 9
    assert not len(UnwindData(ElfImage(write_elf({".debug_frame": (w.FRAMES, damaged)}))).index.starts)


def test_debug_frame_fills_what_eh_frame_leaves() -> None:
    frames, places = write_frames([Function(0x1100, 0x40), Function(0x1200, 0x40)])
    sections = {
        ".eh_frame": (w.FRAMES, frames),
        ".eh_frame_hdr": (w.HEADER, write_header(places)),
    }
    inside = ElfImage(write_elf({**sections, ".debug_frame": (0x1A000, debug_frame(0x1120, b""))}))
    assert UnwindData(inside).index.starts.tolist() == [0x1100, 0x1200]
    between = ElfImage(write_elf({**sections, ".debug_frame": (0x1A000, debug_frame(0x1180, FRAME_POINTER))}))
    assert len(describe(UnwindData(between).decode(addresses(0x1180)))) == 3


def test_code_before_an_address() -> None:
    text = bytes(range(256)) * 64
    data = UnwindData(image_of([Function(0x1100, 0x40)], text=text))
    assert data.code_before(0x1010, 7) == bytes(range(9, 16))
    assert data.code_before(0x1002, 7) == b"\0\1"
    assert data.code_before(0x900000, 7) == b""


ASKED = addresses(0, 0x1000, 0x1100, 0x1180, 0x1200, 0x4FFF, 0x900000, (1 << 47) - 1)


def check_garbage(image: ElfImage) -> None:
    data = UnwindData(image)
    table = data.decode(ASKED)
    again = RuleTable.from_arrays(table.to_arrays())  # sorted, without overlap, in range
    rows = np.searchsorted(again.start, ASKED, side="right") - 1
    assert np.all(rows >= 0)
    assert np.all(again.end[rows] > ASKED)
    starts, ends = data.function_starts(ASKED)
    assert np.all(((starts <= ASKED) & (ends > ASKED)) | (ends == 0))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.binary(max_size=100), st.booleans())
def test_garbage_never_raises(frames: bytes, header: bytes, is_debug: bool) -> None:
    name = ".debug_frame" if is_debug else ".eh_frame"
    check_garbage(ElfImage(write_elf({name: (w.FRAMES, frames), ".eh_frame_hdr": (w.HEADER, header)})))


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=120),
    st.binary(max_size=40),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4),
    st.booleans(),
)
def test_garbage_in_good_surroundings_never_raises(
    program: bytes, initial: bytes, changes: list[tuple[int, int]], header: bool
) -> None:
    functions = [Function(0x1100, 0x80, program), Function(0x1180, 0x80, program, initial=initial)]
    frames, places = write_frames(functions)
    damaged = bytearray(frames)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    sections = {".eh_frame": (w.FRAMES, bytes(damaged))}
    if header:
        sections[".eh_frame_hdr"] = (w.HEADER, write_header(places))
    check_garbage(ElfImage(write_elf(sections)))
