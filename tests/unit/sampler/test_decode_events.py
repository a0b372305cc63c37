from __future__ import annotations

import os
import struct
import tempfile

import pytest

from lockflame.events import CommEvent, Event, ExitEvent, FileMapping, ForkEvent, KernelSymbolEvent, MapEvent
from sampler import record_types as types
from sampler.decode import Decoded, decode, decode_spool
from sampler.spool import SampleCounter
from tests.unit.sampler.records import (
    PROT_READ,
    USER,
    comm,
    exit_,
    fork,
    kernel_symbol,
    lost,
    mmap2,
    record,
    sample,
    throttle,
    trailer,
)

BUILD_ID = bytes(range(20))
AUX, SWITCH = 11, 14


def decode_all(*records: bytes) -> Decoded:
    return decode(b"".join(records), has_stacks=False, late_ids={})


def event_of(data: bytes) -> Event:
    decoded = decode_all(data)
    assert decoded.skipped == 0
    (event,) = decoded.events
    return event


@pytest.mark.parametrize(
    ("data", "event"),
    [
        (comm(3, 10, 11, b"worker"), CommEvent(3, 10, 11, "worker", False)),
        (comm(3, 10, 10, b"mariadbd", is_exec=True), CommEvent(3, 10, 10, "mariadbd", True)),
        (comm(3, 10, 10, b""), CommEvent(3, 10, 10, "", False)),
        (comm(3, 10, 10, b"b\xe4r"), CommEvent(3, 10, 10, "b\udce4r", False)),
        (fork(4, 20, 21, 10, 11), ForkEvent(4, 20, 21, 10, 11)),
        (exit_(5, 20, 21), ExitEvent(5, 20, 21)),
        (
            mmap2(6, 10, 0x7000, 0x2000, 0x1000, b"/lib/libc.so.6", (8, 1, 77)),
            MapEvent(6, 10, FileMapping(0x7000, 0x9000, 0x1000, "/lib/libc.so.6", (8, 1), 77, pid=10)),
        ),
        (
            mmap2(6, 10, 0x7000, 0x2000, 0x1000, b"/lib/libc.so.6", BUILD_ID),
            MapEvent(6, 10, FileMapping(0x7000, 0x9000, 0x1000, "/lib/libc.so.6", build_id=BUILD_ID.hex(), pid=10)),
        ),
        (
            mmap2(6, 10, 0x7000, 0x2000, 0, b"//anon", (0, 0, 0)),
            MapEvent(6, 10, FileMapping(0x7000, 0x9000, 0, "//anon", pid=10)),
        ),
        (
            kernel_symbol(7, 0xFFFFFFFFC0000000, 300, b"bpf_prog_6deef7357e7b4530_f"),
            KernelSymbolEvent(7, 0xFFFFFFFFC0000000, 300, "bpf_prog_6deef7357e7b4530_f", False),
        ),
        (kernel_symbol(7, 1 << 63, 8, b"f", flags=1), KernelSymbolEvent(7, 1 << 63, 8, "f", True)),
    ],
)
def test_event(data: bytes, event: Event) -> None:
    assert event_of(data) == event


@pytest.mark.parametrize(("size", "name"), [(0, b"f"), (8, b"")])
def test_kernel_code_without_a_size_or_name_says_nothing(size: int, name: bytes) -> None:
    decoded = decode_all(kernel_symbol(7, 1 << 63, size, name))
    assert (decoded.events, decoded.skipped) == ((), 0)


def test_a_short_build_id_is_not_filled_up() -> None:
    event = event_of(mmap2(6, 10, 0x7000, 0x2000, 0, b"/x", b"\xab\xcd"))
    assert isinstance(event, MapEvent)
    assert event.mapping.build_id == "abcd"


def test_a_build_id_that_nobody_asked_for_is_a_device_and_inode() -> None:
    """Another program's event makes the kernel set the bit in ours."""
    asked = decode_all(mmap2(6, 10, 0x7000, 0x2000, 0x1000, b"/lib/x", BUILD_ID))
    record = bytearray(mmap2(6, 10, 0x7000, 0x2000, 0x1000, b"/lib/x", (8, 1, 77)))
    record[4:6] = mmap2(6, 10, 0x7000, 0x2000, 0x1000, b"/lib/x", BUILD_ID)[4:6]
    decoded = decode(bytes(record), has_stacks=False, late_ids={}, build_ids=False)
    assert decoded.events == (MapEvent(6, 10, FileMapping(0x7000, 0x9000, 0x1000, "/lib/x", (8, 1), 77, pid=10)),)
    assert asked.events != decoded.events


def test_a_path_may_hold_any_byte() -> None:
    event = event_of(mmap2(6, 10, 0x7000, 0x2000, 0, b"/tmp/\xff\n x"))
    assert isinstance(event, MapEvent)
    assert os.fsencode(event.mapping.path) == b"/tmp/\xff\n x"


def test_mappings_that_are_not_executable_are_left_out() -> None:
    decoded = decode_all(mmap2(6, 10, 0x7000, 0x2000, 0, b"/data", protection=PROT_READ))
    assert (decoded.events, decoded.skipped) == ((), 0)


def test_events_are_ordered_by_time_and_stay_in_order_at_one_time() -> None:
    decoded = decode_all(exit_(9, 1, 1), comm(2, 1, 1, b"a"), comm(2, 1, 1, b"b"), fork(1, 2, 2, 1, 1))
    assert [event.time_ns for event in decoded.events] == [1, 2, 2, 9]
    assert [event.comm for event in decoded.events if isinstance(event, CommEvent)] == ["a", "b"]


def test_lost_records_and_throttling_are_counted() -> None:
    decoded = decode_all(lost(3), throttle(), lost(4), throttle(types.RECORD_UNTHROTTLE), throttle())
    assert (decoded.lost, decoded.throttled, decoded.skipped, decoded.events) == (7, 2, 0, ())


@pytest.mark.parametrize("kind", [0, AUX, SWITCH, 2**32 - 1])
def test_unknown_kinds_are_stepped_over(kind: int) -> None:
    decoded = decode_all(record(kind, bytes(72)), comm(1, 1, 1, b"next"))
    assert len(decoded.events) == 1
    assert decoded.skipped == 0


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(record(types.RECORD_COMM, bytes(24)), id="no-room-for-the-trailer"),
        pytest.param(record(types.RECORD_MMAP2, trailer(1)), id="mmap-of-a-trailer-alone"),
        pytest.param(record(types.RECORD_LOST, bytes(8)), id="lost-without-a-count"),
    ],
)
def test_an_event_that_is_too_short_is_skipped_and_the_next_is_read(bad: bytes) -> None:
    decoded = decode_all(bad, comm(1, 1, 1, b"next"))
    assert decoded.skipped == 1
    assert len(decoded.events) == 1


@pytest.mark.parametrize("kind", [types.RECORD_COMM, types.RECORD_FORK, types.RECORD_EXIT, types.RECORD_KSYMBOL])
def test_a_trailer_is_not_read_as_the_fields_before_it(kind: int) -> None:
    decoded = decode_all(record(kind, trailer(1, 4, 5)))
    assert (decoded.events, decoded.skipped) == ((), 1)


def test_a_spool_file_is_decoded_as_its_bytes_are() -> None:
    records = [sample(time_ns=2, chain=(USER, 5)), comm(1, 1, 1, b"name"), lost(1)]
    with tempfile.TemporaryFile(buffering=0) as spool:
        spool.write(b"".join(records))
        decoded = decode_spool(spool, False, {})
    assert decoded.samples.user[0].tolist() == [5]
    assert (len(decoded.events), decoded.lost) == (1, 1)


def test_an_empty_spool_file_has_no_samples() -> None:
    with tempfile.TemporaryFile(buffering=0) as spool:
        assert len(decode_spool(spool, True, {}).samples) == 0


def test_counter_follows_a_growing_spool_by_whole_headers() -> None:
    with tempfile.TemporaryFile(buffering=0) as spool:
        counter = SampleCounter(spool.fileno())
        assert counter.count() == 0
        spool.write(sample() + lost(1) + sample()[:20])
        assert counter.count() == 2
        spool.write(sample()[20:] + sample())
        assert counter.count() == 3
        assert counter.count() == 3


def test_counter_ends_on_a_size_of_zero() -> None:
    with tempfile.TemporaryFile(buffering=0) as spool:
        spool.write(struct.pack("<IHH", 9, 0, 0) * 4)
        assert SampleCounter(spool.fileno()).count() == 4
