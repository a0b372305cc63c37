"""Many profiles made one: equal code, stacks, threads and locks become one of each, and their numbers are added up."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from lockflame.distinct_rows import DistinctRows
from lockflame.errors import LockflameError
from lockflame.formats.labels import TOO_MANY_LABELS, ThreadNumbers
from lockflame.pprof_samples import SampleTable
from lockflame.pprof_tables import Functions, Locations, Tables
from lockflame.profile import (
    FutexOperation,
    HoldTimes,
    Lock,
    Mapping,
    Memory,
    RecordingInfo,
    SampleColumns,
    SampleType,
    Stacks,
    WaitEnds,
)
from lockflame.wire import ranges

NOTES_MOST = 20
"""Of the profiles' own, all different."""

_VALUE_MOST = 2**63 - 1
_ENDS = tuple(field.name for field in fields(WaitEnds))
_LOCK_TIMES = ("total_ns", "unreleased_ns", "woken_ns")
_TEXTS, _FUNCTION_WIDTH = 3, 4
_LOCATION_WIDTH = 4
_SUMMED = (
    "duration_ns",
    "cpu_time_ns",
    "run_delay_ns",
    "samples",
    "lost",
    "throttled",
    "truncated",
    "unresolved",
    "skipped",
    "wait_samples",
    "holder_samples",
    "waits_left_out",
    "waits_unseen",
)
_SAME = ("command", "pid", "host", "kernel", "event", "frequency_asked_hz", "stack_bytes", "probes")

Ints = NDArray[np.int64]
_Thing = TypeVar("_Thing", bound=Hashable)
LockKey = tuple[int, int, Memory, str, FutexOperation, str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """Some profiles made one, and how each of them was taken. `unlabelled` samples have lost their labels by that."""

    tables: Tables
    recordings: tuple[RecordingInfo, ...]
    unlabelled: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What merging has to tell that no profile did."""
        return _labels_note(self.unlabelled)


def merged(profiles: Iterable[Tables | Merged]) -> Merged:
    """All profiles as one, whose sums are theirs together: by function, stack, thread, label and lock.

    Sample types are those of all; a profile that has one not counts as 0 there. Durations are added up, so that what
    is said per second is a mean. What comes first stays first, so that parts may be merged before. Each profile is
    needed only once, in turn. Raises `LockflameError` when sums don't fit into 64 bits, or when there is no profile.
    """
    merger = _Merger()
    for profile in profiles:
        if isinstance(profile, Merged):
            merger.add(profile.tables, profile.recordings, profile.unlabelled)
        else:
            merger.add(profile, (profile.recording,))
    return merger.merged()


class _Numbers(Generic[_Thing]):
    """Distinct things, numbered in the order in which they first came."""

    def __init__(self) -> None:
        self.number: dict[_Thing, int] = {}

    def add(self, things: Iterable[_Thing]) -> Ints:
        """The numbers of these, int64."""
        things = list(things)
        number = self.number
        # Nearly all are known, once there were a few profiles.
        found = list(map(number.get, things))
        if None in found:
            found = [number.setdefault(thing, len(number)) for thing in things]
        return np.array(found, np.int64)


class _Merger:
    def __init__(self) -> None:
        self._strings = _Numbers[str]()
        self._strings.add([""])
        self._types = _Numbers[SampleType]()
        self._mappings = _Numbers[Mapping]()
        self._threads = ThreadNumbers()
        self._functions = DistinctRows(np.int64)
        self._locations = DistinctRows(np.int64)
        self._stacks = DistinctRows(np.int32)
        self._locks: dict[LockKey, tuple[int, Lock]] = {}
        self._rows: list[SampleColumns] = []
        self._type_numbers: list[Ints] = []
        self._recordings: list[RecordingInfo] = []
        self._unlabelled = 0

    def add(self, profile: Tables, recordings: Sequence[RecordingInfo], unlabelled: int = 0) -> None:
        """One more, which may be several itself, in which so many samples lost their labels."""
        string = self._strings.add(profile.strings)
        function = self._add_functions(profile.functions, string)
        location = self._add_locations(profile, function, string)
        stacks = profile.rows.stacks
        # A number more than there are: the last stands for the -1 of samples that have no lock.
        lock = np.append(self._add_locks(profile.locks), -1)
        stack = self._stacks.add(location.astype(np.int32)[stacks.locations], stacks.offsets)
        samples = profile.rows.samples
        thread, is_cut = self._threads.add(profile.rows.threads)
        self._unlabelled += unlabelled + int(np.count_nonzero(is_cut[samples.thread]))
        self._rows.append(
            SampleColumns(
                stack[samples.stack].astype(np.int32),
                thread[samples.thread].astype(np.int32),
                samples.values,
                lock[samples.lock].astype(np.int32),
            )
        )
        self._type_numbers.append(self._types.add(profile.sample_types))
        self._recordings.extend(recordings)

    def _add_functions(self, functions: Functions, string: Ints) -> Ints:
        rows = np.column_stack((string[functions.texts], functions.line))
        return self._functions.add(rows.reshape(-1), np.arange(len(rows) + 1) * _FUNCTION_WIDTH)

    def _add_locations(self, profile: Tables, function: Ints, string: Ints) -> Ints:
        """A location is a row of its own four numbers and then two for each line."""
        locations = profile.locations
        mapping = np.append(self._mappings.add(profile.mappings), -1)
        counts = np.diff(locations.line_bounds)
        bounds = np.concatenate((np.zeros(1, np.int64), np.cumsum(_LOCATION_WIDTH + 2 * counts)))
        values = np.zeros(int(bounds[-1]), np.int64)
        own = bounds[:-1]
        values[own] = locations.address.view(np.int64)
        values[own + 1] = mapping[locations.mapping]
        values[own + 2] = locations.kind
        values[own + 3] = string[locations.reason]
        at = ranges(own + _LOCATION_WIDTH, 2 * counts)
        values[at[::2]] = function[locations.line_function]
        values[at[1::2]] = locations.line_number
        return self._locations.add(values, bounds)

    def _add_locks(self, locks: Sequence[Lock]) -> Ints:
        numbers: list[int] = []
        for lock in locks:
            key = (lock.pid, lock.address, lock.memory, lock.symbol, lock.operation, lock.name, lock.kind)
            number, known = self._locks.get(key, (len(self._locks), None))
            self._locks[key] = (number, lock if known is None else _together(known, lock))
            numbers.append(number)
        return np.array(numbers, np.int64)

    def merged(self) -> Merged:
        """All that was added."""
        if not self._rows:
            raise LockflameError("cannot merge", "there is no profile", "give one at least")
        stack_values, stack_bounds = self._stacks.columns()
        stacks = Stacks(stack_bounds, stack_values.astype(np.int32))
        texts, _ = self._functions.columns()
        functions = texts.reshape(-1, _FUNCTION_WIDTH)
        tables = Tables(
            strings=list(self._strings.number),
            sample_types=tuple(self._types.number),
            mappings=tuple(self._mappings.number),
            functions=Functions(functions[:, :_TEXTS], functions[:, _TEXTS]),
            locations=self._merged_locations(),
            rows=SampleTable(stacks, self._merged_rows(len(stacks)), tuple(self._threads.number)),
            locks=tuple(lock for _, lock in self._locks.values()),
            recording=_recording(self._recordings, _labels_note(self._unlabelled)),
        )
        return Merged(tables, tuple(self._recordings), self._unlabelled)

    def _merged_locations(self) -> Locations:
        values, bounds = self._locations.columns()
        own = bounds[:-1]
        counts = (np.diff(bounds) - _LOCATION_WIDTH) // 2
        at = ranges(own + _LOCATION_WIDTH, 2 * counts)
        return Locations(
            address=values[own].view(np.uint64),
            mapping=values[own + 1],
            kind=values[own + 2],
            reason=values[own + 3],
            line_bounds=np.concatenate((np.zeros(1, np.int64), np.cumsum(counts))),
            line_function=values[at[::2]],
            line_number=values[at[1::2]],
        )

    def _merged_rows(self, stacks: int) -> SampleColumns:
        """Samples of the same stack, thread and lock become one."""
        stack, thread, lock = (
            np.concatenate([getattr(rows, name) for rows in self._rows]) for name in ("stack", "thread", "lock")
        )
        values = np.zeros((len(stack), len(self._types.number)), np.int64)
        first = 0
        for rows, numbers in zip(self._rows, self._type_numbers, strict=True):
            # A type may stand in a file twice.
            for column, number in enumerate(numbers.tolist()):
                values[first : first + len(rows), number] += rows.values[:, column]
            first += len(rows)
        self._rows.clear()
        if float(np.abs(values.astype(np.float64)).sum(axis=0).max(initial=0)) > _VALUE_MOST:
            raise _beyond("their sums")
        order, firsts = sorted_by(stack, thread, lock)
        sums = np.add.reduceat(np.take(values, order, axis=0), firsts, axis=0) if len(firsts) else values
        kept = order[firsts]
        return SampleColumns(stack[kept], thread[kept], sums, lock[kept])


def sorted_by(
    stack: NDArray[np.int32], thread: NDArray[np.int32], lock: NDArray[np.int32]
) -> tuple[Ints, NDArray[np.int64]]:
    """The order of rows by stack, thread and lock (-1 or more), and where in it each different one begins.

    Equal rows keep their order.
    """
    locks = int(lock.max(initial=-1)) + 2
    inner = thread * np.int64(locks) + lock + 1
    width = (int(thread.max(initial=0)) + 1) * locks
    if (int(stack.max(initial=0)) + 1) * width > _VALUE_MOST:
        kinds, inner = np.unique(inner, return_inverse=True)
        width = len(kinds)
    # One column is sorted far sooner than three, and numbers sooner than the places where they are.
    key = stack * np.int64(width) + inner
    place_bits = len(key).bit_length()
    if int(key.max(initial=0)) >> (63 - place_bits):
        order = np.argsort(key, kind="stable")
        key = key[order]
    else:
        both = np.sort(key << np.int64(place_bits) | np.arange(len(key)))
        order, key = both & np.int64((1 << place_bits) - 1), both >> np.int64(place_bits)
    return order, np.flatnonzero(np.diff(key, prepend=-1))


def _together(first: Lock, second: Lock) -> Lock:
    """A lock of two recordings. Waits, times and buckets are added; the threads are at least those of the larger."""
    ends = {name: getattr(first.ends, name) + getattr(second.ends, name) for name in _ENDS}
    times = {name: getattr(first, name) + getattr(second, name) for name in _LOCK_TIMES}
    histogram = _added(first.histogram, second.histogram)
    _check((*ends.values(), *times.values(), *histogram), "the sums of a lock")
    return replace(
        first,
        ends=WaitEnds(**ends),
        **times,
        max_ns=max(first.max_ns, second.max_ns),
        histogram=histogram,
        threads=max(first.threads, second.threads),
        has_owner=first.has_owner or second.has_owner,
        is_idle=first.is_idle and second.is_idle,
        held=_held_together(first.held, second.held),
    )


def _held_together(first: HoldTimes | None, second: HoldTimes | None) -> HoldTimes | None:
    if first is None or second is None:
        return first or second
    count, total_ns = first.count + second.count, first.total_ns + second.total_ns
    histogram = _added(first.histogram, second.histogram)
    _check((count, total_ns, *histogram), "the sums of a lock")
    return HoldTimes(count, total_ns, max(first.max_ns, second.max_ns), histogram)


def _added(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(first, second, strict=True))


def _check(sums: Iterable[int], what: str) -> None:
    """Raises `LockflameError` for a sum that a file has no room for."""
    if any(not -_VALUE_MOST <= value <= _VALUE_MOST for value in sums):
        raise _beyond(what)


def _beyond(what: str) -> LockflameError:
    return LockflameError("cannot merge the profiles", f"{what} are beyond 2^63", "check where they are from")


def _labels_note(unlabelled: int) -> tuple[str, ...]:
    return (f"{unlabelled:,} samples of all profiles {TOO_MANY_LABELS}",) if unlabelled else ()


def _recording(recordings: Sequence[RecordingInfo], more_notes: Sequence[str]) -> RecordingInfo:
    """How all were taken: counts are added, what differs is left out and said in a note."""
    if len(recordings) == 1:
        return recordings[0]
    sums: dict[str, int] = {name: sum(getattr(info, name) for info in recordings) for name in _SUMMED}
    _check(sums.values(), "the counts of the recordings")
    values: dict[str, object] = {**sums}
    differing: list[str] = []
    for name in _SAME:
        found = {getattr(info, name) for info in recordings}
        if len(found) == 1:
            values[name] = found.pop()
        elif name != "pid":
            differing.append(name.removesuffix("_hz").replace("_", " "))
    started = [info.started_unix_ns for info in recordings if info.started_unix_ns]
    # Whether lock waits were recorded is seen by this.
    values.setdefault("probes", next((info.probes for info in recordings if info.probes), ""))
    values.setdefault("command", next((info.command for info in recordings if info.command), ""))
    own = list(dict.fromkeys(note for info in recordings for note in info.notes))
    notes = [f"Merged from {len(recordings):,} profiles; durations are added up.", *more_notes, *own[:NOTES_MOST]]
    if differing:
        notes.insert(1, f"The merged profiles differ in: {', '.join(differing)}.")
    if len(own) > NOTES_MOST:
        notes.append(f"{len(own) - NOTES_MOST:,} more notes of the merged profiles are left out.")
    return RecordingInfo(
        **values,  # pyright: ignore[reportArgumentType]
        started_unix_ns=min(started, default=0),
        kernel_frames=all(info.kernel_frames for info in recordings),
        notes=tuple(notes),
    )
