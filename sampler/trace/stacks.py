"""Whole user stacks for what programs in the kernel see: they have perf copy registers and the top of the stack.

A program says `samples.perf_submit(ctx, &sample, sizeof sample)` with 60 bytes of its own, by which the reader finds
what the stack belongs to. What tells of mappings comes through the same rings: of all processes from the beginning on.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass

from lockflame.events import Event, ProcessSnapshot
from lockflame.samples import SampleTable
from sampler import perf_event, procfs
from sampler.attach import USER_REGISTERS_MASK, online_cpus, open_rings, raise_file_limit
from sampler.bpf.syscall import Map
from sampler.decode import decode
from sampler.perf_event import AttrFlags, PerfEventAttr, SampleFields
from sampler.ring import RingBuffer
from sampler.spool import open_spool

STACK_BYTES = 16384
RING_BYTES_LEAST, RING_BYTES_MOST = 512 << 10, 4 << 20
RING_BYTES_TOTAL = 32 << 20
RAW_BYTES = 60

OUTPUT_FIELDS = (
    SampleFields.IDENTIFIER
    | SampleFields.IP
    | SampleFields.TID
    | SampleFields.TIME
    | SampleFields.CPU
    | SampleFields.PERIOD
    | SampleFields.CALLCHAIN
    | SampleFields.RAW
    | SampleFields.REGS_USER
    | SampleFields.STACK_USER
)
OUTPUT_FLAGS = (
    AttrFlags.DISABLED
    | AttrFlags.MMAP
    | AttrFlags.MMAP2
    | AttrFlags.COMM
    | AttrFlags.COMM_EXEC
    | AttrFlags.TASK
    | AttrFlags.SAMPLE_ID_ALL
    | AttrFlags.USE_CLOCKID
)


@dataclass(frozen=True, slots=True)
class StackBatch:
    """The stacks that were taken since the last batch, and what happened to processes meanwhile.

    `raw` has the program's own 60 bytes of each sample, in the order of the samples, which is that of time.
    """

    samples: SampleTable
    raw: tuple[bytes, ...]
    events: tuple[Event, ...]
    lost: int
    """Stacks, and pieces of news of processes, that the kernel had no room for."""
    skipped: int
    """Records that couldn't be read."""


class StackRings:
    """A ring buffer for each CPU, and the events by which programs put stacks there; from `start` to `close`."""

    def __init__(self, output: Map, stack_bytes: int = STACK_BYTES) -> None:
        """`output` is the programs' BPF_PERF_OUTPUT. Raises `LockflameError` and `OSError`."""
        self._stack_bytes = stack_bytes
        self._ids: set[int] = set()
        self._descriptors: list[int] = []
        self._rings: list[RingBuffer] = []
        raise_file_limit()
        self._spool = open_spool()
        try:
            cpus = online_cpus()
            self._rings = open_rings(cpus, ring_bytes(len(cpus)))
            for ring in self._rings:
                self._open_output(output, ring)
        except BaseException:
            self.close()
            raise

    def start(self) -> tuple[ProcessSnapshot, ...]:
        """Enables them; returns what all processes have mapped now."""
        for descriptor in self._descriptors:
            fcntl.ioctl(descriptor, perf_event.IOC_ENABLE, 0)
        # After enabling, so that no mapping falls between this look and the first event.
        return process_snapshots()

    def read(self) -> StackBatch:
        """What came since the last call. The columns hold bytes of their own. Raises `OSError`."""
        spool = self._spool.fileno()
        for ring in self._rings:
            ring.drain(spool)
        content = os.pread(spool, os.fstat(spool).st_size, 0)
        os.ftruncate(spool, 0)
        os.lseek(spool, 0, os.SEEK_SET)
        decoded = decode(content, has_stacks=True, late_ids={}, raw_ids=self._ids)
        # A word of 4 bytes with their size stands in front of a program's bytes.
        raw = tuple(row.tobytes()[4 : 4 + RAW_BYTES] for row in decoded.raw)
        return StackBatch(decoded.samples, raw, decoded.events, decoded.lost, decoded.skipped)

    def close(self) -> None:
        """Ends all events and gives the buffers up."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        for ring in self._rings:
            ring.close()
        self._descriptors, self._rings = [], []
        self._spool.close()

    def _open_output(self, output: Map, ring: RingBuffer) -> None:
        attr = PerfEventAttr(
            type=perf_event.PERF_TYPE_SOFTWARE,
            config=perf_event.PERF_COUNT_SW_BPF_OUTPUT,
            sample_freq=1,  # as a period: each one counts
            sample_type=OUTPUT_FIELDS,
            flags=OUTPUT_FLAGS,
            sample_regs_user=USER_REGISTERS_MASK,
            sample_stack_user=self._stack_bytes,
            clockid=perf_event.CLOCK_MONOTONIC,
        )
        descriptor = perf_event.open_event(attr, -1, ring.cpu)
        self._descriptors.append(descriptor)
        perf_event.redirect_output(descriptor, ring.descriptor)
        self._ids.add(perf_event.event_id(descriptor))
        output.put(ring.cpu.to_bytes(4, "little"), descriptor.to_bytes(4, "little"))


def ring_bytes(cpus: int) -> int:
    """A ring buffer's size, a power of two: so much that all of them together stay within bounds."""
    size = RING_BYTES_MOST
    while size * cpus > RING_BYTES_TOTAL and size > RING_BYTES_LEAST:
        size //= 2
    return size


def process_snapshots() -> tuple[ProcessSnapshot, ...]:
    """What all processes have mapped; threads of the kernel have nothing, and are left out."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return tuple(process for process in map(procfs.snapshot, pids) if process.mappings)
