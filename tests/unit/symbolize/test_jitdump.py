from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbolize.jitdump import Jitdump, JitdumpProblem, JitSymbol, read_jitdump
from tests.support.jitdump_writer import close, debug_info, header, load, move, record, unwinding_info
from tests.unit.symbolize.deadline import seconds_at_most

SOURCE = b"/src/a.js"


def dump_of(*records: bytes, head: bytes | None = None, size: int = 0) -> Jitdump:
    with tempfile.TemporaryFile() as file:
        file.write(b"".join([header() if head is None else head, *records]))
        file.flush()
        if size:
            os.ftruncate(file.fileno(), size)
        return read_jitdump(file.fileno())


def symbols(dump: Jitdump, places: Sequence[tuple[int, int]]) -> list[JitSymbol | None]:
    """What was at each (address, time)."""
    addresses = np.array([address for address, _ in places], np.uint64)
    rows, _ = dump.find(addresses, np.array([time_ns for _, time_ns in places], np.int64))
    return [
        dump.symbol(row, address) if row >= 0 else None for row, (address, _) in zip(rows.tolist(), places, strict=True)
    ]


def names(dump: Jitdump, *places: tuple[int, int]) -> list[str]:
    return [symbol.name if symbol else "" for symbol in symbols(dump, places)]


def test_code_by_address_and_time() -> None:
    dump = dump_of(load(100, 0x1000, 32, "f"), load(200, 0x1000, 16, "g"), load(150, 0x2000, 8, "h"), close(300))
    places = [(0x1000, 99), (0x1000, 100), (0x1000, 199), (0x1000, 200), (0x1010, 900), (0x1020, 900), (0x2007, 150)]
    assert names(dump, *places) == ["", "f", "f", "g", "f", "", "h"]
    assert (dump.skipped, dump.bytes_unread) == (0, 0)


def test_without_times_the_last_one_counts() -> None:
    dump = dump_of(load(100, 0x1000, 32, "f"), load(200, 0x1000, 16, "g"), head=header(1))
    assert not dump.has_times
    rows, _ = dump.find(np.array([0x1000, 0x1010], np.uint64), None)
    assert [dump.symbol(row, 0x1000).name for row in rows.tolist()] == ["g", "f"]


def test_unwinding_information_is_passed_over() -> None:
    dump = dump_of(unwinding_info(), load(1, 0x1000, 8, "f"), unwinding_info(1000), load(1, 0x2000, 8, "g"))
    assert names(dump, (0x1000, 1), (0x2000, 1)) == ["f", "g"]
    assert dump.skipped == 0


def test_code_that_was_moved_has_its_name_and_lines_at_its_new_place() -> None:
    lines = debug_info(0x1000, [(0x1000, 5, SOURCE), (0x1008, 6, SOURCE)])
    dump = dump_of(lines, load(1, 0x1000, 16, "f", 3), load(1, 0x5000, 64, "g", 4), move(9, 0x1000, 0x5010, 16, 3))
    assert names(dump, (0x5010, 8), (0x501F, 9), (0x5020, 9)) == ["g", "f", "g"]
    assert symbols(dump, [(0x5019, 9)]) == [JitSymbol("f", "/src/a.js", 6)]


def test_source_lines() -> None:
    entries = [(0x1000, 5, SOURCE), (0x1008, 7, b"\xff"), (0x100C, 2, b"/src/inlined.js")]
    dump = dump_of(debug_info(0x1000, entries), load(1, 0x1000, 32, "f"), load(2, 0x1000, 32, "g"))
    expected = [("/src/a.js", 5), ("/src/a.js", 5), ("/src/a.js", 7), ("/src/inlined.js", 2)]
    found = symbols(dump, [(0x1000, 1), (0x1007, 1), (0x1008, 1), (0x101F, 1)])
    assert found == [JitSymbol("f", *place) for place in expected]
    # The record stood before f's load and says nothing of what came there later.
    assert symbols(dump, [(0x1000, 2)]) == [JitSymbol("g")]


def test_lines_that_v8_moved_by_an_elf_header() -> None:
    dump = dump_of(debug_info(0x1000, [(0x1040, 5, SOURCE), (0x1048, 6, SOURCE)]), load(1, 0x1000, 16, "f"))
    assert symbols(dump, [(0x1007, 1), (0x1008, 1)]) == [JitSymbol("f", "/src/a.js", line) for line in (5, 6)]


@pytest.mark.parametrize(
    "lines",
    [
        debug_info(0x1000, [(0x1000, 5, SOURCE)], count=2),
        debug_info(0x1000, [(0x1000, 5, SOURCE)], count=2**63),
        debug_info(0x1000, [(0xFF0, 5, SOURCE)]),
        debug_info(0x1000, [(0x1000, 5, b"|h\x03")]),
        debug_info(0x1000, [(0x1000, 5, b"")]),
        debug_info(0x1000, [(0x1000, 2**31, SOURCE)]),
        debug_info(0x1000, [(0x1000, 5, SOURCE)])[:-1],
    ],
    ids=["count", "huge-count", "outside", "rubbish", "no-path", "line", "no-end"],
)
def test_lines_that_make_no_sense_are_left_out(lines: bytes) -> None:
    lines = struct.pack("<II", 2, len(lines)) + lines[8:]
    assert symbols(dump_of(lines, load(1, 0x1000, 16, "f")), [(0x1000, 1)]) == [JitSymbol("f")]


def test_an_empty_function_is_no_fault() -> None:
    dump = dump_of(load(1, 0x1000, 0, "empty"), load(1, 0x1000, 8, "f"))
    assert (names(dump, (0x1000, 1)), dump.skipped) == (["f"], 0)


@pytest.mark.parametrize(
    "bad",
    [
        record(0, 1, b""),
        record(0, 1, struct.pack("<IIQQQQ", 7, 7, 0x1000, 0x1000, 2**63, 0) + b"lie\0"),
        record(0, 1, struct.pack("<IIQQQQ", 7, 7, 0x1000, 0x1000, 8, 0) + b"no end"),
        record(0, 1, struct.pack("<IIQQQQ", 7, 7, 0x1000, 0x1000, 8, 0) + b"\0" + b"\x90" * 8),
        record(0, 2**63, struct.pack("<IIQQQQ", 7, 7, 0x1000, 0x1000, 8, 0) + b"time\0" + b"\x90" * 8),
        record(0, 1, struct.pack("<IIQQQQ", 7, 7, 2**63, 0x1000, 8, 0) + b"kernel\0" + b"\x90" * 8),
        move(1, 0x1000, 0x2000, 8, 99),
        record(1, 1, b"short"),
        record(2, 1, b"short"),
        record(77, 1, b"what is this"),
    ],
)
def test_a_bad_record_is_counted_and_spoils_no_other(bad: bytes) -> None:
    dump = dump_of(load(1, 0x3000, 8, "before"), bad, load(1, 0x4000, 8, "behind"))
    assert (dump.skipped, dump.bytes_unread) == (1, 0)
    assert names(dump, (0x3000, 1), (0x4000, 1), (0x1000, 1)) == ["before", "behind", ""]


@pytest.mark.parametrize("length", [0, 1, 15])
def test_behind_a_record_without_size_nothing_can_be_read(length: int) -> None:
    rest = struct.pack("<IIQ", 0, length, 1) + load(1, 0x2000, 8, "lost")
    dump = dump_of(load(1, 0x1000, 8, "f"), rest)
    assert (dump.skipped, dump.bytes_unread) == (1, len(rest))
    assert names(dump, (0x1000, 1), (0x2000, 1)) == ["f", ""]


def test_a_record_that_is_longer_than_the_file_ends_it() -> None:
    lie = struct.pack("<IIQ", 4, 2**32 - 1, 1)
    dump = dump_of(load(1, 0x1000, 8, "f"), lie, load(1, 0x2000, 8, "lost") * 2000)
    assert dump.bytes_unread > 2000 * 64
    assert names(dump, (0x1000, 1)) == ["f"]


def test_of_a_sparse_gigabyte_the_rest_is_counted() -> None:
    first = load(1, 0x1000, 8, "f")
    with seconds_at_most(10):
        dump = dump_of(first, size=1 << 30)
    assert (dump.skipped, dump.bytes_unread) == (1, (1 << 30) - 40 - len(first))


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "too short"),
        (header()[:39], "too short"),
        (b"\0" * 40, "no jitdump"),
        (header(version=2), "no jitdump"),
        (struct.pack(">IIIIIIQQ", 0x4A695444, 1, 40, 62, 0, 7, 0, 0), "other byte order"),
        (header()[:8] + b"\0\0\0\0" + header()[12:], "no jitdump"),
    ],
)
def test_what_is_no_jitdump(head: bytes, reason: str) -> None:
    with pytest.raises(JitdumpProblem, match=reason):
        dump_of(head=head)


WHOLE = b"".join(
    [
        header(),
        debug_info(0x1000, [(0x1000, 5, SOURCE), (0x1008, 6, SOURCE)]),
        load(1, 0x1000, 16, "f", 1),
        unwinding_info(),
        move(2, 0x1000, 0x2000, 16, 1),
        load(3, 0x1000, 32, "g", 2),
        close(4),
    ]
)
PLACES = [(0x1000, 1), (0x2008, 2), (0x1000, 3)]


@given(st.integers(0, len(WHOLE)))
def test_cut_off_at_any_byte_it_says_nothing_wrong(size: int) -> None:
    whole = symbols(dump_of(head=WHOLE), PLACES)
    try:
        dump = dump_of(head=WHOLE[:size])
    except JitdumpProblem:
        assert size < 40
        return
    # The last address is f's until g's record is there.
    late = symbols(dump, PLACES)
    assert all(found in (None, expected) for found, expected in zip(late[:2], whole[:2], strict=True))
    assert late[2] in (None, whole[0], whole[2])


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_any_byte_may_be_wrong(at: int, value: int) -> None:
    try:
        symbols(dump_of(head=WHOLE[:at] + bytes([value]) + WHOLE[at + 1 :]), PLACES)
    except JitdumpProblem:
        assert at < 16


@given(st.binary(max_size=300))
def test_random_records_never_raise(content: bytes) -> None:
    symbols(dump_of(content), PLACES)


LOADS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30), st.integers(1, 20)), max_size=20)


@given(LOADS, st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10)), min_size=1, max_size=20))
def test_the_latest_load_names_an_address(loads: list[tuple[int, int, int]], places: list[tuple[int, int]]) -> None:
    dump = dump_of(*(load(when, start, size, f"f{n}") for n, (when, start, size) in enumerate(loads)))
    in_time = sorted(enumerate(loads), key=lambda pair: pair[1][0])

    def expected(address: int, time_ns: int) -> str:
        covers = [n for n, (when, start, size) in in_time if when <= time_ns and start <= address < start + size]
        return f"f{covers[-1]}" if covers else ""

    assert names(dump, *places) == [expected(*place) for place in places]


def test_a_hundred_thousand_loads_take_no_time() -> None:
    records = b"".join(load(n, 0x1000 + 64 * (n % 5000), 64, f"f{n}") for n in range(100_000))
    with seconds_at_most(10):
        dump = dump_of(records)
        found = names(dump, *((0x1000 + 64 * n, 50_000 + n) for n in range(5000)))
    assert found == [f"f{50_000 + n}" for n in range(5000)]


def test_much_code_over_other_code_is_bounded() -> None:
    dump = dump_of(*(load(n, 0x1000, 1000, f"f{n}") for n in range(20_000)))
    addresses = np.arange(0x1000, 0x1000 + 1000, dtype=np.uint64)
    with seconds_at_most(20):
        rows, left_out = dump.find(addresses, np.full(1000, 30_000, np.int64))
    assert left_out > 3000
    assert set(rows.tolist()) == {19_999}
