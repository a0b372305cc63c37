"""What two recordings may differ by because the machine had less CPU time for one of them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from flame.diff.pace import CONTENDED_SPREAD, FREE, note_of_pace, pace_of
from lockflame.profile import Profile
from tests.unit.flame.conftest import profile_of

SECOND = 10**9


def taken(cpu_s: float, delay_s: float) -> Profile:
    """A recording that used and lacked so much CPU time."""
    profile = profile_of([(("main", "work"), 50)])
    times = {"cpu_time_ns": int(cpu_s * SECOND), "run_delay_ns": int(delay_s * SECOND)}
    return replace(profile, recording=replace(profile.recording, **times))


def test_nothing_comes_of_a_free_machine() -> None:
    assert pace_of([taken(10, 0)], [taken(5, 0)]) == FREE


def test_recordings_differ_by_as_much_as_their_paces() -> None:
    pace = pace_of([taken(10, 0)], [taken(5, 5)])
    assert math.sqrt(2) * pace.spread == pytest.approx(math.log(2), rel=0.05)
    assert pace.contended_spread == pytest.approx(CONTENDED_SPREAD / 2)
    assert pace_of([taken(5, 5)], [taken(10, 0)]) == pace


def test_equal_paces_leave_a_little() -> None:
    pace = pace_of([taken(1, 3)], [taken(2, 6)])
    assert 0.05 < pace.spread < 0.2
    assert pace.contended_spread > 1


@pytest.mark.parametrize(("cpu_s", "delay_s"), [(0, 0), (0, 5), (-1, 5), (5, -1)])
def test_what_files_say_is_not_believed(cpu_s: float, delay_s: float) -> None:
    assert pace_of([taken(cpu_s, delay_s)], [taken(cpu_s, delay_s)]) == FREE


def test_the_reader_is_told() -> None:
    assert note_of_pace([taken(10, 1)], [taken(10, 1.2)]) is None
    note = note_of_pace([taken(10, 10)], [taken(10, 0)])
    assert note is not None
    assert "50 % of the CPU time that it could have used before, and 100 % after" in note
