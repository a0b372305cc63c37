from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbolize.kernel import FUNCTION_BYTES_MOST, HIDDEN, KERNEL, parse_kallsyms, read_kallsyms

KALLSYMS = (
    b"ffffffff81000000 T startup_64\n"
    b"ffffffff81000100 t futex_wait\n"
    b"ffffffff81000200 D jiffies\n"
    b"ffffffff81000300 W arch_cpu_idle\n"
    b"0000000000014000 A cpu_debug\n"
    b"ffffffffc0100000 t nft_do_chain\t[nf_tables]\n"
)


@pytest.mark.parametrize(
    ("address", "found"),
    [
        (0xFFFFFFFF80FFFFFF, None),
        (0xFFFFFFFF81000000, ("startup_64", KERNEL)),
        (0xFFFFFFFF810001FF, ("futex_wait", KERNEL)),
        (0xFFFFFFFF81000210, ("futex_wait", KERNEL)),  # data isn't taken for code
        (0xFFFFFFFF81000300, ("arch_cpu_idle", KERNEL)),
        (0xFFFFFFFF81000300 + FUNCTION_BYTES_MOST + 1, None),
        (0xFFFFFFFFC0100010, ("nft_do_chain", "[nf_tables]")),
        (2**64 - 1, None),
        (0, None),
    ],
)
def test_function_and_module_of_an_address(address: int, found: tuple[str, str] | None) -> None:
    assert parse_kallsyms(KALLSYMS).find(address) == found


def test_lines_may_be_in_any_order() -> None:
    symbols = parse_kallsyms(b"".join(reversed(KALLSYMS.splitlines(keepends=True))))
    assert symbols.find(0xFFFFFFFF81000101) == ("futex_wait", KERNEL)


def test_the_last_line_needs_no_end() -> None:
    assert parse_kallsyms(KALLSYMS.rstrip(b"\n")).find(0xFFFFFFFFC0100000) == ("nft_do_chain", "[nf_tables]")


@pytest.mark.parametrize("content", [b"", b"0000000000000000 T startup_64\n0000000000000000 t f\t[m]\n"])
def test_hidden_addresses_are_a_reason(content: bytes) -> None:
    symbols = parse_kallsyms(content)
    assert (len(symbols.starts), symbols.reason) == (0, HIDDEN)
    assert symbols.find(2**63) is None


@pytest.mark.parametrize(
    "line",
    [b"garbage", b"ffffffff81000050", b"ffffffff8100005g T bad_digit", b"zzzzzzzzzzzzzzzz t f", b"", b"\xff" * 40],
)
def test_lines_of_another_shape_are_left_out(line: bytes) -> None:
    symbols = parse_kallsyms(KALLSYMS + line + b"\n")
    assert len(symbols.starts) == 4


def test_a_line_without_a_name_names_nothing() -> None:
    assert parse_kallsyms(KALLSYMS + b"ffffffff81000050 t   \n").find(0xFFFFFFFF81000051) is None


@given(st.binary(max_size=200))
def test_random_bytes_never_raise(content: bytes) -> None:
    parse_kallsyms(content)


def test_a_file_that_cannot_be_read_is_a_reason(tmp_path: Path) -> None:
    assert "No such file" in read_kallsyms(str(tmp_path / "missing")).reason


def test_this_kernels_own_symbols() -> None:
    symbols = read_kallsyms()
    if symbols.reason:
        pytest.skip(symbols.reason)
    if os.geteuid() == 0:
        assert len(symbols.starts) > 1000
    assert symbols.find(int(symbols.starts[0])) is not None
