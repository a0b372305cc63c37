from __future__ import annotations

import dataclasses
import os
import struct
import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sampler.decode import decode
from sampler.futex import layout
from sampler.futex.decode import shares
from sampler.futex.open_waits import OpenWait, samples_of, waits_open_now

SAMPLE_ID = 77
WAIT_NS, STARTED_NS, ENDED_NS = 1_000, 2_000, 1_000_000
TOTALS_MOST = 10**15


@st.composite
def divisions(draw: st.DrawFn) -> tuple[list[int], list[int], list[float]]:
    """Some totals, and rows that share in them by weight."""
    totals = draw(st.lists(st.integers(0, TOTALS_MOST), min_size=1, max_size=6))
    rows = draw(st.lists(st.tuples(st.integers(0, len(totals) - 1), st.floats(1e-3, 1e12)), max_size=40))
    return totals, [row[0] for row in rows], [row[1] for row in rows]


@given(divisions())
def test_shares_add_up_to_the_whole(division: tuple[list[int], list[int], list[float]]) -> None:
    totals, of, weight = division
    given_ = shares(np.array(totals), np.array(of, dtype=np.int64), np.array(weight, dtype=np.float64))
    assert given_.tolist() == [] or given_.min() >= 0
    for number, total in enumerate(totals):
        rows = [index for index, owner in enumerate(of) if owner == number]
        assert sum(given_[rows].tolist()) == (total if rows else 0)
        whole = sum(weight[row] for row in rows)
        for row in rows:
            assert abs(given_[row] - total * weight[row] / whole) <= 1 + 1e-9 * total


def test_shares_of_no_weight_go_to_somebody() -> None:
    assert shares(np.array([10]), np.array([0, 0]), np.array([0.0, 0.0])).sum() == 10


@given(
    st.tuples(*[st.integers(0, 2**32 - 1)] * 4),
    st.integers(0, 2**64 - 1),
    st.booleans(),
    st.sampled_from(layout.PT_REGS),
)
def test_an_entry_tells_the_wait_that_it_was_made_of(
    numbers: tuple[int, int, int, int], address: int, is_private: bool, register: str
) -> None:
    pid, tid, generation, family = numbers
    wait = OpenWait(pid, tid, address, is_private, 2, layout.BUDGET_LOCK, {"sp": 64, "ip": 32, register: 8})
    value = wait.entry(generation, family, 4096, 64)
    assert len(value) == layout.THREAD.size
    read = OpenWait.from_entry(tid, value)
    assert (read.pid, read.tid, read.address, read.operation, read.budget) == (pid, tid, address, 2, layout.BUDGET_LOCK)
    assert read.is_private == (is_private and pid != 0)
    assert read.registers["sp"] == wait.registers["sp"]
    assert not read.is_counted
    expected = (address, pid, generation) if is_private else (address, 0, family)
    assert layout.KEY.unpack(read.key) == expected


def test_records_of_open_waits_read_like_the_kernels() -> None:
    """A thread of our own that waits now."""
    lock = threading.Lock()
    lock.acquire()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    try:
        wait = _wait_of(thread)
        (record,) = samples_of([wait], STARTED_NS, ENDED_NS, 4096, SAMPLE_ID)
        decoded = decode(record, True, {}, [SAMPLE_ID])
        (bare,) = samples_of([wait], STARTED_NS, ENDED_NS, 0, SAMPLE_ID)
    finally:
        lock.release()
        thread.join()
    samples = decoded.samples
    assert (len(samples), decoded.skipped, decoded.is_cpu.tolist()) == (1, 0, [False])
    assert (samples.pid[0], samples.tid[0], samples.period[0]) == (os.getpid(), thread.native_id, 0)
    assert samples.user[0].tolist() == [wait.registers["ip"]]
    assert samples.stacks.count.tolist() == [4096 // 8]
    kind = int(decoded.raw[0, 0]) >> 32
    duration = ENDED_NS - STARTED_NS
    assert (kind, *decoded.raw[0, 1:6].tolist()) == (
        layout.SAMPLE_WAIT, wait.address, os.getpid(), duration, duration, duration
    )  # fmt: skip
    without_stack = decode(bare, False, {}, [SAMPLE_ID])
    assert (len(without_stack.samples), without_stack.skipped) == (1, 0)


def test_no_record_of_a_wait_that_is_over() -> None:
    lock = threading.Lock()
    lock.acquire()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    wait = _wait_of(thread)
    lock.release()
    thread.join()
    assert list(samples_of([wait], STARTED_NS, ENDED_NS, 4096, SAMPLE_ID)) == []


def _wait_of(thread: threading.Thread) -> OpenWait:
    while True:
        for wait in waits_open_now([os.getpid()]):
            if wait.tid == thread.native_id and wait.is_still_open():
                key = layout.KEY.pack(wait.address, os.getpid(), 0)
                return dataclasses.replace(wait, key=key, start_ns=WAIT_NS)


def test_every_word_has_its_turn_before_any_has_two() -> None:
    """Of the records that the limit allows."""
    from sampler.futex.open_waits import _in_turns  # pyright: ignore[reportPrivateUsage]

    keys = [struct.pack("<QQ", word, 0) for word in (1, 1, 1, 2, 3, 3)]
    waits = [OpenWait(1, tid, 0, True, 0, 0, {}, key=key) for tid, key in enumerate(keys)]
    ordered = list(_in_turns(waits))
    assert {wait.key for wait in ordered[:3]} == set(keys)
    assert sorted(wait.tid for wait in ordered) == list(range(6))
