"""A histogram as it is shown: buckets without gaps, and rows beside them for what has no value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from flame.text import amount


class Unit(Enum):
    """What was measured; the value is how names of JSON fields end."""

    NANOSECONDS = "ns"
    BYTES = "bytes"
    NUMBER = "value"


@dataclass(frozen=True, slots=True)
class Bucket:
    """What has a value of at least `lower` and less than `upper`; None: without such a bound."""

    lower: int | None
    upper: int | None
    count: int


@dataclass(frozen=True, slots=True)
class ExtraRow:
    """What has no place on the scale, such as calls that failed with an error."""

    label: str
    count: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """`title` has a line or more, of any text: what was measured, then its key, such as the functions of a stack.

    `counted` is what each count is one of, in the plural. `total` and `maximum` are of all values in the buckets, where
    they are known. `facts` go into JSON as they are.
    """

    title: tuple[str, ...]
    unit: Unit
    buckets: tuple[Bucket, ...]
    extras: tuple[ExtraRow, ...] = ()
    counted: str = "events"
    total: int | None = None
    maximum: int | None = None
    facts: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def values(self) -> int:
        """How many there are in the buckets."""
        return sum(bucket.count for bucket in self.buckets)

    @property
    def count(self) -> int:
        """How many there are in all rows."""
        return self.values + sum(row.count for row in self.extras)


def log2_buckets(counts: Mapping[int, int]) -> tuple[Bucket, ...]:
    """Buckets from the first to the last one that isn't empty, with those between.

    `counts[k]` are of values from `2**(k - 1)` to below `2**k`, `counts[0]` those of 0, `counts[-k]` those from
    above `-(2**k)` to `-(2**(k - 1))`.
    """
    filled = [number for number, count in counts.items() if count]
    if not filled:
        return ()
    return tuple(_log2_bucket(number, counts.get(number, 0)) for number in range(min(filled), max(filled) + 1))


def linear_buckets(counts: Mapping[int, int], least: int, step: int, number: int) -> tuple[Bucket, ...]:
    """Buckets of the width `step` from `least` on, from the first to the last one that isn't empty.

    `counts[k]` are of values from `least + k * step` on; `counts[-1]` of all below `least`, and `counts[number]` of all
    from `least + number * step` on.
    """
    filled = [index for index, count in counts.items() if count]
    if not filled:
        return ()
    return tuple(
        Bucket(
            None if index < 0 else least + index * step,
            None if index >= number else least + (index + 1) * step,
            counts.get(index, 0),
        )
        for index in range(min(filled), max(filled) + 1)
    )


def value_text(value: int, unit: Unit) -> str:
    """A value as briefly as it can be told: `16.4 µs`, `64 K` for 65,536 bytes, `1,234`."""
    if unit is Unit.NANOSECONDS:
        return amount(value, "nanoseconds")
    for power, suffix in ((60, "E"), (50, "P"), (40, "T"), (30, "G"), (20, "M"), (10, "K")):
        if abs(value) >= 1 << power and value % (1 << (power - 1)) == 0:
            return f"{value / (1 << power):g} {suffix}"
    return f"{value:,}"


def sum_text(value: float, unit: Unit) -> str:
    """A sum or mean, rounded: `1.23 MiB`."""
    return amount(value, {Unit.NANOSECONDS: "nanoseconds", Unit.BYTES: "bytes"}.get(unit, "count"))


def summary(histogram: Histogram) -> str:
    """How many there are, and their mean, largest and total where these are known."""
    parts = [f"{histogram.count:,} {histogram.counted}"]
    if histogram.extras and histogram.values:
        parts.append(f"{histogram.values:,} of them with a value")
    if histogram.total is not None and histogram.values:
        parts.append(f"mean {sum_text(histogram.total / histogram.values, histogram.unit)}")
    if histogram.maximum is not None and histogram.values:
        parts.append(f"max {_exact(histogram.maximum, histogram.unit)}")
    if histogram.total is not None and histogram.values and histogram.unit is not Unit.NUMBER:
        parts.append(f"total {sum_text(histogram.total, histogram.unit)}")
    return ", ".join(parts)


def bounds_text(bucket: Bucket, unit: Unit) -> tuple[str, str]:
    """A bucket's label in two parts, to be aligned: `[4 K,` and `8 K)`; the second is empty for a single value."""
    if bucket.lower is None:
        return "below", value_text(bucket.upper or 0, unit)
    if bucket.upper is None:
        return "from", value_text(bucket.lower, unit)
    if bucket.upper == bucket.lower + 1:
        return f"[{value_text(bucket.lower, unit)}]", ""
    if bucket.upper <= 0 and _is_mirrored(bucket):
        return f"({value_text(bucket.lower - 1, unit)},", f"{value_text(bucket.upper - 1, unit)}]"
    return f"[{value_text(bucket.lower, unit)},", f"{value_text(bucket.upper, unit)})"


def _is_mirrored(bucket: Bucket) -> bool:
    """Whether it is a power of two's bucket below 0, which ends with the power itself."""
    assert bucket.lower is not None
    assert bucket.upper is not None
    return bucket.lower - 1 == 2 * (bucket.upper - 1)


def _log2_bucket(number: int, count: int) -> Bucket:
    if number == 0:
        return Bucket(0, 1, count)
    if number > 0:
        return Bucket(1 << (number - 1), 1 << number, count)
    return Bucket(1 - (1 << -number), 1 - (1 << (-number - 1)), count)


def _exact(value: int, unit: Unit) -> str:
    return f"{value:,} bytes" if unit is Unit.BYTES else sum_text(value, unit)
