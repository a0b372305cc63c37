"""Profiles with lock waits for the tests of `flame`, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lockflame.profile import (
    CAUSED_DELAY,
    CONTENTIONS,
    CPU,
    DELAY,
    HISTOGRAM_BUCKETS,
    SAMPLES,
    FutexOperation,
    Lock,
    Memory,
    Profile,
    RecordingInfo,
    SampleColumns,
    Thread,
    WaitEnds,
)
from tests.unit.flame.conftest import NS_PER_SAMPLE, profile_of

MS = 1_000_000
WAITING = ("pthread_mutex_lock", "__lll_lock_wait", "__x64_sys_futex[k]", "futex_wait[k]", "schedule[k]")
RELEASING = ("pthread_mutex_unlock", "__x64_sys_futex[k]", "futex_wake[k]")

RECORDING = RecordingInfo(
    command="/usr/sbin/mariadbd --user=mysql",
    pid=4711,
    host="db1",
    kernel="6.1.0",
    started_unix_ns=1_760_000_000_000_000_000,
    duration_ns=10_000_000_000,
    event="cpu-clock",
    frequency_asked_hz=99,
    cpu_time_ns=10_000_000_000,
    samples=1000,
    probes="kprobes do_futex",
    wait_samples=2000,
    holder_samples=1500,
)

Row = tuple[Sequence[str | tuple[str, ...]], str, int, int]
"""Stack root first, the lock's name (empty for CPU samples), the thread's number; ms of wait or, if below 0, of
caused delay, or CPU samples."""


def lock(name: str, **changes: object) -> Lock:
    """A mutex without waits."""
    plain = Lock(
        pid=4711,
        address=0x1000,
        memory=Memory.STATIC,
        symbol=name,
        operation=FutexOperation.WAIT,
        has_owner=True,
        ends=WaitEnds(),
        total_ns=0,
        max_ns=0,
        histogram=(0,) * HISTOGRAM_BUCKETS,
        threads=1,
        name=name,
        kind="mutex",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def lock_profile(
    rows: Sequence[Row], locks: Sequence[Lock], recording: RecordingInfo = RECORDING, *, threads: int = 4
) -> Profile:
    """A profile of these rows. The totals of locks are those of their waits, unless they have some already."""
    base = profile_of([(stack, 0) for stack, *_ in rows], recording)
    numbers = {item.name: index for index, item in enumerate(locks)}
    index = np.array([numbers.get(name, -1) for _, name, _, _ in rows], np.int32)
    amount = np.array([value for *_, value in rows], np.int64)
    zero = np.zeros_like(amount)
    waits, releases = (index >= 0) & (amount >= 0), (index >= 0) & (amount < 0)
    cpu = np.where(index < 0, amount, 0)
    delay, caused = np.where(waits, amount * MS, zero), np.where(releases, -amount * MS, zero)
    values = np.stack((cpu, cpu * NS_PER_SAMPLE, np.where(waits, 10, zero), delay, caused), axis=1)
    totals = [int(values[index == number, 3].sum()) for number in range(len(locks))]
    return replace(
        base,
        sample_types=(SAMPLES, CPU, CONTENTIONS, DELAY, CAUSED_DELAY),
        threads=tuple(Thread(4711, 4711 + number, f"worker{number}") for number in range(threads)),
        samples=SampleColumns(
            np.arange(len(rows), dtype=np.int32), np.array([thread for *_, thread, _ in rows], np.int32), values, index
        ),
        locks=tuple(replace(item, total_ns=item.total_ns or total) for item, total in zip(locks, totals, strict=True)),
    )


OPEN = ("start", "do_command(THD*)", "open_table(THD*, TABLE_LIST*)")
QUERY = ("start", "do_command(THD*)", "THD::set_query(char*)")
COMMIT = ("start", "do_command(THD*)", "trans_commit(THD*)", "ha_commit(THD*)")
PURGE = ("start", "purge_thread", ("inlined_flush", "flush_all()"))

LOCKS = (
    lock("LOCK_open", address=0x10, unreleased_ns=100 * MS),
    lock("lock taken in THD::set_query(char*)", symbol="", address=0x20),
    lock("pool.ready", kind="condition", has_owner=False, address=0x30, is_idle=True),
    lock("queue.full", kind="condition", has_owner=False, address=0x40),
)
ROWS: tuple[Row, ...] = (
    ((*OPEN, "read_frm"), "", 0, 700),
    ((*QUERY, *WAITING[:-1]), "", 1, 300),
    ((*OPEN, *WAITING), "LOCK_open", 0, 6000),
    ((*OPEN, *WAITING), "LOCK_open", 1, 1000),
    ((*QUERY, *WAITING), "LOCK_open", 1, 2000),
    ((*QUERY, *WAITING), "lock taken in THD::set_query(char*)", 1, 900),
    ((), "lock taken in THD::set_query(char*)", 1, 100),
    (("start", "pool_worker", "pthread_cond_wait", "__x64_sys_futex[k]"), "pool.ready", 2, 30_000),
    (("start", "producer", "pthread_cond_wait", "__x64_sys_futex[k]"), "queue.full", 3, 400),
    ((*COMMIT, *RELEASING), "LOCK_open", 1, -5900),
    ((*PURGE, *RELEASING), "LOCK_open", 2, -3000),
    (("start", "consumer", "pthread_cond_signal", "__x64_sys_futex[k]"), "queue.full", 2, -400),
)


def small_profile() -> Profile:
    """Four locks, one of them idle, one without any release."""
    return lock_profile(ROWS, LOCKS)
