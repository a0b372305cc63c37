"""Which stacks a busy machine changes most: time in locks and in interrupts.

Threads that don't run at the same time don't meet at a lock: they neither wait for it nor take its cache line from each
other, so all that is spent in locks counts, contended or not. Interrupts are those of all that runs on the CPU: timers,
calls of a thread elsewhere, packets of others. A thread that is to leave its CPU does so on the way back from one.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from flame.locks.attribution import Attribution, Verdict
from lockflame.profile import FrameKind, Location, Profile

# Entries of interrupts in the kernel's code (x86: arch/x86/include/asm/idtentry.h, before 5.8 entry_64.S; ARM:
# arch/arm64/kernel/entry.S). Faults come in other ways: those are the program's own.
_INTERRUPT = re.compile(
    r"(?:asm_)?(?:sysvec_\w+|common_interrupt)"
    r"|(?:smp_)?(?:apic_timer|reschedule|call_function(?:_single)?|irq_work)_interrupt|ret_from_intr|do_IRQ"
    r"|el[01][ht]?_(?:(?:64|32)_)?(?:irq|interrupt)(?:_handler)?"
    r"|irqentry_exit(?:_to_user_mode)?|exit_to_user_mode_(?:loop|prepare)|(?:__)?irq_exit_rcu|(?:__)?do_softirq|handle_softirqs"
)


def exposed_stacks(profile: Profile, attribution: Attribution) -> NDArray[np.bool_]:
    """Which stacks of the profile are such, bool[stacks]. `attribution` is that of its stacks to locks."""
    return (attribution.verdict != Verdict.NONE) | _in_interrupts(profile)


def _in_interrupts(profile: Profile) -> NDArray[np.bool_]:
    found = np.zeros(len(profile.stacks), np.bool_)
    is_entry = np.array([_is_interrupt(profile, location) for location in profile.locations], np.bool_)
    if is_entry.any():
        offsets, locations = profile.stacks.offsets, profile.stacks.locations
        # The stack that holds each such frame.
        found[np.searchsorted(offsets, np.flatnonzero(is_entry[locations]), side="right") - 1] = True
    return found


def _is_interrupt(profile: Profile, location: Location) -> bool:
    return location.kind is FrameKind.KERNEL and any(
        _INTERRUPT.fullmatch(profile.functions[line.function].name) for line in location.lines
    )
