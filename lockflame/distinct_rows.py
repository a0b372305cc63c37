"""Rows of numbers that are equal, found for many at once: by a hash of each, and then by all of their numbers."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lockflame.wire import ranges, row_blocks

Ints = NDArray[np.int64]
Numbers = NDArray[Any]

# An odd number without a pattern: its powers go through very many values modulo 2^64.
_FACTOR = 0x9E3779B97F4A7C15
_INVERSE = pow(_FACTOR, -1, 1 << 64)
_BLOCK_NUMBERS = 1 << 16


class DistinctRows:
    """Distinct rows of integers of one type, each row of any length, numbered as they first came.

    A hash only says where to look: rows are the same when all their numbers are. Rows that aren't, but have the hash of
    another, are kept apart by their bytes, as slow as that is when somebody makes a file of such rows.
    """

    def __init__(self, dtype: type[np.int64] | type[np.int32]) -> None:
        self._values = _Column(dtype)
        self._bounds = _Column(np.int64)
        self._bounds.append(np.zeros(1, np.int64))
        # Of the rows that came first with their hash, ordered by it.
        self._hashes = np.zeros(0, np.uint64)
        self._numbers = np.zeros(0, np.int64)
        self._others: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._bounds.content) - 1

    def add(self, values: Numbers, bounds: Ints) -> Ints:
        """The numbers of the rows `values[bounds[i]:bounds[i + 1]]`, int64[rows]. The first bound is 0."""
        values = values.astype(self._values.content.dtype, copy=False)
        lengths = np.diff(bounds)
        blocks = row_blocks(lengths, _BLOCK_NUMBERS)
        hashes = np.zeros(len(lengths), np.uint64)
        for first, end in blocks:
            hashes[first:end] = _hashes(values[bounds[first] : bounds[end]], lengths[first:end])
        number = self._by_hash(hashes, values, bounds)
        differs = np.zeros(len(lengths), np.bool_)
        for first, end in blocks:
            block = values[bounds[first] : bounds[end]]
            differs[first:end] = self._differs(block, lengths[first:end], number[first:end])
        for row in np.flatnonzero(differs).tolist():
            content = values[bounds[row] : bounds[row + 1]]
            key = content.tobytes()
            if key not in self._others:
                self._others[key] = len(self)
                self._append(content, np.array([len(content)]))
            number[row] = self._others[key]
        return number

    def columns(self) -> tuple[Numbers, Ints]:
        """All rows: their numbers one after the other, and the bounds of each, int64[rows + 1]."""
        return self._values.content, self._bounds.content

    def _by_hash(self, hashes: NDArray[np.uint64], values: Numbers, bounds: Ints) -> Ints:
        """For each row the number of the first that had its hash."""
        place = np.searchsorted(self._hashes, hashes)
        is_known = place < len(self._hashes)
        is_known[is_known] = self._hashes[place[is_known]] == hashes[is_known]
        number = np.zeros(len(hashes), np.int64)
        number[is_known] = self._numbers[place[is_known]]
        unknown = np.flatnonzero(~is_known)
        if len(unknown):
            new, first, which = np.unique(hashes[unknown], return_index=True, return_inverse=True)
            rows = np.sort(first)
            new_numbers = len(self) + np.searchsorted(rows, first)
            number[unknown] = new_numbers[which]
            at = np.searchsorted(self._hashes, new)
            self._hashes = np.insert(self._hashes, at, new)
            self._numbers = np.insert(self._numbers, at, new_numbers)
            lengths = np.diff(bounds)[unknown[rows]]
            self._append(values[ranges(bounds[unknown[rows]], lengths)], lengths)
        return number

    def _append(self, values: Numbers, lengths: Ints) -> None:
        self._values.append(values)
        self._bounds.append(self._bounds.content[-1] + np.cumsum(lengths))

    def _differs(self, values: Numbers, lengths: Ints, number: Ints) -> NDArray[np.bool_]:
        """Whether these rows, one after the other, are others than those of their numbers."""
        known, known_bounds = self._values.content, self._bounds.content
        starts = known_bounds[number]
        differs = lengths != known_bounds[number + 1] - starts
        alike = np.flatnonzero(~differs)
        if len(alike) < len(number):
            values = values[ranges((np.cumsum(lengths) - lengths)[alike], lengths[alike])]
            starts, lengths = starts[alike], lengths[alike]
        unequal = np.flatnonzero(known[ranges(starts, lengths)] != values)
        differs[alike[np.searchsorted(np.cumsum(lengths), unequal, side="right")]] = True
        return differs


class _Column:
    """Numbers that become more and more, without all of them being copied each time."""

    def __init__(self, dtype: type[np.int64] | type[np.int32]) -> None:
        self._room = np.zeros(0, dtype)
        self._length = 0

    @property
    def content(self) -> Numbers:
        return self._room[: self._length]

    def append(self, values: Numbers) -> None:
        end = self._length + len(values)
        if end > len(self._room):
            room = np.empty(max(end, 2 * len(self._room)), self._room.dtype)
            room[: self._length] = self.content
            self._room = room
        self._room[self._length : end] = values
        self._length = end


def _hashes(values: Numbers, lengths: Ints) -> NDArray[np.uint64]:
    """A polynomial modulo 2^64 of the numbers of each of these rows, one after the other, and of their length.

    Each number is multiplied by the power of its place among all, of which the inverse leaves that of its place in the
    row.
    """
    powers, inverses = _powers(max(2 * _BLOCK_NUMBERS, 1 << len(values).bit_length()))
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values.astype(np.uint64) * powers[: len(values)], out=sums[1:])
    ends = np.cumsum(lengths)
    return (sums[ends] - sums[ends - lengths]) * inverses[ends - lengths] + lengths.astype(np.uint64)


@functools.lru_cache(maxsize=1)
def _powers(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """So many powers of the factor and of its inverse and one of each more, from 0 on."""
    factors = np.full((2, count + 1), [[_FACTOR], [_INVERSE]], np.uint64)
    factors[:, 0] = 1
    powers, inverses = np.cumprod(factors, axis=1)
    return powers, inverses
