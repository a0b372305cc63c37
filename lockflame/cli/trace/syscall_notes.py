"""What is said before a trace of system calls begins, and after it of what it didn't count."""

from __future__ import annotations

from flame import text
from lockflame.cli.terminal import printable
from sampler.futex.unseen import is_32_bit
from sampler.trace import syscall_layout as layout
from sampler.trace.filters import TARGET_ENTRIES, Filters
from sampler.trace.syscall_cost import SyscallCost
from sampler.trace.syscalls import Question, SyscallTrace

NAMES_MOST = 8
MANY_WITHOUT_BEGIN = 0.01
"""As a share of what was counted: then calls that had begun before are worth a note."""


def start_line(question: Question, filters: Filters, cost: SyscallCost) -> str:
    """What is attached to, and what that costs."""
    names = [call.name for call in question.calls]
    shown = ", ".join(names[:NAMES_MOST]) + (f" and {len(names) - NAMES_MOST} more" if len(names) > NAMES_MOST else "")
    events = len(names) * (1 if question.at_enter else 2)
    return printable(
        f"lockflame: tracing {shown} of {filters.described()} by {events} tracepoint{'s' * (events > 1)}. As measured "
        f"now, a call that is counted takes {cost.counted_ns:,.0f} ns more, and each other system call of this machine "
        f"{cost.other_ns:,.0f} ns more. Ctrl-C ends it"
    )


def counted_notes(trace: SyscallTrace, filters: Filters, counted: int, lost_stacks: int) -> list[str]:
    """What wasn't counted, beside the calls that were, or isn't known of these. Raises `OSError`."""
    losses = trace.losses()
    notes: list[str] = []
    if losses["no_cell"]:
        notes.append(
            f"{losses['no_cell']:,} times a call couldn't be counted: the table of {trace.maps['cells'].entries:,} "
            "different keys and buckets was full. Fewer of them are had by another --by, or filters"
        )
    if losses["no_open_entry"]:
        notes.append(
            f"{losses['no_open_entry']:,} calls weren't counted: more than {layout.OPEN_ENTRIES:,} threads called"
        )
    if losses["no_begin"] > max(counted * MANY_WITHOUT_BEGIN, 1):
        notes.append(f"not counted: {text.counted(losses['no_begin'], 'call')} that had begun before the trace")
    if losses["no_end"]:
        calls = text.counted(losses["no_end"], "call")
        notes.append(f"not counted: {calls} that never returned, as their threads ended in them")
    if still_open := trace.open_calls():
        notes.append(f"not counted: {text.counted(still_open, 'call')} still under way at the end")
    if losses["no_target_entry"]:
        notes.append(
            f"{losses['no_target_entry']:,} children weren't followed: more than {TARGET_ENTRIES:,} processes at a time"
        )
    if losses["no_stack_entry"]:
        notes.append(f"{losses['no_stack_entry']:,} calls came by stacks for which the table had no room")
    if lost_stacks:
        notes.append(f"{lost_stacks:,} stacks or pieces of news of processes were lost: some stacks may have no names")
    blind = [str(pid) for pid in filters.pids if is_32_bit(pid)]
    if blind:
        notes.append(f"system calls of 32-bit programs are not seen: process {', '.join(blind)}")
    return notes
