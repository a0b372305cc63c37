"""The flame graph as one SVG file that needs nothing beside it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib import resources
from string import Template
from types import ModuleType
from typing import Protocol, TypedDict, cast
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from flame.captions import completeness, heading, measured
from flame.furniture import MARGIN, WIDTH, footer, header
from flame.layout import MIN_WIDTH, Layout, lay_out
from flame.names import short_name
from flame.palette import PALETTES, ROOT_PALETTE, Rgb
from flame.places import places_of
from flame.text import amount, isolated, showable
from flame.tooltips import tooltip
from flame.tree import ROOT, Tree, build_tree
from lockflame.profile import Profile, SampleType

_ROW_HEIGHT = 17
_MIN_ROW_HEIGHT = 8
_FRAMES_HEIGHT = 1700
_EMPTY_HEIGHT = 120
_LABEL_CHARACTERS = 3
# Fractions of a pixel that a float holds exactly: coordinates then print short.
_SUBPIXELS = 16


class _Block(TypedDict):
    """A frame as flameprof draws it: `x` and `w` in pixels, `color` an index of the palettes."""

    level: int
    x: float
    w: float
    name: str
    full_name: str
    hash_name: str
    color: int


class _RenderSection(Protocol):
    def __call__(
        self,
        blocks: Sequence[_Block],
        maxw: float,
        colors: Sequence[Sequence[Rgb]],
        *,
        h: int,
        fsize: float,
        width: float,
        top: int,
    ) -> tuple[list[str], int]: ...


def render_svg(
    profile: Profile,
    *,
    title: str | None = None,
    sample_type: SampleType | None = None,
    min_width: float = MIN_WIDTH,
    full_names: bool = False,
) -> str:
    """A whole SVG document, to be written as UTF-8; the same profile gives the same text.

    `sample_type` is chosen as `choose_sample_type` does. Frames narrower than `min_width` pixels (of 1,200) are
    left out and counted. The names in the frames are those of `short_name` unless `full_names`; tooltips have them
    whole. A profile without samples gives a picture that says so.
    """
    tree = build_tree(profile, sample_type)
    layout = lay_out(tree, picture_width=WIDTH - 2 * MARGIN, min_width=min_width)
    shown_title = isolated(title) if title else heading(profile, tree)
    complete = completeness(profile, layout)
    head, top = header(
        shown_title,
        command=profile.recording.command,
        measured=measured(profile.recording),
        warnings=[fact for fact in complete if fact.warns],
        palettes=_palettes_in(tree, layout),
        has_inlined=bool(_is_inlined(tree, layout).any()),
    )
    frames, bottom = _frames(profile, tree, layout, top, full_names) if len(layout) else _nothing(top)
    foot, height = footer(complete, profile.recording.notes, bottom)
    return Template(_resource("document.svg")).substitute(
        width=WIDTH,
        height=height,
        margin=MARGIN,
        title=escape(shown_title),
        style=escape(_resource("style.css").strip()),
        header="\n".join(head),
        frames="\n".join(frames),
        footer="\n".join(foot),
    )


def _resource(name: str) -> str:
    return resources.files("flame").joinpath(name).read_text(encoding="utf-8")


def _palettes_in(tree: Tree, layout: Layout) -> list[int]:
    """The palettes that the legend explains: the kinds of the frames in the picture, without the root's."""
    return sorted(set(tree.kind[layout.node[layout.node != ROOT]].tolist()))


def _nothing(top: int) -> tuple[list[str], int]:
    """What stands in place of the frames of an empty profile, and its lower edge."""
    middle = f'x="{(WIDTH - 2 * MARGIN) / 2:g}" y="{top + _EMPTY_HEIGHT // 2}"'
    return [f'<text class="empty" {middle}>No samples: there is nothing to show.</text>'], top + _EMPTY_HEIGHT


def _is_inlined(tree: Tree, layout: Layout) -> NDArray[np.bool_]:
    """Which of the picture's frames are of inlined functions: bool[len(layout)]."""
    inlined = np.append(tree.frames.inlined, False)  # for the root, whose frame is -1
    return inlined[tree.frame[layout.node]]


def _frames(profile: Profile, tree: Tree, layout: Layout, top: int, full_names: bool) -> tuple[list[str], int]:
    """The frames as SVG elements, and their lower edge in pixels."""
    row_height = _row_height(layout.levels)
    font_size = row_height * 2 / 3
    elements, bottom = _render_section()(
        _blocks(profile, tree, layout, font_size, full_names),
        1,
        [palette.shades for palette in PALETTES],
        h=row_height,
        fsize=round(font_size, 1),
        width=1,
        top=top,
    )
    inlined: list[bool] = _is_inlined(tree, layout).tolist()
    return [_compact(element, is_inlined) for element, is_inlined in zip(elements, inlined, strict=True)], bottom


def _render_section() -> _RenderSection:
    """flameprof's drawing, imported late and without pytest, which it would import to be a plugin of (0.2 s)."""
    hides_pytest = "pytest" not in sys.modules
    if hides_pytest:
        sys.modules["pytest"] = cast(ModuleType, None)  # "import pytest" then fails, as flameprof expects it may
    try:
        return cast(_RenderSection, importlib.import_module("flameprof").render_svg_section)
    finally:
        if hides_pytest:
            del sys.modules["pytest"]


def _row_height(levels: int) -> int:
    """The usual height of a row, less for very deep stacks, but never too low to read with the browser's zoom."""
    return max(_MIN_ROW_HEIGHT, min(_ROW_HEIGHT, _FRAMES_HEIGHT // levels))


def _blocks(profile: Profile, tree: Tree, layout: Layout, font_size: float, full_names: bool) -> list[_Block]:
    places = places_of(profile, tree, layout.node)
    labels: dict[str, str] = {}
    least = _LABEL_CHARACTERS * font_size * 0.6 + font_size / 2
    most = round(WIDTH / (font_size * 0.5))
    left = np.round(layout.x * _SUBPIXELS) / _SUBPIXELS
    right = np.round((layout.x + layout.width) * _SUBPIXELS) / _SUBPIXELS
    columns = (layout.node.tolist(), layout.level.tolist(), left.tolist(), (right - left).tolist())
    blocks: list[_Block] = []
    for index, (node, level, x, width) in enumerate(zip(*columns, strict=True)):
        name = tree.frames.names[tree.frame[node]] if node != ROOT else "all"
        if width >= least and name not in labels:
            # What a box cuts off at the widest needs no bytes here: the tooltip has the whole name.
            labels[name] = showable(name if full_names else short_name(name))[:most]
        block = _Block(
            level=level,
            x=x,
            w=width,
            name=labels[name] if width >= least else "",
            full_name=tooltip(profile, tree, places, index, node),
            hash_name=showable(name),  # of the whole name: functions that are shown alike have colours of their own
            color=int(tree.kind[node]) if node != ROOT else ROOT_PALETTE,
        )
        blocks.append(block)
    if blocks:
        blocks[0]["name"] = f"all: {amount(tree.total, tree.sample_type.unit)} {_measure(tree.sample_type)}"
    return blocks


def _measure(sample_type: SampleType) -> str:
    return "CPU time" if sample_type.name == "cpu" else showable(sample_type.name)


def _compact(element: str, is_inlined: bool) -> str:
    """The element without the white space between tags and without an empty label; marked if inlined.

    The names in it are escaped: only tags hold `<` and `>`.
    """
    tags = element.replace(">\n    <", "><").replace(">\n</g>", "></g>")
    if is_inlined:
        tags = tags.replace('class="func_g"', 'class="func_g inlined"', 1)
    label = tags.find("<text ")
    return tags[:label] + "</g></svg>" if tags.endswith("></text></g></svg>") else tags
