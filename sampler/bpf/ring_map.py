"""Reads a BPF ring buffer (BPF_MAP_TYPE_RINGBUF, since Linux 5.8), which all CPUs write into in one order.

Its file is mapped as kernel/bpf/ringbuf.c lays it out: a page with the reader's position, a page with the writers',
then the data, twice in a row, so that no record is ever split. Each record has 8 bytes in front: its length, whose top
bits say that it is being written still or was given up, and 4 bytes of the kernel's own.
"""

from __future__ import annotations

import mmap

from sampler.bpf.syscall import Map

BUSY, DISCARDED = 1 << 31, 1 << 30
HEADER_BYTES = 8
READ_MOST_BYTES = 1 << 20


class RingReader:
    """The reading end; `descriptor` can be polled for records."""

    def __init__(self, ring: Map) -> None:
        """Maps a ring of `ring.entries` bytes. Raises `OSError`."""
        page = mmap.PAGESIZE
        self.descriptor = ring.descriptor
        self._mask = ring.entries - 1
        self._own = mmap.mmap(ring.descriptor, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        try:
            self._shared = mmap.mmap(
                ring.descriptor, page + 2 * ring.entries, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
            )
        except OSError:
            self._own.close()
            raise
        self._read_position = memoryview(self._own)[:8].cast("Q")
        self._written_position = memoryview(self._shared)[:8].cast("Q")
        self._data = memoryview(self._shared)[page:]

    def read(self) -> list[bytes]:
        """The records that are whole by now, about `READ_MOST_BYTES` of them at most; makes their room free."""
        records: list[bytes] = []
        at, end = self._read_position[0], self._written_position[0]
        end = min(end, at + READ_MOST_BYTES)
        while at < end:
            start = at & self._mask
            length = int.from_bytes(self._data[start : start + 4], "little")
            if length & BUSY:
                break
            size = length & ~DISCARDED
            start += HEADER_BYTES
            if size == length:
                records.append(bytes(self._data[start : start + size]))
            at += HEADER_BYTES + (size + 7) // 8 * 8
        self._read_position[0] = at
        return records

    def close(self) -> None:
        """Unmaps it; the ring itself is its map's."""
        for view in (self._read_position, self._written_position, self._data):
            view.release()
        self._own.close()
        self._shared.close()
