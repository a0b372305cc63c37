"""What two recordings may differ by because the machine had less CPU time for one of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flame.diff.functions import FunctionTable, function_table
from flame.diff.normalize import Mode, scales
from flame.diff.pace import EXPOSED_SPREAD, FREE, note_of_pace, paces_of
from flame.locks.rule_file import load_rules
from lockflame.profile import Profile
from tests.unit.flame.conftest import profile_of

RULES = load_rules()
SECOND = 10**9


def taken(cpu_s: float, delay_s: float, *, samples: int = 50) -> Profile:
    """A recording of 10 s that used and lacked so much CPU time; of a single function."""
    profile = profile_of([(("main", "work"), samples)])
    times = {"duration_ns": 10 * SECOND, "cpu_time_ns": int(cpu_s * SECOND), "run_delay_ns": int(delay_s * SECOND)}
    return replace(profile, recording=replace(profile.recording, **times))


def test_nothing_comes_of_a_free_machine() -> None:
    assert paces_of([taken(10, 0)], [taken(5, 0)], over_time=True) == (FREE, FREE)


def test_shares_matter_for_what_is_of_a_time() -> None:
    before, after = [taken(10, 0)], [taken(5, 5)]
    first, second = paces_of(before, after, over_time=True)
    assert (first.share, second.share) == (1, 0.5)
    assert first.exposed_spread == second.exposed_spread == pytest.approx(EXPOSED_SPREAD / 2)
    assert paces_of(after, before, over_time=True) == (second, first)
    of_work = paces_of(before, after, over_time=False)
    assert [pace.share for pace in of_work] == [1, 1]
    assert of_work[0].exposed_spread == first.exposed_spread


def test_equal_paces_leave_a_little() -> None:
    first, second = paces_of([taken(1, 3)], [taken(2, 6)], over_time=True)
    assert first == second
    assert 0.05 < first.spread < 0.2
    assert first.exposed_spread > 1


@pytest.mark.parametrize(("cpu_s", "delay_s"), [(0, 0), (0, 5), (-1, 5), (5, -1)])
def test_what_files_say_is_not_believed(cpu_s: float, delay_s: float) -> None:
    strange = [taken(cpu_s, delay_s)]
    assert paces_of(strange, strange, over_time=True) == (FREE, FREE)


def table_of(before: Profile, after: Profile, mode: Mode) -> FunctionTable:
    return function_table([before], [after], scales([before], [after], mode, (1, 1)), RULES)


def test_half_the_time_at_half_the_pace_is_the_machines_doing() -> None:
    free, busy = taken(10, 0, samples=900), taken(5, 5, samples=450)
    for before, after in ((free, busy), (busy, free)):
        for mode in (Mode.SECOND, Mode.NONE, Mode.TOTAL):
            table = table_of(before, after, mode)
            assert not table.total.change.stands_out.any()
            assert not table.whole.change.stands_out.any()
        # The same work took half of the time.
        of_work = table_of(before, after, Mode.WORK)
        assert of_work.total.change.stands_out.all()
        assert of_work.whole.change.stands_out.all()


def test_what_the_pace_does_not_explain_stands_out() -> None:
    free, busy = taken(10, 0, samples=900), taken(5, 5, samples=900)
    assert not table_of(free, busy, Mode.SECOND).total.change.stands_out.any()
    much_less = taken(5, 5, samples=200)
    assert table_of(free, much_less, Mode.SECOND).total.change.stands_out.all()
    assert table_of(much_less, busy, Mode.SECOND).total.change.stands_out.all()


def test_the_reader_is_told() -> None:
    assert note_of_pace([taken(10, 1)], [taken(10, 1.2)]) is None
    note = note_of_pace([taken(10, 10)], [taken(10, 0)])
    assert note is not None
    assert "50 % of the CPU time that it could have used before, and 100 % after" in note
