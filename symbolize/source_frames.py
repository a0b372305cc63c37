"""What DWARF data tells of an address; apart from its readers, which a recording whose names are known does without."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """A function at a line. `linkage_name` is empty where the DWARF data has only the line."""

    linkage_name: str
    path: str
    line: int
    declared_line: int


Extent = tuple[int, int, int]
"""A range of addresses of a function: start, end, and where the function's entry is."""
