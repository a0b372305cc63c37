"""The lines of a profile's locations as columns, which all that merges its stacks goes by."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from lockflame.profile import Profile


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """The lines of all locations in a row: `count` int64[locations] says how many of them each location has.

    All others are int64, one entry for each line: `function` and `mapping` (-1 for none) index the profile's, `line` is
    that of the source, 0 where it isn't known, and `kind` the `FrameKind` of its location.
    """

    count: NDArray[np.int64]
    function: NDArray[np.int64]
    mapping: NDArray[np.int64]
    line: NDArray[np.int64]
    kind: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.function)


@functools.lru_cache(1)  # a picture asks for them again and again
def lines_of(profile: Profile) -> Lines:
    """The lines of all locations of a profile."""
    locations = profile.locations
    lines = list(chain.from_iterable(location.lines for location in locations))
    count = np.array([len(location.lines) for location in locations], np.int64)
    return Lines(
        count=count,
        function=np.array([line.function for line in lines], np.int64),
        mapping=np.repeat(np.array([location.mapping for location in locations], np.int64), count),
        line=np.array([line.line for line in lines], np.int64),
        kind=np.repeat(np.array([location.kind for location in locations], np.int64), count),
    )
