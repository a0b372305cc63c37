"""What makes two sides comparable."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flame.diff.normalize import Mode, fitting_mode, scales
from lockflame.errors import LockflameError
from lockflame.profile import Profile, RecordingInfo
from tests.unit.flame.conftest import NS_PER_SAMPLE, profile_of

STACKS = [(("main", "work"), 60), (("main",), 40)]


def lasting(seconds: float, samples: int = 100) -> Profile:
    return profile_of([(("main",), samples)], RecordingInfo(duration_ns=round(seconds * 1e9)))


def test_per_second_counts_the_time_of_all_recordings_of_a_side() -> None:
    before, after = scales([lasting(2), lasting(6)], [lasting(4)], "second")
    assert (before.factor, after.factor) == pytest.approx((1 / 8, 1 / 4))
    assert before.parts == pytest.approx((0.25, 0.75))
    assert before.words == "per second of recording"


def test_shares_are_of_the_sum() -> None:
    before, after = scales([profile_of(STACKS)], [lasting(1, 50), lasting(1, 150)], Mode.TOTAL)
    assert before.factor == pytest.approx(1 / (100 * NS_PER_SAMPLE))
    assert after.parts == pytest.approx((0.25, 0.75))


def test_a_side_without_weight_has_no_shares() -> None:
    assert scales([profile_of(STACKS)], [lasting(1, 0)], Mode.TOTAL)[1].factor == 0


def test_as_it_is_means_per_recording() -> None:
    before, after = scales([lasting(1)], [lasting(1), lasting(5)], Mode.NONE)
    assert (before.factor, before.words) == (1, "")
    assert (after.factor, after.words, after.parts) == (0.5, "per recording", (0.5, 0.5))


def test_per_unit_of_work() -> None:
    before, after = scales([lasting(2)], [lasting(1), lasting(3)], Mode.WORK, (100, 400))
    assert (before.factor, after.factor) == (0.01, 0.0025)
    assert after.parts == (0.25, 0.75)


@pytest.mark.parametrize("work", [None, (0.0, 5.0), (5.0, float("inf")), (5.0, float("nan"))])
def test_without_work_there_is_nothing_to_divide_by(work: tuple[float, float] | None) -> None:
    with pytest.raises(LockflameError, match="per unit of work"):
        scales([lasting(1)], [lasting(1)], Mode.WORK, work)


def test_where_a_length_is_unknown_shares_fit() -> None:
    known, unknown = lasting(1), replace(lasting(1), recording=RecordingInfo())
    assert fitting_mode([known], [known]) is Mode.SECOND
    assert fitting_mode([known], [known, unknown]) is Mode.TOTAL
    with pytest.raises(LockflameError, match="--normalize total"):
        scales([known], [unknown], Mode.SECOND)
