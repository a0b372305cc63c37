from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.histograms.as_json import histogram_object
from flame.histograms.histogram import (
    Bucket,
    ExtraRow,
    Histogram,
    Unit,
    bounds_text,
    linear_buckets,
    log2_buckets,
    summary,
    value_text,
)
from flame.histograms.picture import MOST, histograms_svg
from flame.histograms.text import bar_length, histogram_lines

HOSTILE = 'a\x1b[31m<b>&"\u202e\udcff'


def a_histogram(counts: dict[int, int], unit: Unit = Unit.BYTES, **more: object) -> Histogram:
    return Histogram(("read size",), unit, log2_buckets(counts), **more)  # pyright: ignore[reportArgumentType]


def test_buckets_are_powers_of_two_without_gaps() -> None:
    assert log2_buckets({0: 1, 1: 2, 3: 4}) == (Bucket(0, 1, 1), Bucket(1, 2, 2), Bucket(2, 4, 0), Bucket(4, 8, 4))
    assert log2_buckets({}) == ()
    assert log2_buckets({5: 0}) == ()


@given(st.integers(-(2**63), 2**64 - 1))
def test_a_value_lies_within_the_bounds_of_its_bucket(value: int) -> None:
    number = value.bit_length() if value >= 0 else -(-value).bit_length()
    (bucket,) = log2_buckets({number: 1})
    assert bucket.lower is not None
    assert bucket.upper is not None
    assert bucket.lower <= value < bucket.upper


def test_linear_buckets_have_one_width_and_what_lies_outside() -> None:
    found = linear_buckets({-1: 3, 0: 1, 4: 2}, 100, 50, 4)
    assert found[0] == Bucket(None, 100, 3)
    assert found[1:5] == tuple(Bucket(100 + 50 * k, 150 + 50 * k, int(k == 0)) for k in range(4))
    assert found[5] == Bucket(300, None, 2)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (65536, Unit.BYTES, "64 K"),
        (1536, Unit.BYTES, "1.5 K"),
        (1500, Unit.BYTES, "1,500"),
        (1 << 40, Unit.NUMBER, "1 T"),
        (-8192, Unit.NUMBER, "-8 K"),
        (1024, Unit.NANOSECONDS, "1.02 µs"),
        (0, Unit.NANOSECONDS, "0 ns"),
    ],
)
def test_values_are_told_briefly(value: int, unit: Unit, text: str) -> None:
    assert value_text(value, unit) == text


@pytest.mark.parametrize(
    ("bucket", "text"),
    [
        (Bucket(0, 1, 1), ("[0]", "")),
        (Bucket(4096, 8192, 1), ("[4 K,", "8 K)")),
        (Bucket(None, 100, 1), ("below", "100")),
        (Bucket(300, None, 1), ("from", "300")),
        (log2_buckets({-3: 1})[0], ("(-8,", "-4]")),
        (log2_buckets({-1: 1})[0], ("[-1]", "")),
        (Bucket(-10, -5, 1), ("[-10,", "-5)")),
    ],
)
def test_bounds_tell_which_end_is_within(bucket: Bucket, text: tuple[str, str]) -> None:
    assert bounds_text(bucket, Unit.NUMBER) == text


def test_text_is_aligned_and_shows_empty_buckets_between() -> None:
    histogram = a_histogram(
        {7: 1000, 9: 1}, extras=(ExtraRow("EAGAIN", 20),), counted="calls", total=70000, maximum=300
    )
    assert list(histogram_lines(histogram, 60)) == [
        "read size: 1,021 calls, 1,001 of them with a value, mean 69.9 bytes, max 300 bytes, total 68.4 KiB",
        f"[64,  128) 1,000 |{'@' * 41}|",
        f"[128, 256)     0 |{' ' * 41}|",
        f"[256, 512)     1 |@{' ' * 40}|",
        f"EAGAIN        20 |@{' ' * 40}|",
    ]


@given(
    st.dictionaries(st.integers(-64, 64), st.integers(0, 2**64), max_size=20),
    st.sampled_from(list(Unit)),
    st.integers(1, 300),
)
def test_rows_have_one_width_which_fits(counts: dict[int, int], unit: Unit, width: int) -> None:
    histogram = a_histogram(counts, unit)
    rows = list(histogram_lines(histogram, width))[1:]
    assert len(rows) == len(histogram.buckets)
    assert len({len(row) for row in rows}) <= 1
    # Labels and counts are shown whole, and a bar that can be compared.
    assert all(len(row) <= max(width, len(row.split("|")[0]) + 12) for row in rows)


@given(st.integers(0, 10**20), st.integers(1, 10**20))
def test_a_bucket_that_is_not_empty_has_a_bar(count: int, most: int) -> None:
    count = min(count, most)
    assert 0 <= bar_length(count, most, 40) <= 40
    assert (bar_length(count, most, 40) > 0) == (count > 0)


def test_nothing_counted_is_said() -> None:
    assert list(histogram_lines(a_histogram({}, counted="calls"))) == ["read size: 0 calls"]
    assert "nothing to show" in histograms_svg("x", [], [])


def test_a_sum_is_told_only_where_it_is_known() -> None:
    assert summary(a_histogram({1: 2})) == "2 events"
    assert summary(a_histogram({1: 2}, Unit.NUMBER, total=2, maximum=1)) == "2 events, mean 1, max 1"


def test_json_has_units_in_names() -> None:
    histogram = a_histogram(
        {0: 1, 2: 3}, Unit.NANOSECONDS, extras=(ExtraRow("EINTR", 2),), counted="waits", total=8, facts={"call": "x"}
    )
    assert json.loads(json.dumps(histogram_object(histogram))) == {
        "call": "x",
        "waits": 6,
        "total_ns": 8,
        "buckets": [
            {"from_ns": 0, "below_ns": 1, "waits": 1},
            {"from_ns": 1, "below_ns": 2, "waits": 0},
            {"from_ns": 2, "below_ns": 4, "waits": 3},
        ],
        "others": {"EINTR": 2},
    }


def test_json_leaves_out_bounds_that_there_are_none_of() -> None:
    histogram = Histogram(("x",), Unit.NUMBER, linear_buckets({-1: 1, 1: 2}, 0, 5, 1))
    assert histogram_object(histogram)["buckets"] == [
        {"below_value": 0, "events": 1},
        {"from_value": 0, "below_value": 5, "events": 0},
        {"from_value": 5, "events": 2},
    ]


def test_names_from_outside_do_no_harm() -> None:
    histogram = Histogram((f"read, comm {HOSTILE}", HOSTILE), Unit.BYTES, log2_buckets({3: 1}), (ExtraRow(HOSTILE, 1),))
    lines = list(histogram_lines(histogram))
    assert not any("\x1b" in line or "\u202e" in line for line in lines)
    picture = histograms_svg(HOSTILE, [HOSTILE], [histogram])
    ElementTree.fromstring(picture.encode())  # of ours: nothing to fear


def test_the_picture_has_a_bar_for_each_row_that_is_not_empty() -> None:
    root = ElementTree.fromstring(histograms_svg("t", [], [a_histogram({3: 5, 5: 10})]).encode())
    rows = [group for group in root.iter("{http://www.w3.org/2000/svg}g") if group.get("class") == "bucket"]
    bars = [row.find("{http://www.w3.org/2000/svg}rect") for row in rows]
    assert [bar is not None for bar in bars] == [True, False, True]
    widths = [float(bar.get("width", "0")) for bar in bars if bar is not None]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)


def test_too_many_histograms_are_left_out_and_said() -> None:
    picture = histograms_svg("t", [], [a_histogram({1: 1})] * (MOST + 3))
    assert picture.count("histogram-title") - picture.split("</style>")[0].count("histogram-title") == MOST
    assert "3 histograms more are left out" in picture
