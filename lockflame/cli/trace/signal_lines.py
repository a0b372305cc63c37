"""A signal as a line of text, or as a line of JSON."""

from __future__ import annotations

import errno
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from lockflame.cli.terminal import printable
from lockflame.cli.trace.signal_names import signal_name
from sampler.trace.signal_layout import NAMES_KEPT, Call, Kind, Result, SignalEvent
from sampler.trace.signal_targets import Scope, SignalTarget

HEADING = "TIME            FROM                 PID SIGNAL      TO                   PID RESULT"
RESULTS: dict[int, str] = {
    Result.DELIVERED: "ok",
    Result.IGNORED: "ignored",
    Result.ALREADY_PENDING: "already pending",
    Result.OVERFLOW: "EAGAIN",
    Result.LOST_INFO: "ok",
}
FRAME_INDENT = " " * 16


@dataclass(frozen=True, slots=True)
class Frame:
    """A function on a stack. `place` is its source line, or else the binary; empty for none."""

    name: str
    place: str = ""
    is_kernel: bool = False


@dataclass(frozen=True, slots=True)
class SeenSignal:
    """A signal with all that is known of it. `cause` is why the kernel sent it; `stack` None if it isn't asked for."""

    event: SignalEvent
    time_unix_ns: int
    target: SignalTarget
    is_kernels: bool
    cause: str
    stack: tuple[Frame, ...] | None = None


def text_line(seen: SeenSignal) -> str:
    """The line, and a line for each frame; with a newline at each one's end, and fit for a terminal."""
    event, target = seen.event, seen.target
    seconds, below_ns = divmod(seen.time_unix_ns, 10**9)
    clock = f"{_clock(seconds)}.{below_ns // 1000:06}"
    sender, sender_pid = ("kernel", "-") if seen.is_kernels else (_name(event.sender_comm), event.sender_pid)
    notes = _notes(seen)
    # Of a thread that is gone by now the process may not be known: then its own number, with a note.
    number = target.pid if target.pid is not None else target.tid
    line = (
        f"{clock:15} {sender:15} {sender_pid:>8} {signal_name(event.signal):11} {_target_name(target):15} "
        f"{number if number is not None else '-':>8} {result_text(event)}{f' ({notes})' if notes else ''}\n"
    )
    if not seen.stack:
        return line
    return line + "".join(f"{FRAME_INDENT}{_frame_text(frame)}\n" for frame in seen.stack)


def json_line(seen: SeenSignal) -> str:
    """A JSON object on a line. `running` is who ran when the kernel sent a signal, which may be by mere chance."""
    event, target = seen.event, seen.target
    who = {"comm": event.sender_comm, "pid": event.sender_pid, "tid": event.sender_tid}
    number = event.code if event.kind == Kind.GENERATED else None
    content: dict[str, object] = {
        "time": _iso_time(seen.time_unix_ns),
        "monotonic_ns": event.time_ns,
        "signal": signal_name(event.signal),
        "number": event.signal,
        "sender": None if seen.is_kernels else who,
        "target": {
            "comm": target.comm or None,
            "pid": target.pid,
            "tid": target.tid,
            "scope": target.scope.value,
            "in_senders_namespace": target.is_inner,
        },
        "result": result_text(event),
        "failed": has_failed(event),
        "call": Call(event.call).name.lower() if event.call else None,
        "code": number,
    }
    if seen.is_kernels:
        content |= {"cause": seen.cause or None, "running": who}
    if seen.stack is not None:
        content["stack"] = [
            {"function": frame.name, "place": frame.place or None, "kernel": frame.is_kernel} for frame in seen.stack
        ]
    return json.dumps(content) + "\n"


def result_text(event: SignalEvent) -> str:
    """What became of it: `ok`, `exists` for signal 0, `ignored`, `already pending`, or an error such as `ESRCH`."""
    if event.kind == Kind.GENERATED:
        return RESULTS.get(event.result) or f"result {event.result}"
    if event.result < 0:
        return errno.errorcode.get(-event.result, f"error {-event.result}")
    # The target was ending just then, which the kernel takes for a success (do_send_specific in kernel/signal.c).
    return "ended meanwhile" if event.signal else "exists"


def has_failed(event: SignalEvent) -> bool:
    """Whether the sender was told of an error, or would have been if it weren't the kernel."""
    if event.kind == Kind.GENERATED:
        return event.result == Result.OVERFLOW
    return event.result < 0


def _notes(seen: SeenSignal) -> str:
    target, parts = seen.target, [printable(seen.cause)] if seen.cause else []
    if target.tid is not None and target.tid != target.pid:
        parts.insert(0, f"thread {target.tid}")
    if target.pid is None and target.descriptor is not None:
        parts.append(f"pidfd {target.descriptor}")
    if target.is_inner and (target.pid is not None or target.tid is not None):
        parts.append("number of the sender's pid namespace")
    if seen.event.kind == Kind.GENERATED and seen.event.result == Result.OVERFLOW:
        parts.append("queue full")
    if seen.event.kind == Kind.GENERATED and seen.event.result == Result.LOST_INFO:
        parts.append("queue full: without its details")
    return ", ".join(parts)


@lru_cache(NAMES_KEPT)
def _name(comm: str) -> str:
    return printable(comm)


@lru_cache(1)
def _clock(seconds: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _target_name(target: SignalTarget) -> str:
    if target.scope == Scope.ALL:
        return "all processes"
    if target.scope == Scope.GROUP:
        return "process group" if target.pid is not None else "own group"
    return _name(target.comm) or "-"


def _frame_text(frame: Frame) -> str:
    return printable(f"{frame.name}  {frame.place}" if frame.place else frame.name)


def _iso_time(unix_ns: int) -> str:
    """With microseconds, in UTC."""
    seconds, below_ns = divmod(unix_ns, 10**9)
    return f"{_iso_seconds(seconds)}.{below_ns // 1000:06}Z"


@lru_cache(1)
def _iso_seconds(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
