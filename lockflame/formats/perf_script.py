"""The text of `perf script` in (man perf-script): a line for each sample, its frames below, an empty line."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import IO

from lockflame.errors import LockflameError
from lockflame.formats.bounds import FRAMES_MOST
from lockflame.formats.collecting import Collector
from lockflame.formats.folded import notes_of
from lockflame.formats.lines import lines_of, text_of
from lockflame.formats.perf_lines import INLINED, Frame, Header, frame_of, header_of, is_record
from lockflame.profile import CPU, SAMPLES, FrameKind, Profile, RecordingInfo, SampleType, Thread

EVENTS_MOST = 16
"""Sample types for as many events; samples of more are counted as skipped."""
_NANOSECOND_EVENTS = ("cpu-clock", "task-clock")
_MODIFIERS = re.compile(r":[ukhHGpPSDIWeb]*$")


def read_perf_script(file: IO[bytes], path: str) -> Profile:
    """The profile in the output of `perf script`.

    Sample types are `samples` and one for each event, with its periods: `cpu` in nanoseconds for cpu-clock or
    task-clock (whichever comes first, as both are the same time), else the event's name as a count. An event without
    periods has its samples counted. Raises `LockflameError` if there is no sample.
    """
    reader = _Reader(path)
    for raw in lines_of(file):
        reader.feed(None if raw is None else text_of(raw).rstrip("\r"))
    return reader.profile()


class _Reader:
    def __init__(self, path: str) -> None:
        self._path = path
        # The first column is that of samples, then one for each event.
        self._collector = Collector(path, 1 + EVENTS_MOST)
        self._events: dict[SampleType, int] = {}
        self._header: Header | None = None
        self._frames: list[Frame] = []
        self._samples = 0
        self._skipped = 0
        self._event = ""
        self._clock = ""

    def feed(self, line: str | None) -> None:
        """One line; None for one that is too long."""
        if line is None:
            self._skipped += 1
        elif not line.strip():
            self._end()
        elif self._header is not None and (line[0] == "\t" or (line[0] == " " and header_of(line) is None)):
            self._add_frame(line)
        elif not line.startswith("#"):
            self._begin(line)

    def _begin(self, line: str) -> None:
        self._end()
        self._header = header_of(line)
        if self._header is None:
            self._skipped += not is_record(line)
        elif self._header.frame is not None:
            self._frames.append(self._header.frame)

    def profile(self) -> Profile:
        """What was read."""
        self._end()
        if not self._samples:
            raise LockflameError(f"cannot read {self._path}", "it has no samples with stacks", "record with perf -g")
        types = (SAMPLES, *self._events)
        info = RecordingInfo(
            event=self._clock or self._event,
            samples=self._samples,
            skipped=self._skipped,
            notes=tuple(notes_of(self._collector, self._skipped, "lines or samples")),
        )
        padding = tuple(SampleType("", "") for _ in range(1 + EVENTS_MOST - len(types)))
        return _with_columns(self._collector.profile(types + padding, info), len(types))

    def _add_frame(self, line: str) -> None:
        frame = frame_of(line)
        if frame is None:
            self._skipped += 1
        elif len(self._frames) <= FRAMES_MOST:
            self._frames.append(frame)

    def _end(self) -> None:
        header, frames = self._header, self._frames
        self._header, self._frames = None, []
        if header is None:
            return
        values = [0] * (1 + EVENTS_MOST)
        values[0] = 1
        kind = self._kind(header)
        if kind is not None:
            if kind not in self._events and len(self._events) == EVENTS_MOST:
                self._skipped += 1
                return
            values[1 + self._events.setdefault(kind, len(self._events))] = 1 if header.period is None else header.period
        self._samples += 1
        self._collector.add(self._stack(frames), Thread(header.pid, header.tid, header.comm), values)

    def _kind(self, header: Header) -> SampleType | None:
        """What a sample has beside its number."""
        name = _MODIFIERS.sub("", header.event) or header.event
        self._event = self._event or name
        if header.period is None:
            return SampleType(f"{name} samples", "count") if name else None
        if name not in _NANOSECOND_EVENTS:
            return SampleType(name or "period", "count")
        self._clock = self._clock or name
        return CPU if name == self._clock else SampleType(name, CPU.unit)

    def _stack(self, frames: list[Frame]) -> int:
        text = "\0".join(f"{frame.name}\1{frame.module}" for frame in frames).encode("utf-8", "surrogateescape")
        known = self._collector.known_stack(text)
        if known is not None:
            return known
        if not self._collector.has_room(text, len(frames)):
            return self._collector.other_stack()
        return self._collector.add_stack(text, self._locations(frames))

    def _locations(self, frames: list[Frame]) -> list[int]:
        """Leaf first, as perf has them; what was inlined stands before the function that has the code."""
        result: list[int] = []
        lines: tuple[str, ...] = ()
        for index, frame in enumerate(frames):
            lines = (*lines, frame.name)
            is_inlined = frame.module == INLINED
            if is_inlined and index + 1 < len(frames):
                continue
            kind = FrameKind.KERNEL if frame.is_kernel else FrameKind.USER
            result.append(self._collector.location(lines, kind, "" if is_inlined else frame.module))
            lines = ()
        return result


def _with_columns(profile: Profile, count: int) -> Profile:
    """The profile with its first sample types only."""
    samples = replace(profile.samples, values=profile.samples.values[:, :count])
    return replace(profile, sample_types=profile.sample_types[:count], samples=samples)
