"""The locks of two sides: exact counts, and how sure their changes are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from flame.diff.functions import function_table
from flame.diff.locks import LockTable, lock_table
from flame.diff.normalize import Mode, Scale, scales
from flame.diff.sides import pair_up
from flame.diff.table import Basis, lock_json, lock_order, lock_stands_out
from flame.diff.verdict import lock as lock_verdict
from flame.diff.verdict import waits as waits_verdict
from flame.diff.verdict import whole
from flame.locks.rule_file import load_rules
from lockflame.errors import LockflameError
from lockflame.profile import CPU, DELAY, HISTOGRAM_BUCKETS, Lock, Profile, RecordingInfo, WaitEnds
from tests.unit.flame.lock_profiles import MS, QUERY, RECORDING, RELEASING, WAITING, lock, lock_profile

RULES = load_rules()
POOL = ("start", "wait_for_work", "pthread_cond_wait", "__x64_sys_futex[k]")


def waited(name: str, waits: int, mean_ns: int, **changes: object) -> Lock:
    """A lock with so many waits, all of about the same length."""
    histogram = [0] * HISTOGRAM_BUCKETS
    histogram[mean_ns.bit_length()] = waits
    exact = {
        "ends": WaitEnds(woken=waits),
        "total_ns": waits * mean_ns,
        "max_ns": round(1.5 * mean_ns),
        "histogram": tuple(histogram),
    }
    return lock(name, **{**exact, **changes})


def recording(*locks: Lock, cpu_samples: int = 500) -> Profile:
    stacks = [POOL if item.name.startswith("COND") else (*QUERY, *WAITING) for item in locks]
    rows = [(stack, item.name, 0, item.total_ns // MS) for stack, item in zip(stacks, locks, strict=True)]
    return lock_profile([*rows, ((*QUERY, *WAITING), "", 0, 50), (QUERY, "", 0, cpu_samples)], locks)


def table_of(before: Sequence[Profile], after: Sequence[Profile], mode: Mode = Mode.SECOND) -> LockTable:
    sides = pair_up(before, after)
    pair = scales(sides.before, sides.after, mode)
    return lock_table(sides.before, sides.after, pair, pair, RULES)


def row_of(table: LockTable, name: str) -> int:
    (row,) = [index for index, key in enumerate(table.keys) if key.name == name]
    return row


def test_exact_counts_of_both_sides() -> None:
    table = table_of([recording(waited("LOCK_a", 2000, 2 * MS))], [recording(waited("LOCK_a", 1500, MS))])
    row = row_of(table, "LOCK_a")
    assert (table.waits.before.value[row], table.waits.after.value[row]) == (200, 150)
    assert (table.total.before.value[row], table.total.after.value[row]) == (400 * MS, 150 * MS)
    assert (table.times_before[row].mean_ns, table.times_after[row].mean_ns) == (2 * MS, MS)
    assert (table.times_before[row].max_ns, table.times_after[row].max_ns) == (3 * MS, 1.5 * MS)
    assert table.total.change.stands_out[row]
    assert not table.waits.change.stands_out[row]


def test_the_lock_that_changed_most_is_first() -> None:
    before = recording(waited("LOCK_a", 3000, MS), waited("LOCK_b", 3000, 2 * MS))
    after = recording(waited("LOCK_a", 3000, 300_000), waited("LOCK_b", 3100, 2 * MS))
    table = table_of([before], [after])
    assert table.keys[lock_order(table, "change")[0]].name == "LOCK_a"
    assert not lock_stands_out(table, row_of(table, "LOCK_b"))


@pytest.mark.parametrize(("run_delay_ns", "stands_out"), [(0, True), (RECORDING.cpu_time_ns, False)])
def test_the_99th_percentile_of_a_busy_machine(run_delay_ns: int, stands_out: bool) -> None:
    """Waits are short, or long where the holder has no CPU: a few more of these, and the percentile is one of them."""

    def mixed(long: int) -> Profile:
        one = waited("LOCK_a", 100_000, MS // 100)
        histogram = list(one.histogram)
        histogram[(10 * MS).bit_length()] = long
        exact = {"ends": WaitEnds(woken=100_000 + long), "total_ns": one.total_ns + 10 * MS * long, "max_ns": 12 * MS}
        profile = recording(replace(one, histogram=tuple(histogram), **exact))
        return replace(profile, recording=replace(RECORDING, run_delay_ns=run_delay_ns))

    table = table_of([mixed(500)], [mixed(2000)])
    assert table.times_after[0].p99_ns > 50 * table.times_before[0].p99_ns
    assert table.p99_stands_out == (stands_out,)


def test_a_few_waits_more_or_less_are_noise() -> None:
    table = table_of([recording(waited("LOCK_a", 12, MS))], [recording(waited("LOCK_a", 4, MS))])
    assert not lock_stands_out(table, row_of(table, "LOCK_a"))


def test_recordings_of_a_side_are_taken_together() -> None:
    before = [recording(waited("LOCK_a", 900 + change, MS)) for change in (0, 30, -20)]
    after = [recording(waited("LOCK_a", 1400 + change, MS)) for change in (10, -30, 0)]
    together, single = table_of(before, after), table_of(before[:1], after[:1])
    row = row_of(together, "LOCK_a")
    assert together.waits.before.value[row] == pytest.approx(91 - 2 / 3)
    assert together.total.change.deviations[row] > single.total.change.deviations[row]


def test_a_lock_of_one_side_only() -> None:
    table = table_of([recording(waited("LOCK_a", 3000, MS))], [recording(waited("LOCK_b", 3000, MS))])
    gone, new = row_of(table, "LOCK_a"), row_of(table, "LOCK_b")
    assert (table.total.after.value[gone], table.total.before.value[new]) == (0, 0)
    assert lock_stands_out(table, gone)
    assert lock_stands_out(table, new)
    found = lock_json(table, new, Basis(Mode.SECOND, "nanoseconds"), has_waits=True)
    assert found["total_change_percent"] is None
    assert (found["p99_before_ns"], found["max_after_ns"]) == (0, 1.5 * MS)


def test_a_lock_whose_waits_are_gone_altogether() -> None:
    before, after = recording(waited("LOCK_a", 3000, MS)), recording()
    table = table_of([before], [after])
    row = row_of(table, "LOCK_a")
    assert table.waits.change.stands_out[row]
    assert table.total.change.stands_out[row]
    assert lock_verdict(table_of([after], [before]), "LOCK_a", has_waits=True).grew_above(0)
    assert waits_verdict(table_of([after], [before])).grew_above(0)
    few = table_of([recording(waited("LOCK_a", 2, MS))], [after])
    assert not lock_stands_out(few, row_of(few, "LOCK_a"))


def test_without_waits_contended_cpu_is_compared() -> None:
    def cpu_only(contended: int) -> Profile:
        return lock_profile(
            [((*QUERY, *WAITING), "", 0, contended), (QUERY, "", 0, 300)], (), replace(RECORDING, probes="")
        )

    table = table_of([cpu_only(200)], [cpu_only(60)])
    (key,) = table.keys
    assert (key.name, key.kind) == ("lock taken in THD::set_query", "mutex")
    assert table.contended_cpu.before.value[0] == pytest.approx(200 * MS)
    assert table.contended_cpu.change.stands_out[0]
    assert "waits_before_count" not in lock_json(table, 0, Basis(Mode.SECOND, "nanoseconds"), has_waits=False)
    assert lock_verdict(table, "set_query", has_waits=False).percent == pytest.approx(-70)


def test_verdicts_for_ci() -> None:
    before = recording(waited("LOCK_a", 3000, MS), waited("LOCK_b", 100, MS))
    after = recording(waited("LOCK_a", 6000, MS), waited("LOCK_b", 130, MS))
    table = table_of([before], [after])
    doubled, little = (lock_verdict(table, name, has_waits=True) for name in ("LOCK_a", "LOCK_b"))
    assert doubled.grew_above(50)
    assert not doubled.grew_above(150)
    assert little.exceeds(20)
    assert not little.grew_above(20)
    assert waits_verdict(table).grew_above(50)
    assert not lock_verdict(table_of([after], [before]), "LOCK_a", has_waits=True).grew_above(0)
    with pytest.raises(LockflameError, match="no lock is called LOCK_c"):
        lock_verdict(table, "LOCK_c", has_waits=True)


def test_all_cpu_time_for_ci() -> None:
    before, after = recording(cpu_samples=1000), recording(cpu_samples=1500)
    sides = pair_up([before], [after])
    table = function_table(sides.before, sides.after, scales([before], [after], Mode.SECOND), RULES)
    found = whole(table, CPU)
    assert found.percent == pytest.approx(100 * 500 / 1050)
    assert found.grew_above(40)
    assert not found.grew_above(50)


def test_idle_waits_are_not_part_of_all_waits() -> None:
    """A pool's threads that wait for work are idle; twice as much of it is no regression."""
    idle = waited("COND_pool", 500, 20 * MS, has_owner=False)
    more = replace(idle, total_ns=2 * idle.total_ns)
    table = table_of([recording(waited("LOCK_a", 3000, MS), idle)], [recording(waited("LOCK_a", 3000, MS), more)])
    assert table.is_idle[row_of(table, "COND_pool")]
    assert waits_verdict(table).percent == pytest.approx(0)


def test_releases_alone_make_no_waits() -> None:
    profile = lock_profile([((*QUERY, *RELEASING), "LOCK_a", 0, -5)], [waited("LOCK_a", 0, MS)])
    table = table_of([profile], [profile])
    assert not any(lock_stands_out(table, row) for row in range(len(table)))


def test_shares_of_waits_need_no_cpu_time() -> None:
    quiet = lock_profile([((*QUERY, *WAITING), "LOCK_a", 0, 100)], [waited("LOCK_a", 100, MS)])
    sides = pair_up([quiet], [quiet])
    zero = (Scale(0.0, "", (1.0,)),) * 2
    table = lock_table(sides.before, sides.after, scales([quiet], [quiet], "none"), zero, RULES)
    assert table.total.before.value[0] == 100 * MS
    assert table.contended_cpu.before.value[0] == 0


@pytest.mark.filterwarnings("error")
def test_shares_of_no_waits_at_all() -> None:
    profile = recording()
    shares = scales([profile], [profile], Mode.TOTAL, sample_type=DELAY)
    assert shares[0].factor == 0
    table = lock_table([profile], [profile], shares, scales([profile], [profile], Mode.TOTAL), RULES)
    assert table.contended_cpu.before.value.tolist() == pytest.approx([50 / 550])


def test_rate_of_recordings_of_different_lengths() -> None:
    long = replace(recording(waited("LOCK_a", 2000, MS)), recording=replace(RECORDING, duration_ns=20 * 10**9))
    table = table_of([recording(waited("LOCK_a", 1000, MS))], [long])
    assert table.waits.before.value[0] == table.waits.after.value[0]
    assert isinstance(long.recording, RecordingInfo)
