"""The elements around the frames: title, warning, legend, footer. Texts become XML here, and only here."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from flame.captions import Fact
from flame.listing import Listing
from flame.palette import CONTENDED, Rgb, middle_shade
from flame.text import isolated, shortened, showable

WIDTH = 1200
"""The picture's width in pixels of its own; a browser scales it to the window."""

MARGIN = 12
"""Left and right of everything, in pixels."""

HINT = "A frame is as wide as its share; callers are below what they call."
"""How to read a picture."""

CHAIN_HINT = "Below a lock: who waited. Above it, upside down: who held it, with callers above what they call."
"""How to read one of chains, in which the holders stand upside down."""

_LINE = 18
_LINE_CHARACTERS = 170
_COMMAND_CHARACTERS = 155
_TITLE_CHARACTERS = 110
_NOTE_LINES = 6
_CHARACTER_WIDTH = 6.7
_SWATCH = 11
_PATH_WIDTH = 900


@dataclass(frozen=True, slots=True)
class Legend:
    """What the legend explains: palettes (indexes of `PALETTES`) with their names, the mark of inlined frames, the
    shades of contended ones; and how to read the picture."""

    palettes: Sequence[tuple[int, str]]
    has_inlined: bool
    has_contended: bool
    hint: str


def header(
    title: str,
    *,
    command: str,
    measured: Sequence[Fact],
    warnings: Sequence[Fact],
    listing: Listing | None,
    legend: Legend,
) -> tuple[list[str], int]:
    """The elements above the frames, and where the frames begin, in pixels from the top.

    `command` may hold anything; the other texts are showable.
    """
    elements = [_text(shortened(title, _TITLE_CHARACTERS), 30, "heading")]
    y = 34
    if command:
        y += _LINE
        shown = shortened(showable(command), _COMMAND_CHARACTERS)
        elements.append(_text(f"$ {isolated(shown)}", y, "command", tooltip=showable(command)))
    for line in _lines(measured):
        y += _LINE
        elements.append(_text_of(line, y, "facts"))
    if warnings:
        box, y = _warning(warnings, y + 12)
        elements += box
    if listing is not None:
        y += _LINE + 6
        elements += _listing(listing, y)
        y += _LINE * len(listing.entries)
    if legend.palettes:
        y += _LINE + 4
        elements.append(_legend(legend, y))
    return elements, y + 12


def footer(facts: Sequence[Fact], notes: Sequence[str], top: int) -> tuple[list[str], int]:
    """The elements below the frames, and the height of the whole picture in pixels. `notes` may hold anything."""
    elements: list[str] = []
    y = top + 6
    for line in _lines(facts):
        y += _LINE
        elements.append(_text_of(line, y, "facts"))
    for note in notes:
        for text in _wrapped(showable(" ".join(f"Note: {note}".split()))):
            y += _LINE
            elements.append(_text(isolated(text), y, "notes"))
    return elements, y + 14


def _warning(facts: Sequence[Fact], top: int) -> tuple[list[str], int]:
    """The box that says that the picture stands on a part of the data, and its lower edge."""
    lines = _wrapped("Read with care: " + "; ".join(fact.text for fact in facts))
    bottom = top + _LINE * len(lines) + 8
    frame = f'x="{MARGIN}" y="{top}" width="{WIDTH - 2 * MARGIN}" height="{bottom - top}" rx="3"'
    texts = [
        f'<text x="{MARGIN + 8}" y="{top + _LINE * (index + 1)}">{escape(line)}</text>'
        for index, line in enumerate(lines)
    ]
    return ['<g class="warning">', f"<rect {frame}/>", *texts, "</g>"], bottom


def _listing(listing: Listing, y: int) -> list[str]:
    """The headline, and a line for each entry. `y` is the first line's base line."""
    elements = [_text(listing.headline, y, listing.style)]
    mark = f"swatch {listing.mark}".strip()
    for entry in listing.entries:
        y += _LINE
        swatch = f'x="{MARGIN}" y="{y - 10}" width="{_SWATCH}" height="{_SWATCH}" rx="2"'
        elements.append(
            f'<g class="path"><title>{escape(entry.tooltip)}</title>'
            f'<rect class="hit" x="{MARGIN}" y="{y - 13}" width="{_PATH_WIDTH}" height="{_LINE}"/>'
            f'<rect class="{mark}" {swatch} fill="{_css(listing.shade)}"/>'
            f'<text x="{MARGIN + _SWATCH + 6}" y="{y}">{escape(entry.text)}'
            f'<tspan class="share" dx="14">{escape(entry.measure)}</tspan></text></g>'
        )
    return elements


def _legend(legend: Legend, y: int) -> str:
    """Swatches with their names from left to right, then how to read a width. `y` is the text's base line."""
    entries = [("swatch", _css(middle_shade(index)), label) for index, label in legend.palettes]
    if legend.has_inlined:
        entries.append(("swatch inlined", _css(middle_shade(legend.palettes[0][0])), "inlined"))
    if legend.has_contended:
        entries += [("swatch contended", _css(shade), "") for shade in CONTENDED[:-1]]
        entries.append(("swatch contended", _css(CONTENDED[-1]), "in contended locks: 5 % to all of the frame"))
    parts = ['<g class="legend">']
    x = float(MARGIN)
    for style, fill, label in entries:
        swatch = f'x="{x:g}" y="{y - 10}" width="{_SWATCH}" height="{_SWATCH}" rx="2"'
        parts.append(f'<rect class="{style}" {swatch} fill="{fill}"/>')
        x += _SWATCH + 3
        if label:
            parts.append(f'<text x="{x + 2:g}" y="{y}">{escape(label)}</text>')
            x += _CHARACTER_WIDTH * len(label) + 18
    parts.append(f'<text x="{x:g}" y="{y}">{escape(legend.hint)}</text></g>')
    return "".join(parts)


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


def _lines(facts: Iterable[Fact]) -> Iterator[list[Fact]]:
    """As many facts in a line as fit."""
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
