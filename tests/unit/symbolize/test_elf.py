from __future__ import annotations

import struct
from pathlib import Path

import pytest

from symbolize.elf import ElfImage, ElfProblem
from tests.support.elf_writer import PF_R, PF_X, ElfFile, ElfSegment, ElfSymbol
from tests.unit.symbolize.deadline import seconds_at_most

BUILD_ID = "0123456789abcdef0123456789abcdef01234567"
E_SHOFF, E_PHENTSIZE, SH_INFO = 40, 54, 44
PN_XNUM = 0xFFFF
"""A number of program headers that stands in the first section's sh_info instead."""
CLASS, DATA_ENCODING = 4, 5


def test_sections_segments_and_build_id() -> None:
    image = ElfImage(bytes(ElfFile(symbols=[ElfSymbol("f", 0x2000)], build_id=BUILD_ID)))
    assert image.build_id == BUILD_ID
    assert image.sections[".text"].elf_address == 0x2000
    assert image.sections[".text"].is_executable
    assert not image.sections[".data"].is_executable
    assert len(image.data(image.sections[".symtab"])) == 2 * 24
    assert [(segment.elf_address, segment.executable) for segment in image.segments] == [
        (0x2000, True),
        (0x8000, False),
    ]


def test_a_file_without_build_id_has_none() -> None:
    assert ElfImage(bytes(ElfFile())).build_id == ""


def test_build_id_is_found_in_a_section_of_another_name() -> None:
    assert ElfImage(bytes(ElfFile(build_id=BUILD_ID, build_id_section=".note"))).build_id == BUILD_ID


def test_data_of_a_section_ends_where_the_file_ends() -> None:
    content = bytes(ElfFile(text_offset=0x200, text_size=0x100, data_size=0x10))
    image = ElfImage(content)
    section = image.sections[".shstrtab"]
    assert bytes(image.data(section)).startswith(b"\0.text")


@pytest.mark.parametrize(
    ("file_offset", "elf_address"),
    [
        pytest.param(0x1230, 0x5230, id="begin"),
        pytest.param(0x1000, 0x5000, id="page-before"),
        pytest.param(0x2000, 0x6000, id="inside"),
        pytest.param(0x9230, 0xA0230, id="second"),
        pytest.param(0x20000, 0xB7000, id="behind-all"),
    ],
)
def test_address_as_linked_of_a_place_in_the_file(file_offset: int, elf_address: int) -> None:
    segments = [
        ElfSegment(0, 0, 0x1230, PF_R),
        ElfSegment(0x1230, 0x5230, 0x4000, PF_R | PF_X),
        ElfSegment(0x9230, 0xA0230, 0x100, PF_R | PF_X),
    ]
    image = ElfImage(bytes(ElfFile(segments=segments)))
    assert image.segment_address(file_offset) == elf_address


def test_a_file_without_segments_lies_as_it_is() -> None:
    assert ElfImage(bytes(ElfFile(segments=[]))).segment_address(0x1234) == 0x1234


def with_byte(content: bytes, at: int, value: int) -> bytes:
    return content[:at] + bytes([value]) + content[at + 1 :]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"#!/bin/sh\n", id="script"),
        pytest.param(b"\x7fELF", id="magic-alone"),
        pytest.param(with_byte(bytes(ElfFile()), CLASS, 1), id="32-bit"),
        pytest.param(with_byte(bytes(ElfFile()), DATA_ENCODING, 2), id="big-endian"),
        pytest.param(bytes(ElfFile())[:100], id="cut-off"),
    ],
)
def test_what_is_no_whole_64_bit_elf_file_is_a_problem(content: bytes) -> None:
    with pytest.raises(ElfProblem):
        ElfImage(content)


def test_opening_by_path(tmp_path: Path) -> None:
    path = tmp_path / "elf"
    path.write_bytes(bytes(ElfFile(build_id=BUILD_ID)))
    assert ElfImage.open(str(path)).build_id == BUILD_ID
    path.write_bytes(b"")
    with pytest.raises(ElfProblem, match="empty"):
        ElfImage.open(str(path))
    with pytest.raises(ElfProblem, match="not a regular file"):
        ElfImage.open(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        ElfImage.open(str(tmp_path / "missing"))


def test_a_huge_number_of_program_headers_is_a_problem() -> None:
    content = bytearray(bytes(ElfFile()))
    (section_headers,) = struct.unpack_from("<Q", content, E_SHOFF)
    struct.pack_into("<HH", content, E_PHENTSIZE, 0, PN_XNUM)
    struct.pack_into("<I", content, section_headers + SH_INFO, 2**32 - 1)
    with seconds_at_most(5), pytest.raises(ElfProblem):
        ElfImage(bytes(content))
