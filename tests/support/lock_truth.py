"""What the targets `lock_*` log of their own waits, cut to a recording's time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lockflame.profile import Lock, Profile, RecordingInfo
from tests.support.process import running
from tests.support.recording import Recorded, record

LOG = np.dtype(
    [("start", "<i8"), ("end", "<i8"), ("category", "<i4"), ("tid", "<i4"), ("what", "<i4"), ("lock", "<i4")]
)
WAIT, HOLD = 0, 1


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """A target's log: rows of `LOG`, and its last line as JSON."""

    log: NDArray[np.void]
    result: dict[str, Any]

    def within(self, start_ns: int, end_ns: int, what: int = WAIT) -> NDArray[np.void]:
        """The rows of that kind that fall into an interval of CLOCK_MONOTONIC, cut to it."""
        rows = self.log[(self.log["what"] == what) & (self.log["end"] > start_ns) & (self.log["start"] < end_ns)].copy()
        rows["start"] = np.maximum(rows["start"], start_ns)
        rows["end"] = np.minimum(rows["end"], end_ns)
        return rows

    def time_ns(self, rows: NDArray[np.void], *categories: str) -> int:
        """The time in these rows, of some categories or of all."""
        numbers = [self.result["categories"].index(name) for name in categories or self.result["categories"]]
        chosen = rows[np.isin(rows["category"], numbers)]
        return int((chosen["end"] - chosen["start"]).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """A recording of a target in the middle of its work, and what that says itself."""

    recorded: Recorded
    truth: Truth
    start_ns: int
    end_ns: int

    @property
    def profile(self) -> Profile:
        """The profile that was written."""
        return self.recorded.profile

    def waits(self) -> NDArray[np.void]:
        """The target's own waits within the recording."""
        return self.truth.within(self.start_ns, self.end_ns)

    def lock(self, name: str) -> Lock:
        """The one lock of that name."""
        (found,) = [lock for lock in self.profile.locks if lock.name.partition("+")[0] == name]
        return found


def watch(folder: Path, *command: object, seconds: float = 1.5, arguments: tuple[object, ...] = ()) -> Watched:
    """Runs a target that logs its waits, records it for a while with `--locks`, and has it end."""
    log = folder / "waits.log"
    with running([*map(str, command), "--log", log]) as target:
        output = folder / "waits.pb.gz"
        recorded = record(output, "-p", target.pid, "-d", seconds, "--locks", *arguments)
        result = target.stop()
    start_ns, end_ns = monotonic(recorded.profile.recording)
    return Watched(recorded, Truth(np.fromfile(log, dtype=LOG), result), start_ns, end_ns)


def monotonic(recording: RecordingInfo) -> tuple[int, int]:
    """Beginning and end of a recording of this machine by CLOCK_MONOTONIC."""
    start_ns = recording.started_unix_ns - (time.time_ns() - time.monotonic_ns())
    return start_ns, start_ns + recording.duration_ns
