from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.text import amount, counted, isolated, percent, shortened, showable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('std::vector<int>& operator""\'', 'std::vector<int>& operator""\''),
        ("a\x00b\nc\td\x7f\x85", "a\ufffdb\ufffdc\ufffdd\ufffd\ufffd"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\\xe9"),
        ("\ud800x\udfff", "\ufffdx\ufffd"),
        ("\u202egnp.exe\u2066", "\ufffdgnp.exe\ufffd"),
        ("\ufffe\uffff", "\ufffd\ufffd"),
        ("größe_日本_😀", "größe_日本_😀"),
    ],
)
def test_showable(text, shown):
    assert showable(text) == shown


@given(st.text(st.characters(exclude_categories=())))
def test_showable_text_is_one_line_of_utf8(text):
    shown = showable(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert showable(shown) == shown


def test_only_right_to_left_text_is_isolated():
    assert isolated("main") == "main"
    assert isolated("größe") == "größe"
    assert isolated("אבג") == "\u2068אבג\u2069"


def test_shortened():
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abcde…"


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "0 %"),
        (0, 10, "0 %"),
        (1, 100_000, "<0.1 %"),
        (41, 1000, "4.1 %"),
        (5, 100, "5 %"),
        (99_999, 100_000, ">99.9 %"),
        (7, 7, "100 %"),
        (3, 2, "150 %"),
    ],
)
def test_percent(part, whole, text):
    assert percent(part, whole) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "nanoseconds", "0 ns"),
        (999, "nanoseconds", "999 ns"),
        (1_500, "nanoseconds", "1.5 µs"),
        (12_345_678, "nanoseconds", "12.3 ms"),
        (1_234_000_000_000, "nanoseconds", "1,234 s"),
        (16_384, "bytes", "16 KiB"),
        (12_345, "count", "12,345"),
        (5, "widgets\n", "5 widgets\ufffd"),
    ],
)
def test_amount(value, unit, text):
    assert amount(value, unit) == text


def test_counted():
    assert [counted(number, "frame") for number in (0, 1, 2000)] == ["0 frames", "1 frame", "2,000 frames"]
