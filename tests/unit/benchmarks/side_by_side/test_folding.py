"""What other tools print, as stacks; and what is read from their pictures."""

from __future__ import annotations

import pytest

from benchmarks.side_by_side.folding import (
    Stack,
    bare_name,
    bpftrace_histograms,
    folded_offcputime,
    folded_stacks,
    futex_waits,
    lock_callers,
    shares_of,
    svg_shares,
)

PMLOCK = """Attaching 3 probes...
recording


@asked[22329]: 47361021907669
@lock_ns[0x7ffe2280a5b0, 
    THD::reset_query(bool)+16
    dispatch_command+40
]: 
[8K, 16K)           1704 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@ |
[16K, 32K)             3 |                                                    |
[512K, 1M)             0 |                                                    |

@lock_ns[LOCK_open, 
    THD::set_query(char const*, unsigned long)+33
]: 
[0]                    5 |@@                                                  |
[1]                    2 |@                                                   |
[2, 4)                 1 |                                                    |
[1M, 2M)              40 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|

@lock_ns[0x7ffe2280a5b0, ]: 
[1G, 2G)               1 |                                                    |

@mutex[22329]: 140729476654512
"""
FUTEX = """@wait_ns[
    __GI___lll_lock_wait+43
]: 
[4K, 8K)               2 |                                                    |
"""
OFFCPUTIME = """
    bpf_trace_run4
    __schedule
    futex_wait
    entry_SYSCALL_64_after_hwframe
    __lll_lock_wait
    _ZN3THD9set_queryEPKcm
    -                lock progress (3355)
        1388472

    __schedule
    asm_sysvec_apic_timer_interrupt
    work
    -                lock progress (3354)
        18

"""
SVG = (
    '<g><title>inner (load.py:3) (50 samples, 50.00%)</title><rect x="9%" y="84" fg:x="10" fg:w="50"/></g>'
    '<g><title>inner (load.py:4) (20 samples, 20.00%)</title><rect x="9%" y="100" fg:x="20" fg:w="20"/></g>'
    '<g><title>inner (load.py:3) (10 samples, 10.00%)</title><rect x="9%" y="84" fg:x="70" fg:w="10"/></g>'
    '<g><title>f.&lt;locals&gt;.g (load.py:7) (5 samples, 5.00%)</title><rect x="9%" y="84" fg:x="80" fg:w="5"/></g>'
    '<g><title>all (100 samples, 100%)</title><rect x="0.0%" y="52" fg:x="0" fg:w="100"/></g>'
)


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("_ZN3THD9set_queryEPKcm", "THD::set_query"),
        ("THD::set_query(char const*, unsigned long)+33", "THD::set_query"),
        ("pthread_mutex_lock@@GLIBC_2.2.5", "pthread_mutex_lock"),
        ("do_syscall_64_[k]", "do_syscall_64"),
        ("[unknown]", "[unknown]"),
    ],
)
def test_the_same_function_has_one_name_from_all_tools(name: str, bare: str) -> None:
    assert bare_name(name) == bare


def test_a_share_counts_recursion_once() -> None:
    stacks = [Stack(("leaf", "walk", "walk", "main"), 3), Stack(("other", "main"), 1)]
    assert shares_of(stacks) == {"leaf": 75, "walk": 75, "other": 25, "main": 100}


def test_no_stacks_have_no_shares() -> None:
    assert shares_of([]) == {}


def test_folded_lines_are_root_first_after_the_name_of_the_process() -> None:
    text = "mariadbd;start_thread;do_command(THD*, bool);read 12\nWARNING: 3 stack traces\nmariadbd 4\n"
    assert list(folded_stacks(text)) == [
        Stack(("read", "do_command(THD*, bool)", "start_thread"), 12),
        Stack((), 4),
    ]


def test_histograms_of_bpftrace_with_and_without_a_name_in_their_key() -> None:
    first, second, bare = bpftrace_histograms(PMLOCK)
    assert (first.map_name, first.names) == ("lock_ns", ("THD::reset_query(bool)+16", "dispatch_command+40"))
    assert first.count == 1707
    assert first.total_ns == 1704 * 12 * 1024 + 3 * 24 * 1024
    assert second.names == ("THD::set_query(char const*, unsigned long)+33",)
    assert second.total_ns == 2 + 3 + 40 * 1.5 * 2**20
    assert (bare.names, bare.total_ns) == ((), 1.5 * 2**30)
    (futex,) = bpftrace_histograms(FUTEX)
    assert (futex.names, futex.count, futex.total_ns) == (("__GI___lll_lock_wait+43",), 2, 2 * 6 * 1024)


def test_text_without_histograms_has_none() -> None:
    assert bpftrace_histograms("Attaching 3 probes...\nrecording\n\n@asked[1]: 5\n") == []


def test_callers_of_locks_by_their_time() -> None:
    stacks = [
        Stack(("__lll_lock_wait", "pthread_mutex_lock@@GLIBC_2.2.5", "THD::reset_query(bool)", "main"), 5),
        Stack(("THD::set_query(char const*, unsigned long)+33", "main"), 7),
        Stack(("__GI___lll_lock_wait+43",), 100),
        Stack(("THD::reset_query(bool)+16",), 3),
        Stack(("pthread_mutex_lock", "[unknown]", "main"), 50),
        Stack(("0x7f2bb8a4e56d", "main"), 50),
    ]
    assert lock_callers(stacks) == ["THD::reset_query", "THD::set_query"]


def test_offcputime_of_libbpf_is_folded_and_its_futex_waits_found() -> None:
    lines = list(folded_offcputime(OFFCPUTIME))
    assert lines == [
        "lock progress;_ZN3THD9set_queryEPKcm;__lll_lock_wait;entry_SYSCALL_64_after_hwframe;futex_wait;__schedule;"
        "bpf_trace_run4 1388472",
        "lock progress;work;asm_sysvec_apic_timer_interrupt;__schedule 18",
    ]
    waits = list(futex_waits(folded_stacks("\n".join(lines))))
    assert waits == [Stack(("__lll_lock_wait", "_ZN3THD9set_queryEPKcm"), 1388472)]
    assert lock_callers(waits) == ["THD::set_query"]


def test_shares_in_a_picture_count_boxes_above_each_other_once() -> None:
    assert svg_shares(SVG) == {"inner": 60, "f.<locals>.g": 5}


def test_a_picture_without_samples_has_no_shares() -> None:
    assert svg_shares("<svg></svg>") == {}
