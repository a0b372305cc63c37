"""What two recordings may differ by because the machine had not as much CPU time for both.

A thread that could run but gets no CPU waits for one; the kernel counts for how long (`run_delay_ns`). Of what a
program would have used, it got the share `cpu_time / (cpu_time + run_delay)`: its pace. A program that computes as fast
as it may has by so much less CPU time per second; one that does what it is asked for has as much as ever, only later.
Which of both it is isn't known. So a change per second is one of the program's only as far as it is beyond what the
paces explain: twice the pace explains any growth up to twice as much, and nothing that shrank. CPU time per unit of
work, or its share of the total, doesn't depend on the pace. Besides, whatever is compared, recordings differ by
`PACE_SPREAD` of what the slower one lacked.

Contention for locks answers to it far more: threads that don't run at the same time don't meet, and whether a share of
CPU time was given to one thread after the other or to several at once isn't known. A program of four threads that got a
quarter of what it could have used had 0.3 % of contention in one recording and 26 % in the next. So it is
`EXPOSED_SPREAD` there, and for all that is `exposed` to the machine: locks, and interrupts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lockflame.profile import Profile

PACE_SPREAD = 0.15
EXPOSED_SPREAD = 2.0
TELLING = 0.1
"""Where paces differ by more than this, the reader is told."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What comes of the pace. `share` is what this side got of the CPU time that it could have used, above 0 to 1,
    where values depend on that; else 1. The others are the spread of its values, relative to them: of all, and of what
    is exposed."""

    share: float
    spread: float
    exposed_spread: float


FREE = Pace(1.0, 0.0, 0.0)
"""There was CPU time for everybody."""


def paces_of(before: Sequence[Profile], after: Sequence[Profile], *, over_time: bool) -> tuple[Pace, Pace]:
    """What comes of the paces of both sides. `over_time` says that values are those of a time, not of work."""
    first, second = _share(before), _share(after)
    lacking = 1 - min(first, second)
    shares = (first, second) if over_time else (1.0, 1.0)
    spread, exposed_spread = PACE_SPREAD * lacking, EXPOSED_SPREAD * lacking
    return Pace(shares[0], spread, exposed_spread), Pace(shares[1], spread, exposed_spread)


def note_of_pace(before: Sequence[Profile], after: Sequence[Profile]) -> str | None:
    """What to say where the paces differ."""
    first, second = _share(before), _share(after)
    if abs(math.log(first / second)) < TELLING:
        return None
    return (
        f"the machine gave the program {first * 100:.0f} % of the CPU time that it could have used before, and "
        f"{second * 100:.0f} % after: what differs per second by no more than that may be the machine's doing"
    )


def _share(profiles: Sequence[Profile]) -> float:
    """The share that a side got of the CPU time which it could have used: above 0 to 1; 1 where it isn't known."""
    cpu_ns = sum(profile.recording.cpu_time_ns for profile in profiles)
    delay_ns = sum(profile.recording.run_delay_ns for profile in profiles)
    return cpu_ns / (cpu_ns + delay_ns) if cpu_ns > 0 and delay_ns >= 0 else 1.0
