"""The tables of a comparison as JSON objects, and the order of their rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flame.diff.functions import Amounts, FunctionTable
from flame.diff.locks import LockTable
from flame.diff.noise import Floats
from flame.diff.normalize import Mode

_UNITS = {"nanoseconds": "ns", "count": "count", "bytes": "bytes"}


@dataclass(frozen=True, slots=True)
class Basis:
    """What values are made comparable by, and the unit of what functions are compared by: `nanoseconds`."""

    mode: Mode
    unit: str


def percent_of(before: float, after: float) -> float | None:
    """By how many percent a value changed; None where it was 0."""
    return 100 * (after - before) / before if before > 0 else None


def sure_change(amounts: Amounts) -> Floats:
    """The least change that the 95 % interval allows, float64[n]; 0 where the interval holds 0."""
    change = amounts.change
    return np.maximum(0.0, np.maximum(change.low, -change.high))


def function_order(table: FunctionTable, sort: str) -> list[int]:
    """The rows of the table, the most telling first.

    By `change`: first what stands out, the largest change first that is for sure. So what changed itself comes before
    its callers, whose change is the same, but less of what they are.
    """
    stands_out = table.total.change.stands_out | table.own.change.stands_out
    sure = np.maximum(sure_change(table.total), sure_change(table.own))
    return _order(
        [key.name for key in table.keys],
        {
            "change": [stands_out, sure, np.abs(table.total.change.change)],
            "total": [np.abs(table.total.change.change)],
            "self": [np.abs(table.own.change.change)],
            "after": [table.total.after.value],
            "before": [table.total.before.value],
            "name": [],
        }[sort],
    )


def lock_order(table: LockTable, sort: str) -> list[int]:
    """The rows of the table by the time waited, as `function_order` does it, then by contended CPU time."""
    stands_out = np.array([lock_stands_out(table, row) for row in range(len(table))], np.bool_)
    waited, cpu = table.total, table.contended_cpu
    changes = [np.abs(waited.change.change), np.abs(cpu.change.change)]
    return _order(
        [key.name for key in table.keys],
        {
            "change": [stands_out, sure_change(waited), sure_change(cpu), *changes],
            "total": changes,
            "self": changes[::-1],
            "after": [waited.after.value, cpu.after.value],
            "before": [waited.before.value, cpu.before.value],
            "name": [],
        }[sort],
    )


def lock_stands_out(table: LockTable, row: int) -> bool:
    """Whether anything of a lock changed by more than noise."""
    amounts = (table.waits, table.total, table.mean, table.contended_cpu)
    return any(bool(amount.change.stands_out[row]) for amount in amounts) or table.p99_stands_out[row]


def function_json(table: FunctionTable, row: int, basis: Basis) -> dict[str, Any]:
    """A function as a JSON object. Values are per second, per unit of work or shares, as `per` tells."""
    key = table.keys[row]
    unit = _unit(basis)
    return {
        "row": "function",
        "function": key.name,
        "frame_kind": key.kind.name.lower(),
        "per": _per(basis.mode),
        "stands_out": bool(table.total.change.stands_out[row] or table.own.change.stands_out[row]),
        **_amounts_json("total", table.total, row, unit),
        **_amounts_json("self", table.own, row, unit),
    }


def lock_json(table: LockTable, row: int, basis: Basis, *, has_waits: bool) -> dict[str, Any]:
    """A lock as a JSON object. Without `has_waits` only its contended CPU time is known, and the rest is left out.

    `mean`, `p99` and `max` are those of a wait, and not divided by anything. `max` has no noise that could be told.
    """
    key = table.keys[row]
    found: dict[str, Any] = {
        "row": "lock",
        "lock": key.name,
        "kind": key.kind,
        "is_idle": table.is_idle[row],
        "per": _per(basis.mode),
        "stands_out": lock_stands_out(table, row),
    }
    share = "share" if basis.mode is Mode.TOTAL else ""
    if has_waits:
        before, after = table.times_before[row], table.times_after[row]
        found |= _amounts_json("waits", table.waits, row, share or "count")
        found |= _amounts_json("total", table.total, row, share or "ns")
        found |= _amounts_json("mean", table.mean, row, "ns")
        found |= _plain_json("p99", before.p99_ns, after.p99_ns)
        found["p99_stands_out"] = table.p99_stands_out[row]
        found |= _plain_json("max", before.max_ns, after.max_ns)
    return found | _amounts_json("contended_cpu", table.contended_cpu, row, share or "ns")


def _order(names: list[str], keys: list[Floats] | list[Any]) -> list[int]:
    """Rows by the first key, then the next, largest first, then by name."""
    rank = np.argsort(np.argsort(np.array(names, dtype=object)))
    return np.lexsort((rank, *(-key.astype(np.float64) for key in reversed(keys)))).tolist()


def _amounts_json(what: str, amounts: Amounts, row: int, unit: str) -> dict[str, Any]:
    before, after = float(amounts.before.value[row]), float(amounts.after.value[row])
    change = amounts.change
    return {
        f"{what}_before_{unit}": _rounded(before),
        f"{what}_after_{unit}": _rounded(after),
        f"{what}_change_{unit}": _rounded(after - before),
        f"{what}_change_low_{unit}": _rounded(float(change.low[row])),
        f"{what}_change_high_{unit}": _rounded(float(change.high[row])),
        f"{what}_change_percent": _percent(before, after),
        f"{what}_stands_out": bool(change.stands_out[row]),
    }


def _plain_json(what: str, before_ns: int, after_ns: int) -> dict[str, Any]:
    return {
        f"{what}_before_ns": before_ns,
        f"{what}_after_ns": after_ns,
        f"{what}_change_ns": after_ns - before_ns,
        f"{what}_change_percent": _percent(before_ns, after_ns),
    }


def _percent(before: float, after: float) -> float | None:
    found = percent_of(before, after)
    return None if found is None else round(found, 2)


def _rounded(value: float) -> float:
    """To nine digits: more are noise."""
    return float(f"{value:.9g}") if math.isfinite(value) else 0.0


def _unit(basis: Basis) -> str:
    return "share" if basis.mode is Mode.TOTAL else _UNITS.get(basis.unit, "value")


def _per(mode: Mode) -> str:
    return {Mode.SECOND: "second", Mode.WORK: "work", Mode.TOTAL: "total", Mode.NONE: "recording"}[mode]
