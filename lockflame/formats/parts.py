"""What a file for another tool is made of: pictures of a profile, each with one kind of weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lockflame.profile import Profile, SampleType

NO_STACK = "[no stack]"
"""The one frame of samples that have none, so that totals are the profile's."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A profile by one of its sample types. `title` tells parts apart: `CPU time`, `lock waits`."""

    title: str
    profile: Profile
    sample_type: SampleType

    @property
    def weights(self) -> NDArray[np.int64]:
        """That of each sample, int64[len(profile.samples)], in the unit of `sample_type`."""
        return self.profile.samples.values[:, self.profile.sample_types.index(self.sample_type)]


def valid(text: str) -> str:
    """The text as other tools may get it: names come from outside.

    What isn't Unicode is escaped. What can't be printed is replaced, as in pictures: viewers in the terminal would
    hand it on.
    """
    known = text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
    return (
        known if known.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in known)
    )
