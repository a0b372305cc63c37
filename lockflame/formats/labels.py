"""Labels of other tools: left out where nothing shows them, kept and numbered where profiles are merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lockflame.pprof_labels import LABELS_MOST
from lockflame.profile import Profile, Thread

TOO_MANY_LABELS = f"have lost their labels: of all different sets together, {LABELS_MOST:,} labels are kept."
"""What is said of so many samples."""


def without_labels(profile: Profile) -> Profile:
    """The profile with its threads alone, each once. Samples stay apart."""
    if not any(thread.labels for thread in profile.threads):
        return profile
    bare = [replace(thread, labels=()) for thread in profile.threads]
    place_of = {thread: index for index, thread in enumerate(dict.fromkeys(bare))}
    places = np.array([place_of[thread] for thread in bare], np.int32)
    samples = replace(profile.samples, thread=places[profile.samples.thread])
    return replace(profile, threads=tuple(place_of), samples=samples)


class ThreadNumbers:
    """Distinct threads, numbered in the order in which they first came.

    Once their labels are more than `LABELS_MOST`, new ones go without.
    """

    def __init__(self) -> None:
        self.number: dict[Thread, int] = {}
        self._labels = 0

    def add(self, threads: Sequence[Thread]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The numbers of these, and whether each has lost its labels."""
        numbers: list[int] = []
        is_cut: list[bool] = []
        for thread in threads:
            kept = self._kept(thread)
            numbers.append(self.number.setdefault(kept, len(self.number)))
            is_cut.append(kept is not thread)
        return np.array(numbers, np.int64), np.array(is_cut, np.bool_)

    def _kept(self, thread: Thread) -> Thread:
        if not thread.labels or thread in self.number:
            return thread
        if self._labels + len(thread.labels) > LABELS_MOST:
            return replace(thread, labels=())
        self._labels += len(thread.labels)
        return thread
