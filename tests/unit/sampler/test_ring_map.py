"""The reader of a BPF ring buffer, on a file laid out like one."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from sampler.bpf.ring_map import BUSY, DISCARDED, READ_MOST_BYTES, RingReader
from sampler.bpf.syscall import Map

PAGE = mmap.PAGESIZE


class Ring:
    """The writing end of a ring of `size` bytes, in a file."""

    def __init__(self, descriptor: int, size: int, position: int = 0) -> None:
        self.descriptor, self.size, self.position = descriptor, size, position
        os.ftruncate(descriptor, 2 * PAGE + 2 * size)
        os.pwrite(descriptor, struct.pack("<Q", position), 0)
        os.pwrite(descriptor, struct.pack("<Q", position), PAGE)

    def write(self, content: bytes, flags: int = 0) -> None:
        """Appends a record, in both copies of the data."""
        record = struct.pack("<II", len(content) | flags, 0) + content + bytes(-len(content) % 8)
        for index, byte in enumerate(record):
            at = (self.position + index) % self.size
            for copy in (0, self.size):
                os.pwrite(self.descriptor, bytes([byte]), 2 * PAGE + at + copy)
        self.position += len(record)
        os.pwrite(self.descriptor, struct.pack("<Q", self.position), PAGE)

    def finish(self, position: int, length: int) -> None:
        """Ends the writing of the record at a position."""
        for copy in (0, self.size):
            os.pwrite(self.descriptor, struct.pack("<I", length), 2 * PAGE + position % self.size + copy)


@contextmanager
def ring_of(size: int, position: int = 0) -> Iterator[tuple[Ring, RingReader]]:
    """A ring that has had `position` bytes so far, and its reader."""
    descriptor = os.memfd_create("ring")
    try:
        ring = Ring(descriptor, size, position)
        reader = RingReader(Map(descriptor, 0, 0, size))
        try:
            yield ring, reader
        finally:
            reader.close()
    finally:
        os.close(descriptor)


@given(
    st.lists(st.lists(st.tuples(st.binary(max_size=100), st.booleans()), max_size=20), max_size=5),
    st.integers(min_value=0, max_value=1000).map(lambda words: words * 8),
)
def test_records_come_in_order_and_once(batches: list[list[tuple[bytes, bool]]], position: int) -> None:
    with ring_of(PAGE, position) as (ring, reader):
        for batch in batches:
            for content, is_discarded in batch:
                ring.write(content, DISCARDED if is_discarded else 0)
            assert reader.read() == [content for content, is_discarded in batch if not is_discarded]
            assert os.pread(ring.descriptor, 8, 0) == struct.pack("<Q", ring.position)
        assert reader.read() == []


def test_a_record_that_is_being_written_is_waited_for() -> None:
    with ring_of(PAGE) as (ring, reader):
        ring.write(b"first")
        position = ring.position
        ring.write(b"second", BUSY)
        ring.write(b"third")
        assert reader.read() == [b"first"]
        assert reader.read() == []
        ring.finish(position, len(b"second"))
        assert reader.read() == [b"second", b"third"]


def test_one_reading_is_bounded() -> None:
    """Whoever shows what was read shall not wait for an end that never comes."""
    size = 4 * READ_MOST_BYTES
    with ring_of(size) as (ring, reader):
        os.pwrite(ring.descriptor, (struct.pack("<II", 1016, 0) + bytes(1016)) * (size // 1024), 2 * PAGE)
        os.pwrite(ring.descriptor, struct.pack("<Q", size), PAGE)
        counts = [len(reader.read()) for _ in range(5)]
    assert counts == [READ_MOST_BYTES // 1024] * 4 + [0]
