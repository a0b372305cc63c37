"""What of two sides a picture shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flame.diff.locks import lock_table
from flame.diff.normalize import scales
from flame.diff.shown import default_view, shown_of
from flame.diff.sides import pair_up
from flame.diff.weights import wait_weights_and_squares, weights_and_squares
from flame.lock_marks import ViewName
from flame.locks.rule_file import load_rules
from lockflame.errors import LockflameError
from lockflame.profile import CAUSED_DELAY, CPU, DELAY, Profile
from tests.unit.flame.conftest import profile_of
from tests.unit.flame.diff.test_picture import waits
from tests.unit.flame.lock_profiles import MS, RECORDING, small_profile

RULES = load_rules()
CPU_ONLY = profile_of([(("main", "work", "futex[k]"), 10), (("softirq[k]",), 5)], replace(RECORDING, probes=""))


def names_on(profile: Profile) -> set[str]:
    return {
        profile.functions[line.function].name
        for location in set(profile.stacks.locations.tolist())
        for line in profile.locations[location].lines
    }


def test_the_views_of_recordings_with_waits() -> None:
    sides = pair_up([small_profile()], [small_profile()])
    assert default_view(sides) is ViewName.CPU
    assert shown_of(sides, ViewName.CPU, RULES).sample_type == CPU
    wait, holder = (shown_of(sides, view, RULES) for view in (ViewName.WAIT, ViewName.HOLDER))
    assert (wait.sample_type, holder.sample_type) == (DELAY, CAUSED_DELAY)
    assert wait.before[0].total(DELAY) == holder.after[0].total(CAUSED_DELAY) == 10_000 * MS
    assert wait.idle_ns == (30_400 * MS, 30_400 * MS)  # of the two condition variables
    with_idle = shown_of(sides, ViewName.WAIT, RULES, with_idle=True)
    assert with_idle.idle_ns == (0, 0)
    assert with_idle.before[0].total(DELAY) == 40_400 * MS


def test_waits_are_shown_first_where_there_is_no_cpu_time() -> None:
    profile = small_profile()
    only_waits = replace(profile, samples=profile.samples.select(profile.samples.lock >= 0))
    assert default_view(pair_up([only_waits], [only_waits])) is ViewName.WAIT


@pytest.mark.parametrize("view", [ViewName.WAIT, ViewName.HOLDER])
def test_waits_that_only_one_side_has_are_refused(view: ViewName) -> None:
    with pytest.raises(LockflameError, match="Not all files have them"):
        shown_of(pair_up([small_profile()], [CPU_ONLY]), view, RULES)


def test_frames_of_the_kernel_that_only_one_side_has_are_left_out() -> None:
    other = replace(CPU_ONLY, recording=replace(CPU_ONLY.recording, kernel_frames=False))
    shown = shown_of(pair_up([CPU_ONLY], [other]), ViewName.CPU, RULES)
    assert names_on(shown.before[0]) == {"main", "work"}
    assert shown.before[0].total(CPU) == CPU_ONLY.total(CPU)
    assert names_on(shown_of(pair_up([CPU_ONLY], [CPU_ONLY]), ViewName.CPU, RULES).before[0]) > {"futex", "softirq"}


def test_locks_are_matched_across_builds() -> None:
    profile = small_profile()
    functions = tuple(replace(function, name=f"{function.name}.isra.0") for function in profile.functions)
    renamed = replace(profile, functions=functions, locks=tuple(replace(lock, name="") for lock in profile.locks))
    shown = shown_of(pair_up([profile], [renamed]), ViewName.WAIT, RULES)
    assert names_on(shown.before[0]) == names_on(shown.after[0])


@pytest.mark.parametrize(("view", "kind"), [(ViewName.WAIT, DELAY), (ViewName.HOLDER, CAUSED_DELAY)])
def test_paths_of_a_lock_are_together_as_sure_as_its_row_in_the_table(view: ViewName, kind) -> None:
    sides = pair_up([waits(2)], [waits(2)])
    pair = scales(sides.before, sides.after, "none")
    table = lock_table(sides.before, sides.after, pair, pair, RULES)
    profile = shown_of(sides, view, RULES, with_idle=True).before[0]
    weights, squared = wait_weights_and_squares(profile, kind)
    for number, lock in enumerate(profile.locks):
        (row,) = [row for row, key in enumerate(table.keys) if key.name == lock.name]
        stacks = profile.samples.stack[profile.samples.lock == number]
        assert weights[stacks].sum() == table.total.before.value[row] == lock.total_ns
        assert 4 * squared[stacks].sum() == pytest.approx(table.total.before.sampling[row])


def test_without_a_histogram_each_row_is_one_wait_and_without_locks_rows_count() -> None:
    profile = shown_of(pair_up([small_profile()], [small_profile()]), ViewName.WAIT, RULES).before[0]
    weights, squared = wait_weights_and_squares(profile, DELAY)
    np.testing.assert_array_equal(squared, weights**2)
    of_others = replace(profile, locks=())
    for found, expected in zip(
        wait_weights_and_squares(of_others, DELAY), weights_and_squares(of_others, DELAY), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
