from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.lock_chains import HOLDERS_MOST, OTHERS, Chains, Charges, shared_out, summed

LOCKS = 3
TIMES = st.integers(1, 10**15)
ROWS = st.lists(st.tuples(st.integers(0, LOCKS - 1), st.integers(0, 9), TIMES), max_size=40)


def charges(rows: list[tuple[int, int, int]]) -> Charges:
    columns = np.array(rows, np.int64).reshape(-1, 3)
    return Charges(columns[:, 0], columns[:, 1], columns[:, 2])


def parts(chains: Chains) -> dict[tuple[int, int], int]:
    keys = zip(chains.waiter.tolist(), chains.holder.tolist(), strict=True)
    return dict(zip(keys, chains.time_ns.tolist(), strict=True))


@settings(deadline=None)
@given(waiting=ROWS, holding=ROWS)
def test_each_waiters_time_goes_to_the_holders_of_its_lock_by_their_shares(waiting, holding):
    everywhere = [(lock, 20, 1) for lock in range(LOCKS)]
    waiters, holders = summed(charges(waiting)), summed(charges(holding + everywhere))
    found = parts(shared_out(waiters, holders, LOCKS))
    assert all(time_ns > 0 for time_ns in found.values())
    for row, (lock, time_ns) in enumerate(zip(waiters.lock.tolist(), waiters.time_ns.tolist(), strict=True)):
        own = {holder: part for (waiter, holder), part in found.items() if waiter == row}
        assert sum(own.values()) == time_ns
        mine = holders.lock == lock
        whole = int(holders.time_ns[mine].sum())
        assert own.keys() <= set(holders.stack[mine].tolist())
        for stack, held_ns in zip(holders.stack[mine].tolist(), holders.time_ns[mine].tolist(), strict=True):
            assert abs(own.get(stack, 0) - time_ns * held_ns // whole) <= 4  # a float has 53 bits


def test_many_holders_are_few_and_others():
    holders = summed(charges([(0, stack, 1000 - stack) for stack in range(500)]))
    chains = shared_out(charges([(0, 0, 10**9)]), holders, 1)
    assert len(chains.holder) == HOLDERS_MOST
    assert set(chains.holder.tolist()) == {OTHERS, *range(HOLDERS_MOST - 1)}
    rest = sum(1000 - stack for stack in range(HOLDERS_MOST - 1, 500))
    share = int(chains.time_ns[chains.holder == OTHERS][0]) / 10**9
    assert abs(share - rest / sum(1000 - stack for stack in range(500))) < 1e-6


def test_nobody_waits():
    assert len(shared_out(charges([]), charges([(0, 1, 5)]), 1).waiter) == 0
    assert len(shared_out(charges([]), charges([]), 0).waiter) == 0
