from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolize.elf import ElfImage, ElfProblem
from symbolize.symbols import SymbolTable
from tests.support.elf_writer import (
    DATA,
    SHN_ABS,
    SHN_UNDEF,
    STB_GLOBAL,
    STB_LOCAL,
    STB_WEAK,
    STT_FUNC,
    STT_GNU_IFUNC,
    STT_NOTYPE,
    STT_OBJECT,
    ElfFile,
    ElfSymbol,
)
from tests.support.needs import find_program

TEXT_END = 0x3000


def table_of(*symbols: ElfSymbol, dynamic: tuple[ElfSymbol, ...] = (), is_debug_file: bool = False) -> SymbolTable:
    elf = ElfFile(symbols=symbols, dynamic_symbols=dynamic, is_debug_file=is_debug_file)
    return SymbolTable(ElfImage(bytes(elf)))


def name_at(table: SymbolTable, address: int) -> str | None:
    symbol = table.find(address)
    return symbol.linkage_name if symbol else None


def test_a_symbol_covers_its_size_and_no_more() -> None:
    table = table_of(ElfSymbol("f", 0x2100, 0x20), ElfSymbol("g", 0x2200, 0x10))
    names = [name_at(table, address) for address in (0, 0x20FF, 0x2100, 0x211F, 0x2120, 0x2200, 0x2210, 2**64 - 1)]
    assert names == [None, None, "f", "f", None, "g", None, None]


def test_symbol_knows_its_range() -> None:
    symbol = table_of(ElfSymbol("f", 0x2100, 0x20)).find(0x2110)
    assert symbol is not None
    assert (symbol.start, symbol.end) == (0x2100, 0x2120)


def test_a_symbol_without_size_reaches_to_the_next_or_to_its_sections_end() -> None:
    table = table_of(ElfSymbol("f", 0x2100), ElfSymbol("g", 0x2200))
    addresses = (0x2100, 0x21FF, 0x2200, TEXT_END - 1, TEXT_END)
    assert [name_at(table, address) for address in addresses] == ["f", "f", "g", "g", None]


def test_the_innermost_of_nested_symbols_is_found() -> None:
    table = table_of(ElfSymbol("outer", 0x2100, 0x100), ElfSymbol("inner", 0x2140, 0x10))
    assert [name_at(table, address) for address in (0x213F, 0x2140, 0x214F, 0x2150, 0x21FF)] == [
        "outer",
        "inner",
        "inner",
        "outer",
        "outer",
    ]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (ElfSymbol("z_global", 0x2100, 8, binding=STB_GLOBAL), ElfSymbol("weak", 0x2100, 8, binding=STB_WEAK)),
        (ElfSymbol("z_weak", 0x2100, 8, binding=STB_WEAK), ElfSymbol("local", 0x2100, 8, binding=STB_LOCAL)),
        (ElfSymbol("function", 0x2100, 8, STT_FUNC, STB_LOCAL), ElfSymbol("label", 0x2100, 8, STT_NOTYPE)),
        (ElfSymbol("pthread_lock", 0x2100, 8), ElfSymbol("__pthread_lock", 0x2100, 8)),
        (ElfSymbol("short", 0x2100, 8), ElfSymbol("a_longer_name", 0x2100, 8)),
        (ElfSymbol("a", 0x2100, 8), ElfSymbol("b", 0x2100, 8)),
    ],
)
def test_of_aliases_the_best_known_is_taken(better: ElfSymbol, worse: ElfSymbol) -> None:
    assert name_at(table_of(better, worse), 0x2104) == better.name
    assert name_at(table_of(worse, better), 0x2104) == better.name


def test_an_alias_that_ends_before_the_address_is_not_taken() -> None:
    table = table_of(ElfSymbol("entry", 0x2100, 0x10), ElfSymbol("body", 0x2100, 0x100, binding=STB_LOCAL))
    assert name_at(table, 0x2180) == "body"


def test_a_label_inside_a_function_does_not_hide_it() -> None:
    table = table_of(ElfSymbol("function", 0x2100, 0x100), ElfSymbol("label", 0x2140, 0, STT_NOTYPE, STB_LOCAL))
    assert name_at(table, 0x2180) == "function"


@pytest.mark.parametrize(
    "symbol",
    [
        pytest.param(ElfSymbol("object", 0x2100, 8, STT_OBJECT), id="object"),
        pytest.param(ElfSymbol("label", 0x8010, 8, STT_NOTYPE, section=DATA), id="label-in-data"),
        pytest.param(ElfSymbol("import", 0x2100, 8, section=SHN_UNDEF), id="undefined"),
        pytest.param(ElfSymbol("constant", 0x2100, 8, section=SHN_ABS), id="absolute"),
        pytest.param(ElfSymbol("", 0x2100, 8), id="nameless"),
    ],
)
def test_what_names_no_code_is_left_out(symbol: ElfSymbol) -> None:
    assert len(table_of(symbol)) == 0
    assert name_at(table_of(symbol, ElfSymbol("f", 0x2000, 0x1000)), 0x2104) == "f"


@pytest.mark.parametrize("kind", [STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE])
def test_kinds_that_name_code(kind: int) -> None:
    assert name_at(table_of(ElfSymbol("f", 0x2100, 8, kind)), 0x2104) == "f"


def test_both_symbol_tables_are_read() -> None:
    table = table_of(ElfSymbol("static", 0x2100, 8), dynamic=(ElfSymbol("exported", 0x2200, 8),))
    assert [name_at(table, address) for address in (0x2100, 0x2200)] == ["static", "exported"]


def test_a_name_may_hold_any_byte() -> None:
    name = name_at(table_of(ElfSymbol(b"f\xff\xe4<&\n", 0x2100, 8)), 0x2100)
    assert name is not None
    assert os.fsencode(name) == b"f\xff\xe4<&\n"


def test_no_symbols() -> None:
    assert name_at(table_of(), 0x2100) is None


def test_functions_of_a_debug_file_are_found() -> None:
    table = table_of(ElfSymbol("f", 0x2100, 0x20), is_debug_file=True)
    assert name_at(table, 0x2110) == "f"


def test_labels_of_a_debug_file_are_found() -> None:
    table = table_of(ElfSymbol("_start", 0x2100, 0, STT_NOTYPE), is_debug_file=True)
    assert name_at(table, 0x2110) == "_start"


WHOLE = bytes(
    ElfFile(
        symbols=[ElfSymbol("f", 0x2100, 0x20), ElfSymbol("label", 0x2200, 0, STT_NOTYPE)],
        dynamic_symbols=[ElfSymbol("g", 0x2300, 8)],
        text_offset=0x200,
        text_size=0x40,
        data_size=0x10,
        build_id="ab" * 20,
        debuglink=("x.debug", 1),
    )
)


def read_and_find(content: bytes) -> None:
    """All that is done with a file from outside: it may be refused, but nothing else may happen."""
    try:
        image = ElfImage(content)
    except ElfProblem:
        return
    table = SymbolTable(image)
    for address in (0, 0x2100, 0x2210, 0x2304, 2**48, 2**64 - 1):
        table.find(address)
    image.segment_address(0x1000)


@pytest.mark.parametrize("length", range(0, len(WHOLE), 37))
def test_a_file_cut_off_anywhere_raises_nothing_else(length: int) -> None:
    read_and_find(WHOLE[:length])


BYTES_CHANGED = st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4)
HEADER_BYTES_CHANGED = st.lists(st.tuples(st.integers(16, 232), st.integers(0, 255)), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(BYTES_CHANGED | HEADER_BYTES_CHANGED)
def test_changed_bytes_raise_nothing_else(changes: list[tuple[int, int]]) -> None:
    content = bytearray(WHOLE)
    for position, value in changes:
        content[position] = value
    read_and_find(bytes(content))


SECTION_HEADERS = int.from_bytes(WHOLE[40:48], "little")
EXTREMES = st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**48, 2**63 - 1, 2**63, 2**64 - 1])
WORDS_CHANGED = st.lists(st.tuples(st.integers(0, (len(WHOLE) - SECTION_HEADERS) // 8 - 1), EXTREMES), max_size=3)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(WORDS_CHANGED)
def test_huge_numbers_in_section_headers_raise_nothing_else(changes: list[tuple[int, int]]) -> None:
    content = bytearray(WHOLE)
    for word, value in changes:
        at = SECTION_HEADERS + 8 * word
        content[at : at + 8] = value.to_bytes(8, "little")
    read_and_find(bytes(content))


def libc_path() -> Path:
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.split()[-1]
            if os.path.basename(path).startswith("libc.so"):
                return Path(path)
    pytest.skip("this Python isn't linked to glibc")


def test_libc_has_the_names_that_nm_tells() -> None:
    path = libc_path()
    command = [str(find_program("nm")), "-D", "--defined-only", str(path)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    functions: dict[int, set[str]] = {}
    for line in listing.splitlines():
        address, kind, name = line.split()
        if kind in "TtWwi":
            functions.setdefault(int(address, 16), set()).add(name.split("@")[0])
    image = ElfImage.open(str(path))
    table = SymbolTable(image)
    chosen = random.Random(7).sample(sorted(functions), 300)
    wrong = {
        hex(at): name_at(table, at) for at in chosen if (name_at(table, at) or "").split("@")[0] not in functions[at]
    }
    assert wrong == {}
