"""Lists of different lengths, held as one flat array and the offsets of each list in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Offsets = NDArray[np.int64]


def offsets_of(lengths: NDArray[Any]) -> Offsets:
    """The offsets int64[n + 1] of lists that have these lengths."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """The sorted distinct values. (`np.unique` loads numpy's masked arrays for this, which takes tens of ms.)"""
    ordered = np.sort(values, axis=None)
    is_first = np.ones(len(ordered), dtype=np.bool_)
    is_first[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_first]


def numbered(values: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The sorted distinct values, and for each value its place among them.

    (`np.unique` sorts the places along with the values. That takes three times as long where most values are repeated.)
    """
    known = distinct(values)
    return known, np.searchsorted(known, values)


def positions(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """`starts[0], starts[0] + 1, …` for each list, one after the other."""
    offsets = offsets_of(lengths)
    shift: NDArray[np.int64] = starts - offsets[:-1]
    return np.repeat(shift, lengths) + np.arange(int(offsets[-1]), dtype=np.int64)


def join(parts: Sequence[tuple[Offsets, NDArray[np.uint64]]]) -> tuple[Offsets, NDArray[np.uint64]]:
    """Joins list `i` of every part into one list `i`, in the order of the parts."""
    lengths = [np.diff(offsets) for offsets, _ in parts]
    joined = offsets_of(np.sum(lengths, axis=0))
    values = np.empty(joined[-1], dtype=np.uint64)
    starts = joined[:-1].copy()
    for (_, part), length in zip(parts, lengths, strict=True):
        values[positions(starts, length)] = part
        starts += length
    return joined, values


def distinct_rows(offsets: Offsets, values: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Finds equal lists: returns one representative of each kind, and for each list the kind it is of.

    Lists are compared by a 64-bit hash of their values first; then each is compared with its
    representative in full, so that a collision can't merge two stacks.
    """
    lengths = np.diff(offsets)
    if not len(lengths):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
    depth = positions(np.zeros(len(lengths), dtype=np.int64), lengths).astype(np.uint64)
    mixed = _mix(values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + _mix(depth))
    sums = np.concatenate((np.zeros(1, dtype=np.uint64), np.cumsum(mixed)))
    hashes = _mix(sums[offsets[1:]] - sums[offsets[:-1]] + lengths.astype(np.uint64))
    _, representatives, kinds = np.unique(hashes, return_index=True, return_inverse=True)
    twins = representatives[kinds]
    same_length = bool((lengths[twins] == lengths).all())
    if not same_length or not np.array_equal(values, values[positions(offsets[twins], lengths)]):
        return _distinct_rows_exactly(offsets, values)
    return representatives.astype(np.int64), kinds.astype(np.int32)


def _distinct_rows_exactly(offsets: Offsets, values: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    kinds: dict[bytes, int] = {}
    representatives: list[int] = []
    of_row = np.empty(len(offsets) - 1, dtype=np.int32)
    for row in range(len(of_row)):
        content = values[offsets[row] : offsets[row + 1]].tobytes()
        if content not in kinds:
            kinds[content] = len(representatives)
            representatives.append(row)
        of_row[row] = kinds[content]
    return np.array(representatives, dtype=np.int64), of_row


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finalizer (Steele, Lea, Flood 2014): spreads each bit over all 64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
