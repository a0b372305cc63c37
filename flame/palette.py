"""The colours of frames. They tell kinds apart by hue and by lightness, for the colour-blind and in print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flame.lock_marks import is_lock_mark
from lockflame.profile import FrameKind

Rgb = tuple[int, int, int]

_SHADES = 7


class Palette(NamedTuple):
    """The shades of one sort of frame, and what the legend calls it. Black text is readable on each shade."""

    label: str
    shades: tuple[Rgb, ...]


def _between(light: Rgb, dark: Rgb) -> tuple[Rgb, ...]:
    """Shades from light to dark, as sRGB bytes."""

    def channel(index: int, step: int) -> int:
        return light[index] + (dark[index] - light[index]) * step // (_SHADES - 1)

    return tuple((channel(0, step), channel(1, step), channel(2, step)) for step in range(_SHADES))


ROOT_PALETTE = len(FrameKind)
"""The index in `PALETTES` of the root's palette; the others are at the value of their `FrameKind`."""

LOCK_PALETTE = ROOT_PALETTE + 1
"""The index of the palette of frames that stand for locks."""

# Vermilion is for what the reader has to look at first: frames that time in contended locks goes through.
# It keeps apart from the others, and its shades from each other, for all the common kinds of colour blindness.
CONTENDED: tuple[Rgb, ...] = ((255, 205, 186), (252, 176, 146), (247, 145, 106), (238, 112, 68), (224, 80, 34))
"""The shades of `contended_levels` 1 to 5. Black text is readable on each."""

CONTENDED_LEAST = 0.05
"""A frame with a smaller part of its weight in contended locks isn't marked."""


def contended_levels(contended: NDArray[np.int64], total: NDArray[np.int64]) -> NDArray[np.int64]:
    """How strong frames stand out by the contended part of their weight: 0 not at all, 5 from four fifths on."""
    share = contended / np.maximum(total, 1)
    return np.where(
        share < CONTENDED_LEAST, 0, np.minimum(len(CONTENDED), (share * len(CONTENDED)).astype(np.int64) + 1)
    )


PALETTES: tuple[Palette, ...] = (
    Palette("user", _between((255, 236, 184), (240, 196, 108))),
    Palette("kernel", _between((190, 218, 246), (126, 176, 226))),
    Palette("JIT or interpreted", _between((170, 224, 204), (98, 186, 158))),
    Palette("stack cut short", _between((214, 214, 218), (190, 190, 196))),
    Palette("all", ((226, 226, 230),)),
    # Reddish purple, darker than its neighbours: the frames that a picture of waits is about.
    Palette("lock", _between((212, 126, 184), (190, 98, 158))),
)


def palettes_of(names: Sequence[str], kinds: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """For each frame (its name and `FrameKind`) the index of its palette in `PALETTES`: uint8[names]."""
    palettes = kinds.copy()
    for frame in np.flatnonzero(kinds == FrameKind.MARKER).tolist():
        if is_lock_mark(names[frame]):
            palettes[frame] = LOCK_PALETTE
    return palettes


def middle_shade(palette: int) -> Rgb:
    """The shade that stands for a palette, given its index in `PALETTES`."""
    shades = PALETTES[palette].shades
    return shades[len(shades) // 2]
