"""The layouts of `signals.bpf.c`'s structures, for Python. Both files change together."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

CALL_ENTRIES = 16384
"""Calls that are under way at a time."""
THREAD_ENTRIES = 65536
"""Threads of the processes of -p, the first one of each left out."""
RING_PAGES = 2048
"""A power of two; 8 MiB hold some 95,000 signals."""

CONTROL = struct.Struct("<IIIIII")
"""struct control: is_on, sides, with_stacks, only_failed, with_children, is_by_number."""
SIDE_SENDER, SIDE_TARGET = 1, 2
NUMBERS = 65
"""Signals have numbers from 1 to 64; 0 asks only whether a process is there."""
EVENT = struct.Struct("<QIiiiIIiIIBBBx16s16s")
"""struct event, see `SignalEvent`."""
COUNTS = ("ring_full", "no_call_entry", "no_thread_entry", "children_hidden")
"""What `counts` counts, in its order."""

NAMES_KEPT = 256

FLAG_TARGET_IS_OURS, FLAG_HAS_STACK, FLAG_LOST_STACK, FLAG_TO_CHECK_COMM = 1, 2, 4, 8


class Kind(IntEnum):
    """What an event tells."""

    GENERATED = 0
    """A signal was sent to one thread or process."""
    CALL_ENDED = 1
    """A call sent none: it failed, or only asked."""
    OOM_VICTIM = 2
    """The kernel takes the target's memory, which it has just sent SIGKILL."""


class Call(IntEnum):
    """By which system call a signal was sent."""

    NONE = 0
    """By none: by the kernel, or by a 32-bit program, whose calls aren't seen."""
    KILL = 1
    TKILL = 2
    TGKILL = 3
    RT_SIGQUEUEINFO = 4
    RT_TGSIGQUEUEINFO = 5
    PIDFD_SEND_SIGNAL = 6


class Result(IntEnum):
    """What became of a signal that was sent (enum of trace/events/signal.h)."""

    DELIVERED = 0
    IGNORED = 1
    ALREADY_PENDING = 2
    OVERFLOW = 3
    LOST_INFO = 4


class SignalEvent(NamedTuple):
    """One event as the kernel's programs tell it; a tuple, as there may be very many.

    `time_ns` is CLOCK_MONOTONIC's, `code` siginfo's si_code. `result` is a `Result`, or what the call returned, for
    `Kind.CALL_ENDED`. `target` is a thread's id, or, for that kind, what the call was given: a process, 0 or a negative
    number for groups, a descriptor for pidfd_send_signal. `target_pid` is 0 where the programs couldn't tell it.
    The sender is whoever ran at that moment, of the kernel's signals too.
    """

    time_ns: int
    kind: int
    signal: int
    code: int
    result: int
    sender_pid: int
    sender_tid: int
    target: int
    target_pid: int
    machine_tid: int
    call: int
    is_group: int
    flags: int
    sender_comm: str
    target_comm: str

    @property
    def stack_key(self) -> tuple[int, int]:
        """What leads to the sample with the sender's stack: thread and time."""
        return self.machine_tid, self.time_ns

    @property
    def target_is_ours(self) -> bool:
        """Whether the target's number means the same to us."""
        return bool(self.flags & FLAG_TARGET_IS_OURS)


def events_of(records: Iterable[bytes]) -> list[SignalEvent]:
    """The events of the ring's records; those of another size than an event's are left out."""
    return [_event(record) for record in records if len(record) == EVENT.size]


def _event(record: bytes) -> SignalEvent:
    *numbers, sender_comm, target_comm = EVENT.unpack(record)
    return SignalEvent._make((*numbers, text_of(sender_comm), text_of(target_comm)))


@lru_cache(NAMES_KEPT)
def text_of(comm: bytes) -> str:
    """A thread's name out of its 16 bytes; it ends at the first zero, and may be cut within a character."""
    return comm.split(b"\0", 1)[0].decode(errors="replace")
