from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbolize.perf_map import parse_perf_map, read_perf_map
from tests.unit.symbolize.deadline import seconds_at_most

NO_PID = 2**22 + 1
ANOTHER_UID = 12345


@pytest.fixture
def map_path() -> Iterator[Path]:
    """The place of a perf map of no process."""
    path = Path(f"/tmp/perf-{NO_PID}.map")
    yield path
    path.unlink(missing_ok=True)


def test_functions_by_address() -> None:
    perf_map = parse_perf_map(b"1000 20 py::main:/srv/app.py\n0x2000 0x10 b\n")
    names = [perf_map.find(address) for address in (0xFFF, 0x1000, 0x101F, 0x1020, 0x200F, 0x2010, 2**63)]
    assert names == [None, "py::main:/srv/app.py", "py::main:/srv/app.py", None, "b", None, None]
    assert perf_map.skipped == 0


def test_a_name_may_hold_spaces_and_any_byte() -> None:
    perf_map = parse_perf_map(b"1000 10 LazyCompile:~f (app.js:1) \xff\n")
    assert os.fsencode(perf_map.find(0x1000) or "") == b"LazyCompile:~f (app.js:1) \xff"


def test_an_empty_map_has_nothing() -> None:
    assert parse_perf_map(b"").find(0) is None


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
    perf_map = parse_perf_map(b"1000 10 before\n" + line + b"\n2000 10 behind\n")
    assert perf_map.skipped == 1
    assert [perf_map.find(0x1000), perf_map.find(0x2000)] == ["before", "behind"]


def test_the_last_line_may_be_cut_off() -> None:
    perf_map = parse_perf_map(b"1000 10 whole\n2000 1")
    assert (perf_map.find(0x1000), perf_map.skipped) == ("whole", 1)


def test_code_that_was_written_over_has_its_new_name() -> None:
    assert parse_perf_map(b"1000 10 old\n1000 20 new\n").find(0x1018) == "new"
    assert parse_perf_map(b"1000 40 old\n1010 10 new\n").find(0x1018) == "new"


@pytest.mark.parametrize("address", [0x1010, 0x1030])
def test_a_new_function_replaces_smaller_ones_below_it(address: int) -> None:
    assert parse_perf_map(b"1010 10 old\n1000 40 new\n").find(address) == "new"


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
def test_random_bytes_never_raise(content: bytes, address: int) -> None:
    parse_perf_map(content).find(address)


def test_map_of_a_process_that_has_ended_is_read(map_path: Path) -> None:
    map_path.write_bytes(b"1000 10 f\nbad\n")
    perf_map = read_perf_map(NO_PID)
    assert perf_map is not None
    assert (perf_map.find(0x1000), perf_map.skipped) == ("f", 1)


def test_no_map() -> None:
    assert read_perf_map(NO_PID) is None


def test_a_symbolic_link_is_not_followed(map_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "secret"
    target.write_bytes(b"1000 10 f\n")
    map_path.symlink_to(target)
    assert read_perf_map(NO_PID) is None


def test_what_is_no_regular_file_is_not_read(map_path: Path) -> None:
    os.mkfifo(map_path)
    assert read_perf_map(NO_PID) is None


@pytest.mark.requires_root
def test_a_map_of_another_user_is_not_trusted(map_path: Path) -> None:
    map_path.write_bytes(b"1000 10 f\n")
    os.chown(map_path, ANOTHER_UID, ANOTHER_UID)
    assert read_perf_map(NO_PID) is None


def test_many_nested_functions_take_no_square_of_time() -> None:
    lines = [f"{0x1000 + at:x} {2 * (200_000 - at):x} f{at}" for at in range(200_000)]
    with seconds_at_most(20):
        perf_map = parse_perf_map("\n".join(lines).encode())
    assert perf_map.find(0x1000) == "f0"
    assert perf_map.find(0x1000 + 150_000) == "f150000"
