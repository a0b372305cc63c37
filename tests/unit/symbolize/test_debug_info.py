"""Whatever is wrong with debug info: there is an answer, in bounded time and memory, and it says what is missing."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from symbolize import debug_info
from symbolize.debug_files import DebugInfo
from symbolize.debug_info import DebugInfoReader, SourceLines
from symbolize.elf import ElfImage
from symbolize.source_lines import SourceFrame
from tests.support.debug_files import claim_size, compress_debug, move_section
from tests.support.elf_sections import damage_section
from tests.support.small_programs import C_HELPER_SOURCE, C_SOURCE, compile_program, own_instructions
from tests.unit.symbolize.deadline import seconds_at_most

SECTIONS = [".debug_info", ".debug_abbrev", ".debug_line", ".debug_str", ".debug_rnglists", ".debug_line_str"]
CPU_SECONDS = 2
DEADLINE_S = 60
PROBLEM_OF_CHILD = "reading it took too much time or memory, or crashed"


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug_info, "CPU_SECONDS", CPU_SECONDS)
    monkeypatch.setattr(debug_info, "MEMORY_BYTES", 1 << 30)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = {"shop.c": C_SOURCE, "helper.c": C_HELPER_SOURCE}
    return compile_program(tmp_path_factory.mktemp("debug_info"), sources, ("-O2", "-g"))


@pytest.fixture(scope="module")
def addresses(program: Path) -> list[int]:
    """A few of each function."""
    return sorted(address for each in own_instructions(program).values() for address in each[::4])


@pytest.fixture(scope="module")
def truth(program: Path, addresses: list[int]) -> SourceLines:
    lines = read(program, addresses)
    assert lines.problem == ""
    assert len(lines.frames) == len(addresses)
    return lines


def read(path: Path, addresses: list[int]) -> SourceLines:
    """The answer, which has to come in time and to make sense."""
    with seconds_at_most(DEADLINE_S):
        lines = DebugInfoReader(DebugInfo(str(path), ElfImage.open(str(path))), addresses, {}).result()
    assert lines.frames.keys() <= set(addresses)
    for frames in lines.frames.values():
        assert 0 < len(frames) <= debug_info.FRAMES_MOST
        assert all(0 <= frame.line < 2**31 and len(frame.linkage_name) <= 2**14 for frame in frames)
    assert all(isinstance(number, int) for rows in lines.extents.values() for row in rows for number in row)
    return lines


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    section=st.sampled_from(SECTIONS),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_a_few_damaged_bytes(
    program: Path, addresses: list[int], tmp_path: Path, section: str, damage: list[tuple[float, int]]
) -> None:
    content = bytearray(program.read_bytes())
    place = ElfImage(bytes(content)).sections[section]
    for share, value in damage:
        content[place.file_offset + int(share * place.size)] = value
    (tmp_path / "damaged").write_bytes(content)
    read(tmp_path / "damaged", addresses)


@pytest.mark.parametrize("share", [0.02, 1.0])
@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_full_of_nonsense(
    program: Path, addresses: list[int], tmp_path: Path, section: str, share: float
) -> None:
    damaged = Path(shutil.copy(program, tmp_path / "damaged"))
    damage_section(damaged, section, seed=1, share=share)
    lines = read(damaged, addresses)
    if section == ".debug_info" and share == 1:
        assert lines.frames == {}
        assert lines.problem


def test_what_a_damaged_line_table_leaves_are_the_functions(
    program: Path, addresses: list[int], truth: SourceLines, tmp_path: Path
) -> None:
    damaged = Path(shutil.copy(program, tmp_path / "damaged"))
    damage_section(damaged, ".debug_line", seed=3)
    for address, frames in read(damaged, addresses).frames.items():
        assert [frame.linkage_name for frame in frames] == [frame.linkage_name for frame in truth.frames[address]]


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.99])
def test_a_file_that_is_cut_off_after_it_was_opened(
    program: Path, addresses: list[int], tmp_path: Path, kept: float
) -> None:
    """As by an update of the program while it is read."""
    copy = Path(shutil.copy(program, tmp_path / "cut"))
    image = ElfImage.open(str(copy))
    os.truncate(copy, int(copy.stat().st_size * kept))
    with seconds_at_most(DEADLINE_S):
        lines = DebugInfoReader(DebugInfo(str(copy), image), addresses, {}).result()
    assert lines.problem
    assert lines.frames.keys() <= set(addresses)


@pytest.mark.parametrize("offset", [2**20, 2**40, 2**63, 2**64 - 1])
@pytest.mark.parametrize("section", [".debug_info", ".debug_abbrev", ".debug_line", ".debug_str"])
def test_a_section_outside_of_its_file(
    program: Path, addresses: list[int], tmp_path: Path, section: str, offset: int
) -> None:
    damaged = Path(shutil.copy(program, tmp_path / "damaged"))
    move_section(damaged, section, offset)
    lines = read(damaged, addresses)
    if section in (".debug_info", ".debug_abbrev"):
        assert all(frame.linkage_name == "" for frames in lines.frames.values() for frame in frames)


@pytest.mark.parametrize("method", ["zlib", "zstd"])
@pytest.mark.parametrize("size", [0, 1, 1000, 8 << 30, (8 << 30) + 1, 2**40, 2**63, 2**64 - 1])
def test_a_compressed_section_that_lies_about_its_size(
    program: Path, addresses: list[int], tmp_path: Path, method: str, size: int
) -> None:
    compressed = tmp_path / "compressed"
    compress_debug(program, compressed, method)
    claim_size(compressed, ".debug_info", size)
    lines = read(compressed, addresses)
    assert lines.frames == {}
    assert lines.problem
    if method == "zstd":
        assert ".debug_info lies about its size" in lines.problem or "claims to be of" in lines.problem


@pytest.mark.parametrize("method", ["zlib", "zstd"])
def test_a_damaged_compressed_section(
    program: Path, addresses: list[int], tmp_path: Path, truth: SourceLines, method: str
) -> None:
    whole = tmp_path / "whole"
    compress_debug(program, whole, method)
    assert read(whole, addresses).frames == truth.frames
    place = ElfImage(whole.read_bytes()).sections[".debug_info"]
    for at in (0, 4, 24, 30, place.size // 2, place.size - 1):
        content = bytearray(whole.read_bytes())
        content[place.file_offset + at] ^= 0xFF
        (tmp_path / "damaged").write_bytes(content)
        for frames in read(tmp_path / "damaged", addresses).frames.values():
            assert frames


def test_a_zstd_bomb_is_refused(program: Path, addresses: list[int], tmp_path: Path) -> None:
    """A frame without its size in front, that says nothing of the gigabytes that it stands for."""
    import zstandard

    compressed = tmp_path / "compressed"
    compress_debug(program, compressed, "zstd")
    content = bytearray(compressed.read_bytes())
    place = ElfImage(bytes(content)).sections[".debug_info"]
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    bomb = compressor.compress(bytes(64 << 20))[: place.size - 24]
    content[place.file_offset + 24 : place.file_offset + 24 + len(bomb)] = bomb
    compressed.write_bytes(content)
    lines = read(compressed, addresses)
    assert lines.frames == {}
    assert lines.problem.startswith(".debug_info ")
    claim_size(compressed, ".debug_info", 9 << 30)
    assert read(compressed, addresses).problem == f".debug_info claims to be of {9 << 30:,} bytes"


def test_an_image_from_memory_has_no_lines(program: Path, addresses: list[int]) -> None:
    lines = DebugInfoReader(DebugInfo("[vdso]", ElfImage(program.read_bytes())), addresses, {}).result()
    assert (lines.frames, lines.problem) == ({}, "an image from memory")


class Told:
    """In place of a child: has written `content`."""

    content = b""
    is_whole = True

    def __init__(self, *_: object) -> None:
        pass

    def answer(self) -> tuple[bytes, bool]:
        return self.content, self.is_whole


def told(monkeypatch: pytest.MonkeyPatch, content: bytes, *, is_whole: bool = True) -> SourceLines:
    """What is made of an answer."""
    monkeypatch.setattr(Told, "content", content)
    monkeypatch.setattr(Told, "is_whole", is_whole)
    monkeypatch.setattr(debug_info, "Isolated", Told)
    image = ElfImage.open("/proc/self/exe")
    return DebugInfoReader(DebugInfo("x", image), [], {}).result()


FRAME = b'{"frame": ["f", "/f.c", 3, 1]}\n'
KNOWN = SourceFrame("f", "/f.c", 3, 1)


def test_what_came_before_a_bad_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    content = FRAME + b'{"address": 5, "frames": [0]}\n{"address": 6, "fra'
    lines = told(monkeypatch, content, is_whole=False)
    assert (lines.frames, lines.problem) == ({5: (KNOWN,)}, PROBLEM_OF_CHILD)


@pytest.mark.parametrize(
    "row",
    [
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        b"null",
        b"{}",
        b'{"frame": 1}',
        b'{"frame": ["f"]}',
        b'{"frame": ["f", "/f.c", null, 1]}',
        b'{"frame": ["f", "/f.c", NaN, 1]}',
        b'{"frame": ["f", "/f.c", Infinity, 1]}',
        b'{"address": "x", "frames": []}',
        b'{"address": Infinity, "frames": []}',
        b'{"address": 7, "frames": [99]}',
        b'{"address": 7, "frames": 0}',
        b'{"extents": [[1]]}',
        b'{"extents": [[0, [[1, 2]]]]}',
        b"9" * 5000,
    ],
    ids=lambda row: repr(row[:40]),
)
def test_a_row_that_makes_no_sense_is_a_problem(monkeypatch: pytest.MonkeyPatch, row: bytes) -> None:
    """A crash may spoil the child's memory some time before it ends it."""
    lines = told(monkeypatch, FRAME + row + b'\n{"address": 5, "frames": [0]}\n')
    assert lines.frames == {5: (KNOWN,)}
    assert lines.problem == PROBLEM_OF_CHILD


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=100))
@example(b"\n\n\n")
def test_any_answer_is_one(content: bytes) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        lines = told(monkeypatch, content)
    assert lines.frames == {}


def test_numbers_and_names_of_any_size_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    name = b"x" * 100_000
    row = b'{"frame": ["%s", "%s", %d, -5]}\n{"address": 5, "frames": [0]}\n' % (name, name, 2**40)
    (frame,) = told(monkeypatch, row).frames[5]
    assert (len(frame.linkage_name), len(frame.path)) == (1 << 14, 1 << 14)
    assert (frame.line, frame.declared_line) == (0, 0)


def test_deep_nesting_of_inlined_functions_is_bounded(tmp_path: Path) -> None:
    """Each level is inlined into the next: as deep as no compiler goes by itself."""
    levels = debug_info.FRAMES_MOST + 20
    inline = "static inline __attribute__((always_inline)) int f{0}(int n) {{ return f{1}(n) + sink; }}"
    rows = ["volatile int sink;", "static inline __attribute__((always_inline)) int f0(int n) { return n + sink; }"]
    rows += [inline.format(number, number - 1) for number in range(1, levels)]
    rows.append(f"int main(int n, char **w) {{ (void)w; return f{levels - 1}(n); }}")
    program = compile_program(tmp_path, {"deep.c": "\n".join(rows)}, ("-O1", "-g"))
    lines = read(program, own_instructions(program)["main"])
    assert max(len(frames) for frames in lines.frames.values()) <= debug_info.FRAMES_MOST
    assert lines.frames


def test_a_unit_that_says_it_is_its_own_next_does_not_loop(program: Path, addresses: list[int], tmp_path: Path) -> None:
    """The length of the first unit is such that the next one begins at the same place, or nowhere."""
    place = ElfImage(program.read_bytes()).sections[".debug_info"]
    for length in (0, 0xFFFFFFFF, 0xFFFFFFF0, 2**32 - 5, place.size * 2):
        content = bytearray(program.read_bytes())
        struct.pack_into("<I", content, place.file_offset, length & 0xFFFFFFFF)
        (tmp_path / "damaged").write_bytes(content)
        read(tmp_path / "damaged", addresses)
