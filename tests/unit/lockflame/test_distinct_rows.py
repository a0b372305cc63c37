from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lockflame import distinct_rows
from lockflame.distinct_rows import DistinctRows

ROWS = st.lists(st.lists(st.sampled_from([-1, 0, 1, 2, 2**31 - 1]), max_size=4).map(tuple), max_size=12)


def check(parts: list[list[tuple[int, ...]]]) -> None:
    """Adds the parts one after the other: the numbers have to be those that a dict gives, but for their order."""
    distinct = DistinctRows(np.int32)
    number_of: dict[tuple[int, ...], int] = {}
    for rows in parts:
        values = np.array([number for row in rows for number in row], np.int32)
        found = distinct.add(values, np.cumsum([0, *map(len, rows)])).tolist()
        assert all(number_of.setdefault(row, number) == number for row, number in zip(rows, found, strict=True))
    values, bounds = distinct.columns()
    assert len(distinct) == len(number_of) == len(set(number_of.values()))
    for row, number in number_of.items():
        assert tuple(values[bounds[number] : bounds[number + 1]].tolist()) == row


@given(st.lists(ROWS, max_size=3))
def test_equal_rows_have_one_number(parts: list[list[tuple[int, ...]]]) -> None:
    check(parts)


def few_hashes(_: NDArray[np.int32], lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
    """As bad a hash as there is: most different rows have the same."""
    return (lengths % 2).astype(np.uint64)


@given(st.lists(ROWS, max_size=3))
def test_rows_of_one_hash_stay_apart(parts: list[list[tuple[int, ...]]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distinct_rows, "_hashes", few_hashes)
        check(parts)


def test_numbers_are_in_the_order_in_which_rows_came() -> None:
    distinct = DistinctRows(np.int64)
    assert distinct.add(np.array([9, 8, 9, 7]), np.arange(5)).tolist() == [0, 1, 0, 2]
    assert distinct.add(np.array([6, 7, 9, 6]), np.arange(5)).tolist() == [3, 2, 0, 3]


def test_rows_longer_than_a_block_and_many_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distinct_rows, "_BLOCK_NUMBERS", 4)
    long = tuple(range(100))
    check([[long, (), long[:-1], (1, 2), (3,), (), long], [(3,), (1, 2, 0), (0, 1, 2), long]])


def test_rows_of_all_sizes_have_different_hashes() -> None:
    random = np.random.default_rng(1)
    lengths = random.integers(0, 40, 20_000)
    bounds = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    values = random.integers(0, 6000, int(bounds[-1])).astype(np.int32)
    rows = {values[a:b].tobytes() for a, b in itertools.pairwise(bounds.tolist())}
    assert len(np.unique(distinct_rows._hashes(values, lengths))) == len(rows)  # pyright: ignore[reportPrivateUsage]
