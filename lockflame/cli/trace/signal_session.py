"""A running trace of signals: from the kernel's events to lines, until something ends it."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator, Mapping, Sequence

from lockflame.cli.terminal import say
from lockflame.cli.trace.live_output import STDOUT, LiveOutput
from lockflame.cli.trace.signal_causes import OUT_OF_MEMORY, QUEUE, TKILL, USER, cause_of, is_timer
from lockflame.cli.trace.signal_lines import HEADING, Frame, SeenSignal, json_line, text_line
from sampler.futex.unseen import is_32_bit
from sampler.signals import StopSignals
from sampler.trace.signal_layout import FLAG_LOST_STACK, FLAG_TO_CHECK_COMM, Call, Kind, SignalEvent
from sampler.trace.signal_targets import TargetLookup
from sampler.trace.signals import SignalChoice, SignalTrace

PAUSE_S = 0.02
"""Between two looks: a line may be so much later than its signal, and many signals don't wake us more often."""
VICTIM_PAUSE_S = 0.005
"""Within this the kernel says whose memory it takes once it has sent SIGKILL: it does both in one go."""
STACKS_PAUSE_S = 0.1
"""Likewise with stacks, as naming one takes about as long as naming very many."""
TICK_S = 0.25
"""How often the ends of -d and of the processes of -p are looked for."""
LOSS_INTERVAL_S = 1.0

Stacks = Mapping[tuple[int, int], tuple[Frame, ...]]


class SignalSession:
    """Reads a trace and writes lines to the standard output."""

    def __init__(self, choice: SignalChoice, trace: SignalTrace, stop: StopSignals, *, as_json: bool) -> None:
        """Raises `LockflameError` and `OSError` where stacks are asked for and can't be had."""
        self._choice = choice
        self._trace = trace
        self._stop = stop
        self._output = LiveOutput(stop)
        self._lookup = TargetLookup()
        self._as_json = as_json
        self._shown = 0
        self._lost_said = 0
        self._lost_stacks = 0
        self._stacks = None
        if choice.with_stacks:
            # Late: names need numpy and more.
            from lockflame.cli.trace.signal_stacks import SenderStacks

            self._stacks = SenderStacks(trace.samples)

    def run(self, duration_s: float | None) -> None:
        """Shows signals until a stop signal, the end of the time or of all processes of -p, or nobody reads."""
        poll = select.poll()
        poll.register(self._trace.descriptor, select.POLLIN)
        poll.register(self._stop.descriptor, select.POLLIN)
        poll.register(STDOUT, 0)  # tells once nobody reads
        if not self._as_json:
            self._output.write(HEADING + "\n")
        self._trace.start()
        end_s = time.monotonic() + (duration_s or float("inf"))
        loss_due_s = time.monotonic() + LOSS_INTERVAL_S
        while not self._output.is_closed and not self._stop.take():
            left_s = end_s - time.monotonic()
            if left_s <= 0 or self._trace.has_no_target():
                break
            if STDOUT in dict(poll.poll(min(left_s, TICK_S) * 1000)):
                return self._finish()
            lines = self._next_lines()
            if lines:
                self._output.write(lines)
            if time.monotonic() > loss_due_s:
                loss_due_s += LOSS_INTERVAL_S
                self._say_lost()
            time.sleep(min(PAUSE_S if self._stacks is None else STACKS_PAUSE_S, left_s))
        self._finish()

    def close(self) -> None:
        """Gives up what stacks took."""
        if self._stacks is not None:
            self._stacks.close()

    def _finish(self) -> None:
        self._trace.stop()
        is_read = self._output.finish("")
        while is_read and (lines := self._next_lines()) is not None:
            is_read = self._output.finish(lines)
        if not is_read and not self._output.is_closed:
            say("lockflame: note: the last lines are missing, as nobody reads them")
        self._say_lost()
        self._say_end()

    def _next_lines(self) -> str | None:
        """The lines of some of the signals that are there by now; None where there are none."""
        events = self._trace.read()
        if events and _awaits_victim(events):
            time.sleep(VICTIM_PAUSE_S)
            events += self._trace.read()
        stacks = self._stacks.read() if self._stacks is not None else None
        line_of = json_line if self._as_json else text_line
        lines = [line_of(seen) for seen in self._seen(events, stacks)]
        self._shown += len(lines)
        return "".join(lines) if events else None

    def _seen(self, events: Sequence[SignalEvent], stacks: Stacks | None) -> Iterator[SeenSignal]:
        offset_ns = time.time_ns() - time.monotonic_ns()
        victims = {event.target for event in events if event.kind == Kind.OOM_VICTIM}
        for event in events:
            if event.kind == Kind.OOM_VICTIM:
                continue
            target = self._lookup.target_of(event)
            if event.flags & FLAG_TO_CHECK_COMM and os.fsencode(target.comm) != os.fsencode(
                self._choice.filters.comm or ""
            ):
                continue
            self._lost_stacks += bool(event.flags & FLAG_LOST_STACK)
            is_kernels = _is_kernels(event)
            cause = _cause(event, victims) if is_kernels else ""
            stack = None if stacks is None else _stack(event, stacks, is_kernels)
            yield SeenSignal(event, event.time_ns + offset_ns, target, is_kernels, cause, stack)

    def _say_lost(self) -> None:
        lost = self._trace.counts().lost
        if lost > self._lost_said:
            more = f"{lost - self._lost_said:,} signals were lost"
            say(f"lockflame: note: {more}: more than can be shown (--signal and -p narrow it down)")
            self._lost_said = lost

    def _say_end(self) -> None:
        counts = self._trace.counts()
        # The kernel tells of a lost stack in both ways, though not of each.
        lost_stacks = max(self._lost_stacks, self._stacks.lost if self._stacks is not None else 0)
        if lost_stacks:
            say(f"lockflame: note: {lost_stacks:,} stacks are missing: there were more than can be kept up with")
        if counts.missed:
            say(f"lockflame: note: {counts.missed:,} signals came within an interrupt that no program could run in")
        if counts.no_call_entry:
            say(f"lockflame: note: {counts.no_call_entry:,} calls weren't followed: too many were under way at once")
        if counts.unfollowed:
            say(f"lockflame: note: {counts.unfollowed:,} processes and threads weren't followed: there were too many")
        hidden = ""
        if counts.children_hidden:
            hidden = f"; {counts.children_hidden:,} SIGCHLD of the kernel's left out (--all shows them)"
        lost = f"; {counts.lost:,} lost" if counts.lost else ""
        say(f"lockflame: {self._shown:,} signal{'s' * (self._shown != 1)} shown{lost}{hidden}")


def _awaits_victim(events: Sequence[SignalEvent]) -> bool:
    """Whether the kernel sent SIGKILL and hasn't said, though it may still, that it did so for want of memory."""
    victims = {event.target for event in events if event.kind == Kind.OOM_VICTIM}
    return any(
        event.signal == signal.SIGKILL and event.call == Call.NONE and event.target not in victims
        for event in events
        if event.kind == Kind.GENERATED
    )


def _is_kernels(event: SignalEvent) -> bool:
    """Whether no process asked for it. The calls of 32-bit programs aren't seen, only what they send."""
    if event.call != Call.NONE or event.code == TKILL:
        return False
    is_own_fault = event.signal in (signal.SIGPIPE, signal.SIGXFSZ) and event.target == event.sender_tid
    return is_own_fault or event.code not in (USER, QUEUE) or not is_32_bit(event.sender_pid)


def _cause(event: SignalEvent, victims: set[int]) -> str:
    if event.signal == signal.SIGKILL and event.target in victims:
        return OUT_OF_MEMORY
    running = f"{event.sender_comm} {event.sender_pid}"
    return cause_of(event.signal, event.code, running, is_own=event.target == event.sender_tid)


def _stack(event: SignalEvent, stacks: Stacks, is_kernels: bool) -> tuple[Frame, ...]:
    from lockflame.cli.trace.signal_stacks import shown

    stack = stacks.get(event.stack_key, ())
    return shown(stack, is_kernels=is_kernels, is_by_timer=is_timer(event.signal, event.code))
