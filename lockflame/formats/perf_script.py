"""The text of `perf script` in (man perf-script): a line for each sample, its frames below, an empty line."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import IO

from lockflame.errors import LockflameError
from lockflame.formats.collecting import Collector, Frame
from lockflame.formats.folded import notes_of
from lockflame.formats.lines import lines_of, text_of
from lockflame.profile import CPU, SAMPLES, FrameKind, Profile, RecordingInfo, SampleType, Thread

EVENTS_MOST = 16
"""Sample types for as many events; samples of more are counted as skipped."""
FRAMES_OF_A_STACK_MOST = 4096
_DIGITS_MOST = 18
HEADER_CHARACTERS_MOST = 1024
_OFFSET_CHARACTERS_MOST = 20
_HEXADECIMAL = frozenset("0123456789abcdef")

# `comm  pid/tid [cpu] time: period event:`; all but comm and one number may be left out (perf script -F).
_HEADER = re.compile(
    r"(?P<comm>\S.*?)\s+(?P<first>-?\d{1,18})(?:/(?P<second>-?\d{1,18}))?\s+(?:\[\d+\]\s+)?(?:\d+\.\d+:\s*)?"
    r"(?:(?P<period>\d+)\s+)?(?P<event>[^\s:][^\s]*):(?:\s.*)?"
)
_OFFSET = re.compile(r"\+0x[0-9a-f]+$")
_KERNEL_MODULES = ("[kernel", "[guest.kernel")
_NANOSECOND_EVENTS = ("cpu-clock", "task-clock")
_MODIFIERS = re.compile(r":[ukhHGpPSDIWeb]*$")
_INLINED = "inlined"
_DELETED = " (deleted))"


def is_perf_header(line: str) -> bool:
    """Whether a line begins a sample of `perf script`."""
    return _header_of(line) is not None


def _header_of(line: str) -> re.Match[str] | None:
    return _HEADER.fullmatch(line.strip()) if len(line) <= HEADER_CHARACTERS_MOST else None


def _frame_of(line: str) -> tuple[str, str] | None:
    """The name and the module in `ADDRESS NAME+OFFSET (MODULE)`; the name of what has none says where it is."""
    address, _, rest = line.strip().partition(" ")
    if not address or not _HEXADECIMAL.issuperset(address):
        return None
    name, module = f" {rest.strip()}", ""
    if name.endswith(")"):
        # A file that is gone: `(/tmp/a (deleted))`.
        end = name.rfind(" (", 0, -len(_DELETED) if name.endswith(_DELETED) else None)
        if end >= 0:
            name, module = name[:end], name[end + 2 : -1]
    name = name.strip()
    name = name[:-_OFFSET_CHARACTERS_MOST] + _OFFSET.sub("", name[-_OFFSET_CHARACTERS_MOST:])
    return (name if name not in ("", "[unknown]") else _unnamed(address, module)), module


def read_perf_script(file: IO[bytes], path: str) -> Profile:
    """The profile in the output of `perf script`.

    Sample types are `samples` and one for each event, with its periods: `cpu` in nanoseconds for cpu-clock and
    task-clock, else the event's name as a count. Raises `LockflameError` if there is no sample.
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
        self._header: re.Match[str] | None = None
        self._frames: list[tuple[str, str]] = []
        self._samples = 0
        self._skipped = 0
        self._event = ""

    def feed(self, line: str | None) -> None:
        """One line; None for one that is too long."""
        if line is None:
            self._skipped += 1
        elif not line.strip():
            self._end()
        elif line[0] in " \t" and self._header is not None:
            self._add_frame(line)
        elif not line.startswith("#"):
            self._end()
            self._header = _header_of(line)
            self._skipped += self._header is None

    def profile(self) -> Profile:
        """What was read."""
        self._end()
        if not self._samples:
            raise LockflameError(f"cannot read {self._path}", "it has no samples with stacks", "record with perf -g")
        types = (SAMPLES, *self._events)
        info = RecordingInfo(
            event=self._event,
            samples=self._samples,
            skipped=self._skipped,
            notes=tuple(notes_of(self._collector, self._skipped, "lines or samples")),
        )
        padding = tuple(SampleType("", "") for _ in range(1 + EVENTS_MOST - len(types)))
        return _with_columns(self._collector.profile(types + padding, info), len(types))

    def _add_frame(self, line: str) -> None:
        frame = _frame_of(line)
        if frame is None:
            self._skipped += 1
        elif len(self._frames) < FRAMES_OF_A_STACK_MOST:
            self._frames.append(frame)

    def _end(self) -> None:
        header, frames = self._header, self._frames
        self._header, self._frames = None, []
        if header is None:
            return
        column = self._column(header["event"])
        period = header["period"] or "0"
        if column is None or len(period) > _DIGITS_MOST:
            self._skipped += 1
            return
        values = [0] * (1 + EVENTS_MOST)
        values[0], values[column] = 1, int(period)
        first = int(header["first"])
        second = first if header["second"] is None else int(header["second"])
        # A single number is the thread's: perf's default fields have no process.
        pid = 0 if header["second"] is None else first
        self._samples += 1
        self._collector.add(self._stack(frames), Thread(pid, second, header["comm"].strip()), values)

    def _column(self, event: str) -> int | None:
        name = _MODIFIERS.sub("", event) or event
        self._event = self._event or name
        kind = CPU if name in _NANOSECOND_EVENTS else SampleType(name, "count")
        if kind not in self._events and len(self._events) == EVENTS_MOST:
            return None
        return 1 + self._events.setdefault(kind, len(self._events))

    def _stack(self, frames: list[tuple[str, str]]) -> int:
        text = "\0".join(f"{name}\1{module}" for name, module in frames).encode("utf-8", "surrogateescape")
        known = self._collector.known_stack(text)
        if known is not None:
            return known
        if not self._collector.has_room(text, len(frames)):
            return self._collector.other_stack()
        return self._collector.add_stack(text, self._locations(frames))

    def _locations(self, frames: list[tuple[str, str]]) -> list[int]:
        """Leaf first, as perf has them; what was inlined stands before the function that has the code."""
        result: list[int] = []
        lines: Frame = ()
        for index, (name, module) in enumerate(frames):
            lines = (*lines, name)
            if module == _INLINED and index + 1 < len(frames):
                continue
            kind = FrameKind.KERNEL if module.startswith(_KERNEL_MODULES) or module.endswith(".ko") else FrameKind.USER
            result.append(self._collector.location(lines, kind, "" if module == _INLINED else module))
            lines = ()
        return result


def _unnamed(address: str, module: str) -> str:
    """Code without a name by its binary, as perf doesn't give offsets; else by its address."""
    return f"[{module.rpartition('/')[2]}]" if module and module != "[unknown]" else f"0x{address.lstrip('0') or '0'}"


def _with_columns(profile: Profile, count: int) -> Profile:
    """The profile with its first sample types only."""
    samples = replace(profile.samples, values=profile.samples.values[:, :count])
    return replace(profile, sample_types=profile.sample_types[:count], samples=samples)
