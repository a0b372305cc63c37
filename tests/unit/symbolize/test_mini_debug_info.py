"""Symbols that a stripped program carries along, compressed: used where they are whole, never a danger."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from symbolize import mini_debug_info
from symbolize.elf import ElfImage
from symbolize.mini_debug_info import mini_symbols
from symbolize.symbols import SymbolTable
from tests.support.elf_writer import ElfFile, ElfSymbol
from tests.support.small_programs import C_HELPER_SOURCE, C_SOURCE, compile_program, objcopy, own_instructions
from tests.unit.symbolize.deadline import seconds_at_most

INNER = bytes(ElfFile(symbols=[ElfSymbol("only_here", 0x2100, 8)], is_debug_file=True))


def with_section(content: bytes) -> ElfImage:
    return ElfImage(bytes(ElfFile(extra_sections={".gnu_debugdata": content})))


def name_in(image: ElfImage | None) -> str | None:
    symbol = SymbolTable(image).find(0x2100) if image is not None else None
    return symbol.linkage_name if symbol is not None else None


def test_the_symbols_of_a_program_as_distributions_strip_it(tmp_path: Path) -> None:
    program = compile_program(tmp_path, {"shop.c": C_SOURCE, "helper.c": C_HELPER_SOURCE}, ("-O2",))
    address = own_instructions(program)["only_here"][0]
    objcopy("--only-keep-debug", program, tmp_path / "mini")
    (tmp_path / "mini.xz").write_bytes(lzma.compress((tmp_path / "mini").read_bytes()))
    stripped = tmp_path / "stripped"
    objcopy("--strip-all", f"--add-section=.gnu_debugdata={tmp_path}/mini.xz", program, stripped)
    outer = ElfImage.open(str(stripped))
    assert SymbolTable(outer).find(address) is None
    inner = mini_symbols(outer)
    assert inner is not None
    symbol = SymbolTable(inner).find(address)
    assert symbol is not None
    assert symbol.linkage_name == "only_here"


def test_most_files_have_none() -> None:
    assert mini_symbols(None) is None
    assert mini_symbols(ElfImage(bytes(ElfFile()))) is None
    assert name_in(mini_symbols(with_section(lzma.compress(INNER)))) == "only_here"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"\xfd7zXZ\0" + b"\xff" * 100,
        INNER,
        lzma.compress(b""),
        lzma.compress(b"no ELF file"),
        lzma.compress(INNER[:100]),
        lzma.compress(INNER, format=lzma.FORMAT_ALONE),
        lzma.compress(INNER)[:40],
        lzma.compress(INNER)[20:],
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_damaged_one_is_as_none(content: bytes) -> None:
    assert mini_symbols(with_section(content)) is None


def test_any_damaged_byte_does_no_harm() -> None:
    content = lzma.compress(INNER)
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 0xFF
        assert name_in(mini_symbols(with_section(bytes(damaged)))) in (None, "only_here")


def test_one_that_ends_early_is_read_as_far_as_it_goes() -> None:
    content = lzma.compress(INNER)
    for length in range(0, len(content), 3):
        assert name_in(mini_symbols(with_section(content[:length]))) in (None, "only_here")


def test_a_bomb_is_not_blown_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mini_debug_info, "SIZE_MOST", 1 << 20)
    bomb = lzma.compress(INNER + bytes(64 << 20), preset=0)
    sizes: list[int] = []

    def note_size(content: bytes) -> ElfImage:
        sizes.append(len(content))
        return ElfImage(content)

    monkeypatch.setattr(mini_debug_info, "ElfImage", note_size)
    with seconds_at_most(20):
        mini_symbols(with_section(bomb))
    assert sizes == [] or sizes == [1 << 20]


def test_one_that_wants_too_much_memory_is_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dictionary that an LZMA stream asks for may be of gigabytes."""
    content = lzma.compress(INNER, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 64 << 20}])
    assert name_in(mini_symbols(with_section(content))) == "only_here"
    monkeypatch.setattr(mini_debug_info, "MEMORY_MOST", 32 << 20)
    assert mini_symbols(with_section(content)) is None


def test_a_section_of_any_size_is_not_read_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mini_debug_info, "SIZE_MOST", 1 << 20)
    assert mini_symbols(with_section(lzma.compress(INNER) + bytes(2 << 20))) is None
