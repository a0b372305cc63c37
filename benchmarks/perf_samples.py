"""Samples of MariaDB that `perf record` took, as the symbolizer takes them: both sides unwind the same copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lockflame.events import CommEvent, Event, FileMapping, ForkEvent, MapEvent
from lockflame.samples import StackCopies
from symbolize.address_space import AddressSpace, replay
from symbolize.code_map import CodeMap
from symbolize.debug_files import DebugFiles
from symbolize.image_names import ImageNamer
from symbolize.name_store import NameStore
from symbolize.naming import Namer
from symbolize.rule_store import RuleStore
from symbolize.unwind import RuleCache, UnwoundStacks, unwind
from tests.unit.symbolize.unwind.perf_data import PerfData, read_perf_data


@dataclass(frozen=True, slots=True)
class PerfSamples:
    """The samples of a `perf.data` file in the order of time, and the address spaces that they saw."""

    registers: NDArray[np.uint64]
    has_registers: NDArray[np.bool_]
    stacks: StackCopies
    space: NDArray[np.int32]
    spaces: tuple[AddressSpace, ...]

    def __len__(self) -> int:
        return len(self.space)

    def first(self, count: int) -> PerfSamples:
        """The first samples alone."""
        stacks = replace(self.stacks, start=self.stacks.start[:count], count=self.stacks.count[:count])
        return PerfSamples(self.registers[:count], self.has_registers[:count], stacks, self.space[:count], self.spaces)

    def code_map(self) -> CodeMap:
        """A new one, which has opened no binary yet."""
        return CodeMap(self.spaces, {})

    def unwind(self, code: CodeMap, rules: RuleCache) -> UnwoundStacks:
        """All samples' user stacks."""
        return unwind(self.registers, self.has_registers, self.stacks, self.space, code, rules)

    def unwind_cold(self) -> tuple[UnwoundStacks, CodeMap, RuleCache]:
        """The same with nothing known: binaries are opened and rules decoded on the way."""
        code = self.code_map()
        rules = RuleCache(code.unwind_data)
        return self.unwind(code, rules), code, rules

    def unwind_stored(self, store: RuleStore) -> RuleCache:
        """The same with rules read from disk; returns them."""
        code = self.code_map()
        rules = RuleCache(code.unwind_data, lambda image: store.load(code.rules_key(image)))
        self.unwind(code, rules)
        return rules


def load_perf_samples(data: Path) -> PerfSamples:
    """The samples of a file that `perf record --call-graph dwarf` wrote."""
    content = read_perf_data(str(data))
    times = np.array(content.times, np.int64)
    order = np.argsort(times, kind="stable")
    pids = np.array(content.pids, np.int32)[order]
    seen = replay((), sorted(_events(content), key=lambda event: event.time_ns), pids, times[order])
    stacks = content.stacks()
    return PerfSamples(
        content.registers_array()[order],
        content.has_registers()[order],
        StackCopies(stacks.words, stacks.start[order], stacks.count[order]),
        seen.of_sample,
        seen.spaces,
    )


def _events(content: PerfData) -> Iterator[Event]:
    for time_ns, pid, what in content.events:
        if isinstance(what, FileMapping):
            yield MapEvent(time_ns, pid, what)
        elif what is None:
            yield CommEvent(time_ns, pid, pid, "", True)
        else:
            yield ForkEvent(time_ns, pid, pid, what, what)


def fresh_namer(code: CodeMap) -> Namer:
    """One that knows nothing from before: its stores are in a folder that isn't there."""
    nowhere = Path("/nonexistent/lockflame")
    return Namer(code, ImageNamer(code, DebugFiles(), NameStore(nowhere)))
