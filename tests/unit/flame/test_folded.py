from __future__ import annotations

from flame.folded import folded_lines
from lockflame.profile import SAMPLES


def test_lines_are_root_first_with_kinds(profile_of):
    profile = profile_of(
        [
            (["main", "run", "futex_wait[k]"], 3),
            (["main", "py::f[j]"], 2),
            (["[truncated stack][m]", ("inlined", "caller")], 1),
        ]
    )
    assert set(folded_lines(profile, SAMPLES)) == {
        "main;run;futex_wait_[k] 3",
        "main;py::f_[j] 2",
        "[truncated stack];caller;inlined_[i] 1",
    }


def test_inlined_comes_before_kind_and_names_are_whole(profile_of):
    profile = profile_of([([("void f<int>(int)", "vfs_read[k]")], 1), ([("f", "py::g[j]")], 2)])
    assert set(folded_lines(profile, SAMPLES)) == {"vfs_read_[k];void f<int>(int)_[i] 1", "py::g_[j];f_[i] 2"}


def test_weight_is_cpu_time_unless_chosen(profile_of):
    assert list(folded_lines(profile_of([(["main"], 3)]))) == ["main 30000000"]


def test_a_stack_within_another_has_its_own_line(profile_of):
    lines = list(folded_lines(profile_of([(["a", "b"], 1), (["a"], 2), (["a", "b", "c"], 4)]), SAMPLES))
    assert lines == ["a 2", "a;b 1", "a;b;c 4"]


def test_separators_and_bytes_in_names(profile_of):
    hostile = "operator;(a b)\n" + b"\xff".decode("utf-8", "surrogateescape")
    (line,) = folded_lines(profile_of([(["main", hostile], 1)]), SAMPLES)
    assert line == "main;operator:(a b)\ufffd\\xff 1"
    line.encode()


def test_sum_of_lines_is_the_profile(profile_of):
    profile = profile_of([([], 5), (["a"], 7), (["a", "a"], 11), (["b"], 0)])
    lines = list(folded_lines(profile, SAMPLES))
    assert lines[0] == "[no stack] 5"
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == 23


def test_empty_and_deep(profile_of):
    assert list(folded_lines(profile_of([]))) == []
    (line,) = folded_lines(profile_of([(["f"] * 2000, 1)]), SAMPLES)
    assert line.count(";") == 1999
