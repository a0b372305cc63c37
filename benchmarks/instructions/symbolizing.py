"""Symbolizing: addresses of a program that is nothing but a symbol table with C++ names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.instructions.mapped import START, code_map_of
from benchmarks.instructions.part import Input, Part, check
from symbolize import demangle
from symbolize.debug_files import DebugFiles
from symbolize.image_names import ImageNamer
from symbolize.name_store import NameStore
from symbolize.naming import Namer
from tests.support.elf_writer import STB_LOCAL, STB_WEAK, STT_NOTYPE, ElfFile, ElfSegment, ElfSymbol

SYMBOLS = 20_000
ADDRESSES = 1_000
SPACING = 64
"""From one function's start to the next one's."""
TEXT = 0x2000
DEMANGLER_SECONDS = 100
ALIAS_EVERY, LABEL_EVERY, CLONE_EVERY = 10, 25, 15
"""How often a function has a second name, a label without a size within it, or is a compiler's clone."""


def make(folder: Path, count: int, seed: int) -> Input:
    """Distinct addresses all over the program, at most two in each function."""
    # The demangler's child may only take so long, and callgrind makes it many times as slow.
    demangle.CPU_SECONDS = DEMANGLER_SECONDS
    program = folder / "program"
    program.write_bytes(_program(seed))
    random = np.random.default_rng(seed)
    places = np.sort(random.choice(SYMBOLS * 2, count, replace=False)) * (SPACING // 2) + 4
    addresses = (places + START + TEXT).astype(np.uint64)
    space = np.zeros(count, np.int32)
    expected = [_readable(function, seed) for function in (places // SPACING).tolist()]

    def work() -> None:
        code = code_map_of(program)
        namer = Namer(code, ImageNamer(code, DebugFiles(), NameStore(folder / "names")))
        names = namer.names(code.keys(space, addresses))
        check([name.frames[0].function for name in names] == expected, "functions have other names")

    return Input(count, work)


def _program(seed: int) -> bytes:
    symbols: list[ElfSymbol] = []
    for function in range(SYMBOLS):
        start = TEXT + function * SPACING
        symbols.append(ElfSymbol(_mangled(function, seed), start, SPACING))
        if function % ALIAS_EVERY == 0:
            symbols.append(ElfSymbol(f"__alias_of_{function}", start, SPACING, binding=STB_WEAK))
        if function % LABEL_EVERY == 0:
            symbols.append(ElfSymbol(f"label_{function}", start + SPACING // 4, 0, STT_NOTYPE, STB_LOCAL))
    size = SYMBOLS * SPACING
    segment = ElfSegment(0, 0, TEXT + size)
    return bytes(ElfFile(symbols, text_address=TEXT, text_offset=TEXT, text_size=size, data_address=TEXT + size,
                         segments=(segment,)))  # fmt: skip


def _mangled(function: int, seed: int) -> str:
    """`engineA::TableB<int>::look_up_C(std::vector<int>&, char const*)` as the Itanium C++ ABI mangles it."""
    space, table, name = f"engine{function % 7}", f"Table{function % 300}", f"look_up_{function}_{seed}"
    mangled = f"_ZN{len(space)}{space}{len(table)}{table}IiE{len(name)}{name}ERSt6vectorIiEPKc"
    return f"{mangled}.isra.0" if function % CLONE_EVERY == 0 else mangled


def _readable(function: int, seed: int) -> str:
    name = f"engine{function % 7}::Table{function % 300}<int>::look_up_{function}_{seed}"
    clone = ".isra.0" if function % CLONE_EVERY == 0 else ""
    return f"{name}(std::vector<int>&, char const*){clone}"


PART = Part(
    "symbolize",
    "address",
    f"{ADDRESSES:,} addresses, {SYMBOLS:,} functions with C++ names, and aliases and labels",
    ADDRESSES,
    make,
)
