"""The words of the comparison: what runs, what watches it, and what one round of both gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a workload is: units of its own work since it began, at a time of the monotonic clock."""

    time_s: float
    work: float


class Running(Protocol):
    """A workload at work."""

    @property
    def pid(self) -> int:
        """The process to watch."""
        ...

    def progress(self) -> Progress:
        """How far it is now, by its own count. Costs the workload next to nothing."""
        ...

    def pause(self) -> None:
        """Stops it and what drives it (SIGSTOP), so that pictures are drawn on an idle machine."""
        ...

    def resume(self) -> None:
        """Goes on."""
        ...


@dataclass(frozen=True, slots=True)
class Workload:
    """Something to watch, which counts its own work.

    `truth` has, where the workload knows it, the share of its CPU time in percent for each function, with its callees.
    """

    name: str
    unit: str
    what: str
    start: Callable[[], AbstractContextManager[Running]]
    truth: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool found, as far as it tells; `shares` is the CPU time by function, with its callees, in percent.

    `whole_percent` is of the samples that have user frames: those that reach where a thread or process begins.
    `lock_paths` are the functions that ask for contended locks, that with the longest waits first.
    """

    samples: int | None = None
    lost: int | None = None
    whole_percent: float | None = None
    shares: Mapping[str, float] = field(default_factory=dict[str, float])
    lock_paths: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """Something that watches a process until SIGINT, then writes what it found.

    `command` gives the command line for a PID and a folder for its files. `to_picture` gives the commands that make the
    picture out of them, one after the other, empty where the tool has drawn it (or has none to draw: `has_picture`).
    `answer` reads what was found; it is not timed.
    """

    name: str
    package: str
    command: Callable[[int, Path], Sequence[str]]
    answer: Callable[[Path], Answer]
    to_picture: Callable[[Path], Sequence[Sequence[str]]] = lambda _: ()
    has_picture: bool = True


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tool used, with all that it started. Times in seconds, memory and bytes in MB (10^6 bytes).

    `first_sample_s` runs from the command to its first perf event or probe that counts; `to_picture_s` from SIGINT to
    the picture (or to the tool's end where it has none).
    """

    cpu_recording_s: float
    cpu_total_s: float
    peak_recording_mb: float
    peak_total_mb: float
    written_mb: float
    first_sample_s: float
    to_picture_s: float


@dataclass(frozen=True, slots=True)
class Round:
    """A tool on a workload, once: work per second just before, while it watched, and just after."""

    workload: str
    tool: str
    number: int
    rate_before: float
    rate_during: float
    rate_after: float
    usage: Usage | None
    answer: Answer

    @property
    def loss_percent(self) -> float:
        """How much less work was done than just before and after; the machine may change its pace."""
        return 100 * (1 - 2 * self.rate_during / (self.rate_before + self.rate_after))
