from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.locks.histogram import buckets, histogram_lines, quantile_ns
from tests.unit.flame.locks.lock_profiles import histogram_of


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_right_to_a_factor_of_two(waits_ns: list[int], share: float) -> None:
    found = quantile_ns(histogram_of(waits_ns), share, max(waits_ns))
    true = sorted(waits_ns)[max(0, -(-round(share * 100) * len(waits_ns) // 100) - 1)]
    assert found <= max(waits_ns)
    assert true / 2 <= found <= max(2 * true, 1)


@given(st.lists(st.integers(0, 10**12), max_size=50))
def test_larger_shares_take_no_less(waits_ns: list[int]) -> None:
    longest = max(waits_ns, default=0)
    found = [quantile_ns(histogram_of(waits_ns), share, longest) for share in (0, 0.1, 0.5, 0.99, 1)]
    assert found == sorted(found)
    assert found[-1] == longest


def test_within_a_bucket_by_the_logarithm() -> None:
    # All waits are of 1,024 to 2,048 ns: half of them up to 1,024 times the root of 2.
    assert quantile_ns([0] * 11 + [100], 0.5, 2048) == 1448
    # The longest wait bounds its bucket.
    assert quantile_ns([0] * 11 + [100], 0.5, 1100) == 1061
    # One in a million of 300 ms: the others aren't hidden by it, nor it by them.
    histogram = histogram_of([2_000] * 1_000 + [300_000_000])
    assert 1_024 <= quantile_ns(histogram, 0.5, 300_000_000) <= 2_048
    assert quantile_ns(histogram, 1, 300_000_000) == 300_000_000


@pytest.mark.parametrize(("histogram", "max_ns"), [([], 5), ([0] * 48, 5), ([7], 0)])
def test_nothing_waited(histogram: list[int], max_ns: int) -> None:
    assert quantile_ns(histogram, 0.5, max_ns) == 0


def test_the_longest_wait_alone_is_exact() -> None:
    assert quantile_ns(histogram_of([700]), 0.5, 700) == 700
    assert quantile_ns(histogram_of([700, 10]), 0.99, 700) == 700


def test_a_longest_wait_that_the_histogram_denies() -> None:
    assert quantile_ns([0] * 11 + [1], 0.5, 3) == 3


@given(st.lists(st.integers(0, 10**14), max_size=50))
def test_buckets_hold_all_waits(waits_ns: list[int]) -> None:
    rows = buckets(histogram_of(waits_ns))
    assert sum(count for _, count in rows) == len(waits_ns)
    below = 0
    for upper_ns, count in rows:
        below += count
        assert below == sum(wait_ns < upper_ns for wait_ns in waits_ns)


def test_the_picture() -> None:
    lines = histogram_lines(histogram_of([0, 1, 1500, 1500, 1500, 1500, 3_000_000]))
    assert [line.split("|")[0].strip() for line in (lines[0], lines[1], lines[11], lines[-1])] == [
        "[0 ns]             1",
        "[1 ns]             1",
        "[1.02 µs, 2.05 µs) 4",
        "[2.1 ms,  4.19 ms) 1",
    ]
    bars = [line.split("|")[1] for line in lines]
    assert len({len(bar) for bar in bars}) == 1
    assert [bar.count("@") for bar in (bars[0], bars[2], bars[11])] == [len(bars[0]) // 4, 0, len(bars[0])]
    assert histogram_lines([]) == []
