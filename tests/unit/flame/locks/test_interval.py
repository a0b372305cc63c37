from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.locks.interval import effective_samples, wilson


@pytest.mark.parametrize(
    ("hits", "samples", "low", "high"),
    # As R's prop.test(hits, samples, correct = FALSE) has them.
    [(0, 10, 0.0, 0.2775), (1, 10, 0.0179, 0.4042), (50, 100, 0.4038, 0.5962), (10, 10, 0.7225, 1.0)],
)
def test_known_intervals(hits: int, samples: int, low: float, high: float) -> None:
    assert wilson(hits / samples, samples) == pytest.approx((low, high), abs=1e-4)


def test_nothing_is_known_without_samples() -> None:
    assert wilson(0.0, 0) == (0.0, 1.0)


@given(st.floats(0, 1), st.floats(0.01, 1e9))
def test_the_interval_holds_the_share(share: float, samples: float) -> None:
    low, high = wilson(share, samples)
    assert 0 <= low <= share <= high <= 1


def test_ninety_five_of_a_hundred_intervals_hold_the_truth() -> None:
    hits = np.random.default_rng(3).binomial(200, 0.1, 2000)
    intervals = [wilson(hit / 200, 200) for hit in hits.tolist()]
    assert 0.93 < np.mean([low <= 0.1 <= high for low, high in intervals]) < 0.97


def columns(*rows: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(rows, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def test_equal_weights_count_in_full_however_they_are_summed() -> None:
    assert effective_samples(*columns((30, 3), (70, 7))) == pytest.approx(10)


def test_unequal_weights_tell_less() -> None:
    assert effective_samples(*columns((100, 1), (1, 1))) == pytest.approx(101**2 / 10_001)


def test_rows_without_weight_tell_nothing() -> None:
    assert effective_samples(*columns((0, 5), (10, 1), (10, 0))) == pytest.approx(1)
    assert effective_samples(*columns()) == 0
