"""What `trace syscalls` is asked: names of measures and keys, and bounds of buckets with their units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from flame.histograms.histogram import Unit
from lockflame.errors import LockflameError
from sampler.bpf.tracefs import TraceFs
from sampler.trace import syscall_layout as layout
from sampler.trace.syscall_layout import By, MeasureKind
from sampler.trace.syscall_names import Argument, SystemCall, find_calls
from sampler.trace.syscalls import WHAT, Linear, Question

RET, LATENCY = "ret", "latency"
LINEAR_MOST = 1000
_NUMBER = re.compile(r"(-?\d{1,19}(?:\.\d{1,9})?) ?([A-Za-zµ]*)")
_TIMES = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_INT64 = 1 << 63


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with the words it was asked in; `units` are by call and measure."""

    question: Question
    names: tuple[str, ...]
    units: tuple[tuple[Unit, ...], ...]


def asked(
    tracefs: TraceFs, calls: tuple[str, ...], hists: tuple[str, ...], by: str | None, linear: str | None
) -> Asked:
    """The question that the options ask. Raises `LockflameError`, and `OSError` of tracefs."""
    found = find_calls(tracefs, calls, WHAT)
    names = tuple(dict.fromkeys(hists))
    if len(found) > layout.CALLS_MOST:
        raise LockflameError(WHAT, f"these are {len(found)} system calls", f"name at most {layout.CALLS_MOST}")
    if len(names) > layout.MEASURES:
        raise LockflameError(WHAT, f"{len(names)} --hist at a time are too many", f"give at most {layout.MEASURES}")
    if by == "fd":
        _check_descriptors(found)
    arguments = tuple(tuple(_argument(call, name) for name in names) for call in found)
    units = tuple(
        tuple(_unit(call, name, argument) for name, argument in zip(names, row, strict=True))
        for call, row in zip(found, arguments, strict=True)
    )
    kinds = tuple(_kind(name) for name in names)
    buckets = None
    if linear is not None:
        _check_linear(names, units, linear)
        is_signed = names[0] == RET or all(row[0].is_signed for row in arguments if row[0])
        buckets = parse_linear(linear, units[0][0], is_signed=is_signed and names[0] != LATENCY)
    key = By[by.upper()] if by else By.NOTHING
    if not names:
        kinds, arguments = (MeasureKind.OUTCOME,), tuple((None,) for _ in found)
        units = tuple((Unit.NANOSECONDS,) for _ in found)
    return Asked(Question(found, kinds, arguments, key, buckets), names, units)


def parse_linear(text: str, unit: Unit, *, is_signed: bool) -> Linear:
    """`MIN:MAX:STEP`, times with their unit such as `0:1ms:100us`. Raises `LockflameError`."""
    what = f"cannot make buckets by --linear {text}"
    parts = text.split(":")
    if len(parts) != 3:
        raise LockflameError(what, "it isn't MIN:MAX:STEP", _example(unit))
    least, most, step = (_value(part, unit, what) for part in parts)
    if step < 1:
        raise LockflameError(what, "STEP is less than 1", _example(unit))
    if most <= least:
        raise LockflameError(what, "MAX isn't more than MIN", _example(unit))
    if least < 0 and not is_signed:
        raise LockflameError(what, "what is measured is never below 0", "begin at 0 or above")
    count, rest = divmod(most - least, step)
    if rest:
        raise LockflameError(what, "MAX isn't a whole number of steps above MIN", _example(unit))
    if count > LINEAR_MOST:
        raise LockflameError(what, f"these are {count:,} buckets", f"ask for {LINEAR_MOST:,} at most: a larger STEP")
    return Linear(least, step, count)


def _value(text: str, unit: Unit, what: str) -> int:
    match = _NUMBER.fullmatch(text.strip())
    scales = _TIMES if unit is Unit.NANOSECONDS else _SIZES
    suffix = match[2] if match else ""
    is_zero = match is not None and not suffix and Fraction(match[1]) == 0
    if match is None or (suffix not in scales and not is_zero):
        known = ", ".join(name for name in scales if name)
        why = f"{text!r} isn't a number with one of the units {known}"
        raise LockflameError(what, why, _example(unit))
    value = Fraction(match[1]) * scales.get(suffix, 1)
    if value.denominator != 1 or not -_INT64 <= value < _INT64:
        raise LockflameError(what, f"{text!r} isn't a whole number of 64 bits", _example(unit))
    return int(value)


def _example(unit: Unit) -> str:
    return f"such as {'0:1ms:100us' if unit is Unit.NANOSECONDS else '0:4K:256'}"


def _check_descriptors(calls: tuple[SystemCall, ...]) -> None:
    for call in calls:
        if call.descriptor is None:
            names = ", ".join(argument.name for argument in call.arguments) or "none"
            raise LockflameError(
                WHAT, f"{call.name} is given no file descriptor (its arguments: {names})", "leave out --by fd"
            )


def _check_linear(names: tuple[str, ...], units: tuple[tuple[Unit, ...], ...], linear: str) -> None:
    what = f"cannot make buckets by --linear {linear}"
    if len(names) != 1:
        raise LockflameError(what, "it goes with one --hist", "such as --hist latency --linear 0:1ms:100us")
    if len({row[0] for row in units}) > 1:
        raise LockflameError(what, f"{names[0]} of these calls has different units", "trace one of them at a time")


def _argument(call: SystemCall, name: str) -> Argument | None:
    return None if name in (RET, LATENCY) else call.argument(name, WHAT)


def _kind(name: str) -> MeasureKind:
    return {RET: MeasureKind.RESULT, LATENCY: MeasureKind.LATENCY}.get(name, MeasureKind.ARGUMENT)


def _unit(call: SystemCall, name: str, argument: Argument | None) -> Unit:
    if name == LATENCY:
        return Unit.NANOSECONDS
    is_bytes = call.returns_bytes if argument is None else argument.is_size
    return Unit.BYTES if is_bytes else Unit.NUMBER
