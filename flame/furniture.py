"""The elements around the frames: title, warning, legend, footer. Texts become XML here, and only here."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from flame.captions import Fact
from flame.contention import Contention
from flame.names import short_name
from flame.palette import CONTENDED, PALETTES, Rgb
from flame.text import isolated, percent, shortened, showable

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
_SITE_CHARACTERS = 110
_PATH_WIDTH = 900
# Shares become whole parts of this many, to be shown as all other shares are.
_SHARES = 1_000_000


@dataclass(frozen=True, slots=True)
class Legend:
    """What the legend explains: palettes (indexes of `PALETTES`), and the mark of inlined frames."""

    palettes: Sequence[int]
    has_inlined: bool


def header(
    title: str,
    *,
    command: str,
    measured: Sequence[Fact],
    warnings: Sequence[Fact],
    contention: Contention | None,
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
    if contention is not None:
        y += _LINE + 6
        elements += _contention(contention, y)
        y += _LINE * len(contention.paths)
    if legend.palettes:
        y += _LINE + 4
        elements.append(_legend(legend, contention is not None and contention.is_notable, y))
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


def _contention(contention: Contention, y: int) -> list[str]:
    """How much contention there is, and a line for each of the worst paths. `y` is the first line's base line."""
    share = percent(round(contention.share * _SHARES), _SHARES)
    if not contention.is_notable:
        text = f"No lock contention seen: {share} of CPU time in contended locks. Threads asleep aren't in here."
        return [_text(text, y, "calm")]
    elements = [_text(f"Lock contention: {share} of CPU time. The worst lock paths:", y, "contention")]
    for index, (path, reach) in enumerate(zip(contention.paths, contention.reach, strict=True)):
        y += _LINE
        swatch = f'x="{MARGIN}" y="{y - 10}" width="{_SWATCH}" height="{_SWATCH}" rx="2"'
        name = isolated(shortened(short_name(path.site), _SITE_CHARACTERS))
        text = f"{index + 1}  {name} → {path.kind}"
        share = f"{percent(round(path.share * _SHARES), _SHARES)} of CPU time (±{100 * reach:.1f})"
        elements.append(
            f'<g class="path"><title>{escape(showable(path.site))}</title>'
            f'<rect class="hit" x="{MARGIN}" y="{y - 13}" width="{_PATH_WIDTH}" height="{_LINE}"/>'
            f'<rect class="swatch contended" {swatch} fill="{_css(CONTENDED[-1])}"/>'
            f'<text x="{MARGIN + _SWATCH + 6}" y="{y}">{escape(text)}'
            f'<tspan class="share" dx="14">{share}</tspan></text></g>'
        )
    return elements


def _legend(legend: Legend, has_contention: bool, y: int) -> str:
    """Swatches with their names from left to right, then how to read a width. `y` is the text's base line."""
    entries = [("swatch", _middle_shade(index), PALETTES[index].label) for index in legend.palettes]
    if legend.has_inlined:
        entries.append(("swatch inlined", _middle_shade(legend.palettes[0]), "inlined"))
    if has_contention:
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
    hint = "A frame is as wide as its share; callers are below what they call."
    parts.append(f'<text x="{x:g}" y="{y}">{hint}</text></g>')
    return "".join(parts)


def _middle_shade(palette: int) -> str:
    shades = PALETTES[palette].shades
    return _css(shades[len(shades) // 2])


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
