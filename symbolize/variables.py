"""Where a variable of a process lies, by its name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from lockflame.events import FileMapping
from symbolize.demangle import demangle
from symbolize.elf import ElfImage, ElfProblem
from symbolize.mapped_files import files_of, mapped_path
from symbolize.symbols import Content, SymbolTable

_IDENTIFIER = re.compile(r"\w+")


def variable_addresses(mappings: Sequence[FileMapping], name: str) -> list[int]:
    """The addresses of all static variables of that name, as linked or in C++'s notation, in these executable mappings.

    Files that can't be read have none.
    """
    return sorted({address for file in files_of(mappings) for address in _in_file(file[0], name)})


def _in_file(mapping: FileMapping, name: str) -> Iterator[int]:
    try:
        image = ElfImage.open(mapped_path(mapping))
    except (OSError, ElfProblem):
        return
    bias = mapping.start - image.segment_address(mapping.file_offset)
    table = SymbolTable(image, Content.DATA)
    parts = _IDENTIFIER.findall(name)
    likely = {linkage for linkage in table.names_with(parts[-1]) if linkage.startswith("_Z")} if parts else set[str]()
    readable = demangle(likely)
    wanted = {name, *(linkage for linkage, shown in readable.items() if shown == name)}
    for symbol in table.of_names(wanted):
        yield (symbol.start + bias) % 2**64
