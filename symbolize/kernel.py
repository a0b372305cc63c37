"""Names of kernel addresses, from /proc/kallsyms and from what the kernel told of code that came and went."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lockflame.errors import reason_of
from lockflame.events import Event, KernelSymbolEvent

KERNEL = "[kernel]"
BPF = "[bpf]"
"""What kallsyms calls the module of BPF programs."""
# A line's columns on a 64-bit kernel.
ADDRESS_DIGITS, KIND_AT, NAME_AT = 16, 17, 19
# More than KSYM_NAME_LEN, 512, and a module's name.
LINE_BYTES_MOST = 1024
# What lies further behind the nearest symbol is other code, such as a module that came later.
FUNCTION_BYTES_MOST = 1 << 18
HIDDEN = "the kernel hides its addresses from this user (CAP_SYSLOG and kernel.kptr_restrict decide)"
NO_SYMBOL = "no kernel symbol at this address"
JIT_HIDDEN = f"{NO_SYMBOL}, and BPF programs are kept out of them: net.core.bpf_jit_kallsyms is 0"
SEVERAL = "kernel code of different names, such as BPF programs, took turns at this address"

# `bpf_prog_TAG_NAME`, the tag being a digest of the program's instructions (bpf_get_prog_name in kernel/bpf/core.c).
_BPF_PROGRAM = re.compile(r"bpf_prog_[0-9a-f]{16}_(.+)")


@dataclass(frozen=True, slots=True, eq=False)
class KernelSymbols:
    """Kernel functions sorted by address (uint64); empty with a `reason` when the kernel doesn't tell them.

    `lines` int64 has where each one's line begins in `content`; the few names asked for are cut out of it.
    """

    starts: NDArray[np.uint64]
    lines: NDArray[np.int64]
    content: memoryview
    reason: str = ""

    def rows(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The symbol that each address belongs to; -1 where there is none."""
        if not len(self.starts):
            return np.full(len(addresses), -1, dtype=np.int64)
        row = self.starts.searchsorted(addresses, side="right") - 1
        row[addresses - self.starts[row] > np.uint64(FUNCTION_BYTES_MOST)] = -1
        return row

    def name(self, row: int) -> tuple[str, str] | None:
        """The function and the module (`[kernel]`, `[nf_tables]`, …) of a symbol; None where its line has no name."""
        begin = int(self.lines[row])
        line = bytes(self.content[begin + NAME_AT : begin + LINE_BYTES_MOST])
        fields = line.partition(b"\n")[0].split()
        if not fields:
            return None
        return os.fsdecode(fields[0]), os.fsdecode(fields[1]) if len(fields) > 1 else KERNEL

    def covers(self, addresses: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which addresses lie between the first symbol and the last."""
        if not len(self.starts):
            return np.zeros(len(addresses), dtype=np.bool_)
        return (self.starts[0] <= addresses) & (addresses < self.starts[-1])


@dataclass(frozen=True, slots=True, eq=False)
class PassingSymbols:
    """Code that the kernel made or gave up during the recording: `names[i]` from `starts[i]` to `ends[i]` (uint64)."""

    starts: NDArray[np.uint64]
    ends: NDArray[np.uint64]
    names: tuple[str, ...]

    def near(self, addresses: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which addresses such code may have been at; it wasn't at the others."""
        if not self.names:
            return np.zeros(len(addresses), dtype=np.bool_)
        order = np.argsort(self.starts)
        reach = np.maximum.accumulate(self.ends[order])
        row = np.searchsorted(self.starts[order], addresses, side="right") - 1
        return (row >= 0) & (addresses < reach[row])

    def find(self, address: int) -> set[str]:
        """All names that the code at an address had."""
        rows = np.flatnonzero((self.starts <= np.uint64(address)) & (np.uint64(address) < self.ends))
        return {self.names[row] for row in rows.tolist()}


def passing_symbols(events: Iterable[Event]) -> PassingSymbols:
    """Collects what the events tell. Code that is only given up was made before the recording."""
    found = {
        (event.address, min(event.address + event.size, 2**64 - 1), event.name): None
        for event in events
        if isinstance(event, KernelSymbolEvent)
    }
    starts, ends, names = zip(*found, strict=True) if found else ((), (), ())
    return PassingSymbols(np.array(starts, dtype=np.uint64), np.array(ends, dtype=np.uint64), names)


@dataclass(frozen=True, slots=True)
class KernelName:
    """A kernel function and its module; `reason` says why there is none."""

    function: str
    module: str
    reason: str = ""


def names_of(addresses: NDArray[np.uint64], passing: PassingSymbols, symbols: KernelSymbols) -> list[KernelName]:
    """Names kernel addresses.

    What passed counts first: where it lay, the symbols of today know other code, or what lies in front of it.
    An address that had several names over time has none: a stack that is wrong is worse.
    """
    rows: list[int] = symbols.rows(addresses).tolist()
    found = {row: symbols.name(row) if row >= 0 else None for row in set(rows)}
    of_row = {
        row: KernelName(*name) if name else KernelName("", KERNEL, symbols.reason or _why_no_symbol())
        for row, name in found.items()
    }
    names = [of_row[row] for row in rows]
    for place in np.flatnonzero(passing.near(addresses)).tolist():
        names[place] = _passing_name(passing.find(int(addresses[place]))) or names[place]
    return names


def _passing_name(names: set[str]) -> KernelName | None:
    if len(names) > 1:
        return KernelName("", KERNEL, SEVERAL)
    for function in names:
        return KernelName(function, BPF if function.startswith("bpf_") else KERNEL)
    return None


def readable_name(symbol: str) -> str:
    """`bpf_prog NAME` for a BPF program, without its tag, which is another one after each change; else the symbol."""
    found = _BPF_PROGRAM.fullmatch(symbol)
    return f"bpf_prog {found[1]}" if found else symbol


def _why_no_symbol(setting: str = "/proc/sys/net/core/bpf_jit_kallsyms") -> str:
    try:
        with open(setting, "rb") as file:
            return JIT_HIDDEN if file.read(8).strip() == b"0" else NO_SYMBOL
    except OSError:
        return NO_SYMBOL


def read_kallsyms(path: str = "/proc/kallsyms") -> KernelSymbols:
    """Reads the kernel's own symbol table (proc(5)): `ADDRESS TYPE NAME [MODULE]` a line."""
    try:
        with open(path, "rb") as file:
            return parse_kallsyms(file.read())
    except OSError as error:
        return _unknown(f"{path}: {reason_of(error)}")


def parse_kallsyms(content: bytes) -> KernelSymbols:
    """Takes the code symbols (types t, T, w and W). Lines of another shape are left out."""
    content = content + b"\n"
    characters = np.frombuffer(content, dtype=np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    begins = np.concatenate(([0], ends[:-1] + 1))
    begins = begins[ends - begins > NAME_AT]
    kinds = characters[begins + KIND_AT]
    begins = begins[np.isin(kinds, np.frombuffer(b"tTwW", dtype=np.uint8))]
    addresses, is_number = _hex_numbers(characters, begins)
    kept = is_number & (addresses != 0)
    if not kept.any():
        return _unknown(HIDDEN)
    addresses, begins = addresses[kept], begins[kept]
    order = np.argsort(addresses, kind="stable")
    return KernelSymbols(addresses[order], begins[order], memoryview(content))


def _hex_numbers(
    characters: NDArray[np.uint8], begins: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """The 16 hex digits at each place as a number, and whether they are 16 hex digits."""
    digit = np.full(256, 255, dtype=np.uint8)
    for value, character in enumerate(b"0123456789abcdef"):
        digit[character] = value
    numbers = np.zeros(len(begins), dtype=np.uint64)
    is_number = np.ones(len(begins), dtype=np.bool_)
    for place in range(ADDRESS_DIGITS):
        values = digit[characters[begins + place]]
        is_number &= values < 16
        numbers = (numbers << np.uint64(4)) | (values & np.uint8(15))
    return numbers, is_number


def _unknown(reason: str) -> KernelSymbols:
    return KernelSymbols(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64), memoryview(b""), reason)
