"""Turns what the programs of a lock trace counted and sampled into places, and columns of samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lockflame.profile import HISTOGRAM_BUCKETS, FutexOperation, HoldTimes, Lock, Memory, WaitEnds
from lockflame.samples import FutexWord, LockColumns, Reason
from sampler.decode import Decoded
from sampler.futex.decode import shares
from sampler.trace import lock_layout as layout
from sampler.trace.lock_probes import RawLockTrace


@dataclass(frozen=True, slots=True)
class Place:
    """A path that waits for a lock or releases it: how often, how long, and by the buckets of `HISTOGRAM_BUCKETS`.

    `kind` is the lock's, of `lock_layout.KINDS`. `failed` counts waits that ended without the lock. The `address` 0
    stands for all paths that the table had no room for.
    """

    address: int
    path: int
    is_hold: bool
    kind: str
    count: int
    failed: int
    total_ns: int
    max_ns: int
    histogram: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class DecodedTrace:
    """The places of a trace; `words` has a lock for each of them, which `columns.lock` indexes as well."""

    places: tuple[Place, ...]
    words: tuple[FutexWord, ...]
    columns: LockColumns


def decode_lock_trace(raw: RawLockTrace, decoded: Decoded, started_ns: int) -> DecodedTrace:
    """Finds each sample's place. What a place counted is divided equally among its samples; the sums are exact."""
    places = _places(raw)
    index = {(place.address, place.path, place.is_hold): number for number, place in enumerate(places)}
    words = tuple(FutexWord(_lock(raw.pid, place), is_shared=False, first_ns=started_ns) for place in places)
    return DecodedTrace(places, words, _columns(decoded, places, index))


def _places(raw: RawLockTrace) -> tuple[Place, ...]:
    keys: list[tuple[int, int, int]] = np.frombuffer(raw.places[0], dtype=np.dtype([*layout.PLACE])).tolist()
    sums = np.frombuffer(raw.places[1], dtype=np.dtype([*layout.SUMS]))
    # Of the first call that goes a way, the place is made before it is over.
    counted: list[int] = np.flatnonzero(sums["count"]).tolist()
    found = [_place(*keys[row], sums[row]) for row in counted]
    for side, entry in enumerate(raw.rest):
        rest = np.frombuffer(entry, dtype=np.dtype([*layout.SUMS]))
        found += [_place(0, 0, side, rest[row]) for row in np.flatnonzero(rest["count"]).tolist()]
    return tuple(found)


def _place(address: int, path: int, side: int, values: np.void) -> Place:
    kind = int(values["kind"])
    return Place(
        address=address,
        path=path,
        is_hold=side == layout.SIDE_HOLD,
        kind=layout.KINDS[kind] if kind < len(layout.KINDS) else "",
        count=int(values["count"]),
        failed=int(values["failed"]),
        total_ns=int(values["total_ns"]),
        max_ns=int(values["max_ns"]),
        histogram=tuple(values["buckets"].tolist()),
    )


def _lock(pid: int, place: Place) -> Lock:
    """What is known of a lock by one of its places."""
    nothing = (0,) * HISTOGRAM_BUCKETS
    held = HoldTimes(place.count, place.total_ns, place.max_ns, place.histogram) if place.is_hold else None
    waits, total_ns, max_ns = (0, 0, 0) if place.is_hold else (place.count, place.total_ns, place.max_ns)
    return Lock(
        pid=pid,
        address=place.address,
        memory=Memory.PRIVATE if place.address else Memory.UNKNOWN,
        symbol="",
        operation=FutexOperation.WAIT,
        has_owner=place.kind != "rwlock read",
        ends=WaitEnds(woken=waits - place.failed, failed=place.failed) if waits else WaitEnds(),
        total_ns=total_ns,
        max_ns=max_ns,
        histogram=nothing if place.is_hold else place.histogram,
        threads=0,
        unreleased_ns=total_ns,
        kind=place.kind,
        held=held,
    )


def _columns(decoded: Decoded, places: tuple[Place, ...], index: dict[tuple[int, int, bool], int]) -> LockColumns:
    raw = decoded.raw
    sides = (raw[:, 0] >> np.uint64(32)).tolist()
    paths = (raw[:, 2] & np.uint64(0xFFFFFFFF)).tolist()
    keys = zip(raw[:, 1].tolist(), paths, (side == layout.SIDE_HOLD for side in sides), strict=True)
    of_place = np.array([index.get(key, -1) for key in keys], np.int32)
    known = np.flatnonzero(of_place >= 0)
    of = of_place[known].astype(np.int64)
    weight_ns, count = np.zeros((2, len(of_place)), np.int64)
    equal = np.ones(len(known))
    for column, exact in ((weight_ns, [one.total_ns for one in places]), (count, [one.count for one in places])):
        column[known] = shares(np.array(exact, np.int64), of, equal)
    reason = np.where(np.array(sides, np.int64) == layout.SIDE_HOLD, Reason.HOLD, Reason.WAIT).astype(np.uint8)
    return LockColumns(reason, of_place, weight_ns, count, is_trace=True)
