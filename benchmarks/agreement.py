"""Whether our frames are those of `perf script`, unwound from the same copies of stacks."""

from __future__ import annotations

import tempfile
from collections import Counter
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.loads import mariadb
from benchmarks.perf_output import PerfStack, perf_record, perf_stacks
from benchmarks.perf_samples import PerfSamples, fresh_namer, load_perf_samples
from benchmarks.registry import Figure, Report, Settings, benchmark
from symbolize.address_space import AddressSpace
from symbolize.unwind import StackEnd, UnwoundStacks

STACK_BYTES = 32768
FREQUENCY_HZ = 499
LIMIT_PERCENT = 99.0
CAUSES_SHOWN = 6


@benchmark("agreement")
def agreement(settings: Settings) -> Report:
    """The share of samples whose addresses agree, of those that perf unwinds to a start."""
    seconds = 3 if settings.rounds < 3 else settings.seconds
    with tempfile.TemporaryDirectory(prefix="lf-bench-", dir="/var/tmp") as folder:
        data = Path(folder) / "perf.data"
        with mariadb() as pid:
            perf_record(pid, seconds, data, f"dwarf,{STACK_BYTES}", FREQUENCY_HZ)
        theirs = perf_stacks(data)
        samples = load_perf_samples(data)
    if len(theirs) != len(samples):
        raise AssertionError(f"perf script shows {len(theirs)} samples of {len(samples)}")
    stacks, code, _ = samples.unwind_cold()
    ours = places_in_files(samples, stacks)
    names = fresh_namer(code)
    causes: Counter[str] = Counter()
    agreeing = 0
    whole = [index for index, stack in enumerate(theirs) if stack.is_whole]
    for index in whole:
        if ours[index] == theirs[index].places:
            agreeing += 1
        else:
            keys = code.keys(samples.space[index : index + 1], _looked_up(stacks, index)[:1])
            leaf = names.names(keys)[0].frames[-1].function
            causes[cause_of(ours[index], theirs[index], StackEnd(int(stacks.end[index])), leaf)] += 1
    with_user = sum(bool(stack.places) for stack in theirs)
    has_frames = samples.has_registers
    complete = 100 * float(np.mean(stacks.end[has_frames] == StackEnd.COMPLETE))
    figures = [
        Figure("same frames, of samples whole by perf", "%", [100 * agreeing / max(1, len(whole))], (), LIMIT_PERCENT,
               limit_is_least=True),
        Figure("reach an end", "%", [complete], [100 * len(whole) / max(1, with_user)]),
    ]  # fmt: skip
    remarks = [f"{len(samples):,} samples, {len(whole):,} whole by perf, {len(whole) - agreeing} of them differ"]
    remarks += [f"{count} × {cause}" for cause, count in causes.most_common(CAUSES_SHOWN)]
    title = f"MariaDB, one perf.data with copies of {STACK_BYTES:,} bytes, unwound by both"
    return Report(title, "perf script", figures, remarks)


def places_in_files(samples: PerfSamples, stacks: UnwoundStacks) -> list[list[int]]:
    """Each sample's frames as perf prints them: addresses to look up, counted from the start of their files."""
    lengths = np.diff(stacks.callchains.offsets)
    space = np.repeat(samples.space, lengths)
    addresses = stacks.callchains.addresses - (~stacks.is_exact).astype(np.uint64)
    places = addresses.copy()
    for number, one in enumerate(samples.spaces):
        inside = np.flatnonzero(space == number)
        places[inside] = _in_files(one, addresses[inside])
    return [part.tolist() for part in np.split(places, stacks.callchains.offsets[1:-1])]


def cause_of(ours: list[int], theirs: PerfStack, end: StackEnd, leaf: str) -> str:
    """Where two stacks part: after which function of perf's, and how ours goes on and ends."""
    at = next(place for place, (mine, other) in enumerate(zip_longest(ours, theirs.places)) if mine != other)
    before = theirs.names[at - 1] if at else f"leaf {leaf}"
    other = f"perf goes on to {theirs.names[at]}" if at < len(theirs.names) else "perf ends"
    mine = f"we to 0x{ours[at]:x}" if at < len(ours) else "we end"
    return f"after {before}: {other}, {mine} ({end.name})"


def _looked_up(stacks: UnwoundStacks, index: int) -> NDArray[np.uint64]:
    part = slice(stacks.callchains.offsets[index], stacks.callchains.offsets[index + 1])
    return stacks.callchains.addresses[part] - (~stacks.is_exact[part]).astype(np.uint64)


def _in_files(space: AddressSpace, addresses: NDArray[np.uint64]) -> NDArray[np.uint64]:
    if not space.mappings:
        return addresses
    starts = np.array([mapping.start for mapping in space.mappings], np.uint64)
    ends = np.array([mapping.end for mapping in space.mappings], np.uint64)
    biases = np.array([(mapping.file_offset - mapping.start) % (1 << 64) for mapping in space.mappings], np.uint64)
    row = np.maximum(np.searchsorted(starts, addresses, side="right") - 1, 0)
    is_inside = (starts[row] <= addresses) & (addresses < ends[row])
    return np.where(is_inside, addresses + biases[row], addresses)
