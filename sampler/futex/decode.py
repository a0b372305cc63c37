"""Turns what the programs counted and sampled into locks and columns, after the recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lockflame.profile import FutexOperation, Lock, Memory, WaitEnds
from lockflame.samples import FutexWord, LockColumns, Reason
from sampler.decode import Decoded
from sampler.futex import layout
from sampler.futex.open_waits import OpenWait
from sampler.futex.probes import RawLocks

REST_KEY = bytes(layout.KEY.size)
"""Stands for all the words that the table had no room for."""
LAST_OWNER = slice(10 + layout.ENDS, 12 + layout.ENDS)
"""Where a lock's pid and its last owner stand among the fields of `layout.LOCK`."""
OWNERS_LEAST, OWNED_LEAST = 0.5, 0.05
"""Of what sampled waits find where a mutex has its owner, other than 0, as much has to be a thread of the process; and
of these waits, as many have to find one. glibc's owner is 0 while the lock is being taken or given back: half of the
time, of a lock that is held for a microsecond."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodedLocks:
    """The locks of a recording, and what each sample has to do with them."""

    words: tuple[FutexWord, ...]
    columns: LockColumns
    waits_left_out: int
    waits_unseen: int


@dataclass(frozen=True, slots=True, eq=False)
class _Sampled:
    """The samples that programs took: int64[n] each, but for the keys. `rows` are theirs among all samples."""

    rows: NDArray[np.int64]
    lock: NDArray[np.int64]
    is_wait: NDArray[np.bool_]
    weight: NDArray[np.float64]
    owner: NDArray[np.int64]
    path: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """What was counted by place: int64[n] each. `lock` is -1 for words that are counted together."""

    lock: NDArray[np.int64]
    tid: NDArray[np.int64]
    path: NDArray[np.int64]
    waits: NDArray[np.int64]
    waited_ns: NDArray[np.int64]
    caused_ns: NDArray[np.int64]


def decode_locks(raw: RawLocks, decoded: Decoded, started_ns: int, ended_ns: int) -> DecodedLocks:
    """Counts what is still open, finds each sample's lock, and makes the samples' weights sum up to the exact times.

    `decoded.raw` has the samples' own words. Times are CLOCK_MONOTONIC's.
    """
    entries = [*raw.entries, (REST_KEY, raw.rest)]
    index = {key: number for number, (key, _) in enumerate(entries)}
    open_of: dict[int, list[OpenWait]] = {}
    for wait in raw.open_waits:
        number = index.get(wait.key)
        if number is None:
            # It began before the recording, and nobody else has waited for the word since.
            number = index[wait.key] = len(entries)
            entries.append((wait.key, bytes(layout.LOCK.size)))
        open_of.setdefault(number, []).append(wait)
    sampled = _sampled(decoded, index)
    places = _places(raw, index, started_ns, ended_ns)
    owners = _with_owner(sampled, _thread_ids(decoded, raw), decoded, [value for _, value in entries])
    threads = _thread_counts(places, len(entries))
    words = [
        _word(key, value, open_of.get(number, []), raw, bool(owners[number]), threads[number], started_ns, ended_ns)
        for number, (key, value) in enumerate(entries)
    ]
    columns = _columns(sampled, places, words, len(decoded.samples))
    used = np.array([word.lock.ends.total > 0 for word in words])
    renumbered = np.where(used, np.cumsum(used) - 1, -1).astype(np.int32)
    lock = np.where(columns.lock >= 0, renumbered[columns.lock], -1).astype(np.int32)
    rest = words[index[REST_KEY]].lock
    return DecodedLocks(
        words=tuple(word for word, is_used in zip(words, used.tolist(), strict=True) if is_used),
        columns=LockColumns(columns.reason, lock, columns.weight_ns, columns.waits),
        waits_left_out=rest.ends.total,
        waits_unseen=raw.losses["no_thread_entry"] + raw.losses["missed_end"],
    )


def _sampled(decoded: Decoded, index: dict[bytes, int]) -> _Sampled:
    rows = np.flatnonzero(~decoded.is_cpu)
    raw = decoded.raw[rows]
    keys = np.ascontiguousarray(raw[:, 1:3]).view(np.uint8).reshape(-1, layout.KEY.size)
    lock = np.array([index.get(key.tobytes(), index[REST_KEY]) for key in keys], dtype=np.int64).reshape(-1)
    weight, duration, credit = (raw[:, column].astype(np.float64) for column in (3, 4, 5))
    return _Sampled(
        rows=rows,
        lock=lock,
        is_wait=(raw[:, 0] >> np.uint64(32)) == layout.SAMPLE_WAIT,
        # A long wait among other waits was as likely to be sampled as if it had been as short as its credit.
        weight=weight * duration / np.maximum(credit, 1),
        owner=(raw[:, 6] & np.uint64(0xFFFFFFFF)).astype(np.int64),
        path=(raw[:, 7] & np.uint64(0xFFFFFFFF)).astype(np.int64),
    )


def _places(raw: RawLocks, index: dict[bytes, int], started_ns: int, ended_ns: int) -> _Places:
    """The places that were counted, and those of the waits that are open."""
    keys = np.frombuffer(raw.places[0], dtype=np.dtype([*layout.PLACE]))
    sums = np.frombuffer(raw.places[1], dtype=np.dtype([*layout.PLACE_SUMS]))
    words = zip(keys["address"].tolist(), keys["pid"].tolist(), keys["space"].tolist(), strict=True)
    rows = [
        (index.get(layout.KEY.pack(*word), -1), tid, path, waits, waited_ns, caused_ns)
        for word, tid, path, (waits, waited_ns, caused_ns) in zip(
            words, keys["tid"].tolist(), keys["path"].tolist(), sums.tolist(), strict=True
        )
    ]
    for wait in raw.open_waits:
        duration_ns = ended_ns - max(wait.start_ns, started_ns)
        rows.append((index[wait.key], wait.tid, 0, 1, duration_ns, 0))
    return _Places(*np.array(rows, dtype=np.int64).reshape(-1, 6).T)


def _thread_counts(places: _Places, locks: int) -> list[int]:
    """How many threads waited for each lock."""
    waited = (places.waits > 0) & (places.lock >= 0)
    pairs = np.unique(np.stack([places.lock[waited], places.tid[waited]], axis=1), axis=0)
    counts = np.zeros(locks, dtype=np.int64)
    np.add.at(counts, pairs[:, 0], 1)
    return counts.tolist()


def _thread_ids(decoded: Decoded, raw: RawLocks) -> NDArray[np.int64]:
    """(pid << 32 | tid), as the process's own pid namespace numbers them, of all threads that are known; sorted."""
    pairs = {(int(pid), int(tid)) for pid, tid in zip(decoded.samples.pid, decoded.samples.tid, strict=True)}
    pairs |= {(wait.pid, wait.tid) for wait in raw.open_waits} | set(raw.inner_tids) | set(raw.threads)
    return np.array(sorted(pid << 32 | tid for pid, tid in pairs), dtype=np.int64)


def _with_owner(
    sampled: _Sampled, threads: NDArray[np.int64], decoded: Decoded, values: list[bytes]
) -> NDArray[np.bool_]:
    """Which locks hold their owner: where it should stand, their waits found a thread of the process.

    Of a lock without samples, the last wait alone tells.
    """
    last = np.array([layout.LOCK.unpack(value)[LAST_OWNER] for value in values], dtype=np.int64)
    locks = len(values)
    waits = np.flatnonzero(sampled.is_wait)
    pid = decoded.samples.pid[sampled.rows[waits]].astype(np.int64)
    is_owned = sampled.owner[waits] > 0
    is_thread = np.isin(pid << 32 | sampled.owner[waits], threads) & is_owned
    lock = sampled.lock[waits]
    count, owned, found = (
        np.bincount(lock, weights, minlength=locks) for weights in (np.ones(len(lock)), is_owned, is_thread)
    )
    is_last_thread = (last[:, 1] > 0) & np.isin(last[:, 0] << 32 | last[:, 1], threads)
    is_owner = (found >= OWNERS_LEAST * owned) & (found >= OWNED_LEAST * count)
    return np.where(count > 0, is_owner, is_last_thread)


def _word(
    key: bytes,
    value: bytes,
    open_waits: list[OpenWait],
    raw: RawLocks,
    has_owner: bool,
    threads: int,
    started_ns: int,
    ended_ns: int,
) -> FutexWord:
    address, key_pid, space = layout.KEY.unpack(key)
    _, _, waiting, balance, charged, _, _, _, max_ns, first_ns, *rest = layout.LOCK.unpack(value)
    ends, (pid, _, operation, _, _, _, woken_ns) = rest[: layout.ENDS], rest[layout.ENDS : layout.ENDS + 7]
    buckets = rest[layout.ENDS + 7 :]
    total_ns = waiting * ended_ns + balance
    uncounted = {wait.tid for wait in open_waits if not wait.is_counted}
    for wait in open_waits:
        duration = ended_ns - max(wait.start_ns, started_ns)
        # The balance has those that began within the recording.
        total_ns += duration if wait.tid in uncounted else 0
        max_ns = max(max_ns, duration)
        buckets[min(duration.bit_length(), layout.BUCKETS - 1)] += 1
    if open_waits and not pid:
        pid, operation, first_ns = open_waits[0].pid, open_waits[0].operation, started_ns
    is_rest = key == REST_KEY
    lock = Lock(
        pid=pid or raw.families.get(space, 0),
        address=address,
        memory=Memory.UNKNOWN if is_rest else Memory.PRIVATE,
        symbol="",
        operation=FutexOperation(operation if operation in set(FutexOperation) else 0),
        has_owner=has_owner,
        ends=WaitEnds(*ends, still_open=len(open_waits)),
        total_ns=max(total_ns, 0),
        max_ns=max_ns,
        histogram=tuple(buckets),
        threads=threads,
        unreleased_ns=max(total_ns - charged, 0),
        woken_ns=min(woken_ns, max(total_ns, 0)) if has_owner else 0,
    )
    return FutexWord(lock, is_shared=not key_pid and not is_rest, first_ns=max(first_ns, started_ns))


def _columns(sampled: _Sampled, places: _Places, words: list[FutexWord], samples: int) -> LockColumns:
    """Scales the weights of samples to what was counted exactly: of their lock, and within it of their place."""
    reason = np.full(samples, Reason.CPU, dtype=np.uint8)
    lock = np.full(samples, -1, dtype=np.int32)
    weight_ns, waits = np.zeros((2, samples), dtype=np.int64)
    reason[sampled.rows] = np.where(sampled.is_wait, Reason.WAIT, Reason.RELEASE)
    lock[sampled.rows] = sampled.lock
    total_ns = np.array([word.lock.total_ns for word in words], dtype=np.int64)
    caused_ns = total_ns - np.array([word.lock.unreleased_ns for word in words], dtype=np.int64)
    counts = np.array([word.lock.ends.total for word in words], dtype=np.int64)
    for is_kind, exact, by_place, column in (
        (sampled.is_wait, total_ns, places.waited_ns, weight_ns),
        (~sampled.is_wait, caused_ns, places.caused_ns, weight_ns),
        (sampled.is_wait, counts, places.waits, waits),
    ):
        of = sampled.lock[is_kind]
        weight = _weight_in_place(of, sampled.path[is_kind], sampled.weight[is_kind], places, by_place)
        column[sampled.rows[is_kind]] = shares(exact, of, weight)
    return LockColumns(reason, lock, weight_ns, waits)


def _weight_in_place(
    lock: NDArray[np.int64],
    path: NDArray[np.int64],
    weight: NDArray[np.float64],
    places: _Places,
    by_place: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Divides what was counted by path among that path's samples (post-stratification): its share then hardly depends
    on which of its waits happened to be sampled. Samples of paths that weren't counted keep their weight."""
    strata, stratum = np.unique(
        np.concatenate((lock << 32 | path, places.lock << 32 | places.path)),
        return_inverse=True,
    )
    of_sample, of_place = stratum[: len(lock)], stratum[len(lock) :]
    counted, sampled = np.zeros((2, len(strata)))
    known = places.lock >= 0
    np.add.at(counted, of_place[known], by_place[known])
    np.add.at(sampled, of_sample, weight)
    in_place = weight / np.maximum(sampled[of_sample], 1e-9) * counted[of_sample]
    return np.where(counted[of_sample] > 0, in_place, weight)


def shares(totals: NDArray[np.int64], of: NDArray[np.int64], weight: NDArray[np.float64]) -> NDArray[np.int64]:
    """Divides whole numbers: row `i` gets of `totals[of[i]]` what its weight is of that one's; the sums are exact."""
    sums = np.zeros(len(totals))
    np.add.at(sums, of, weight)
    order = np.argsort(of, kind="stable")
    number, part = of[order], weight[order] / np.maximum(sums[of[order]], 1e-9)
    # The running sum within each, rounded: the differences add up to the whole.
    running = np.cumsum(part)
    first = np.flatnonzero(np.diff(number, prepend=-1))
    before = np.repeat((running - part)[first], np.diff(np.append(first, len(number))))
    last = np.append(number[1:] != number[:-1], True) if len(number) else np.zeros(0, np.bool_)
    done = np.rint(np.where(last, 1.0, running - before) * totals[number]).astype(np.int64)
    done[last] = totals[number[last]]
    given = np.diff(done, prepend=0)
    given[first] = done[first]
    result = np.zeros(len(of), dtype=np.int64)
    result[order] = given
    return result
