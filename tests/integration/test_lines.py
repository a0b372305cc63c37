"""Source lines and inlined frames are those of `addr2line`, in all forms of debug info; damaged ones do no harm."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lockflame.events import FileMapping, ProcessSnapshot
from lockflame.pprof import encode, read
from lockflame.profile import Location, Profile, RecordingInfo
from symbolize.symbolizer import symbolize
from tests.support.addr2line import SourceFrame, addr2line, agree, frames_of
from tests.support.big_program import SMALL, build_big_program
from tests.support.debug_files import (
    SHARED,
    build_id_of,
    build_id_path,
    claim_size,
    code_segments,
    compress_debug,
    function_ranges,
    move_section,
    share_debug,
    split_debug,
)
from tests.support.elf_sections import damage_section
from tests.support.paths import TARGETS
from tests.support.process import running
from tests.support.recording import record
from tests.support.targets import build_target
from tests.unit.symbolize.recordings import Sample, recording_of

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

FORK = multiprocessing.get_context("fork")
BASE = 0x5555_0000_0000
"""Where programs that nobody runs are said to be mapped."""
NO_PID = 2**22 + 1
ADDRESSES = 400
AGREEING_LEAST = 0.995
SECONDS_MOST = 20
SOURCE = "inlined_frames.cpp"
INLINED = [
    ("burn_a_little", "burn"),
    ("add_up", "call of burn"),
    ("count", "call of add_up"),
    ("operator()", "call of count"),
    ("check_out", "call of lambda"),
]
"""Functions of the source, the innermost inlined one first, and the markers of their lines."""
MISREAD = "_M_manager"
"""Line tables of DWARF 5 that begin with this function, in their file 1, leave the file as it is at the beginning, 1.
The addr2line of binutils 2.40 then takes file 0; readelf says the same as we."""
LIES = {"8 GB": 8 << 30, "less than there is": 100}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds what another one has kept: all forms of a program have the same build-id."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def small_program(*flags: str, compiler: str = "g++") -> Path:
    return build_big_program(*SMALL, flags=("-O2", "-g", *flags), compiler=compiler)


def plain(folder: Path) -> Path:
    return small_program("-gdwarf-5")


def dwarf_4(folder: Path) -> Path:
    return small_program("-gdwarf-4")


def by_clang(folder: Path) -> Path:
    return small_program(compiler="clang++")


def compressed_by_linker(folder: Path) -> Path:
    return small_program("-gz=zlib")


def compressed_by_zstd(folder: Path) -> Path:
    compressed = folder / "program"
    compress_debug(small_program("-gdwarf-5"), compressed, "zstd")
    return compressed


def linked_debug_file(folder: Path) -> Path:
    split_debug(small_program("-gdwarf-5"), folder / "program", folder / "program.debug", link=True)
    return folder / "program"


def shared_by_dwz(folder: Path) -> Path:
    one, _ = share_debug([small_program("-gdwarf-4"), small_program("-gdwarf-4")], folder)
    assert (folder / SHARED).exists()
    return one


FORMS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Path]]] = {
    "DWARF 4": (dwarf_4, dwarf_4),
    "DWARF 5": (plain, plain),
    "clang": (by_clang, by_clang),
    "zlib": (compressed_by_linker, compressed_by_linker),
    "zstd": (compressed_by_zstd, plain),
    "debug link": (linked_debug_file, plain),
    "dwz": (shared_by_dwz, dwarf_4),
}
"""How to make a form of the small program, and the same program in a form that addr2line reads for sure."""


@pytest.mark.parametrize("form", FORMS)
def test_lines_and_inlined_frames_are_those_of_addr2line(form: str, tmp_path: Path) -> None:
    make, make_plain = FORMS[form]
    program, original = make(tmp_path), make_plain(tmp_path)
    addresses = some_addresses(original)
    profile = profile_at(program, addresses)
    assert profile.recording.notes == ()
    assert_agreement(profile, program, original)


def test_the_second_time_they_are_the_same(tmp_path: Path) -> None:
    """What the cache keeps says the same as the debug info."""
    program = plain(tmp_path)
    addresses = some_addresses(program)
    first, second = (lines_by_address(profile_at(program, addresses)) for _ in range(2))
    assert first == second
    assert any(len(frames) > 1 for frames in first.values())


def test_a_recording_shows_inlined_functions_at_their_lines(tmp_path: Path) -> None:
    program = build_target(SOURCE)
    profile = record_for_a_second(program, tmp_path)
    assert_inlined_frames(profile)
    assert_agreement(profile, program, program)


def test_debug_dir_names_a_folder_of_debug_files(tmp_path: Path) -> None:
    original = build_target(SOURCE)
    program = tmp_path / "inlined_frames"
    split_debug(original, program, build_id_path(tmp_path / "debug", build_id_of(original)), link=False)
    without = record_for_a_second(program, tmp_path)
    assert all(line.line == 0 for location in of_file(without, program) for line in location.lines)
    profile = record_for_a_second(program, tmp_path, "--debug-dir", tmp_path / "debug")
    assert_inlined_frames(profile)
    assert_agreement(profile, program, original)


def test_a_recording_survives_damaged_debug_info(tmp_path: Path) -> None:
    program = Path(shutil.copy2(build_target(SOURCE), tmp_path))
    damage_section(program, ".debug_info", seed=1)
    profile = record_for_a_second(program, tmp_path)
    assert "serve" in {function.name.partition("(")[0] for function in profile.functions}
    assert_noted(profile, program)


@pytest.mark.parametrize("section", [".debug_info", ".debug_line", ".debug_abbrev"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_bytes_in_place_of_a_section(section: str, seed: int, tmp_path: Path) -> None:
    program = Path(shutil.copy2(build_target(SOURCE), tmp_path))
    damage_section(program, section, seed)
    assert_named_by_symbols(program, program)


@pytest.mark.parametrize("section", [".debug_info", ".debug_line", ".debug_abbrev", ".debug_str", ".debug_rnglists"])
def test_some_wrong_bytes_do_no_harm(section: str, tmp_path: Path) -> None:
    """Not all damage can be seen; the samples are there whatever the debug info says."""
    for seed in range(3):
        program = tmp_path / f"damaged-{seed}"
        shutil.copy2(small_program("-gdwarf-5"), program)
        damage_section(program, section, seed, share=0.01)
        profile = profile_at(program, some_addresses(program))
        assert profile.recording.samples == len(some_addresses(program))


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("method", ["zlib", "zstd"])
def test_a_compressed_section_that_lies_about_its_size(method: str, lie: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    compress_debug(build_target(SOURCE), program, method)
    claim_size(program, ".debug_info", LIES[lie])
    assert_named_by_symbols(program, program)


def test_a_section_outside_of_the_file(tmp_path: Path) -> None:
    program = Path(shutil.copy2(build_target(SOURCE), tmp_path))
    move_section(program, ".debug_info", 1 << 40)
    assert_named_by_symbols(program, program)


def test_a_debug_file_that_is_cut_off(tmp_path: Path) -> None:
    program, debug = linked_program(tmp_path)
    os.truncate(debug, debug.stat().st_size // 2)
    assert_named_by_symbols(program, debug)


def test_a_debug_file_of_another_program(tmp_path: Path) -> None:
    program, debug = linked_program(tmp_path)
    shutil.copy2(build_target(SOURCE, flags=("-O1", "-g")), debug)
    assert_named_by_symbols(program, debug)


def test_a_dwz_file_that_is_missing(tmp_path: Path) -> None:
    program = shared_by_dwz(tmp_path)
    (tmp_path / SHARED).unlink()
    assert_named_by_symbols(program, tmp_path / SHARED)


def linked_program(folder: Path) -> tuple[Path, Path]:
    """The target without debug info, and the debug file that its `.gnu_debuglink` names."""
    program, debug = folder / "inlined_frames", folder / "inlined_frames.debug"
    split_debug(build_target(SOURCE), program, debug, link=True)
    return program, debug


def some_addresses(program: Path) -> list[int]:
    """Addresses as linked within the functions of a program, the same ones each time."""
    sizes = function_ranges(program).items()
    ranges = [(start, size) for name, (start, size) in sizes if size and MISREAD not in name]
    chance = random.Random(1)
    chosen = chance.choices(ranges, weights=[size for _, size in ranges], k=ADDRESSES * 4)
    inside = dict.fromkeys(start + chance.randrange(size) for start, size in chosen)
    return sorted(list(inside)[:ADDRESSES])


def profile_at(program: Path, addresses: Sequence[int]) -> Profile:
    """A profile with one sample at each of the addresses, as if `program` had run.

    Made in a forked process, so that a crash or an endless loop in it is this test's failure only.
    """
    inode = program.stat().st_ino
    mappings = tuple(
        FileMapping(BASE + address, BASE + address + size, offset, str(program), inode=inode)
        for offset, address, size in code_segments(program)
    )
    samples = [Sample(number, NO_PID, NO_PID, user=(BASE + address,)) for number, address in enumerate(addresses)]
    snapshot = ProcessSnapshot(NO_PID, {NO_PID: program.name}, mappings)
    output = Path(os.environ["XDG_CACHE_HOME"]).with_name("profile.pb.gz")
    recording = recording_of(samples, (), (snapshot,))
    child = FORK.Process(target=lambda: output.write_bytes(encode(symbolize(recording, RecordingInfo()))))
    child.start()
    child.join(SECONDS_MOST)
    if child.is_alive():
        child.kill()
        child.join()
    try:
        assert child.exitcode == 0
        return read(str(output))
    finally:
        child.close()
        output.unlink(missing_ok=True)


def record_for_a_second(program: Path, folder: Path, *options: object) -> Profile:
    with running([program]) as target:
        done = record(folder / "lines.pb.gz", "-p", target.pid, "-d", 1, "-F", 199, *options)
    assert "Traceback" not in done.stderr
    return done.profile


def of_file(profile: Profile, file: Path) -> list[Location]:
    return [
        location
        for location in profile.locations
        if location.mapping >= 0 and profile.mappings[location.mapping].path == str(file)
    ]


def lines_by_address(profile: Profile) -> dict[int, list[SourceFrame]]:
    return {location.address: frames_of(profile, location) for location in profile.locations if location.mapping >= 0}


def assert_agreement(profile: Profile, program: Path, original: Path) -> None:
    locations = of_file(profile, program)
    theirs = addr2line(original, [location.address for location in locations])
    pairs = [(frames_of(profile, location), frames) for location, frames in zip(locations, theirs, strict=True)]
    assert any(len(frames) > 1 for frames in theirs), "addr2line shows no inlined frames"
    differing = [(list(map(str, ours)), list(map(str, other))) for ours, other in pairs if not agree(ours, other)]
    assert len(differing) <= (1 - AGREEING_LEAST) * len(pairs), differing[:3]


def assert_inlined_frames(profile: Profile) -> None:
    """Some sample is in the innermost function, with all that it is inlined into, each at its marker."""
    lines = marked_lines()
    expected = [(name, str(TARGETS / SOURCE), lines[marker]) for name, marker in INLINED]
    found: list[list[tuple[str, str, int]]] = []
    for location in profile.locations:
        functions = [profile.functions[line.function] for line in location.lines]
        if any("check_out" in function.name for function in functions):
            found.append([
                (short_name(function.name), function.path, line.line)
                for function, line in zip(functions, location.lines, strict=True)
            ])  # fmt: skip
    assert expected in found, found


def short_name(name: str) -> str:
    """A function's own name, without its scopes, template arguments and parameters."""
    if "operator()" in name:
        return "operator()"
    found = re.search(r"(\w+)(<[^()]*>)?(\(|$)", name)
    return found.group(1) if found else name


def marked_lines() -> dict[str, int]:
    lines = (TARGETS / SOURCE).read_text().splitlines()
    return {text.partition("// marker: ")[2]: number for number, text in enumerate(lines, 1) if "// marker: " in text}


def assert_named_by_symbols(program: Path, damaged: Path) -> None:
    """Each sample has the name of its function's symbol, and a note tells which file is to blame."""
    ranges = function_ranges(program)
    profile = profile_at(program, some_addresses(program))
    locations = of_file(profile, program)
    assert locations
    for location in locations:
        function = profile.functions[location.lines[-1].function]
        start, size = ranges.get(function.linkage_name, (0, 0))
        assert start <= location.address < start + size, function
    assert_noted(profile, damaged)


def assert_noted(profile: Profile, file: Path) -> None:
    assert any(str(file) in note for note in profile.recording.notes), profile.recording.notes
