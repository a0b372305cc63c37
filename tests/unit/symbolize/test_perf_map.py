from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockflame.events import JitFiles
from symbolize.jit_files import open_perf_map
from symbolize.perf_map import BLOCK_BYTES, BYTES_MOST, PerfMapNames, parse_perf_map, read_perf_map
from tests.unit.symbolize.deadline import seconds_at_most

NO_PID = 2**22 + 1
ANOTHER_UID = 12345


@pytest.fixture
def map_path() -> Iterator[Path]:
    """The place of a perf map of no process."""
    path = Path(f"/tmp/perf-{NO_PID}.map")
    yield path
    path.unlink(missing_ok=True)


def parse(content: bytes, *addresses: int) -> PerfMapNames:
    return parse_perf_map([content], np.array(addresses, np.uint64))


def name_at(content: bytes, address: int) -> str | None:
    return parse(content, address).names.get(address)


def read(pid: int, *addresses: int, held: JitFiles | None = None) -> PerfMapNames | None:
    with open_perf_map(pid, held) as descriptor:
        return None if descriptor is None else read_perf_map(descriptor, np.array(addresses, np.uint64))


def test_functions_by_address() -> None:
    addresses = (0xFFF, 0x1000, 0x101F, 0x1020, 0x200F, 0x2010, 2**63)
    perf_map = parse(b"1000 20 py::main:/srv/app.py\n0x2000 0x10 b\n", *addresses)
    names = [perf_map.names.get(address) for address in addresses]
    assert names == [None, "py::main:/srv/app.py", "py::main:/srv/app.py", None, "b", None, None]
    assert perf_map.skipped == 0


def test_a_name_may_hold_spaces_and_any_byte() -> None:
    name = name_at(b"1000 10 LazyCompile:~f (app.js:1) \xff\n", 0x1000)
    assert os.fsencode(name or "") == b"LazyCompile:~f (app.js:1) \xff"


def test_numbers_of_any_length_and_case() -> None:
    content = b"7FffFFFFfff0 aBc f\r\n  00001000\t 8  g \n"
    assert parse(content, 0x7FFF_FFFF_FFF0 + 0xABB, 0x1007).names == {0x7FFF_FFFF_FFF0 + 0xABB: "f", 0x1007: "g"}


def test_an_empty_map_has_nothing() -> None:
    assert parse(b"", 0) == PerfMapNames()


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"1000",
        b"1000 20",
        b"1000 20 ",
        b"1000 0 empty",
        b"1000 -5 negative",
        b"-1 10 negative",
        b"zz 10 no-number",
        b"1000 ffffffffffffffff huge-size",
        b"ffffffffffffffff 10 kernel",
        b"1" * 10_000 + b" 10 huge",
        b"\x00\xff\xfe",
        b"",
    ],
)
def test_a_bad_line_is_counted_and_spoils_no_other(line: bytes) -> None:
    perf_map = parse(b"1000 10 before\n" + line + b"\n2000 10 behind\n", 0x1000, 0x2000)
    assert perf_map.skipped == 1
    assert perf_map.names == {0x1000: "before", 0x2000: "behind"}


def test_the_last_line_may_be_cut_off() -> None:
    perf_map = parse(b"1000 10 whole\n2000 1", 0x1000, 0x2000)
    assert (perf_map.names, perf_map.skipped) == ({0x1000: "whole"}, 1)


def test_code_that_was_written_over_has_its_new_name() -> None:
    assert name_at(b"1000 10 old\n1000 20 new\n", 0x1018) == "new"
    assert name_at(b"1000 40 old\n1010 10 new\n", 0x1018) == "new"
    later_block = parse_perf_map([b"1000 10 old\n", b"1000 20 new\n"], np.array([0x1008], np.uint64))
    assert later_block.names == {0x1008: "new"}


@pytest.mark.parametrize("address", [0x1010, 0x1030])
def test_a_new_function_replaces_smaller_ones_below_it(address: int) -> None:
    assert name_at(b"1010 10 old\n1000 40 new\n", address) == "new"


RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=20)


@given(RANGES, st.lists(st.integers(0, 100), max_size=20))
def test_the_last_line_that_holds_an_address_names_it(ranges: list[tuple[int, int]], addresses: list[int]) -> None:
    content = "".join(f"{start:x} {size:x} f{number}\n" for number, (start, size) in enumerate(ranges)).encode()
    expected = {
        address: f"f{number}"
        for address in addresses
        for number, (start, size) in enumerate(ranges)
        if start <= address < start + size
    }
    assert parse(content, *addresses).names == expected


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
def test_random_bytes_never_raise(content: bytes, address: int) -> None:
    lines = content.count(b"\n") + (not content.endswith(b"\n") and bool(content))
    assert 0 <= parse(content, address).skipped <= lines


@given(st.text("0123456789abcdefx \t\n-g", max_size=100))
def test_what_looks_like_a_map_never_raises(text: str) -> None:
    parse(text.encode(), 0, 1, 0xABC)


def test_map_of_a_process_that_has_ended_is_read(map_path: Path) -> None:
    map_path.write_bytes(b"1000 10 f\nbad\n")
    assert read(NO_PID, 0x1000) == PerfMapNames({0x1000: "f"}, 1)


def test_lines_across_blocks(map_path: Path) -> None:
    line = b"%x 10 " + b"n" * 1000 + b"%d\n"
    count = 2 * BLOCK_BYTES // 1000
    map_path.write_bytes(b"".join(line % (0x1000 + 16 * number, number) for number in range(count)))
    found = read(NO_PID, *range(0x1000, 0x1000 + 16 * count, 16))
    assert found is not None
    assert (len(found.names), found.skipped) == (count, 0)
    assert found.names[0x1000 + 16 * (count - 1)] == "n" * 1000 + str(count - 1)


def test_of_a_sparse_gigabyte_the_rest_is_counted(map_path: Path) -> None:
    map_path.write_bytes(b"1000 10 f\n")
    os.truncate(map_path, 1 << 30)
    with seconds_at_most(20):
        found = read(NO_PID, 0x1000)
    assert found == PerfMapNames({0x1000: "f"}, 1, (1 << 30) - BYTES_MOST)


def test_millions_of_lines_take_seconds(map_path: Path) -> None:
    block = b"".join(b"%x 40 JS:*function%d app.js:1:1\n" % (0x1000 + 64 * n, n) for n in range(100_000))
    with map_path.open("wb") as file:
        for _ in range(20):
            file.write(block)
    with seconds_at_most(10):
        found = read(NO_PID, *range(0x1000, 0x1000 + 64 * 100_000, 640))
    assert found is not None
    assert len(found.names) == 10_000


def test_no_map() -> None:
    assert read(NO_PID) is None


def test_a_symbolic_link_is_not_followed(map_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "secret"
    target.write_bytes(b"1000 10 f\n")
    map_path.symlink_to(target)
    assert read(NO_PID) is None


def test_what_is_no_regular_file_is_not_read(map_path: Path) -> None:
    os.mkfifo(map_path)
    with seconds_at_most(10):
        assert read(NO_PID) is None


@pytest.mark.requires_root
def test_a_map_of_another_user_is_not_trusted(map_path: Path) -> None:
    map_path.write_bytes(b"1000 10 f\n")
    os.chown(map_path, ANOTHER_UID, ANOTHER_UID)
    assert read(NO_PID) is None
    held = JitFiles(NO_PID, ANOTHER_UID)
    assert read(NO_PID, 0x1000, held=held) == PerfMapNames({0x1000: "f"})


def test_a_deleted_map_is_read_by_its_descriptor_and_a_new_one_by_its_path(map_path: Path) -> None:
    map_path.write_bytes(b"1000 10 old\n")
    with map_path.open("rb") as file:
        held = JitFiles(NO_PID, os.geteuid(), file.fileno())
        map_path.unlink()
        assert read(NO_PID, 0x1000, held=held) == PerfMapNames({0x1000: "old"})
        map_path.write_bytes(b"1000 10 new\n")
        assert read(NO_PID, 0x1000, held=held) == PerfMapNames({0x1000: "new"})


def test_a_folder_that_was_held_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "perf-7.map").write_bytes(b"1000 10 inside\n")
    folder = os.open(tmp_path, os.O_PATH)
    try:
        held = JitFiles(7, os.geteuid(), map_folder=folder)
        assert read(NO_PID, 0x1000, held=held) == PerfMapNames({0x1000: "inside"})
    finally:
        os.close(folder)


def test_many_nested_functions_take_no_square_of_time() -> None:
    content = "\n".join(f"{0x1000 + at:x} {2 * (200_000 - at):x} f{at}" for at in range(200_000)).encode()
    addresses = list(range(0x1000, 0x1000 + 200_000))
    with seconds_at_most(20):
        perf_map = parse(content, *addresses)
    assert perf_map.names[0x1000] == "f0"
    assert perf_map.names[0x1000 + 150_000] == "f150000"
