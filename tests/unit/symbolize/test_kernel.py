from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockflame.events import KernelSymbolEvent
from symbolize.kernel import (
    BPF,
    FUNCTION_BYTES_MOST,
    HIDDEN,
    JIT_HIDDEN,
    KERNEL,
    NO_SYMBOL,
    SEVERAL,
    KernelName,
    KernelSymbols,
    PassingSymbols,
    names_of,
    parse_kallsyms,
    passing_symbols,
    read_kallsyms,
    readable_name,
)


def find(symbols: KernelSymbols, address: int) -> tuple[str, str] | None:
    (row,) = symbols.rows(np.array([address], np.uint64)).tolist()
    return symbols.name(row) if row >= 0 else None


def name_of(address: int, passing: PassingSymbols, symbols: KernelSymbols) -> KernelName:
    (name,) = names_of(np.array([address], np.uint64), passing, symbols)
    return name


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
    assert find(parse_kallsyms(KALLSYMS), address) == found


def test_lines_may_be_in_any_order() -> None:
    symbols = parse_kallsyms(b"".join(reversed(KALLSYMS.splitlines(keepends=True))))
    assert find(symbols, 0xFFFFFFFF81000101) == ("futex_wait", KERNEL)


def test_the_last_line_needs_no_end() -> None:
    assert find(parse_kallsyms(KALLSYMS.rstrip(b"\n")), 0xFFFFFFFFC0100000) == ("nft_do_chain", "[nf_tables]")


@pytest.mark.parametrize("content", [b"", b"0000000000000000 T startup_64\n0000000000000000 t f\t[m]\n"])
def test_hidden_addresses_are_a_reason(content: bytes) -> None:
    symbols = parse_kallsyms(content)
    assert (len(symbols.starts), symbols.reason) == (0, HIDDEN)
    assert find(symbols, 2**63) is None


@pytest.mark.parametrize(
    "line",
    [b"garbage", b"ffffffff81000050", b"ffffffff8100005g T bad_digit", b"zzzzzzzzzzzzzzzz t f", b"", b"\xff" * 40],
)
def test_lines_of_another_shape_are_left_out(line: bytes) -> None:
    symbols = parse_kallsyms(KALLSYMS + line + b"\n")
    assert len(symbols.starts) == 4


def test_a_line_without_a_name_names_nothing() -> None:
    assert find(parse_kallsyms(KALLSYMS + b"ffffffff81000050 t   \n"), 0xFFFFFFFF81000051) is None


@given(st.binary(max_size=200))
def test_random_bytes_never_raise(content: bytes) -> None:
    parse_kallsyms(content)


def test_a_file_that_cannot_be_read_is_a_reason(tmp_path: Path) -> None:
    assert "No such file" in read_kallsyms(str(tmp_path / "missing")).reason


MODULES = (
    b"ffffffffc0100000 t nft_do_chain\t[nf_tables]\n"
    b"ffffffffc0100400 T nft_register\t[nf_tables]\n"
    b"ffffffffc0100400 r nft_table\t[nf_tables]\n"
    b"ffffffffc0201000 t ftrace_trampoline\t[__builtin__ftrace]\n"
    b"ffffffffc0300000 t bpf_prog_6deef7357e7b4530_sd_fw_ingress\t[bpf]\n"
    b"ffffffffc0300100 t bpf_prog_e428e7e1a92069fb\t[bpf]\n"
    b"ffffffffc0300200 t bpf_trampoline_6442536467\t[bpf]\n"
)
INGRESS, TRACER = "bpf_prog_6deef7357e7b4530_sd_fw_ingress", "bpf_prog_0123456789abcdef_tracer"
PLACE = 0xFFFFFFFFC0310000


@pytest.mark.parametrize(
    ("address", "function", "module"),
    [
        (0xFFFFFFFFC01003FF, "nft_do_chain", "[nf_tables]"),
        (0xFFFFFFFFC0100410, "nft_register", "[nf_tables]"),
        (0xFFFFFFFFC0201008, "ftrace_trampoline", "[__builtin__ftrace]"),
        (0xFFFFFFFFC0300010, INGRESS, BPF),
        (0xFFFFFFFFC0300110, "bpf_prog_e428e7e1a92069fb", BPF),
        (0xFFFFFFFFC0300210, "bpf_trampoline_6442536467", BPF),
    ],
)
def test_code_of_modules(address: int, function: str, module: str) -> None:
    assert name_of(address, passing_symbols(()), parse_kallsyms(MODULES)) == KernelName(function, module)


@pytest.mark.parametrize(
    ("symbol", "readable"),
    [
        (INGRESS, "bpf_prog sd_fw_ingress"),
        ("bpf_prog_e428e7e1a92069fb", "bpf_prog_e428e7e1a92069fb"),  # it was given no name
        ("bpf_prog_e428_x", "bpf_prog_e428_x"),
        ("bpf_prog_put", "bpf_prog_put"),
        ("bpf_trampoline_6442536467", "bpf_trampoline_6442536467"),
        ("futex_wait", "futex_wait"),
    ],
)
def test_readable_names(symbol: str, readable: str) -> None:
    assert readable_name(symbol) == readable


def passed(name: str, is_unregister: bool, address: int = PLACE, size: int = 0x100) -> KernelSymbolEvent:
    return KernelSymbolEvent(1, address, size, name, is_unregister)


@pytest.mark.parametrize("events", [[False], [True], [False, True]], ids=["came", "went", "came-and-went"])
def test_code_that_passed_is_named_within_its_range(events: list[bool]) -> None:
    passing = passing_symbols([passed(TRACER, is_unregister) for is_unregister in events])
    symbols = parse_kallsyms(MODULES)
    for address in (PLACE, PLACE + 0xFF):
        assert name_of(address, passing, symbols) == KernelName(TRACER, BPF)
    # Behind it and in front of it is what the symbols of today say.
    assert name_of(PLACE - 1, passing, symbols).function == "bpf_trampoline_6442536467"
    assert name_of(PLACE + 0x100, passing, symbols).function == "bpf_trampoline_6442536467"


def test_an_address_that_had_several_names_has_none() -> None:
    passing = passing_symbols([passed(INGRESS, True), passed(TRACER, False, PLACE + 0x80)])
    symbols = parse_kallsyms(MODULES)
    assert name_of(PLACE, passing, symbols).function == INGRESS
    assert name_of(PLACE + 0x80, passing, symbols) == KernelName("", KERNEL, SEVERAL)
    assert name_of(PLACE + 0x100, passing, symbols).function == TRACER


def test_the_same_program_loaded_again_keeps_its_name() -> None:
    passing = passing_symbols([passed(TRACER, False), passed(TRACER, True), passed(TRACER, False, size=0x80)])
    assert name_of(PLACE, passing, parse_kallsyms(MODULES)) == KernelName(TRACER, BPF)


def test_other_code_than_programs_is_the_kernels() -> None:
    passing = passing_symbols([passed("kprobe_insn_page", False)])
    assert name_of(PLACE, passing, parse_kallsyms(b"")) == KernelName("kprobe_insn_page", KERNEL)


def test_hidden_symbols_are_a_reason_and_passing_ones_still_count() -> None:
    hidden = parse_kallsyms(b"")
    assert name_of(PLACE, passing_symbols(()), hidden) == KernelName("", KERNEL, HIDDEN)
    assert name_of(PLACE, passing_symbols([passed(TRACER, False)]), hidden).function == TRACER


def test_a_kernel_that_hides_programs_is_a_reason() -> None:
    reason = name_of(2**63, passing_symbols(()), parse_kallsyms(MODULES)).reason
    setting = Path("/proc/sys/net/core/bpf_jit_kallsyms")
    try:
        is_hidden = setting.read_text().strip() == "0"
    except OSError:
        is_hidden = False
    assert reason == (JIT_HIDDEN if is_hidden else NO_SYMBOL)


@given(
    st.lists(st.builds(KernelSymbolEvent, st.just(0), *[st.integers(0, 2**64 - 1)] * 2, st.text("ab"), st.booleans())),
    st.integers(0, 2**64 - 1),
)
def test_random_events_never_raise(events: list[KernelSymbolEvent], address: int) -> None:
    names = {event.name for event in events if event.address <= address < min(event.address + event.size, 2**64 - 1)}
    passing = passing_symbols(events)
    assert passing.find(address) == names
    assert passing.near(np.array([address], np.uint64))[0] or not names


def test_this_kernels_own_symbols() -> None:
    symbols = read_kallsyms()
    if symbols.reason:
        pytest.skip(symbols.reason)
    if os.geteuid() == 0:
        assert len(symbols.starts) > 1000
    assert find(symbols, int(symbols.starts[0])) is not None
