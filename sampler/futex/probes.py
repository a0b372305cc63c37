"""Follows lock waits in the kernel: has programs count and sample them, and reads what they counted."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from dataclasses import dataclass

from lockflame.errors import LockflameError
from sampler import perf_event, procfs
from sampler.bpf import syscall
from sampler.bpf.hooks import IOC_SET_BPF
from sampler.bpf.refusals import refusal
from sampler.futex import layout
from sampler.futex.attachment import WHAT, Attachment, ProbeKind
from sampler.futex.open_waits import OpenWait, samples_of, waits_open_now
from sampler.futex.unseen import is_32_bit, is_in_our_pid_namespace, note_of_32_bit, note_of_inner
from sampler.perf_event import PerfEventAttr
from sampler.ring import RingBuffer

FIRST_PERIOD_NS = 10_000_000
FAMILY_SCANS = 3
NOTICE_NS = 200_000


@dataclass(frozen=True, slots=True)
class RawLocks:
    """What the programs counted, undecoded: see `layout` for the entries, (key, value) each.

    `places` has all keys and all values, one after the other.

    `sample_ids` are in the samples' IDENTIFIER; `maps` has /proc/PID/maps of the processes; `inner_tids` the threads'
    ids in their own pid namespace, where that is another one: (pid, id there) to tid here; `threads` all (pid, tid)
    that live at the end.
    """

    entries: tuple[tuple[bytes, bytes], ...]
    places: tuple[bytes, bytes]
    rest: bytes
    losses: dict[str, int]
    open_waits: tuple[OpenWait, ...]
    families: dict[int, int]
    sample_ids: frozenset[int]
    maps: dict[int, bytes]
    inner_tids: dict[tuple[int, int], int]
    threads: frozenset[tuple[int, int]]
    probes: str


class FutexProbes:
    """The probes of one recording: attached on creation, counting between `start` and `finish`."""

    def __init__(
        self, pid: int, kind: ProbeKind, frequency_hz: int, attr: PerfEventAttr, rings: list[RingBuffer]
    ) -> None:
        """Attaches for process `pid` and its children. Samples go into the rings, with the fields of `attr`.

        `attr` is that of CPU samples, system-wide: they are filtered here, and enabled with all else.

        Raises `LockflameError`; then nothing is left attached.
        """
        self._pid = pid
        self._interval_ns = 10**9 // frequency_hz
        self._in_namespace = procfs.is_in_pid_namespace()
        self._outputs: list[int] = []
        self._sample_ids: set[int] = set()
        self._started_ns = 0
        self._32_bit: set[int] = set()
        self._inner: set[int] = set()
        try:
            self._attachment = Attachment(kind, max(ring.cpu for ring in rings) + 1, in_namespace=self._in_namespace)
        except OSError as error:
            raise refusal(error, WHAT) from error
        try:
            self._set_control(layout.NEVER_NS, layout.NEVER_NS)
            self._set_budgets()
            self._open_outputs(attr, rings)
            self._open_cpu_samplers(attr, rings)
            self._seed()
        except OSError as error:
            self.close()
            raise refusal(error, WHAT) from error
        except BaseException:
            self.close()
            raise

    def prepare(self) -> None:
        """Takes down which threads wait already: what of that falls into the recording counts."""
        threads = self._maps["threads"]
        for wait in waits_open_now(procfs.family(self._pid)):
            target = self._maps["targets"].get(wait.pid.to_bytes(4, "little"))
            if target is None:
                continue
            tid = wait.tid.to_bytes(4, "little")
            try:
                threads.put(tid, wait.entry(*layout.TARGET.unpack(target)), syscall.UPDATE_NOEXIST)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.E2BIG):
                    raise
                continue
            # It may have ended between the look and the entry, and begun to do something else.
            if not wait.is_still_open():
                threads.delete(tid)

    def start(self, started_ns: int) -> None:
        """Counts from now on."""
        self._started_ns = started_ns
        self._set_control(started_ns, layout.NEVER_NS)
        for descriptor in self._outputs:
            fcntl.ioctl(descriptor, perf_event.IOC_ENABLE, 0)

    def end(self) -> int:
        """Ends the counting; returns when that was, by CLOCK_MONOTONIC."""
        # Said beforehand, so that all programs on all CPUs agree on what was before.
        ended_ns = time.monotonic_ns() + NOTICE_NS
        self._set_control(self._started_ns, ended_ns)
        time.sleep(NOTICE_NS / 1e9)
        return ended_ns

    def finish(self, ended_ns: int, stack_bytes: int) -> tuple[RawLocks, list[bytes]]:
        """Detaches; returns what was counted, and samples of the waits that were open at the end."""
        self._attachment.detach()
        self._note_unseen()
        entries = self._maps["threads"].items()
        waits = (OpenWait.from_entry(int.from_bytes(tid, "little"), value) for tid, value in entries)
        open_waits = tuple(wait for wait in waits if 0 < wait.start_ns < ended_ns)
        records = samples_of(open_waits, self._started_ns, ended_ns, stack_bytes, min(self._sample_ids))
        return self._counted(open_waits), list(records)

    def _counted(self, open_waits: tuple[OpenWait, ...]) -> RawLocks:
        maps = self._maps
        losses = {
            name: int.from_bytes(maps["losses"].get(number.to_bytes(4, "little")) or b"", "little")
            for number, name in enumerate(layout.LOSSES)
        }
        targets = {int.from_bytes(key, "little"): layout.TARGET.unpack(value) for key, value in maps["targets"].items()}
        return RawLocks(
            entries=tuple(maps["locks"].items()),
            places=maps["places"].dump(),
            rest=maps["rest"].get(bytes(4)) or b"",
            losses=losses,
            open_waits=open_waits,
            families={family: pid for pid, (_, family, _, _) in targets.items()},
            sample_ids=self.sample_ids,
            maps=procfs.memory_maps(targets),
            inner_tids=procfs.inner_tids(targets),
            threads=frozenset((pid, tid) for pid in targets for tid in procfs.threads(pid)),
            probes=self._attachment.names,
        )

    @property
    def names(self) -> str:
        """What was attached to, briefly."""
        return self._attachment.names

    @property
    def notes(self) -> list[str]:
        """What the reader of the recording has to know."""
        return self._attachment.notes

    @property
    def sample_ids(self) -> frozenset[int]:
        """What the samples that the programs take have in their IDENTIFIER."""
        return frozenset(self._sample_ids)

    def close(self) -> None:
        """Detaches everything and gives it up."""
        for descriptor in self._outputs:
            os.close(descriptor)
        self._outputs = []
        self._attachment.close()

    @property
    def _maps(self) -> dict[str, syscall.Map]:
        return self._attachment.maps

    def _open_outputs(self, attr: PerfEventAttr, rings: list[RingBuffer]) -> None:
        """An event on each CPU that the programs have samples taken by, with the CPU samples' fields and their own."""
        attr = perf_event.output_attr(attr)
        for ring in rings:
            descriptor = perf_event.open_event(attr, -1, ring.cpu)
            self._outputs.append(descriptor)
            perf_event.redirect_output(descriptor, ring.descriptor)
            self._sample_ids.add(perf_event.event_id(descriptor))
            self._maps["samples"].put(ring.cpu.to_bytes(4, "little"), descriptor.to_bytes(4, "little"))

    def _open_cpu_samplers(self, attr: PerfEventAttr, rings: list[RingBuffer]) -> None:
        for ring in rings:
            descriptor = perf_event.open_event(attr, -1, ring.cpu)
            self._outputs.append(descriptor)
            perf_event.redirect_output(descriptor, ring.descriptor)
            fcntl.ioctl(descriptor, IOC_SET_BPF, self._attachment.cpu_sample_program)

    def _seed(self) -> None:
        """Names the processes to follow. Those that were forked, and run the same program still, are of one family."""
        targets = self._maps["targets"]
        if self._in_namespace and not is_in_our_pid_namespace(self._pid):
            raise LockflameError(
                WHAT, f"process {self._pid} is in another pid namespace than Lockflame", "run it outside of containers"
            )
        for _ in range(FAMILY_SCANS):
            for pid in procfs.family(self._pid):
                if self._in_namespace and not is_in_our_pid_namespace(pid):
                    self._inner.add(pid)
                    continue
                key = pid.to_bytes(4, "little")
                if targets.get(key) is None:
                    with suppress(FileExistsError):
                        entry = layout.TARGET.pack(0, procfs.first_of_program(pid), *procfs.program_code(pid))
                        targets.put(key, entry, syscall.UPDATE_NOEXIST)
                    if is_32_bit(pid):
                        self._32_bit.add(pid)

    def _note_unseen(self) -> None:
        """Notes which processes the probes were blind to, of those that live and those that were seen at the start."""
        known = (int.from_bytes(key, "little") for key, _ in self._maps["targets"].items())
        self._32_bit.update(pid for pid in known if is_32_bit(pid))
        self._attachment.notes += filter(None, (note_of_32_bit(self._32_bit), note_of_inner(self._inner)))

    def _set_budgets(self) -> None:
        for index in range(layout.BUDGETS):
            entry = layout.BUDGET.pack(FIRST_PERIOD_NS, 0, 0, 0)
            self._maps["budgets"].put(index.to_bytes(4, "little"), entry)

    def _set_control(self, started_ns: int, ended_ns: int) -> None:
        namespace = os.stat("/proc/self/ns/pid")
        control = layout.CONTROL.pack(started_ns, ended_ns, self._interval_ns, namespace.st_dev, namespace.st_ino)
        self._maps["this_control"].put(bytes(4), control)
