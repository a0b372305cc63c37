"""What a recording with locks has beyond one without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lockflame.profile import RecordingInfo
from lockflame.samples import Recording
from sampler.decode import Decoded
from sampler.futex.decode import DecodedLocks, decode_locks
from sampler.futex.probes import RawLocks


def with_locks(
    recording: Recording, info: RecordingInfo, raw: RawLocks, decoded: Decoded, started_ns: int, ended_ns: int
) -> tuple[Recording, RecordingInfo]:
    """The recording with its locks, and what is to be known about them."""
    locks = decode_locks(raw, decoded, started_ns, ended_ns)
    return (
        replace(recording, lock_columns=locks.columns, locks=locks.words, memory_maps=raw.maps),
        replace(
            info,
            probes=raw.probes,
            waits_left_out=locks.waits_left_out,
            waits_unseen=locks.waits_unseen,
            notes=(*info.notes, *_notes(raw, locks)),
        ),
    )


def _notes(raw: RawLocks, locks: DecodedLocks) -> Iterator[str]:
    if locks.waits_left_out:
        yield (
            f"{locks.waits_left_out:,} waits were on more futex words than the table in the kernel has room for: "
            "they are in the totals, together as one lock."
        )
    if raw.losses["no_thread_entry"]:
        yield (
            f"{raw.losses['no_thread_entry']:,} waits were not followed, because more threads waited than the table in "
            "the kernel has room for: totals are too low."
        )
    if raw.losses["missed_end"]:
        yield f"The end of {raw.losses['missed_end']:,} waits was missed: their time is not in the totals."
    if raw.losses["no_place_entry"]:
        yield (
            "The numbers of threads are too low, and paths less exact: there were more of both than the table in the "
            "kernel has room for."
        )
    if raw.losses["no_target_entry"]:
        yield f"{raw.losses['no_target_entry']:,} child processes were not followed: there were too many."
