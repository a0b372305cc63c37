"""Functions, lines and inlined frames are those of addr2line, for every instruction and every form of debug info."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from symbolize import libdw
from symbolize.debug_files import DebugFiles, DebugInfo, has_debug_info
from symbolize.debug_info import DebugInfoReader, SourceLines
from symbolize.elf import ElfImage
from symbolize.source_lines import Extent
from tests.support.addr2line import SourceFrame, addr2line, agree
from tests.support.debug_files import compress_debug, share_debug
from tests.support.small_programs import (
    ASSEMBLY_SOURCE,
    C_HELPER_SOURCE,
    C_SOURCE,
    CPP_SOURCE,
    compile_program,
    objcopy,
    own_instructions,
)
from tests.unit.symbolize.test_binaries import NO_PID, opened

C = {"shop.c": C_SOURCE, "helper.c": C_HELPER_SOURCE}
CPP = {"shop.cpp": CPP_SOURCE}
SPLIT = ("-O2", "-g", "-gsplit-dwarf")
FORMS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "c-dwarf-4": (C, ("-O2", "-gdwarf-4")),
    "c-dwarf-5": (C, ("-O2", "-gdwarf-5")),
    "c-unoptimised": (C, ("-O0", "-g")),
    "c-zlib": (C, ("-O2", "-g", "-gz=zlib")),
    "c-sections": (C, ("-O2", "-g", "-ffunction-sections", "-Wl,--gc-sections")),
    "c-no-pie": (C, ("-O3", "-g", "-no-pie")),
    "cpp-dwarf-4": (CPP, ("-O2", "-gdwarf-4")),
    "cpp-dwarf-5": (CPP, ("-O2", "-gdwarf-5")),
    "cpp-unoptimised": (CPP, ("-O0", "-g", "-gz=zlib")),
}


@pytest.fixture(scope="module")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_program(tmp_path_factory.mktemp("c"), C, ("-O2", "-g"))


@pytest.fixture(scope="module")
def cpp_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_program(tmp_path_factory.mktemp("cpp"), CPP, ("-O2", "-g"))


def read(
    program: Path, addresses: Sequence[int], known: dict[int, list[Extent]] | None = None, shared: Path | None = None
) -> SourceLines:
    image = ElfImage.open(str(program))
    supplementary = ElfImage.open(str(shared)) if shared is not None else None
    return DebugInfoReader(DebugInfo(str(program), image, supplementary), sorted(addresses), known or {}).result()


def addresses_of(program: Path) -> list[int]:
    return sorted(address for addresses in own_instructions(program).values() for address in addresses)


def frames_at(lines: SourceLines, address: int) -> list[SourceFrame]:
    """What we say, as addr2line says it."""
    return [
        SourceFrame(frame.linkage_name, os.path.normpath(frame.path) if frame.path else "", frame.line)
        for frame in lines.frames.get(address, ())
    ]


def addr2line_of(program: Path, addresses: Sequence[int]) -> list[list[SourceFrame]]:
    """Where it has no linkage name from debug info, addr2line shows the symbol of a function's part."""
    return [
        [replace(frame, function=frame.function.removesuffix(".cold")) for frame in frames]
        for frames in addr2line(program, addresses)
    ]


def _as_addr2line_names(ours: list[SourceFrame], theirs: list[SourceFrame]) -> list[SourceFrame]:
    """Ours, but with the symbol at the address for functions that debug info has no linkage name of.

    Those are what no other unit sees: addr2line shows that symbol for them, even for inlined ones (bfd/dwarf2.c).
    """
    if len(ours) != len(theirs) or not ours:
        return ours
    symbol = theirs[-1].function
    name = ours[-1].function
    plain = "cl" if name == "operator()" else f"{len(name)}{name}"
    if not symbol.startswith("_Z") or not (name.startswith("_Z") or plain in symbol):
        return ours
    return [
        mine if mine.function.startswith("_Z") or other.function != symbol else replace(mine, function=symbol)
        for mine, other in zip(ours, theirs, strict=True)
    ]


def assert_as_addr2line(program: Path, lines: SourceLines, addresses: Sequence[int]) -> None:
    assert lines.problem == ""
    assert lines.frames.keys() == set(addresses)
    different = [
        f"{address:#x}: {[*map(str, frames_at(lines, address))]}, addr2line: {[*map(str, theirs)]}"
        for address, theirs in zip(addresses, addr2line_of(program, addresses), strict=True)
        if not agree(_as_addr2line_names(frames_at(lines, address), theirs), theirs)
    ]
    assert different == []


@pytest.mark.parametrize("form", FORMS)
def test_every_instruction_is_where_addr2line_says(form: str, tmp_path: Path) -> None:
    program = compile_program(tmp_path, *FORMS[form])
    addresses = addresses_of(program)
    assert len(addresses) > 50
    lines = read(program, addresses)
    assert_as_addr2line(program, lines, addresses)
    if "unoptimised" not in form:
        assert max(len(frames) for frames in lines.frames.values()) >= 3


@pytest.mark.parametrize("version", ["-gdwarf-4", "-gdwarf-5"])
@pytest.mark.parametrize("sources", [C, CPP], ids=["c", "cpp"])
def test_split_debug_info(sources: dict[str, str], version: str, tmp_path: Path) -> None:
    """The truth is the same code with its debug info in one file: this addr2line reads no .dwo files."""
    whole = compile_program(tmp_path, sources, ("-O2", "-g", version)).rename(tmp_path / "whole")
    split = compile_program(tmp_path, sources, (*SPLIT, version))
    assert len(list(tmp_path.glob("*.dwo"))) == len(sources)
    functions = own_instructions(split)
    assert functions == own_instructions(whole)
    addresses = addresses_of(split)
    lines = read(split, addresses)
    assert_as_addr2line(whole, lines, addresses)
    assert lines.frames == read(whole, addresses).frames


@pytest.mark.parametrize("method", ["zlib", "zlib-gnu", "zstd"])
def test_compressed_sections(method: str, cpp_program: Path, tmp_path: Path) -> None:
    compress_debug(cpp_program, tmp_path / "compressed", method)
    addresses = addresses_of(cpp_program)
    image = ElfImage.open(str(tmp_path / "compressed"))
    assert has_debug_info(image)
    assert read(tmp_path / "compressed", addresses) == read(cpp_program, addresses)
    assert_as_addr2line(cpp_program, read(tmp_path / "compressed", addresses), addresses)


def test_a_function_in_several_parts_is_one(c_program: Path) -> None:
    functions = own_instructions(c_program)
    lines = read(c_program, addresses_of(c_program))
    for part in ("parted", "parted.cold"):
        assert {lines.frames[address][-1].linkage_name for address in functions[part]} == {"parted"}
    assert {lines.frames[address][-1].declared_line for address in functions["parted.cold"]} == {
        C_SOURCE.splitlines().index("__attribute__((noinline)) int parted(int number)") + 1
    }


def test_names_are_those_of_the_linker(cpp_program: Path) -> None:
    """What no other unit sees, such as what stands in a namespace without a name, has the name of its source."""
    lines = read(cpp_program, addresses_of(cpp_program))
    names = {frame.linkage_name for frames in lines.frames.values() for frame in frames}
    assert {"_ZN4shop4Till3payEi", "_ZN4shop5totalIlEET_S1_", "main", "hidden", "of", "plain"} <= names
    text = CPP_SOURCE.splitlines()
    line = next(number for number, row in enumerate(text, 1) if "int of(int price)" in row)
    inner = [frames for frames in lines.frames.values() if frames[0].line == line]
    assert {frames[0].linkage_name for frames in inner} == {"of"}
    assert {len(frames) for frames in inner} == {2, 4}  # in hidden; in a lambda that total hands to each


def test_assembly_has_lines_but_no_functions(tmp_path: Path) -> None:
    program = compile_program(tmp_path, {"by_hand.s": ASSEMBLY_SOURCE}, ("-g",))
    functions = own_instructions(program)
    lines = read(program, addresses_of(program))
    assert lines.problem == ""
    text = ASSEMBLY_SOURCE.splitlines()
    for name in ("main", "by_hand"):
        for step, address in enumerate(functions[name]):
            (frame,) = lines.frames[address]
            assert (Path(frame.path).name, frame.line) == ("by_hand.s", text.index(f"{name}:") + 2 + step)
            assert frame.linkage_name in ("", name)
    assert {lines.frames[address][0].linkage_name for address in functions["by_hand"]} == {""}


def test_names_in_a_supplementary_file(c_program: Path, cpp_program: Path, tmp_path: Path) -> None:
    programs = [cpp_program, compile_program(tmp_path / "other", CPP, ("-O3", "-g"))]
    copies = share_debug(programs, tmp_path)
    addresses = addresses_of(copies[0])
    info = DebugFiles().debug_info_of(opened(copies[0]), NO_PID)
    assert info is not None
    assert info.supplementary is not None
    # Where the library doesn't find it by itself.
    shared = (tmp_path / "shared.debug").rename(tmp_path / "elsewhere.debug")
    lines = read(copies[0], addresses, shared=shared)
    assert lines.problem == ""
    assert lines.frames == read(cpp_program, addresses).frames


def test_without_its_supplementary_file_a_debug_file_still_has_lines(cpp_program: Path, tmp_path: Path) -> None:
    programs = [cpp_program, compile_program(tmp_path / "other", CPP, ("-O3", "-g"))]
    copy = share_debug(programs, tmp_path)[0]
    (tmp_path / "shared.debug").unlink()
    addresses = addresses_of(copy)
    whole, part = read(cpp_program, addresses), read(copy, addresses)
    for address in addresses:
        mine = part.frames.get(address)
        assert mine is None or mine[0].line == whole.frames[address][0].line


def test_a_missing_dwo_file_leaves_the_lines(tmp_path: Path) -> None:
    program = compile_program(tmp_path, C, SPLIT)
    addresses = addresses_of(program)
    whole = read(program, addresses)
    for path in tmp_path.glob("*.dwo"):
        path.unlink()
    part = read(program, addresses)
    assert part.problem == "a .dwo file that it names isn't there or can't be read"
    assert {address: frames[0].line for address, frames in part.frames.items()} == {
        address: frames[0].line for address, frames in whole.frames.items()
    }


def test_what_no_unit_covers_is_not_in_the_answer(c_program: Path) -> None:
    inside = own_instructions(c_program)["main"][0]
    lines = read(c_program, [0, 1, inside, 2**40, 2**48 - 1])
    assert lines.frames.keys() == {inside}
    assert read(c_program, []).frames == {}


def test_a_file_without_debug_info(c_program: Path, tmp_path: Path) -> None:
    objcopy("--strip-debug", c_program, tmp_path / "stripped")
    lines = read(tmp_path / "stripped", addresses_of(c_program))
    assert lines.frames == {}
    assert lines.problem != ""


def test_the_library_may_be_missing(c_program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libdw, "LIBRARY", "libdw.so.missing")
    monkeypatch.setattr(libdw, "_loaded", None)
    lines = read(c_program, addresses_of(c_program))
    assert (lines.frames, lines.problem) == ({}, "libdw.so.missing is not installed (Debian's package libdw1)")


def test_known_extents_give_equal_answers(c_program: Path) -> None:
    addresses = addresses_of(c_program)
    first = read(c_program, addresses)
    assert len(first.extents) == 2  # one unit for each source
    again = read(c_program, addresses, first.extents)
    assert again.frames == first.frames
    assert again.extents == {}  # nothing that wasn't known


def test_split_units_are_looked_into_each_time(tmp_path: Path) -> None:
    program = compile_program(tmp_path, C, SPLIT)
    assert read(program, addresses_of(program)).extents == {}


def names_at(lines: SourceLines) -> dict[int, tuple[str, ...]]:
    return {address: tuple(frame.linkage_name for frame in frames) for address, frames in lines.frames.items()}


@pytest.mark.parametrize("offset", [0, 1, 11, 12, 13, 1 << 20, 2**32, 2**63 - 1])
def test_known_extents_that_lead_nowhere_give_no_wrong_function(c_program: Path, offset: int) -> None:
    addresses = addresses_of(c_program)
    truth = read(c_program, addresses)
    wrong = {unit: [(0, 2**63 - 1, offset)] for unit in truth.extents}
    lines = read(c_program, addresses, wrong)
    assert {frames[0].line for frames in lines.frames.values()} <= {f[0].line for f in truth.frames.values()}
    for address, names in names_at(lines).items():
        assert names in (("",), names_at(truth)[address])


def test_known_extents_of_another_function_give_no_wrong_function(c_program: Path) -> None:
    """As where the store's file is of a file with the same build-id and other debug info."""
    addresses = addresses_of(c_program)
    truth = read(c_program, addresses)
    rotated = {
        unit: [(start, end, extents[index - 1][2]) for index, (start, end, _) in enumerate(extents)]
        for unit, extents in truth.extents.items()
    }
    for address, names in names_at(read(c_program, addresses, rotated)).items():
        assert names in (("",), names_at(truth)[address])


EXTENT = st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
NEAR = st.tuples(st.integers(0, 0x2000), st.integers(0, 0x4000), st.integers(0, 0x800))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(extents=st.lists(EXTENT | NEAR, min_size=1, max_size=10))
def test_any_known_extents_do_no_harm(c_program: Path, extents: list[Extent]) -> None:
    functions = own_instructions_once(c_program)
    lines = read(c_program, functions, dict.fromkeys((0, 0x100, 12), extents))
    assert lines.problem == ""
    assert lines.frames.keys() <= set(functions)


_CACHE: dict[Path, list[int]] = {}


def own_instructions_once(program: Path) -> list[int]:
    if program not in _CACHE:
        _CACHE[program] = addresses_of(program)
    return _CACHE[program]
