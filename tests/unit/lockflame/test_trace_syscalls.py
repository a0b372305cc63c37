from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.histograms.histogram import Bucket, ExtraRow, Unit
from lockflame.cli.trace.syscall_keys import KeyNames, descriptors_in, error_name, result_text
from lockflame.cli.trace.syscall_question import LINEAR_MOST, Asked, parse_linear
from lockflame.cli.trace.syscall_results import grouped, histograms, limited
from lockflame.cli.trace.syscall_table import row_object, table_lines, table_rows
from lockflame.errors import LockflameError
from sampler.trace.syscall_layout import By, MeasureKind
from sampler.trace.syscall_names import SystemCall
from sampler.trace.syscalls import Cell, Linear, Question

CALLS = (SystemCall("read", ()), SystemCall("close", ()))


def asked(*names: str, by: By = By.NOTHING, linear: Linear | None = None) -> Asked:
    kinds = tuple(MeasureKind.RESULT if name == "ret" else MeasureKind.LATENCY for name in names)
    kinds = kinds or (MeasureKind.OUTCOME,)
    units = tuple(Unit.BYTES if name == "ret" else Unit.NANOSECONDS for name in names) or (Unit.NANOSECONDS,)
    arguments = ((None,) * len(kinds),) * len(CALLS)
    return Asked(Question(CALLS, kinds, arguments, by, linear), names, (units,) * len(CALLS))


def cell(count: int, *, call: int = 0, measure: int = 0, bucket: int = 0, error: int = 0, by: bytes = b"") -> Cell:
    return Cell(call, measure, bucket, error, by.ljust(16, b"\0"), count, count * 10, 10)


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("0:4K:256", Unit.BYTES, Linear(0, 256, 16)),
        ("0:1.5K:512", Unit.BYTES, Linear(0, 512, 3)),
        ("0:1ms:100us", Unit.NANOSECONDS, Linear(0, 100_000, 10)),
        ("5 us:20µs:5us", Unit.NANOSECONDS, Linear(5000, 5000, 3)),
        ("-10:10:1", Unit.NUMBER, Linear(-10, 1, 20)),
        (f"0:{LINEAR_MOST}:1", Unit.NUMBER, Linear(0, 1, LINEAR_MOST)),
    ],
)
def test_linear_buckets_are_read_with_their_units(text: str, unit: Unit, expected: Linear) -> None:
    assert parse_linear(text, unit, is_signed=True) == expected


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("", Unit.BYTES),
        ("0:10", Unit.BYTES),
        ("0:10:1:1", Unit.BYTES),
        ("10:0:1", Unit.BYTES),
        ("5:5:1", Unit.BYTES),
        ("0:10:0", Unit.BYTES),
        ("0:10:-1", Unit.BYTES),
        ("0:10:3", Unit.BYTES),
        ("0:10:0.5", Unit.BYTES),
        ("0:ten:1", Unit.BYTES),
        ("-1:10:1", Unit.BYTES),
        ("0:10us:1us", Unit.BYTES),
        ("0:10:1", Unit.NANOSECONDS),
        ("0:10K:1K", Unit.NANOSECONDS),
        ("0:1ms:0.3ns", Unit.NANOSECONDS),
        (f"0:{LINEAR_MOST + 1}:1", Unit.NUMBER),
        (f"0:{1 << 63}:{1 << 60}", Unit.NUMBER),
        (f"0:{'9' * 5000}:1", Unit.NUMBER),
        ("nan:inf:1", Unit.NUMBER),
    ],
)
def test_bad_linear_buckets_are_refused(text: str, unit: Unit) -> None:
    with pytest.raises(LockflameError):
        parse_linear(text, unit, is_signed=False)


@given(st.text(alphabet="0123456789-:.KMGnusµ ", max_size=30), st.sampled_from(list(Unit)))
def test_any_text_of_linear_buckets_is_read_or_refused(text: str, unit: Unit) -> None:
    try:
        linear = parse_linear(text, unit, is_signed=True)
    except LockflameError:
        return
    assert linear.step > 0
    assert 0 < linear.count <= LINEAR_MOST


def test_results_and_errors_have_names() -> None:
    assert (error_name(11), error_name(512), error_name(4000)) == ("EAGAIN", "ERESTARTSYS", "error 4000")
    assert (result_text(-11), result_text(1234), result_text(-4096)) == ("EAGAIN", "1,234", "-4,096")


def test_keys_have_words() -> None:
    of_descriptor = struct.pack("<iI8x", -100, 77)
    assert descriptors_in({of_descriptor}) == {(77, -100)}
    assert KeyNames(By.FD).lines(of_descriptor) == ("fd -100 of process 77: AT_FDCWD, the working directory",)
    assert KeyNames(By.COMM).lines(b"a b\xff".ljust(16, b"\0")) == ("comm a b\udcff",)
    assert KeyNames(By.RET).facts(struct.pack("<q8x", -11)) == {"ret": -11, "error": "EAGAIN"}
    assert KeyNames(By.ERROR).lines(bytes(16)) == ("no error",)
    assert KeyNames(By.NOTHING).lines(bytes(16)) == ()


def test_errors_have_rows_of_their_own() -> None:
    cells = [cell(5, bucket=0), cell(2, bucket=3), cell(1, error=11), cell(4, error=9)]
    names = KeyNames(By.NOTHING)
    found, of_close = histograms(asked("ret"), grouped(cells, names), names)
    assert found.title == ("read ret",)
    assert found.buckets == (Bucket(0, 1, 5), Bucket(1, 2, 0), Bucket(2, 4, 0), Bucket(4, 8, 2))
    assert found.extras == (ExtraRow("EBADF", 4), ExtraRow("EAGAIN", 1))
    assert (found.total, found.maximum, found.count) == (70, 10, 12)
    assert (of_close.title, of_close.count) == (("close ret",), 0)


def test_histograms_of_a_key_stand_together_those_of_most_calls_first() -> None:
    few, many = struct.pack("<q8x", 1), struct.pack("<q8x", -11)
    cells = [cell(count, measure=measure, by=by) for by, count in ((few, 3), (many, 9)) for measure in (0, 1)]
    names = KeyNames(By.RET)
    groups = grouped(cells, names)
    assert [found.title[0] for found in histograms(asked("ret", "latency", by=By.RET), groups, names)][:4] == [
        "read ret, ret EAGAIN",
        "read latency, ret EAGAIN",
        "read ret, ret 1",
        "read latency, ret 1",
    ]
    kept, left_out, calls = limited(groups, 1)
    assert ([group.words for group in kept], left_out, calls) == ([("ret EAGAIN",)], 1, 3)


def test_keys_of_the_same_stack_are_one() -> None:
    stack = ("recv", "main")
    first, second = struct.pack("<II8x", 5, 70), struct.pack("<II8x", 6, 71)
    names = KeyNames(By.USTACK, stacks={(70, 5): stack, (71, 6): stack})
    (group,) = grouped([cell(2, by=first), cell(3, by=second)], names)
    assert (group.words, group.calls) == (stack, 5)


def test_the_table_tells_of_calls_errors_and_times() -> None:
    names = KeyNames(By.NOTHING)
    rows = table_rows(asked(), grouped([cell(90), cell(10, error=11)], names), names)
    assert row_object(rows[0], 2.0) == {
        "call": "read",
        "calls": 100,
        "calls_per_second": 50.0,
        "failed_calls": 10,
        "mean_ns": 10,
        "max_ns": 10,
        "total_ns": 1000,
        "errors": {"EAGAIN": {"calls": 10, "max_ns": 10, "total_ns": 100}},
    }
    assert list(table_lines(rows, 2.0)) == [
        "call      calls  per s  failed   mean    max   total",
        "read        100   50.0      10  10 ns  10 ns    1 µs",
        "  EAGAIN     10    5.0          10 ns  10 ns  100 ns",
        "close         0    0.0       0                      ",
    ]
