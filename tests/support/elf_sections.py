"""Finds sections and functions in the files that compilers made, with binutils, and damages sections."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

from tests.support.needs import find_program


def section_names(program: Path) -> set[str]:
    """The names of a file's sections."""
    return {name for name, _, _ in _sections(program)}


def function_addresses(program: Path) -> dict[str, int]:
    """The addresses as linked of the functions in a file's symbol table."""
    listing = _run("nm", "--defined-only", str(program))
    rows = [line.split() for line in listing.splitlines()]
    return {name: int(address, 16) for address, kind, name in rows if kind in "tTwW"}


def strip_symbols(program: Path) -> None:
    """Remove a file's symbols and debug information, as distributions do, in place."""
    _run("strip", str(program))


def damage_section(program: Path, section: str, seed: int, share: float = 1.0) -> None:
    """Overwrite a section with random bytes, all of it or a share of its bytes, in place."""
    offset, size = next((offset, size) for name, offset, size in _sections(program) if name == section)
    content = bytearray(program.read_bytes())
    chance = random.Random(seed)
    for position in range(offset, offset + size):
        if chance.random() < share:
            content[position] = chance.randrange(256)
    program.write_bytes(content)


def _sections(program: Path) -> list[tuple[str, int, int]]:
    listing = _run("readelf", "--section-headers", "--wide", str(program))
    rows = re.findall(r"^ *\[ *\d+\] (\S+) +\S+ +[0-9a-f]{16} ([0-9a-f]+) ([0-9a-f]+)", listing, re.MULTILINE)
    return [(name, int(offset, 16), int(size, 16)) for name, offset, size in rows]


def _run(tool: str, *arguments: str) -> str:
    return subprocess.run([find_program(tool), *arguments], capture_output=True, text=True, check=True).stdout
