"""How long `perf script`, folding and drawing take, with and without the names of inlined functions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.side_by_side.files import PICTURE
from benchmarks.side_by_side.peers import perf_picture_command
from benchmarks.side_by_side.runs import TookTooLong, started

LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class PictureTimes:
    """Seconds from a perf.data to its picture; None where that took longer than `LIMIT_S`."""

    plain_s: float | None
    inlined_s: float | None


def picture_times(data: Path, folder: Path) -> PictureTimes:
    """Draws the same recording twice; the picture stays in `folder`. Raises `ToolFailed`."""
    plain_s, inlined_s = (
        _seconds(perf_picture_command(data, folder / PICTURE, inlined=inlined), folder) for inlined in (False, True)
    )
    return PictureTimes(plain_s, inlined_s)


def _seconds(command: list[str], folder: Path) -> float | None:
    try:
        with started(command[0], command, folder) as run:
            run.finish(limit_s=LIMIT_S)
            return run.ended - run.started
    except TookTooLong:
        return None
