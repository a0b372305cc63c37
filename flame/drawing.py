"""The frames of a picture as SVG elements, drawn by flameprof."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from flame.captions import measure_name
from flame.furniture import WIDTH
from flame.names import short_name
from flame.palette import CONTENDED, PALETTES, ROOT_PALETTE, Rgb, contended_levels, palettes_of
from flame.text import amount, escape, showable
from flame.tooltips import tooltips, weight_texts
from flame.views import Merged
from lockflame.profile import Profile

ROW_HEIGHT = 17
MIN_ROW_HEIGHT = 8
FRAMES_HEIGHT = 1700
_LABEL_CHARACTERS = 3
# Fractions of a pixel that a float holds exactly: coordinates then print short.
_SUBPIXELS = 16
# What each frame would say anew, and the style sheet says once.
_REPEATED = (' rx="2" ry="2" ', ' alignment-baseline="central"', ' fill="rgb(0,0,0)"')


class _Block(TypedDict):
    """A frame as flameprof draws it: `x` and `w` in pixels, `color` an index of the palettes."""

    level: int
    x: float
    w: float
    name: str
    full_name: str
    hash_name: str
    color: int


class _Flameprof(Protocol):
    def render_svg_section(
        self,
        blocks: Sequence[_Block],
        maxw: float,
        colors: Sequence[Sequence[str]],
        *,
        h: int,
        fsize: float,
        width: float,
        top: int,
        invert: bool,
    ) -> tuple[list[str], int]: ...

    def name_hash(self, name: str) -> float: ...


def flameprof() -> _Flameprof:
    """flameprof, imported late and without what it would bring along.

    That is pytest, to be a plugin of (0.2 s); for a function of three lines, all that it takes to fetch documents from
    the net (25 ms); and what its own command needs.
    """
    stand_ins = {name: ModuleType(name) for name in ("argparse", "pstats", "xml.sax.saxutils")}
    stand_ins["xml.sax.saxutils"].__dict__["escape"] = escape
    stand_ins["pytest"] = cast(ModuleType, None)  # "import pytest" then fails, as flameprof expects it may
    hidden = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(hidden)
    try:
        return cast(_Flameprof, importlib.import_module("flameprof"))
    finally:
        for name in hidden:
            del sys.modules[name]


def row_height(levels: int) -> int:
    """The usual height of a row, less for very deep stacks, but never too low to read with the browser's zoom."""
    return max(MIN_ROW_HEIGHT, min(ROW_HEIGHT, FRAMES_HEIGHT // levels))


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """How the frames of a picture look, and what they say of their weight; one entry for each in its layout.

    `colours` int64[frames] indexes `palettes`. `edges` int64[frames] is how strong the edge of contended frames is, 0
    to 5. `labels` are for labels to begin with; `measured` are for tooltips. `whole` is the root's label.
    """

    palettes: Sequence[Sequence[Rgb]]
    colours: NDArray[np.int64]
    edges: NDArray[np.int64]
    labels: Sequence[str]
    measured: Sequence[str]
    whole: str


def plain_look(merged: Merged) -> Look:
    """Colours by kind, and the shades of contended frames."""
    tree, node = merged.tree, merged.layout.node
    contended = merged.contended[node]
    levels = contended_levels(contended, tree.total_weight[node])
    return Look(
        palettes=[*(palette.shades for palette in PALETTES), *((shade,) for shade in CONTENDED)],
        colours=np.where(levels > 0, len(PALETTES) + levels - 1, palettes_in(merged)),
        edges=levels,
        labels=[""] * len(node),
        measured=weight_texts(tree, node, contended),
        whole=f"{amount(tree.total, tree.sample_type.unit)} {measure_name(tree.sample_type)}",
    )


def draw_frames(
    profile: Profile,
    merged: Merged,
    look: Look,
    top: int,
    *,
    full_names: bool,
    notes: Mapping[str, str] | None = None,
) -> tuple[list[str], int]:
    """The frames as SVG elements, and their lower edge in pixels. A tree from the leaf hangs from the top.

    `notes` are what tooltips of marker frames say besides, by name.
    """
    height = row_height(merged.layout.levels)
    font_size = height * 2 / 3
    elements, bottom = flameprof().render_svg_section(
        _blocks(profile, merged, look, font_size, full_names, notes or {}),
        1,
        [[str(shade) for shade in shades] for shades in look.palettes],
        h=height,
        fsize=round(font_size, 1),
        width=1,
        top=top,
        invert=merged.is_inverted,
    )
    marks: list[str] = [
        " inlined" * inlined + f" contended c{level}" * (level > 0)
        for inlined, level in zip(is_inlined(merged).tolist(), look.edges.tolist(), strict=True)
    ]
    return [_compact(element, mark) for element, mark in zip(elements, marks, strict=True)], bottom


def is_inlined(merged: Merged) -> NDArray[np.bool_]:
    """Which of the picture's frames are of inlined functions: bool[frames]."""
    inlined = np.append(merged.tree.frames.inlined, False)  # for the root, whose frame is -1
    return inlined[merged.tree.frame[merged.layout.node]]


def palettes_in(merged: Merged) -> NDArray[np.uint8]:
    """The palette of each of the picture's frames, by its index in `PALETTES`: uint8[frames]."""
    table = merged.tree.frames
    palettes = np.append(palettes_of(table.names, table.kinds), np.uint8(ROOT_PALETTE))  # for the root, frame -1
    return palettes[merged.tree.frame[merged.layout.node]]


def _blocks(
    profile: Profile,
    merged: Merged,
    look: Look,
    font_size: float,
    full_names: bool,
    notes: Mapping[str, str],
) -> list[_Block]:
    layout = merged.layout
    names = merged.tree.frames.names
    frames: list[int] = merged.tree.frame[layout.node].tolist()
    shown = {frame: showable(names[frame]) if frame >= 0 else "all" for frame in set(frames)}
    least = _LABEL_CHARACTERS * font_size * 0.6 + font_size / 2
    most = round(WIDTH / (font_size * 0.5))
    left = np.round(layout.x * _SUBPIXELS) / _SUBPIXELS
    right = np.round((layout.x + layout.width) * _SUBPIXELS) / _SUBPIXELS
    levels: list[int] = layout.level.tolist()
    lefts: list[float] = left.tolist()
    widths: list[float] = (right - left).tolist()
    colours: list[int] = look.colours.tolist()
    wide = {frame for frame, width in zip(frames, widths, strict=True) if width >= least}
    # What a box cuts off at the widest needs no bytes here: the tooltip has the whole name.
    labels = {
        frame: (shown[frame] if full_names or frame < 0 else showable(short_name(names[frame])))[:most]
        for frame in wide
    }
    texts = tooltips(profile, merged.tree, layout.node, look.measured, notes)
    blocks: list[_Block] = []
    for frame, level, x, width, colour, label, text in zip(
        frames, levels, lefts, widths, colours, look.labels, texts, strict=True
    ):
        block = _Block(
            level=level,
            x=x,
            w=width,
            name=label + labels[frame] if width >= least else "",
            full_name=text,
            hash_name=shown[frame],  # of the whole name: functions that are shown alike have colours of their own
            color=colour,
        )
        blocks.append(block)
    if blocks:
        blocks[0]["name"] = f"all: {look.whole}"
    return blocks


def _compact(element: str, marks: str) -> str:
    """The element without what the style sheet says, white space between tags, and an empty label; marked.

    The names in it are escaped: only tags hold `<` and `>`, and only tags have attributes.
    """
    tags = element.replace(">\n    <", "><").replace(">\n</g>", "></g>")
    head, rect, rest = tags.rpartition("<rect ")
    for repeated in _REPEATED:
        rest = rest.replace(repeated, "", 1)
    tags = head + rect + rest
    if marks:
        tags = tags.replace('class="func_g"', f'class="func_g{marks}"', 1)
    label = tags.rfind("<text ")
    return tags[:label] + "</g></svg>" if tags.endswith("></text></g></svg>") else tags
