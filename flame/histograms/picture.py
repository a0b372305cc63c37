"""Histograms as one SVG file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence

from flame.document import PLAIN_STYLES, Picture, document, nothing
from flame.embedded import Geometry
from flame.furniture import MARGIN, WIDTH
from flame.histograms.histogram import Histogram, bounds_text, summary
from flame.text import escape, isolated, shortened, showable

STYLES = (*PLAIN_STYLES, "histograms/histograms.css")
MOST = 200
"""Histograms in a picture: it stays one that a browser shows at once."""

_LINE = 16
_ROW = 15
_LABELS = 190
"""Where labels end, in pixels."""
_COUNTS = 290
_BARS = WIDTH - MARGIN - _COUNTS - 12
_TITLE_CHARACTERS = 110
_LINE_CHARACTERS = 165
_LABEL_CHARACTERS = 26


def histograms_svg(title: str, notes: Sequence[str], histograms: Sequence[Histogram]) -> str:
    """A whole SVG document, to be written as UTF-8. Texts may hold anything. `notes` stand below the title.

    More than `MOST` histograms are left out, and that is said.
    """
    shown = isolated(shortened(title, _TITLE_CHARACTERS))
    head = [f'<text class="heading" x="{MARGIN}" y="30">{escape(shown)}</text>']
    left_out = len(histograms) - MOST
    y = 36
    for note in [*notes, *([f"{left_out:,} histograms more are left out here."] if left_out > 0 else [])]:
        y += _LINE
        head.append(f'<text class="facts" x="{MARGIN}" y="{y}">{escape(_line(note))}</text>')
    y += 8
    for histogram in histograms[:MOST]:
        drawn, y = _drawn(histogram, y + 18)
        head += drawn
    top, empty = y, list[str]()
    if not histograms:
        empty, y = nothing("Nothing was counted: there is nothing to show.", top)
    geometry = Geometry(WIDTH, MARGIN, top, y, y + 14, _ROW, _ROW, y, 0.0)
    return document(Picture(shown, head, empty, [], geometry, not histograms), "", styles=STYLES)


def _drawn(histogram: Histogram, y: int) -> tuple[list[str], int]:
    """The elements of one, and where it ends; `y` is where it begins."""
    first, *others = histogram.title or ("",)
    elements = [
        f'<text class="histogram-title" x="{MARGIN}" y="{y}">{escape(_line(first))}'
        f'<tspan class="facts" dx="12">{escape(summary(histogram))}</tspan></text>'
    ]
    for line in others:
        y += _LINE
        elements.append(
            f'<text class="histogram-key" x="{MARGIN + 12}" y="{y}"><title>{escape(showable(line))}</title>'
            f"{escape(_line(line))}</text>"
        )
    y += 8
    most = max([bucket.count for bucket in histogram.buckets] + [row.count for row in histogram.extras], default=0)
    for bucket in histogram.buckets:
        elements.append(_row(" ".join(bounds_text(bucket, histogram.unit)).rstrip(), bucket.count, most, y, "bucket"))
        y += _ROW
    for row in histogram.extras:
        elements.append(_row(row.label, row.count, most, y, "bucket extra"))
        y += _ROW
    return elements, y + 8


def _row(label: str, count: int, most: int, y: int, style: str) -> str:
    width = max(count * _BARS / most, 1.0) if count else 0.0
    base = y + _ROW - 4
    shown = isolated(shortened(label, _LABEL_CHARACTERS))
    bar = f'<rect x="{_COUNTS + 8}" y="{y + 1}" width="{width:.1f}" height="{_ROW - 2}" rx="1.5"/>' if count else ""
    return (
        f'<g class="{style}"><title>{escape(showable(label))}: {count:,}</title>{bar}'
        f'<text class="bounds" x="{_LABELS}" y="{base}">{escape(shown)}</text>'
        f'<text class="count" x="{_COUNTS}" y="{base}">{count:,}</text></g>'
    )


def _line(text: str) -> str:
    return isolated(shortened(text, _LINE_CHARACTERS))
