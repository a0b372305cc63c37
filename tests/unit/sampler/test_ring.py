"""The ring buffer with the kernel at its other end: most of these are skipped where perf is refused."""

from __future__ import annotations

import errno
import os
import resource
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lockflame.events import CommEvent
from sampler import perf_event
from sampler.attach import online_cpus
from sampler.decode import Decoded, decode
from sampler.recorder import RING_BYTES_LEAST, RING_BYTES_MOST, ring_bytes
from sampler.ring import MIN_PAGES, RingBuffer

COMM_RECORD_BYTES = 8 + 8 + 16 + 32
"""Header, pid and tid, a name of 8 to 15 bytes, trailer."""
OVER_FULL = 2000


@pytest.fixture
def ring() -> Iterator[RingBuffer]:
    """This thread's CPU's ring, in which each new name of this thread becomes a record."""
    allowed = os.sched_getaffinity(0)
    cpu = min(allowed)
    with open("/proc/thread-self/comm", "rb") as file:
        comm = file.read().rstrip(b"\n")
    try:
        ring = RingBuffer(cpu, MIN_PAGES)
    except OSError as error:
        pytest.skip(f"perf_event_open is refused: {error}")
    os.sched_setaffinity(0, {cpu})
    perf_event.enable_own_events()
    try:
        yield ring
    finally:
        perf_event.disable_own_events()
        perf_event.set_own_comm(comm)
        os.sched_setaffinity(0, allowed)
        ring.close()


def write_records(numbers: range) -> None:
    for number in numbers:
        perf_event.set_own_comm(b"name%07d" % number)


def drained(ring: RingBuffer) -> bytes:
    with tempfile.TemporaryFile(buffering=0) as spool:
        moved = ring.drain(spool.fileno())
        spool.seek(0)
        content = spool.read()
    assert len(content) == moved
    return content


def names_in(content: bytes) -> list[str]:
    decoded = decode_whole(content)
    return [event.comm for event in decoded.events if isinstance(event, CommEvent)]


def decode_whole(content: bytes) -> Decoded:
    decoded = decode(content, False, {})
    assert decoded.skipped == 0
    return decoded


def names(numbers: range) -> list[str]:
    return [f"name{number:07d}" for number in numbers]


def test_nothing_waits_in_a_fresh_ring(ring: RingBuffer) -> None:
    assert drained(ring) == b""
    assert ring.fullest_bytes == 0


def test_records_come_out_whole_over_many_wraps(ring: RingBuffer) -> None:
    # 300 is no divisor of the size, so that the end of the buffer falls anywhere in a drain.
    batches = [range(start, start + 300) for start in range(0, 300 * 40, 300)]
    content = b""
    for batch in batches:
        write_records(batch)
        content += drained(ring)
    assert len(content) > 5 * ring.size
    assert names_in(content) == [name for batch in batches for name in names(batch)]


def test_a_drain_says_how_full_the_ring_was(ring: RingBuffer) -> None:
    write_records(range(10))
    drained(ring)
    write_records(range(3))
    drained(ring)
    assert ring.fullest_bytes == 10 * COMM_RECORD_BYTES


def test_what_did_not_fit_is_reported_as_lost(ring: RingBuffer) -> None:
    write_records(range(OVER_FULL))
    kept = decode_whole(drained(ring))
    assert 0 < len(kept.events) < OVER_FULL
    assert kept.lost == 0
    ring.flush_lost()
    rest = decode_whole(drained(ring))
    assert len(kept.events) + rest.lost == OVER_FULL


def test_flushing_leaves_the_thread_as_it_was(ring: RingBuffer) -> None:
    perf_event.set_own_comm(b"as it was")
    allowed = os.sched_getaffinity(0)
    ring.flush_lost()
    with open("/proc/thread-self/comm", "rb") as file:
        assert file.read() == b"as it was\n"
    assert os.sched_getaffinity(0) == allowed


def test_a_write_that_takes_a_part_is_continued(ring: RingBuffer) -> None:
    """A pipe takes less than asked when a signal interrupts the write."""
    write_records(range(900))
    read_end, write_end = os.pipe()
    received: list[bytes] = []

    def read_slowly() -> None:
        while piece := os.read(read_end, 1000):
            received.append(piece)

    reader = threading.Thread(target=read_slowly)
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        reader.start()
        for start in range(900, 9000, 900):
            ring.drain(write_end)
            write_records(range(start, start + 900))
        ring.drain(write_end)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        os.close(write_end)
        reader.join()
        os.close(read_end)
    assert [name for name in names_in(b"".join(received)) if name.startswith("name")] == names(range(9000))


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_spool_ends_with_a_whole_record(ring: RingBuffer) -> None:
    write_records(range(100))
    with tempfile.TemporaryFile(buffering=0) as spool:
        limit = file_size_limit(50 * COMM_RECORD_BYTES + 20)
        with limit, pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            ring.drain(spool.fileno())
        ring.drain(spool.fileno())
        spool.seek(0)
        assert names_in(spool.read())[:100] == names(range(100))


def test_closing_leaves_no_file_open() -> None:
    before = os.listdir("/proc/self/fd")
    try:
        ring = RingBuffer(online_cpus()[0], MIN_PAGES)
    except OSError as error:
        pytest.skip(f"perf_event_open is refused: {error}")
    ring.close()
    assert os.listdir("/proc/self/fd") == before


def test_a_ring_does_without_the_kernels_own_code_where_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for an unprivileged user, who may watch no whole CPU, and on kernels that don't know the flag."""
    open_event = perf_event.open_event

    def refuse_whole_cpus(attr: perf_event.PerfEventAttr, pid: int, cpu: int) -> int:
        if pid == -1:
            raise PermissionError(errno.EACCES, "refused")
        return open_event(attr, pid, cpu)

    monkeypatch.setattr(perf_event, "open_event", refuse_whole_cpus)
    try:
        ring = RingBuffer(online_cpus()[0], MIN_PAGES)
    except OSError as error:
        pytest.skip(f"perf_event_open is refused: {error}")
    assert drained(ring) == b""
    ring.close()


@pytest.mark.parametrize("frequency_hz", [1, 99, 999, 49_999, 10**6])
@pytest.mark.parametrize("stack_bytes", [0, 16_384, 65_528])
@pytest.mark.parametrize("cpus", [1, 2, 64, 1024])
def test_size_of_a_ring_is_a_power_of_two_within_bounds(frequency_hz: int, stack_bytes: int, cpus: int) -> None:
    size = ring_bytes(frequency_hz, stack_bytes, cpus)
    assert size.bit_count() == 1
    assert RING_BYTES_LEAST <= size <= RING_BYTES_MOST


def test_own_cpu_is_online() -> None:
    assert set(online_cpus()) >= os.sched_getaffinity(0)
