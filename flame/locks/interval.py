"""How sure a share of samples is."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959963984540054
"""The normal distribution has 95 % of its weight within so many standard deviations."""


def wilson(share: float, samples: float, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a share (0 to 1) that was seen in so many samples; (0, 1) without any.

    It takes samples as independent of each other. Wilson, J. Am. Stat. Assoc. 22 (1927).
    """
    if samples <= 0:
        return 0.0, 1.0
    spread = z * z / samples
    centre = (share + spread / 2) / (1 + spread)
    reach = z * math.sqrt(max(share * (1 - share), 0.0) / samples + spread / (4 * samples)) / (1 + spread)
    return max(0.0, min(share, centre - reach)), min(1.0, max(share, centre + reach))


def effective_samples(weights: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """As many samples of one weight tell as much as these: (sum of weights)² / sum of squared weights (Kish).

    Row by row, `counts[i]` samples have the weight `weights[i]` together, and are taken to have equal parts of it.
    """
    used = (weights > 0) & (counts > 0)
    weight = weights[used].astype(np.float64)
    squares = float((weight * weight / counts[used]).sum())
    return float(weight.sum()) ** 2 / squares if squares else 0.0
