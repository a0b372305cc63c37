"""Locks without a variable are named by both sides together."""

from __future__ import annotations

from collections.abc import Sequence

from flame.diff.locks import lock_table
from flame.diff.normalize import scales
from flame.diff.shown import shown_of
from flame.diff.sides import pair_up
from flame.diff.table import lock_stands_out
from flame.lock_marks import ViewName
from flame.locks.rule_file import load_rules
from lockflame.profile import DELAY, Profile
from tests.unit.flame.diff.test_locks import row_of, waited
from tests.unit.flame.lock_profiles import COMMIT, MS, OPEN, QUERY, RELEASING, WAITING, Row, lock_profile

RULES = load_rules()
IN_QUERY, IN_OPEN = "lock taken in THD::set_query", "lock taken in open_table"


def heap_lock(address: int, *rows: Row) -> Profile:
    """A lock without a name: (stack, "", thread, ms) of its waits and, below 0, releases."""
    name = f"heap {address:x}"
    whole = sum(row[-1] for row in rows if row[-1] > 0)
    one = waited(name, whole, MS, symbol="", address=address)
    return lock_profile([*((stack, name, *more) for stack, _, *more in rows), (QUERY, "", 0, 500)], (one,))


def waits(stack: Sequence[str], ms: int) -> Row:
    return ((*stack, *WAITING), "", 0, ms)


def compare(before: Profile, after: Profile):
    sides = pair_up([before], [after])
    pair = scales(sides.before, sides.after, "second")
    shown = shown_of(sides, ViewName.WAIT, RULES)
    marks = [
        {name for function in profile.functions if (name := function.name).startswith("[lock taken")}
        for profile in (shown.before[0], shown.after[0])
    ]
    return lock_table(sides.before, sides.after, pair, pair, RULES), marks


def test_most_of_the_waiting_moved_to_another_function() -> None:
    before = heap_lock(0x10, waits(QUERY, 3000), waits(OPEN, 400))
    after = heap_lock(0x20, waits(QUERY, 300), waits(OPEN, 500))
    table, marks = compare(before, after)
    row = row_of(table, IN_QUERY)
    assert [key.name for key in table.keys] == [IN_QUERY]
    assert (table.total.before.value[row], table.total.after.value[row]) == (340 * MS, 80 * MS)
    assert lock_stands_out(table, row)
    assert marks == [{f"[{IN_QUERY} (mutex)]"}] * 2
    # What weighs more of both sides together gives the name, whichever side it is on.
    backwards, _ = compare(after, before)
    assert [key.name for key in backwards.keys] == [IN_QUERY]


def test_a_lock_that_is_only_released_where_the_other_sides_is_waited_for() -> None:
    before = heap_lock(0x10, waits(QUERY, 3000), waits(OPEN, 400))
    after = heap_lock(0x20, waits(OPEN, 500), ((*QUERY, *RELEASING), "", 0, -500))
    table, _ = compare(before, after)
    assert [key.name for key in table.keys] == [IN_QUERY]


def test_names_on_which_both_agree_are_kept() -> None:
    table, marks = compare(heap_lock(0x10, waits(OPEN, 900)), heap_lock(0x20, waits(OPEN, 300)))
    assert [key.name for key in table.keys] == [IN_OPEN]
    assert marks == [{f"[{IN_OPEN} (mutex)]"}] * 2


def test_locks_with_nothing_in_common_are_two() -> None:
    table, marks = compare(heap_lock(0x10, waits(OPEN, 900)), heap_lock(0x20, waits(QUERY, 300)))
    assert [key.name for key in table.keys] == [IN_QUERY, IN_OPEN]
    assert marks[0].isdisjoint(marks[1])


def test_a_class_of_one_side_may_be_two_together() -> None:
    """Two locks that were waited for in one function most; together with the other side, one of them elsewhere."""
    rows: list[Row] = [
        ((*QUERY, *WAITING), "first", 0, 500),
        ((*OPEN, *WAITING), "first", 0, 400),
        ((*QUERY, *WAITING), "second", 0, 600),
    ]
    locks = [waited(name, ms, MS, symbol="", address=ms) for name, ms in (("first", 900), ("second", 600))]
    before = lock_profile([*rows, (QUERY, "", 0, 500)], locks)
    after = heap_lock(0x20, waits(OPEN, 3000))
    table, _ = compare(before, after)
    totals = {key.name: float(table.total.before.value[row]) for row, key in enumerate(table.keys)}
    assert totals == {IN_OPEN: 90 * MS, IN_QUERY: 60 * MS}


def test_cpu_time_goes_to_the_lock_that_is_waited_for_there() -> None:
    """One side has contention on the way to a named lock, but no wait for it."""
    spinning = ((*OPEN, *WAITING), "", 0, 200)
    lock = waited("LOCK_open", 900, MS)
    before = lock_profile([((*OPEN, *WAITING), "LOCK_open", 0, 900), spinning, (QUERY, "", 0, 500)], (lock,))
    other = waited("LOCK_log", 10, MS)
    for locks in ((), (other,)):
        rows: list[Row] = [((*COMMIT, *WAITING), "LOCK_log", 0, 10)] if locks else []
        after = lock_profile([*rows, spinning, (QUERY, "", 0, 500)], locks)
        table, _ = compare(before, after)
        row = row_of(table, "LOCK_open")
        assert table.contended_cpu.before.value[row] == table.contended_cpu.after.value[row] == 200 * MS
        assert IN_OPEN not in {key.name for key in table.keys}


def test_totals_are_kept() -> None:
    before = heap_lock(0x10, waits(QUERY, 3000), waits(OPEN, 400))
    shown = shown_of(pair_up([before], [before]), ViewName.WAIT, RULES)
    assert shown.before[0].total(DELAY) == before.total(DELAY)
