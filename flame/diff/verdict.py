"""One number of both sides, and whether it grew by more than was allowed: for use in CI."""

from __future__ import annotations

from dataclasses import dataclass

from flame.diff.functions import Amounts, FunctionTable
from flame.diff.locks import LockTable, sum_over_rows
from flame.diff.table import percent_of
from lockflame.errors import LockflameError
from lockflame.profile import SampleType

LOCK_PREFIX = "lock:"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a number changed, made comparable. `percent` is None where it was 0 before. `is_sure`: by more than noise."""

    what: str
    before: float
    after: float
    percent: float | None
    is_sure: bool

    def grew_above(self, percent: float) -> bool:
        """Whether it grew by more than so many percent, and by more than noise."""
        return self.is_sure and self.exceeds(percent)

    def exceeds(self, percent: float) -> bool:
        """Whether it grew by more than so many percent, noise or not."""
        return self.after > self.before and (self.percent is None or self.percent > percent)


def whole(table: FunctionTable, sample_type: SampleType) -> Verdict:
    """All that was sampled of the type that functions are compared by."""
    return _verdict("CPU time" if sample_type.name == "cpu" else sample_type.name, table.whole)


def waits(table: LockTable) -> Verdict:
    """The time waited for all locks but idle ones."""
    rows = [row for row, idle in enumerate(table.is_idle) if not idle]
    return _verdict("time waited for locks", sum_over_rows(table.total, rows))


def lock(table: LockTable, name: str, *, has_waits: bool) -> Verdict:
    """The time waited for the locks of this name or, if there is none, with this in their name; without waits, their
    contended CPU time. Raises `LockflameError` if there is no such lock on either side."""
    rows = [row for row, key in enumerate(table.keys) if key.name == name]
    rows = rows or [row for row, key in enumerate(table.keys) if name.lower() in key.name.lower()]
    if not rows:
        raise LockflameError(
            f"no lock is called {name}", "it is in neither profile", "see the locks with: lockflame diff --json"
        )
    amounts = table.total if has_waits else table.contended_cpu
    what = f"{'time waited for' if has_waits else 'CPU time contended for'} {table.keys[rows[0]].name}"
    return _verdict(what, sum_over_rows(amounts, rows))


def _verdict(what: str, amounts: Amounts) -> Verdict:
    before, after = float(amounts.before.value[0]), float(amounts.after.value[0])
    return Verdict(what, before, after, percent_of(before, after), bool(amounts.change.stands_out[0]))
