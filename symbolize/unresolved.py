"""What couldn't be named, and what would name it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from symbolize.code_map import Image
from symbolize.image_names import NO_SYMBOL, NO_SYMBOL_BUT_START
from symbolize.kernel import KERNEL
from symbolize.naming import Name

WORTH_A_NOTE = 0.05
"""The share of all samples from which on a note says what would name their leaves."""


@dataclass(frozen=True, slots=True)
class UnresolvedLeaves:
    """How many samples' leaf frames have no name, by (path of the binary, reason)."""

    samples: int
    counts: Counter[tuple[str, str]]

    @property
    def total(self) -> int:
        """All of them."""
        return self.counts.total()

    def notes(self) -> Iterator[str]:
        """Sentences on where most of them are."""
        for (path, reason), count in self.counts.most_common(3):
            if count >= WORTH_A_NOTE * self.samples:
                yield f"{count:,} of {self.samples:,} samples end in {path} without a name: {reason}.{_advice(reason)}"


def _advice(reason: str) -> str:
    if reason in (NO_SYMBOL, NO_SYMBOL_BUT_START):
        return " A package with its debug symbols (-dbg or -dbgsym) would name them."
    return ""


def count_unresolved(
    offsets: NDArray[np.int64], frames: NDArray[np.int64], names: list[Name], images: list[Image]
) -> UnresolvedLeaves:
    """Counts the leaves of all stacks (flat `frames`, indices of `names`) that have no name."""
    leaves = offsets[:-1][np.diff(offsets) > 0]
    samples_of_name = np.bincount(frames[leaves], minlength=len(names)).tolist()
    counts: Counter[tuple[str, str]] = Counter()
    for name, samples in zip(names, samples_of_name, strict=True):
        if name.reason and samples:
            path = name.module or images[name.image].binary.path or "memory that no file backs"
            counts["the kernel" if path == KERNEL else path, name.reason] += samples
    return UnresolvedLeaves(len(offsets) - 1, counts)
