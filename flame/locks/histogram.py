"""Log2 histograms of waiting times: their quantiles, and their picture in text."""

from __future__ import annotations

from collections.abc import Sequence

_BAR = 52
_SUFFIXES = "KMGT"


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


def histogram_lines(histogram: Sequence[int]) -> list[str]:
    """A line for each bucket, such as `[1K, 2K)  12 |@@@@    |`, times in nanoseconds, K being 1024 of them."""
    rows = buckets(histogram)
    most = max((count for _, count in rows), default=0)
    width = max((len(f"{count:,}") for _, count in rows), default=0)
    return [
        f"{_range(upper_ns):<14} {count:>{width},} |{'@' * (count * _BAR // most):<{_BAR}}|" for upper_ns, count in rows
    ]


def _bounds(bucket: int, max_ns: int) -> tuple[int, int]:
    """The times that the waits of a bucket can have: none is longer than the longest."""
    low = 1 << (bucket - 1) if bucket else 0
    return low, max(low, min(1 << bucket, max_ns))


def _range(upper_ns: int) -> str:
    return f"[{_scaled(upper_ns // 2)}, {_scaled(upper_ns)})"


def _scaled(power_of_two: int) -> str:
    suffix = ""
    for larger in _SUFFIXES:
        if power_of_two < 1024:
            break
        power_of_two //= 1024
        suffix = larger
    return f"{power_of_two}{suffix}"
