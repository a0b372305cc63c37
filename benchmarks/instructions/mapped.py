"""A program that nothing runs, mapped into a process that isn't there."""

from __future__ import annotations

from pathlib import Path

from lockflame.events import FileMapping
from symbolize.address_space import AddressSpace
from symbolize.code_map import CodeMap

NO_PID = 1 << 30
"""More than the kernel ever gives (PID_MAX_LIMIT, 2^22)."""
START = 0x5500_0000_0000
MAPPED_BYTES = 1 << 28


def code_map_of(program: Path) -> CodeMap:
    """A new one, which has opened no binary yet; file offset 0 is at `START`."""
    mapping = FileMapping(START, START + MAPPED_BYTES, 0, str(program))
    return CodeMap((AddressSpace(NO_PID, (mapping,)),), {})
