"""What a picture says of lock contention: how much there is, and the paths that lead to the worst of it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flame.locks.attribution import Attribution, Verdict, attribute
from flame.locks.interval import effective_samples, wilson
from flame.locks.rules import LockRules
from flame.locks.sites import NEGLIGIBLE_SHARE, LockPath, worst_paths
from lockflame.profile import CPU, SAMPLES, Profile, SampleType

_PATHS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Contention:
    """Time in contended locks. `share` is that of the profile's CPU time, 0 to 1.

    `paths` are the worst, worst first, and `reach` is half of the 95 % interval of each one's share; both are empty
    where contention isn't worth speaking of.
    """

    attribution: Attribution
    share: float
    paths: tuple[LockPath, ...]
    reach: tuple[float, ...]

    @property
    def is_notable(self) -> bool:
        """Whether there is enough of it to be shown."""
        return self.share >= NEGLIGIBLE_SHARE

    def weights(self, profile: Profile, sample_type: SampleType) -> NDArray[np.int64]:
        """The contended weight of each stack, int64[stacks] in the type's unit; all 0 where it isn't notable."""
        if not self.is_notable:
            return np.zeros(len(profile.stacks), np.int64)
        return self.attribution.weights(profile, sample_type, Verdict.CONTENDED)


@functools.lru_cache(1)  # a picture and a summary say the same
def find_contention(profile: Profile, rules: LockRules) -> Contention | None:
    """The contention in a profile of CPU time; None for other profiles and for empty ones."""
    whole = profile.total(CPU)
    if whole <= 0:
        return None
    attribution = attribute(profile, rules)
    share = int(attribution.weights(profile, CPU, Verdict.CONTENDED).sum()) / whole
    paths = worst_paths(profile, attribution, _PATHS) if share >= NEGLIGIBLE_SHARE else []
    independent = _independent_samples(profile)
    ends = [wilson(min(path.share, 1.0), independent) for path in paths]
    return Contention(attribution, share, tuple(paths), tuple((high - low) / 2 for low, high in ends))


def _independent_samples(profile: Profile) -> float:
    values = profile.samples.values
    weights = values[:, profile.sample_types.index(CPU)]
    has_counts = SAMPLES in profile.sample_types
    counts = values[:, profile.sample_types.index(SAMPLES)] if has_counts else np.ones_like(weights)
    return effective_samples(weights, counts)
