"""Who held the lock that each waiter waited for: each waiter's time shared out over those who released it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Ints = NDArray[np.int64]

HOLDERS_MOST = 64
"""So many paths of holders are kept for each lock, the heaviest; the others are one."""

PAIRS_MOST = 1_000_000
"""Pairs of a waiter and a holder in memory; where there would be more, fewer holders are kept."""

OTHERS = -1
"""Stands for the stack of all other holders of a lock."""


@dataclass(frozen=True, slots=True, eq=False)
class Charges:
    """Time by (lock, stack), one row each: int64 columns. Negative stacks are notes in the place of one."""

    lock: _Ints
    stack: _Ints
    time_ns: _Ints

    def __len__(self) -> int:
        return len(self.lock)


@dataclass(frozen=True, slots=True, eq=False)
class Chains:
    """What each waiter waited because of each holder: `waiter` is a row of the waiters, `holder` a stack."""

    waiter: _Ints
    holder: _Ints
    time_ns: _Ints


def summed(charges: Charges) -> Charges:
    """One row for each lock and stack, in this order, without those of no time."""
    order = np.lexsort((charges.stack, charges.lock))
    lock, stack = charges.lock[order], charges.stack[order]
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (np.diff(lock) != 0) | (np.diff(stack) != 0)
    firsts = np.flatnonzero(is_first)
    time_ns = np.add.reduceat(charges.time_ns[order], firsts) if len(firsts) else charges.time_ns[order]
    used = time_ns > 0
    return Charges(lock[firsts][used], stack[firsts][used], time_ns[used])


def shared_out(waiters: Charges, holders: Charges, locks: int) -> Chains:
    """Each waiter's time over the holders of its lock, in proportion to theirs.

    The parts of a waiter add up to its time exactly, and each is within 1 ns of its share (as far as a float can
    tell): they are the steps between rounded sums. Every lock of a waiter needs a holder. Rows of no time are left out.
    """
    holders = _heaviest(holders, _most_holders(waiters, holders, locks))
    first = np.searchsorted(holders.lock, np.arange(locks))
    count = np.bincount(holders.lock, minlength=locks)
    sums = _running_sums(holders, first)
    pairs = count[waiters.lock]
    waiter = np.repeat(np.arange(len(waiters)), pairs)
    pair_ends = np.cumsum(pairs)
    step = np.arange(len(waiter)) - np.repeat(pair_ends - pairs, pairs)
    holder = np.repeat(first[waiters.lock], pairs) + step
    time_ns = waiters.time_ns[waiter]
    upto = np.minimum(np.floor(time_ns * sums[holder]).astype(np.int64), time_ns)
    upto[pair_ends - 1] = waiters.time_ns
    part = np.diff(upto, prepend=0)
    starts = step == 0
    part[starts] = upto[starts]
    used = np.flatnonzero(part)
    return Chains(waiter[used], holders.stack[holder[used]], part[used])


def _running_sums(holders: Charges, first: _Ints) -> NDArray[np.float64]:
    """For each holder the share of its lock's time that it and those before it have, 0 to 1."""
    sums = np.cumsum(holders.time_ns.astype(np.float64))
    before = np.append(0.0, sums)[first]
    ends = np.append(first[1:], len(holders))
    whole = np.append(0.0, sums)[ends] - before
    return (sums - before[holders.lock]) / np.maximum(whole[holders.lock], 1.0)


def _most_holders(waiters: Charges, holders: Charges, locks: int) -> int:
    count = np.bincount(holders.lock, minlength=locks)[waiters.lock]
    most = HOLDERS_MOST
    while most > 2 and int(np.minimum(count, most).sum()) > PAIRS_MOST:
        most //= 2
    return most


def _heaviest(holders: Charges, most: int) -> Charges:
    """At most so many rows for each lock; beyond, the last stands for all that weigh less than those before."""
    order = np.lexsort((holders.stack, -holders.time_ns, holders.lock))
    lock = holders.lock[order]
    rank = np.arange(len(order)) - np.searchsorted(lock, lock)
    is_crowded = np.bincount(lock)[lock] > most if len(lock) else np.zeros(0, np.bool_)
    stack = np.where(is_crowded & (rank >= most - 1), OTHERS, holders.stack[order])
    return summed(Charges(lock, stack, holders.time_ns[order]))
