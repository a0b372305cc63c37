"""The functions of two sides: matched by name, with own and total weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from flame.diff.changes import whole_change
from flame.diff.functions import FunctionTable, function_table
from flame.diff.matching import comparable, stable_name
from flame.diff.normalize import Mode, scales
from flame.diff.table import Basis, function_json, function_order
from flame.diff.union import unite
from flame.locks.rule_file import load_rules
from lockflame.profile import CPU, DELAY, SAMPLES, Profile, RecordingInfo, SampleType
from tests.unit.flame.conftest import NS_PER_SAMPLE, profile_of

TEN_SECONDS = RecordingInfo(duration_ns=10**10)
Stack = tuple[Sequence[str | tuple[str, ...]], int]


RULES = load_rules()


def recording(*stacks: Stack) -> Profile:
    return comparable(profile_of(stacks, TEN_SECONDS))


def table_of(before: Sequence[Profile], after: Sequence[Profile], mode: Mode = Mode.NONE) -> FunctionTable:
    return function_table(before, after, scales(before, after, mode), RULES)


def samples_of(table: FunctionTable, name: str) -> tuple[float, ...]:
    """Own before and after, total before and after."""
    row = [key.name for key in table.keys].index(name)
    columns = (table.own.before, table.own.after, table.total.before, table.total.after)
    return tuple(float(side.value[row]) / NS_PER_SAMPLE for side in columns)


def test_own_and_total_of_both_sides() -> None:
    before = recording((("main", "parse", "scan"), 30), (("main", "parse"), 20))
    after = recording((("main", "parse"), 25), (("main", "new"), 5))
    table = table_of([before], [after])
    assert samples_of(table, "main") == (0, 0, 50, 30)
    assert samples_of(table, "parse") == (20, 25, 50, 25)
    assert samples_of(table, "scan") == (30, 0, 30, 0)
    assert samples_of(table, "new") == (0, 5, 0, 5)


def test_recursion_counts_once() -> None:
    table = table_of([recording((("main", "f", "g", "f"), 8))], [recording((("main", "f", "f", "f"), 3))])
    assert samples_of(table, "f") == (8, 3, 8, 3)


def test_inlined_or_not_is_the_same_function() -> None:
    before = recording((("main", "caller", "helper"), 40))
    after = recording((("main", ("helper", "caller")), 40))
    assert samples_of(table_of([before], [after]), "helper") == (40, 40, 40, 40)


def test_several_recordings_are_taken_together() -> None:
    before = [recording((("main",), 10)), recording((("main", "rare"), 30))]
    after = [recording((("main",), 40))]
    table = table_of(before, after, Mode.SECOND)
    assert samples_of(table, "main")[2:] == pytest.approx((2, 4))
    assert samples_of(table, "rare")[2:] == pytest.approx((1.5, 0))


def test_markers_are_no_functions_and_the_kernel_can_be_left_out() -> None:
    before = recording((("[truncated stack][m]", "f", "futex_wait[k]"), 5))
    assert [key.name for key in table_of([before], [before]).keys] == ["f", "futex_wait"]
    table = function_table([before], [before], scales([before], [before], "none"), RULES, kernel=False)
    assert [key.name for key in table.keys] == ["f"]


@pytest.mark.parametrize(
    ("name", "stable"),
    [
        ("scan.isra.0", "scan"),
        ("scan.constprop.3.cold", "scan"),
        ("A::scan(int) [clone .constprop.0] [clone .cold]", "A::scan(int)"),
        ("A::scan(int) (.isra.0)", "A::scan(int)"),
        ("core::ptr::drop_in_place<T>::h0123456789abcdef", "core::ptr::drop_in_place<T>"),
        ("runtime.cold.start", "runtime.cold.start"),
        ("scan.0", "scan.0"),
        (".cold", ".cold"),
        ("", ""),
    ],
)
def test_names_that_a_rebuild_changes(name: str, stable: str) -> None:
    assert stable_name(name) == stable
    assert stable_name(stable) == stable


def test_a_hostile_name_takes_no_long_time() -> None:
    assert stable_name(" (." + "(." * 50_000).startswith(" (.")
    assert stable_name("f" + ".cold" * 50_000).startswith("f")


def test_code_without_a_name_is_matched_by_its_module() -> None:
    profile = profile_of([(("main", "libz.so+0x1f0"), 4), (("main", "libz.so+0x2aa"), 6)], TEN_SECONDS)
    locations = tuple(
        replace(location, unresolved_reason="" if index == 1 else "no symbols")
        for index, location in enumerate(profile.locations)
    )
    named = comparable(replace(profile, locations=locations))
    assert {function.name for function in named.functions} == {"main", "libz.so (without a name)"}
    assert comparable(named).functions == named.functions


def test_what_changed_itself_comes_before_its_callers() -> None:
    before = recording((("start", "main", "hold"), 700), (("start", "main", "other"), 700))
    after = recording((("start", "main", "hold"), 350), (("start", "main", "other"), 710))
    table = table_of([before], [after], Mode.SECOND)
    order = [table.keys[row].name for row in function_order(table, "change")]
    assert order[0] == "hold"
    assert [table.keys[row].name for row in function_order(table, "name")] == ["hold", "main", "other", "start"]


def test_functions_that_wait_differ_more_between_runs_than_those_that_compute() -> None:
    """As waits of others' files do, of which no lock is known; the picture has them so too."""

    def waits(samples: int, kind: SampleType) -> Profile:
        return replace(recording((("main", "wait"), samples)), sample_types=(SAMPLES, kind))

    for kind, stands_out in ((CPU, True), (DELAY, False)):
        before, after = waits(3000, kind), waits(2000, kind)
        pair = scales([before], [after], Mode.SECOND)
        table = function_table([before], [after], pair, RULES, kind)
        assert table.total.change.stands_out.tolist() == [stands_out] * 2
        union = unite([before], [after], pair, kind, ("difference", "before", "after"), RULES)
        assert bool(whole_change(union).step[0]) == bool(table.whole.change.stands_out[0]) == stands_out


def test_json_has_units_and_no_percent_of_nothing() -> None:
    before, after = recording((("f",), 100)), recording((("f",), 50), (("new",), 60))
    table = table_of([before], [after], Mode.SECOND)
    rows = {table.keys[row].name: function_json(table, row, Basis(Mode.SECOND, "nanoseconds")) for row in range(2)}
    assert rows["f"]["total_before_ns"] == pytest.approx(10 * NS_PER_SAMPLE)
    assert rows["f"]["total_change_percent"] == -50
    assert rows["f"]["per"] == "second"
    assert rows["new"]["self_change_percent"] is None
    assert rows["new"]["self_stands_out"]
