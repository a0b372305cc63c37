from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from symbolize import ragged

ROWS = st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=12)
PARTS = st.integers(0, 6).flatmap(
    lambda rows: st.lists(
        st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=4), min_size=rows, max_size=rows), min_size=1, max_size=4
    )
)


def offsets_of(rows: list[list[int]]) -> ragged.Offsets:
    return ragged.offsets_of(np.array([len(row) for row in rows], np.int64))


def flat(rows: list[list[int]]) -> list[int]:
    return [value for row in rows for value in row]


@given(ROWS)
def test_offsets_cut_the_flat_list_into_its_rows(rows: list[list[int]]) -> None:
    offsets, values = offsets_of(rows), flat(rows)
    assert [values[start:end] for start, end in pairwise(offsets)] == rows


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=10))
def test_positions_count_up_in_each_list(lists: list[tuple[int, int]]) -> None:
    starts = np.array([start for start, _ in lists], np.int64)
    lengths = np.array([length for _, length in lists], np.int64)
    expected = [position for start, length in lists for position in range(start, start + length)]
    assert ragged.positions(starts, lengths).tolist() == expected


@given(PARTS)
def test_join_puts_the_parts_of_each_row_together(parts: list[list[list[int]]]) -> None:
    offsets, values = ragged.join([(offsets_of(part), np.array(flat(part), np.uint64)) for part in parts])
    expected = [flat(list(pieces)) for pieces in zip(*parts, strict=True)]
    assert offsets.tolist() == offsets_of(expected).tolist()
    assert values.tolist() == flat(expected)


@given(ROWS)
def test_distinct_rows_are_those_of_a_set(rows: list[list[int]]) -> None:
    representatives, kinds = ragged.distinct_rows(offsets_of(rows), np.array(flat(rows), np.int32))
    assert [rows[representatives[kind]] for kind in kinds] == rows
    assert len(representatives) == len({tuple(row) for row in rows})


def test_rows_of_equal_values_in_another_order_or_number_are_distinct() -> None:
    rows = [[1, 2], [2, 1], [1, 2, 0], [], [0], [0, 0]]
    representatives, _ = ragged.distinct_rows(offsets_of(rows), np.array(flat(rows), np.int32))
    assert len(representatives) == len(rows)


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), max_size=40))
def test_numbered_values_come_back(values: list[int]) -> None:
    known, number = ragged.numbered(np.array(values, np.uint64))
    assert known.tolist() == sorted(set(values))
    assert known[number].tolist() == values
