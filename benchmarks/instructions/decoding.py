"""Decoding: a spool of perf records, written by code."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.instructions.part import Input, Part, check
from sampler.decode import decode
from tests.unit.sampler.records import KERNEL, USER, UserState, comm, exit_, fork, mmap2, sample

SAMPLES = 12_000
SAMPLES_PER_EVENT = 6
"""A server that starts threads and maps libraries all the time."""
STACK_WORDS = 64
"""The decoder doesn't look into stack copies: small ones do."""
PID = 4000


def make(_: Path, samples: int, seed: int) -> Input:
    """Samples with chains of both kinds and a stack copy, and records of each kind of event between them."""
    random = np.random.default_rng(seed)
    depths = random.integers(3, 30, (samples, 2)).tolist()
    kernel_code = (random.integers(0, 1 << 24, 64).astype(np.uint64) + np.uint64(0xFFFF_FFFF_8100_0000)).tolist()
    user_code = (random.integers(0, 1 << 24, 64).astype(np.uint64) + np.uint64(0x7F00_0000_0000)).tolist()
    state = UserState(stack=range(STACK_WORDS))
    records: list[bytes] = []
    for number, (kernel, user) in enumerate(depths):
        time_ns = number * 1000
        tid = PID + number % 50
        chain = (KERNEL, *kernel_code[:kernel], USER, *user_code[:user])
        records.append(sample(time_ns, PID, tid, number % 8, 10_101_010, chain, state))
        if number % SAMPLES_PER_EVENT == 0:
            records.append(_event(number // SAMPLES_PER_EVENT, time_ns))
    spool = b"".join(records)
    events = -(-samples // SAMPLES_PER_EVENT)
    addresses = sum(map(sum, depths))

    def work() -> None:
        decoded = decode(spool, True, {})
        found = len(decoded.samples.kernel.addresses) + len(decoded.samples.user.addresses)
        check(len(decoded.samples) == samples and decoded.skipped == 0, "samples were skipped")
        check(len(decoded.events) == events and found == addresses, "events or addresses are missing")

    return Input(samples + events, work)


def _event(number: int, time_ns: int) -> bytes:
    tid = PID + 100 + number
    kinds = (
        lambda: mmap2(time_ns, PID, 0x7F10_0000_0000 + number * 0x10000, 0x8000, 0, b"/usr/lib/lib%d.so" % number),
        lambda: comm(time_ns, PID, tid, b"worker-%d" % number),
        lambda: fork(time_ns, PID, tid, PID, PID),
        lambda: exit_(time_ns, PID, tid),
    )
    return kinds[number % len(kinds)]()


PART = Part(
    "decode",
    "record",
    f"{SAMPLES:,} samples, a thread's or mapping's event for every {SAMPLES_PER_EVENT}",
    SAMPLES,
    make,
)
