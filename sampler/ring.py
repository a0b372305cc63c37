"""One CPU's ring buffer: the kernel writes records, `drain` moves them to the spool file."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os

from sampler import perf_event
from sampler.perf_event import AttrFlags, PerfEventAttr, SampleFields

# struct perf_event_mmap_page: data_head and data_tail follow 1 KiB of other fields.
HEAD_OFFSET = 1024
TAIL_OFFSET = 1032
MIN_PAGES = 16


class RingBuffer:
    """A buffer that all events of one CPU write into.

    It belongs to an event of our own process that counts nothing: an event of the target would hang
    up (EPOLLHUP, again and again) as soon as its thread ends.
    """

    def __init__(self, cpu: int, pages: int) -> None:
        """Maps `pages` (a power of two) pages, or fewer where the locked memory allows no more.

        Raises `OSError`.
        """
        self.cpu = cpu
        self.fullest_bytes = 0
        """The most that one drain found waiting: near `size`, records were likely lost."""
        self.descriptor = perf_event.open_event(_dummy_attr(AttrFlags.DISABLED | AttrFlags.COMM), 0, cpu)
        try:
            self._map, pages = _map_pages(self.descriptor, pages)
        except OSError:
            os.close(self.descriptor)
            raise
        self._watch = _watch_kernel_code(cpu, self.descriptor)
        self.size = pages * mmap.PAGESIZE
        self._data = memoryview(self._map)[mmap.PAGESIZE :]
        self._head = ctypes.c_uint64.from_buffer(self._map, HEAD_OFFSET)
        self._tail = ctypes.c_uint64.from_buffer(self._map, TAIL_OFFSET)

    def drain(self, spool: int) -> int:
        """Appends all waiting records to the file `spool` and frees their room; returns the bytes moved.

        The kernel moves the head by whole records, so that a drain never splits one. Reading the head
        before the data needs no barrier on x86, which keeps loads in order. Raises `OSError`; then the
        spool is as before.
        """
        head = self._head.value
        tail = self._tail.value
        waiting = head - tail
        if not waiting:
            return 0
        start = tail % self.size
        first = min(waiting, self.size - start)
        pieces = [self._data[start : start + first], self._data[: waiting - first]]
        _append(spool, pieces)
        # As full as it is by now: writing may have taken long.
        self.fullest_bytes = max(self.fullest_bytes, self._head.value - tail)
        self._tail.value = head
        return waiting

    def flush_lost(self) -> None:
        """Makes the kernel report what it dropped at last.

        It writes a LOST record only in front of the next record that fits. So this thread goes to the
        buffer's CPU and names itself as it was named, for which the owner event has a COMM record written.
        """
        with open("/proc/thread-self/comm", "rb") as file:
            comm = file.read().rstrip(b"\n")
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.cpu})
        try:
            fcntl.ioctl(self.descriptor, perf_event.IOC_ENABLE, 0)
            perf_event.set_own_comm(comm)
        finally:
            os.sched_setaffinity(0, allowed)

    def close(self) -> None:
        """Unmaps the buffer and closes its event."""
        del self._head, self._tail
        self._data.release()
        self._map.close()
        if self._watch is not None:
            os.close(self._watch)
        os.close(self.descriptor)


def _dummy_attr(flags: AttrFlags) -> PerfEventAttr:
    """An event that counts nothing, for the records that `flags` ask for."""
    # A watermark of 0 wakes the reader whenever half of the buffer has been filled (kernel/events/ring_buffer.c).
    return PerfEventAttr(
        type=perf_event.PERF_TYPE_SOFTWARE,
        config=perf_event.PERF_COUNT_SW_DUMMY,
        sample_type=SampleFields.IDENTIFIER | SampleFields.TID | SampleFields.TIME | SampleFields.CPU,
        flags=flags
        | AttrFlags.EXCLUDE_KERNEL
        | AttrFlags.EXCLUDE_HV
        | AttrFlags.WATERMARK
        | AttrFlags.SAMPLE_ID_ALL
        | AttrFlags.USE_CLOCKID,
        clockid=perf_event.CLOCK_MONOTONIC,
    )


def _watch_kernel_code(cpu: int, ring_descriptor: int) -> int | None:
    """Has the kernel say what code it makes and gives up at run time on a CPU, such as BPF programs.

    It tells that to events of the thread that has it done, and to those of a whole CPU (perf_iterate_sb in
    kernel/events/core.c), which need CAP_PERFMON or kernel.perf_event_paranoid below 1. None where it isn't granted,
    or not known (before 5.1); then code that is given up before the recording's end has no name.
    """
    try:
        descriptor = perf_event.open_event(_dummy_attr(AttrFlags.KSYMBOL), -1, cpu)
    except OSError:
        return None
    try:
        perf_event.redirect_output(descriptor, ring_descriptor)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _map_pages(descriptor: int, pages: int) -> tuple[mmap.mmap, int]:
    while True:
        try:
            return mmap.mmap(descriptor, (1 + pages) * mmap.PAGESIZE), pages
        except OSError as error:
            # EPERM: more than perf_event_mlock_kb and RLIMIT_MEMLOCK allow; ENOMEM: no room.
            if error.errno not in (errno.EPERM, errno.ENOMEM) or pages <= MIN_PAGES:
                raise
            pages //= 2


def _append(descriptor: int, pieces: list[memoryview]) -> None:
    appended = 0
    try:
        for piece in pieces:
            end = appended + len(piece)
            while appended < end:
                appended += os.write(descriptor, piece[appended - end :])
    except OSError:
        # Half a record would hide all that might still come after it.
        os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_CUR) - appended)
        os.lseek(descriptor, 0, os.SEEK_END)
        raise
