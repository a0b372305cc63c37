"""What can be compared, and what is said of the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flame.diff.functions import function_table
from flame.diff.locks import lock_table
from flame.diff.normalize import scales
from flame.diff.sides import pair_up
from flame.locks.rule_file import load_rules
from lockflame.errors import LockflameError
from lockflame.profile import CPU, SAMPLES, Profile, SampleType
from tests.unit.flame.conftest import profile_of
from tests.unit.flame.diff.test_locks import waited
from tests.unit.flame.lock_profiles import QUERY, RECORDING, WAITING, lock, lock_profile

CPU_ONLY = replace(RECORDING, probes="")


def recording(**changes: object) -> Profile:
    return profile_of([(("main", "work"), 10)], replace(CPU_ONLY, **changes))  # type: ignore[arg-type]


def test_alike_recordings_need_no_words() -> None:
    sides = pair_up([recording()], [recording(), recording()])
    assert (sides.sample_type, sides.notes, sides.has_waits, sides.kernel_frames) == (CPU, (), False, True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"host": "db2"}, "other machines (db1 before, db2 after)"),
        ({"event": "cycles"}, "other events (cpu-clock before, cycles after)"),
        ({"frequency_asked_hz": 499}, "other rates (99 Hz before, 499 Hz after)"),
        ({"command": "/usr/bin/postgres -D data"}, "other programs (mariadbd before, postgres after)"),
        ({"kernel_frames": False}, "its functions are left out"),
    ],
)
def test_what_differs_is_said(changes: dict[str, object], said: str) -> None:
    (note,) = pair_up([recording()], [recording(**changes)]).notes
    assert said in note


def test_what_is_not_known_differs_from_nothing() -> None:
    assert pair_up([recording()], [recording(host="", event="", frequency_asked_hz=0, command="")]).notes == ()


def test_waits_of_one_side_are_left_out() -> None:
    waits = lock_profile([((*QUERY, *WAITING), "LOCK_a", 0, 5), (QUERY, "", 0, 7)], [lock("LOCK_a")])
    sides = pair_up([waits], [recording(command=RECORDING.command)])
    assert not sides.has_waits
    assert sides.before[0].locks == ()
    assert sides.before[0].total(SAMPLES) == 7
    assert any("lock waits aren't in all files" in note for note in sides.notes)


def with_types(*types: SampleType) -> Profile:
    profile = recording()
    values = np.ones((len(profile.samples), len(types)), np.int64)
    return replace(profile, sample_types=types, samples=replace(profile.samples, values=values))


def test_the_first_common_type_is_compared_where_cpu_time_is_not_there() -> None:
    alloc = SampleType("alloc_space", "bytes")
    sides = pair_up([with_types(alloc, SAMPLES)], [with_types(SAMPLES, alloc, CPU)])
    assert sides.sample_type == alloc
    assert sides.notes == ("sample types that aren't in all files are left out: cpu",)


def test_the_same_name_with_another_unit_is_another_type() -> None:
    with pytest.raises(LockflameError, match=r"wall \(seconds\) before, wall \(nanoseconds\) after"):
        pair_up([with_types(SampleType("wall", "seconds"))], [with_types(SampleType("wall", "nanoseconds"))])


@pytest.mark.parametrize("side", ["before", "after"])
def test_no_samples_on_a_side(side: str) -> None:
    nothing = profile_of([], CPU_ONLY)
    sides = ([nothing], [recording()]) if side == "before" else ([recording()], [nothing])
    with pytest.raises(LockflameError, match=f"no samples {side}"):
        pair_up(*sides)


def test_negative_values_count_as_nothing() -> None:
    profile = recording()
    values = profile.samples.values * np.array([1, -1])
    odd = replace(profile, samples=replace(profile.samples, values=values))
    sides = pair_up([recording()], [odd])
    assert any("negative values" in note for note in sides.notes)
    table = function_table(sides.before, sides.after, scales(sides.before, sides.after, "total"), load_rules())
    assert table.total.after.value.tolist() == [0, 0]


def test_absurd_numbers_are_compared_all_the_same() -> None:
    most = 2**63 - 1
    profile = recording(duration_ns=1)
    values = np.full((len(profile.samples), 2), most)
    absurd = replace(profile, samples=replace(profile.samples, values=values))
    waits = waited("LOCK_a", 2**63, 2**46)
    locks = replace(absurd, locks=(waits, replace(waits, address=0x2000)), recording=replace(RECORDING, duration_ns=1))
    for mode in ("second", "total", "none"):
        sides = pair_up([locks, locks], [locks])
        pair = scales(sides.before, sides.after, mode)
        assert not function_table(sides.before, sides.after, pair, load_rules()).total.change.stands_out.any()
        assert not any(lock_table(sides.before, sides.after, pair, pair, load_rules()).total.change.stands_out)
