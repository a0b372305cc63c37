"""The locks of a trace as text and as JSON: a table, then for the worst of them each path with its histogram."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flame.histograms.histogram import Histogram, Unit, log2_buckets
from flame.histograms.text import histogram_lines
from flame.locks.histogram import quantile_ns
from flame.names import short_name
from flame.text import amount, counted, isolated
from lockflame.cli.trace.lock_profile import LockPath, LockTrace
from lockflame.profile import HoldTimes, Lock

PATHS = 3
"""Of each lock and side, so many are shown, if they have a share of its time worth speaking of; JSON has all."""
PATH_SHARE = 0.05
_HEADINGS = ("waits", "total", "mean", "p99", "max", "holds", "held", "mean", "max", "kind", "lock")
_NUMBERS = 9
_WAIT_COLUMNS, _HOLD_COLUMNS = range(5), range(5, 9)


@dataclass(frozen=True, slots=True)
class Shown:
    """What of a trace is shown: so many locks, functions of a stack, whole names, and which of both sides."""

    top: int
    stack_depth: int
    full_names: bool
    waits: bool
    holds: bool


def order(locks: Sequence[Lock], shown: Shown) -> list[int]:
    """The locks as they are listed: by the time waited, or where waits aren't shown by the time held."""

    def key(number: int) -> tuple[int, int, int]:
        lock = locks[number]
        times = (lock.total_ns, _held(lock).total_ns)
        return (-times[0], -times[1], number) if shown.waits else (-times[1], -times[0], number)

    return sorted(range(len(locks)), key=key)


def table_lines(locks: Sequence[Lock], rows: Sequence[int], shown: Shown) -> Iterator[str]:
    """A line for each of these locks, below a line of headings."""
    wanted = [
        column
        for column in range(len(_HEADINGS))
        if column >= _NUMBERS or (shown.waits if column in _WAIT_COLUMNS else shown.holds)
    ]
    cells = [_HEADINGS, *(_cells(locks[row]) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
    for line in cells:
        texts = (
            f"{line[column]:>{widths[column]}}" if column < _NUMBERS else f"{line[column]:<{widths[column]}}"
            for column in wanted
        )
        yield "  ".join(texts).rstrip()


def _cells(lock: Lock) -> tuple[str, ...]:
    held = _held(lock)
    waits = lock.ends.total
    return (
        f"{waits:,}",
        *_times(waits, lock.total_ns, lock.max_ns, quantile_ns(lock.histogram, 0.99, lock.max_ns)),
        f"{held.count:,}",
        *_times(held.count, held.total_ns, held.max_ns),
        lock.kind,
        f"{isolated(lock.name)} (0x{lock.address:x})" if lock.address else isolated(lock.name),
    )


def _times(count: int, total_ns: int, max_ns: int, p99_ns: int | None = None) -> tuple[str, ...]:
    """Total, mean, the 99th percentile where it is wanted, and the longest."""
    values = [total_ns, total_ns / count if count else 0, *([] if p99_ns is None else [p99_ns]), max_ns]
    return tuple(amount(value, "nanoseconds") if count else "-" for value in values)


def detail_lines(trace: LockTrace, row: int, shown: Shown, width: int) -> Iterator[str]:
    """The histograms of a lock's worst paths: those that wait for it, then those that hold it."""
    for is_hold, is_wanted in ((False, shown.waits), (True, shown.holds)):
        paths = [path for path in trace.paths[row] if path.is_hold == is_hold]
        if not is_wanted or not paths:
            continue
        least_ns = PATH_SHARE * sum(path.total_ns for path in paths)
        kept = [path for path in paths[:PATHS] if path.total_ns >= least_ns]
        for path in kept:
            yield ""
            yield from histogram_lines(path_histogram(trace.profile.locks[row], path, shown), width)
        if len(paths) > len(kept):
            yield f"and {counted(len(paths) - len(kept), 'more path')} that {'held' if is_hold else 'waited for'} it"


def path_histogram(lock: Lock, path: LockPath, shown: Shown) -> Histogram:
    """A path's times, titled by the lock and the stack."""
    in_vain = f" ({counted(path.failed, 'time')} in vain)" if path.failed else ""
    what = "held, and given back by" if path.is_hold else f"waited for{in_vain} by"
    more = len(path.names) - shown.stack_depth
    names = [name if shown.full_names else short_name(name) for name in path.names[: shown.stack_depth]]
    stack = (*names, *((f"... {more:,} more",) if more > 0 else ()))
    return Histogram(
        title=(f"{lock.name} {what}", *stack),
        unit=Unit.NANOSECONDS,
        buckets=log2_buckets(dict(enumerate(path.histogram))),
        counted="holds" if path.is_hold else "waits",
        total=path.total_ns,
        maximum=path.max_ns,
    )


def lock_object(trace: LockTrace, row: int, shown: Shown) -> dict[str, object]:
    """A lock for JSON: times in nanoseconds; histograms are of pairs, below how many nanoseconds and how many."""
    lock, held = trace.profile.locks[row], _held(trace.profile.locks[row])
    found: dict[str, object] = {"lock": lock.name, "kind": lock.kind, "address": f"0x{lock.address:x}"}
    if shown.waits:
        found |= {"waits": lock.ends.total, "failed_waits": lock.ends.failed}
        found |= _times_object("wait", lock.ends.total, lock.total_ns, lock.max_ns, lock.histogram)
        found["wait_stacks"] = [_path_object(path) for path in trace.paths[row] if not path.is_hold]
    if shown.holds:
        found["holds"] = held.count
        found |= _times_object("held", held.count, held.total_ns, held.max_ns, held.histogram)
        found["hold_stacks"] = [_path_object(path) for path in trace.paths[row] if path.is_hold]
    return found


def _times_object(name: str, count: int, total_ns: int, max_ns: int, histogram: Sequence[int]) -> dict[str, object]:
    return {
        f"{name}_total_ns": total_ns,
        f"{name}_mean_ns": round(total_ns / count) if count else 0,
        f"{name}_p50_ns": quantile_ns(histogram, 0.5, max_ns),
        f"{name}_p99_ns": quantile_ns(histogram, 0.99, max_ns),
        f"{name}_max_ns": max_ns,
        f"{name}_histogram": _histogram_object(histogram),
    }


def _histogram_object(histogram: Sequence[int]) -> list[list[int | None]]:
    return [[bucket.upper, bucket.count] for bucket in log2_buckets(dict(enumerate(histogram)))]


def _path_object(path: LockPath) -> dict[str, object]:
    return {
        "stack": list(path.names),
        "count": path.count,
        "failed": path.failed,
        "total_ns": path.total_ns,
        "max_ns": path.max_ns,
        "histogram": _histogram_object(path.histogram),
    }


def _held(lock: Lock) -> HoldTimes:
    return lock.held or HoldTimes(0, 0, 0, ())
