"""The elements around the frames: title, warning, legend, footer. Texts become XML here, and only here."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from flame.captions import Fact
from flame.listing import Listing
from flame.palette import CONTENDED, Rgb, middle_shade
from flame.text import escape, isolated, shortened, showable

WIDTH = 1200
"""The picture's width in pixels of its own; a browser scales it to the window."""

MARGIN = 12
"""Left and right of everything, in pixels."""

HINT = "A frame is as wide as its share; callers are below what they call."
"""How to read a picture."""

LINE = 18
"""The height of a line of text in pixels."""

CHAIN_HINT = "Below a lock: who waited. Above it, upside down: who held it, with callers above what they call."
"""How to read one of chains, in which the holders stand upside down."""

_LINE_CHARACTERS = 170
_COMMAND_CHARACTERS = 155
_TITLE_CHARACTERS = 110
_NOTE_LINES = 6
_CHARACTER_WIDTH = 6.7
_SWATCH = 11
_PATH_WIDTH = 900


class Swatch(NamedTuple):
    """A colour of frames, and what it stands for; without a label the next one's stands for it too. `mark` is the class
    of a further mark that such frames have, or empty."""

    shade: Rgb
    label: str
    mark: str = ""


class Legend(NamedTuple):
    """What the legend explains, and how to read the picture."""

    swatches: Sequence[Swatch]
    hint: str


def plain_swatches(palettes: Sequence[tuple[int, str]], *, has_inlined: bool, has_contended: bool) -> list[Swatch]:
    """Those of palettes (indexes of `PALETTES`) with their names, of inlined frames, and of contended ones."""
    swatches = [Swatch(middle_shade(index), label) for index, label in palettes]
    if has_inlined:
        swatches.append(Swatch(middle_shade(palettes[0][0]), "inlined", "inlined"))
    if has_contended:
        swatches += [Swatch(shade, "", "contended") for shade in CONTENDED[:-1]]
        swatches.append(Swatch(CONTENDED[-1], "in contended locks: 5 % to all of the frame", "contended"))
    return swatches


def header(
    title: str,
    *,
    commands: Sequence[str],
    measured: Sequence[Sequence[Fact]],
    warnings: Sequence[Fact],
    listing: Listing | None,
    legend: Legend,
) -> tuple[list[str], int]:
    """The elements above the frames, and where the frames begin, in pixels from the top.

    Each command has a line, and may hold anything; the other texts are showable. Each sequence of facts in `measured`
    begins a line.
    """
    elements = [_text(shortened(title, _TITLE_CHARACTERS), 30, "heading")]
    y = 34
    for command in filter(None, commands):
        y += LINE
        shown = shortened(showable(command), _COMMAND_CHARACTERS)
        elements.append(_text(f"$ {isolated(shown)}", y, "command", tooltip=showable(command)))
    for line in _lines(measured):
        y += LINE
        elements.append(_text_of(line, y, "facts"))
    if warnings:
        box, y = _warning(warnings, y + 12)
        elements += box
    if listing is not None:
        y += LINE + 6
        elements += _listing(listing, y)
        y += LINE * len(listing.entries)
    if legend.swatches:
        drawn, y = draw_legend(legend, y + LINE + 4)
        elements.append(drawn)
    return elements, y + 12


def footer(facts: Sequence[Sequence[Fact]], notes: Sequence[str], top: int) -> tuple[list[str], int]:
    """The elements below the frames, and the height of the whole picture in pixels. `notes` may hold anything.

    Each sequence of `facts` begins a line.
    """
    elements: list[str] = []
    y = top + 6
    for line in _lines(facts):
        y += LINE
        elements.append(_text_of(line, y, "facts"))
    for note in notes:
        for text in _wrapped(showable(" ".join(f"Note: {note}".split()))):
            y += LINE
            elements.append(_text(isolated(text), y, "notes"))
    return elements, y + 14


def draw_legend(legend: Legend, y: int, *, is_hidden: bool = False) -> tuple[str, int]:
    """Swatches with their names from left to right, then how to read a width, on a line of its own if it doesn't fit.
    `y` is the first line's base line; the last one's comes back. A hidden one is
    there for a script to show."""
    parts = ['<g class="legend" display="none">' if is_hidden else '<g class="legend">']
    x = float(MARGIN)
    for swatch in legend.swatches:
        style = f"swatch {swatch.mark}".strip()
        place = f'x="{x:g}" y="{y - 10}" width="{_SWATCH}" height="{_SWATCH}" rx="2"'
        parts.append(f'<rect class="{style}" {place} fill="{_css(swatch.shade)}"/>')
        x += _SWATCH + 3
        if swatch.label:
            parts.append(f'<text x="{x + 2:g}" y="{y}">{escape(swatch.label)}</text>')
            x += _CHARACTER_WIDTH * len(swatch.label) + 18
    if x + _CHARACTER_WIDTH * len(legend.hint) > WIDTH:
        x, y = MARGIN, y + LINE
    parts.append(f'<text x="{x:g}" y="{y}">{escape(legend.hint)}</text></g>')
    return "".join(parts), y


def _warning(facts: Sequence[Fact], top: int) -> tuple[list[str], int]:
    """The box that says that the picture stands on a part of the data, and its lower edge."""
    lines = _wrapped("Read with care: " + "; ".join(fact.text for fact in facts))
    bottom = top + LINE * len(lines) + 8
    frame = f'x="{MARGIN}" y="{top}" width="{WIDTH - 2 * MARGIN}" height="{bottom - top}" rx="3"'
    texts = [
        f'<text x="{MARGIN + 8}" y="{top + LINE * (index + 1)}">{escape(line)}</text>'
        for index, line in enumerate(lines)
    ]
    return ['<g class="warning">', f"<rect {frame}/>", *texts, "</g>"], bottom


def _listing(listing: Listing, y: int) -> list[str]:
    """The headline, and a line for each entry. `y` is the first line's base line."""
    elements = [_text(listing.headline, y, listing.style)]
    mark = f"swatch {listing.mark}".strip()
    for entry in listing.entries:
        y += LINE
        swatch = f'x="{MARGIN}" y="{y - 10}" width="{_SWATCH}" height="{_SWATCH}" rx="2"'
        elements.append(
            f'<g class="path"><title>{escape(entry.tooltip)}</title>'
            f'<rect class="hit" x="{MARGIN}" y="{y - 13}" width="{_PATH_WIDTH}" height="{LINE}"/>'
            f'<rect class="{mark}" {swatch} fill="{_css(entry.shade or listing.shade)}"/>'
            f'<text x="{MARGIN + _SWATCH + 6}" y="{y}">{escape(entry.text)}'
            f'<tspan class="share" dx="14">{escape(entry.measure)}</tspan></text></g>'
        )
    return elements


def _css(shade: Rgb) -> str:
    return "rgb({}, {}, {})".format(*shade)


def _text(text: str, y: int, style: str, *, tooltip: str = "") -> str:
    title = f"<title>{escape(tooltip)}</title>" if tooltip else ""
    return f'<text class="{style}" x="{MARGIN}" y="{y}">{title}{escape(text)}</text>'


def _text_of(facts: Iterable[Fact], y: int, style: str) -> str:
    """A line of facts with dots between; those that warn stand out."""
    spans = (
        f'<tspan class="strong">{escape(fact.text)}</tspan>' if fact.warns else escape(fact.text) for fact in facts
    )
    return f'<text class="{style}" x="{MARGIN}" y="{y}">{" · ".join(spans)}</text>'


def _lines(groups: Iterable[Sequence[Fact]]) -> Iterator[list[Fact]]:
    """As many facts of a group in a line as fit."""
    for facts in groups:
        line: list[Fact] = []
        length = 0
        for fact in facts:
            if line and length + len(fact.text) > _LINE_CHARACTERS:
                yield line
                line, length = [], 0
            line.append(fact)
            length += len(fact.text) + 3
        if line:
            yield line


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _LINE_CHARACTERS - 10, max_lines=_NOTE_LINES, placeholder=" …")
