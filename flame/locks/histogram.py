"""Log2 histograms of waiting times: their quantiles, and their picture in text."""

from __future__ import annotations

from collections.abc import Sequence

from flame.histograms.histogram import Histogram, Unit, log2_buckets
from flame.histograms.text import PIPE_WIDTH, row_lines


def quantile_ns(histogram: Sequence[int], share: float, max_ns: int) -> int:
    """The waiting time that this share (0 to 1) of the waits doesn't exceed, in nanoseconds; 0 without any.

    `histogram[i]` counts the waits of `2**(i - 1)` to `2**i` ns, `histogram[0]` those of no time. Within a bucket,
    waits are taken to be spread evenly over the logarithm of their time. So a quantile is never wrong by more than a
    factor of two, and never above `max_ns`, the longest wait; the true one lies within the same bucket. Where the
    longest wait is alone in the last bucket, a quantile there is exact.
    """
    total = sum(histogram)
    rank = share * total
    before = 0
    for bucket, count in enumerate(histogram):
        if count and before + count >= rank:
            if count == 1 and before + count == total:
                return max_ns
            low, high = _bounds(bucket, max_ns)
            return min(round(low * (high / low) ** ((rank - before) / count)), max_ns) if low else 0
        before += count
    return 0


def buckets(histogram: Sequence[int]) -> list[tuple[int, int]]:
    """(upper bound in nanoseconds, number of waits below it and in no bucket before), from the first to the last bucket
    that isn't empty."""
    filled = [bucket for bucket, count in enumerate(histogram) if count]
    return [(1 << bucket, histogram[bucket]) for bucket in range(filled[0], filled[-1] + 1)] if filled else []


def histogram_lines(histogram: Sequence[int], width: int = PIPE_WIDTH) -> list[str]:
    """A line for each bucket, such as `[1.02 µs, 2.05 µs) 12 |@@@@    |`, none longer than `width`."""
    return list(row_lines(Histogram((), Unit.NANOSECONDS, log2_buckets(dict(enumerate(histogram)))), width))


def _bounds(bucket: int, max_ns: int) -> tuple[int, int]:
    """The times that the waits of a bucket can have: none is longer than the longest."""
    low = 1 << (bucket - 1) if bucket else 0
    return low, max(low, min(1 << bucket, max_ns))
