"""Histograms as text, in the manner of bpftrace: a line for each bucket with its bounds, its count and a bar."""

from __future__ import annotations

from collections.abc import Iterator

from flame.histograms.histogram import Histogram, bounds_text, summary
from flame.text import isolated

BAR_LEAST = 10
BAR_MOST = 60
"""Characters: longer bars are no easier to compare."""
PIPE_WIDTH = 80
"""Characters in a line where there is no terminal to ask."""
INDENT = "    "


def histogram_lines(histogram: Histogram, width: int = PIPE_WIDTH) -> Iterator[str]:
    """The title, a summary, and a line for each row, none longer than `width` but for the title; without empty lines.

    Names from outside are made fit to show.
    """
    title = [isolated(line) for line in histogram.title] or [""]
    yield f"{title[0]}: {summary(histogram)}" if title[0] else summary(histogram)
    yield from (f"{INDENT}{line}" for line in title[1:])
    yield from row_lines(histogram, width)


def row_lines(histogram: Histogram, width: int = PIPE_WIDTH) -> Iterator[str]:
    """The rows alone."""
    labels = _labels(histogram)
    counts = [*(bucket.count for bucket in histogram.buckets), *(row.count for row in histogram.extras)]
    most = max(counts, default=0)
    label_width = max(map(len, labels), default=0)
    count_width = max((len(f"{count:,}") for count in counts), default=0)
    bar_width = min(max(width - label_width - count_width - 4, BAR_LEAST), BAR_MOST)
    for label, count in zip(labels, counts, strict=True):
        bar = "@" * bar_length(count, most, bar_width)
        yield f"{label:<{label_width}} {count:>{count_width},} |{bar:<{bar_width}}|"


def bar_length(count: int, most: int, width: int) -> int:
    """How long a count's bar is, where the largest one's has `width`; a bucket that isn't empty shows."""
    return max(count * width // most, 1) if count else 0


def _labels(histogram: Histogram) -> list[str]:
    parts = [bounds_text(bucket, histogram.unit) for bucket in histogram.buckets]
    lower_width = max((len(lower) for lower, _ in parts), default=0)
    upper_width = max((len(upper) for _, upper in parts), default=0)
    labels = [f"{lower:<{lower_width}} {upper:>{upper_width}}" for lower, upper in parts]
    return [*labels, *(isolated(row.label) for row in histogram.extras)]
