"""Joins sampler and symbolizer, which don't know each other: from a raw recording to a profile."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING

from lockflame.profile import Profile, RecordingInfo
from lockflame.samples import Recording
from sampler.containers import containers_of
from sampler.decode import Decoded, decode_spool, of_family
from sampler.limits import paranoid_level
from sampler.recorder import EventCount, RawRecording
from symbolize.symbolizer import symbolize

if TYPE_CHECKING:
    from symbolize.debuginfod import Debuginfod

# Below this share, CPU time that no sample stands for is what random sampling leaves.
UNSAMPLED_SHARE = 0.1
UNSAMPLED_LEAST_NS = 200_000_000
# The kernel's books are kept in ticks of 10 ms.
TICKS_TELL_NS = 500_000_000
SCALE_MOST = 1.5


def profile_of(
    raw: RawRecording,
    pid: int,
    command_line: str,
    *,
    debug_folders: tuple[str, ...] = (),
    debuginfod: Debuginfod | None = None,
) -> Profile:
    """Decodes and symbolizes a recording of process `pid`.

    Debug files are looked for in `debug_folders` first, and at last asked of `debuginfod`, where it is given.
    """
    late_ids: defaultdict[int, set[int]] = defaultdict(set)
    for count in raw.counts:
        if count.late_id is not None:
            late_ids[count.tid].add(count.late_id)
    raw_ids = raw.locks.sample_ids if raw.locks is not None else ()
    decoded = decode_spool(raw.spool, raw.choice.stack_bytes > 0, late_ids, raw_ids, raw.choice.build_ids)
    counts = [count for count in raw.counts if count.late_id is None or count.tid not in decoded.covered_twice]
    ns_per_period = _ns_per_period(raw, counts, int(decoded.samples.period.sum()))
    info = _info(raw, decoded, counts, ns_per_period, pid, command_line)
    events = decoded.events
    if raw.choice.is_system_wide:
        events = tuple(of_family(events, {pid, *(process.pid for process in raw.snapshots)}))
    containers = containers_of(raw.snapshots, events)
    recording = Recording(decoded.samples, events, raw.snapshots, containers)
    if raw.locks is not None:
        from lockflame.cli.lock_profiling import with_locks
        from sampler.futex.probes import RawLocks

        assert isinstance(raw.locks, RawLocks)
        recording, info = with_locks(recording, info, raw.locks, decoded, raw.started_ns, raw.ended_ns)
    profile = symbolize(
        recording,
        info,
        ns_per_period,
        raw.held_files,
        raw.held_jit,
        debug_folders=debug_folders,
        debuginfod=debuginfod,
    )
    if raw.locks is None:
        return profile
    from flame.locks.naming import name_locks
    from flame.locks.rule_file import load_rules

    return name_locks(profile, load_rules())


def _ns_per_period(raw: RawRecording, counts: list[EventCount], sampled: int) -> float:
    """cpu-clock counts nanoseconds; what a cycle took follows from the time that the cycles were counted in.

    `sampled` is the sum of the samples' periods. Where the samples are some of all that were taken on a CPU, how many
    of them fall to the target is a matter of chance, and while a hypervisor takes a CPU away, no timer samples on it:
    the kernel's books tell what they stand for together.
    """
    if raw.cpu_time_ns is not None:
        is_telling = raw.cpu_time_ns >= TICKS_TELL_NS and sampled > 0
        return min(max(raw.cpu_time_ns / sampled, 1 / SCALE_MOST), SCALE_MOST) if is_telling else 1.0
    cycles = sum(count.value for count in counts)
    if not raw.choice.use_hardware or not cycles:
        return 1.0
    return sum(count.time_running_ns for count in counts) / cycles


def _info(
    raw: RawRecording,
    decoded: Decoded,
    counts: list[EventCount],
    ns_per_period: float,
    pid: int,
    command_line: str,
) -> RecordingInfo:
    system = os.uname()
    cpu_time_ns = sum(count.time_running_ns for count in counts) if raw.cpu_time_ns is None else raw.cpu_time_ns
    sampled_ns = int(decoded.samples.period.sum() * ns_per_period)
    if raw.cpu_time_ns is not None and raw.cpu_time_ns <= 0:
        cpu_time_ns = sampled_ns  # the target has ended, and its books are gone
    return RecordingInfo(
        command=command_line,
        pid=pid,
        host=system.nodename,
        kernel=system.release,
        started_unix_ns=raw.started_unix_ns,
        duration_ns=raw.ended_ns - raw.started_ns,
        event=raw.choice.event_name,
        frequency_asked_hz=raw.choice.frequency_hz,
        cpu_time_ns=cpu_time_ns,
        run_delay_ns=raw.run_delay_ns,
        lost=decoded.lost,
        throttled=decoded.throttled,
        skipped=decoded.skipped,
        kernel_frames=raw.choice.kernel_frames,
        stack_bytes=raw.choice.stack_bytes,
        notes=raw.notes + _notes(raw, decoded, cpu_time_ns, sampled_ns),
    )


def _notes(raw: RawRecording, decoded: Decoded, cpu_time_ns: int, sampled_ns: int) -> tuple[str, ...]:
    notes: list[str] = []
    if not raw.choice.kernel_frames:
        notes.append(
            f"Kernel frames were not allowed (kernel.perf_event_paranoid is {paranoid_level()}): run as root, "
            "or allow them with: sysctl kernel.perf_event_paranoid=1"
        )
    unsampled_ns = cpu_time_ns - sampled_ns
    if unsampled_ns > max(UNSAMPLED_LEAST_NS, UNSAMPLED_SHARE * cpu_time_ns):
        notes.append(
            f"{unsampled_ns / 1e9:.1f} s of {cpu_time_ns / 1e9:.1f} s of CPU time have no samples: threads that "
            "ended before their first one (a higher -F sees more of them), samples that were lost, or kernel time "
            "that was not allowed."
        )
    return tuple(notes)
