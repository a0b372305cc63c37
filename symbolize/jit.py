"""Names of generated code: from a process's jitdump, which knows times, and else from its perf map.

Runtimes use the addresses of code anew. Where different functions were sampled at one address, each but the first has
a code key in another *generation* of the process's image.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lockflame.errors import reason_of
from lockflame.events import Event, FileMapping, HeldFiles, HeldJitFiles, MapEvent, ProcessSnapshot
from symbolize.code_map import ADDRESS_MASK, SHIFT, CodeMap
from symbolize.generated_names import GeneratedNames
from symbolize.jit_files import DELETED, open_jitdump, open_perf_map
from symbolize.jitdump import Jitdump, JitdumpProblem, JitSymbol, read_jitdump
from symbolize.perf_map import NOTHING, PerfMapNames, read_perf_map

GENERATIONS_MOST = 1024
"""Of functions sampled at one address; what comes after has no name."""
PID_DIGITS_MOST = 10
_DUMP_PATH = re.compile(r".*/jit-(\d+)\.dump", re.DOTALL)
_MEGABYTE = 10**6


def find_jitdumps(
    snapshots: Iterable[ProcessSnapshot], events: Iterable[Event], held_jit: HeldJitFiles
) -> dict[int, FileMapping]:
    """The jitdump that each process has mapped, by pid: runtimes map it executable so that profilers see it.

    A process that forked has its parent's mapped, too; its own goes first.
    """
    dumps: dict[int, FileMapping] = {}
    for process in snapshots:
        held = held_jit.get(process.pid)
        own = {process.pid, held.pid_inside if held else process.pid}
        found = {number: mapping for mapping in process.mappings if (number := _jitdump_number(mapping)) is not None}
        if found:
            dumps[process.pid] = next((found[number] for number in own if number in found), [*found.values()][-1])
    for event in events:
        if isinstance(event, MapEvent) and _jitdump_number(event.mapping) is not None:
            dumps[event.pid] = event.mapping
    return dumps


def name_generated(
    keys: NDArray[np.uint64],
    times: NDArray[np.int64],
    code_map: CodeMap,
    dumps: dict[int, FileMapping],
    held_files: HeldFiles,
    held_jit: HeldJitFiles,
) -> GeneratedNames:
    """Names the generated code among user code keys (uint64[n]) that were sampled at `times` (int64[n], ns)."""
    found = GeneratedNames(keys)
    images = [index for index, image in enumerate(code_map.images) if image.binary.is_generated]
    if not images:
        return found
    found.keys = keys.copy()
    image_of_key = keys >> SHIFT
    for index in images:
        rows = np.flatnonzero(image_of_key == index)
        if len(rows):
            pid = code_map.images[index].pid
            source = _Source(pid, dumps.get(pid), held_files, held_jit, found)
            _name_image(found, code_map, index, rows, times[rows], source)
    return found


class _Source:
    """All that is known of one process's generated code."""

    def __init__(
        self,
        pid: int,
        dump_mapping: FileMapping | None,
        held_files: HeldFiles,
        held_jit: HeldJitFiles,
        found: GeneratedNames,
    ) -> None:
        self._pid = pid
        self._held = held_jit.get(pid)
        self._found = found
        self._dump = self._read_dump(dump_mapping, held_files) if dump_mapping else None

    def rows(self, addresses: NDArray[np.uint64], times: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of the dump at (address, time); `NOTHING` where it has none."""
        if self._dump is None:
            return np.full(len(addresses), NOTHING, np.int64)
        rows, left_out = self._dump.find(addresses, times if self._are_comparable(self._dump, times) else None)
        if left_out:
            self._note(f"{left_out:,} early records were left out: too much code lies over other code.")
        return rows

    def symbols(self, addresses: NDArray[np.uint64], rows: NDArray[np.int64]) -> list[JitSymbol | None]:
        """The name of each (address, row of the dump)."""
        in_map = self._read_map(addresses[rows == NOTHING]) if (rows == NOTHING).any() else {}
        symbols: list[JitSymbol | None] = []
        for address, row in zip(addresses.tolist(), rows.tolist(), strict=True):
            if self._dump is not None and row != NOTHING:
                symbols.append(self._dump.symbol(row, address))
            else:
                name = in_map.get(address)
                symbols.append(JitSymbol(name) if name else None)
        return symbols

    def _are_comparable(self, dump: Jitdump, times: NDArray[np.int64]) -> bool:
        if dump.has_times and len(dump.times) and int(dump.times[0]) <= int(times.max()):
            return True
        if len(dump.times):
            self._note("its times are of another clock than the samples': of code at one address, the last one counts.")
        return False

    def _read_dump(self, mapping: FileMapping, held_files: HeldFiles) -> Jitdump | None:
        try:
            with open_jitdump(self._pid, mapping, held_files, self._held) as descriptor:
                if descriptor is None:
                    self._note("it is gone, or no regular file of the process's user.")
                    return None
                dump = read_jitdump(descriptor)
        except JitdumpProblem as problem:
            self._note(f"{problem}.")
            return None
        except OSError as error:
            self._note(f"{reason_of(error)}.")
            return None
        if dump.skipped:
            self._note(f"{dump.skipped:,} records were skipped: not readable.")
        if dump.without_lines:
            self._note(f"{dump.without_lines:,} records of source lines were left out: there are too many.")
        if dump.bytes_unread:
            self._note(f"{dump.bytes_unread / _MEGABYTE:,.1f} MB of it were not read.")
        return dump

    def _read_map(self, addresses: NDArray[np.uint64]) -> dict[int, str]:
        path = f"/tmp/perf-{self._pid}.map"
        names: PerfMapNames | None = None
        reason = f"generated code, and there is no {path} of its user"
        try:
            with open_perf_map(self._pid, self._held) as descriptor:
                if descriptor is not None:
                    names = read_perf_map(descriptor, addresses)
        except OSError as error:
            reason = f"generated code, and {path} can't be read: {reason_of(error)}"
        if names is not None:
            reason = f"generated code that {path} doesn't have"
            self._found.lines_skipped += names.skipped
            if names.bytes_unread:
                self._found.notes.append(
                    f"{names.bytes_unread / _MEGABYTE:,.1f} MB at the end of {path} were not read: it is too long. "
                    "Code that only they name has no name."
                )
        if self._dump is not None:
            reason = "generated code that its jitdump doesn't have"
        self._found.reasons[self._pid] = reason
        return names.names if names else {}

    def _note(self, sentence: str) -> None:
        self._found.notes.append(f"The jitdump of process {self._pid}: {sentence}")


def _name_image(
    found: GeneratedNames,
    code_map: CodeMap,
    index: int,
    rows: NDArray[np.int64],
    times: NDArray[np.int64],
    source: _Source,
) -> None:
    """Names the keys at `rows`, which are of one image, and gives them generations."""
    addresses = found.keys[rows] & ADDRESS_MASK
    code = source.rows(addresses, times)
    pairs = np.stack([addresses.view(np.int64), code], axis=1)
    distinct, pair_of_row = np.unique(pairs, axis=0, return_inverse=True)
    symbols = source.symbols(distinct[:, 0].view(np.uint64), distinct[:, 1])
    generations_at: defaultdict[int, dict[JitSymbol | None, int]] = defaultdict(dict)
    images = [index]
    keys = np.empty(len(distinct), np.uint64)
    for number, (address, symbol) in enumerate(zip(distinct[:, 0].tolist(), symbols, strict=True)):
        at_address = generations_at[address]
        generation = min(at_address.setdefault(symbol, len(at_address)), GENERATIONS_MOST)
        if generation == len(images):
            images.append(code_map.add_generation(index))
        key = (images[generation] << int(SHIFT)) | address
        keys[number] = key
        if symbol is not None and generation < GENERATIONS_MOST:
            found.symbols[key] = symbol
    found.keys[rows] = keys[pair_of_row.reshape(-1)]


def _jitdump_number(mapping: FileMapping) -> int | None:
    """The process number in the name of a jitdump; None for other files."""
    found = _DUMP_PATH.fullmatch(mapping.path.removesuffix(DELETED))
    return int(found[1]) if found and len(found[1]) <= PID_DIGITS_MOST else None
