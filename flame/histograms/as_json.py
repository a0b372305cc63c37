"""Histograms as objects for JSON: numbers as they are, with their units in the names."""

from __future__ import annotations

from flame.histograms.histogram import Histogram


def histogram_object(histogram: Histogram) -> dict[str, object]:
    """One histogram: its facts, then `counted` and the number of all, the exact sums, the buckets and further rows.

    A bucket has a `from_UNIT` and a `below_UNIT`, left out where it has no such bound.
    """
    suffix = histogram.unit.value
    found: dict[str, object] = {**histogram.facts, histogram.counted: histogram.count}
    if histogram.total is not None:
        found[f"total_{suffix}"] = histogram.total
    if histogram.maximum is not None and histogram.values:
        found[f"max_{suffix}"] = histogram.maximum
    buckets: list[dict[str, int]] = []
    for bucket in histogram.buckets:
        bounds = {f"from_{suffix}": bucket.lower, f"below_{suffix}": bucket.upper}
        entry = {name: bound for name, bound in bounds.items() if bound is not None}
        buckets.append({**entry, histogram.counted: bucket.count})
    found["buckets"] = buckets
    found["others"] = {row.label: row.count for row in histogram.extras}
    return found
