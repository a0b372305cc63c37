"""The elements around the frames: title, warning, legend, footer. Texts become XML here, and only here."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from xml.sax.saxutils import escape

from flame.captions import Fact
from flame.palette import PALETTES
from flame.text import isolated, shortened, showable

WIDTH = 1200
"""The picture's width in pixels of its own; a browser scales it to the window."""

MARGIN = 12
"""Left and right of everything, in pixels."""

_LINE = 18
_LINE_CHARACTERS = 170
_COMMAND_CHARACTERS = 155
_TITLE_CHARACTERS = 110
_NOTE_LINES = 6
_CHARACTER_WIDTH = 6.7
_SWATCH = 11


def header(
    title: str,
    *,
    command: str,
    measured: Sequence[Fact],
    warnings: Sequence[Fact],
    palettes: Sequence[int],
    has_inlined: bool,
) -> tuple[list[str], int]:
    """The elements above the frames, and where the frames begin, in pixels from the top.

    `command` may hold anything; the other texts are showable. `palettes` are indexes of `PALETTES`.
    `has_inlined` explains the mark of inlined frames.
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
    if palettes:
        y += _LINE
        elements.append(_legend(palettes, has_inlined, y))
    if warnings:
        box, y = _warning(warnings, y + 12)
        elements += box
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


def _legend(palettes: Sequence[int], has_inlined: bool, y: int) -> str:
    """Swatches with their names from left to right, then how to read a width. `y` is the text's base line."""
    parts = ['<g class="legend">']
    x = float(MARGIN)
    entries = [("swatch", _middle_shade(index), PALETTES[index].label) for index in palettes]
    if has_inlined:
        entries.append(("swatch inlined", _middle_shade(palettes[0]), "inlined"))
    for style, fill, label in entries:
        swatch = f'x="{x:g}" y="{y - 10}" width="{_SWATCH}" height="{_SWATCH}" rx="2"'
        parts.append(f'<rect class="{style}" {swatch} fill="{fill}"/>')
        parts.append(f'<text x="{x + _SWATCH + 5:g}" y="{y}">{escape(label)}</text>')
        x += _SWATCH + 5 + _CHARACTER_WIDTH * len(label) + 18
    hint = "A frame is as wide as its share; callers are below what they call."
    parts.append(f'<text x="{x:g}" y="{y}">{hint}</text></g>')
    return "".join(parts)


def _middle_shade(palette: int) -> str:
    shades = PALETTES[palette].shades
    return "rgb({}, {}, {})".format(*shades[len(shades) // 2])


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
