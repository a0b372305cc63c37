"""What the summary of a recording says of locks and of containers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lockflame.cli.summary import print_summary
from lockflame.profile import Profile, RecordingInfo, Thread

LOCK, SLOW = "pthread_mutex_lock", "__lll_lock_wait"
PID = 7


def said(profile: Profile, capsys: pytest.CaptureFixture[str], *, full_names: bool = False) -> str:
    print_summary(profile, "server", [], full_names=full_names)
    return capsys.readouterr().err


def test_the_three_worst_paths_with_their_callers(profile_of, capsys) -> None:
    stacks = [
        (["main", "loop", "run", ("take", "f"), LOCK, SLOW], 30),
        (["main", "g", LOCK, SLOW], 20),
        (["h", LOCK, SLOW], 10),
        (["i", LOCK, SLOW], 5),
        (["j", LOCK], 15),
        (["main"], 20),
    ]
    lines = said(profile_of(stacks), capsys).splitlines()
    # R: prop.test(30, 100, correct = FALSE), and with 20 and 10
    first = next(index for index, line in enumerate(lines) if "lock path" in line) + 1
    assert [line.split(None, 2) for line in lines[first : first + 4]] == [
        ["30.0%", "±8.8%", "take < f < run (mutex)"],
        ["20.0%", "±7.8%", "g < main (mutex)"],
        ["10.0%", "±6.0%", "h (mutex)"],
        [],
    ]


def test_names_are_shortened_unless_told_and_never_raw(profile_of, capsys) -> None:
    profile = profile_of([(["red\x1b[31m", "A<int>::f(int)", LOCK, SLOW], 1)])
    short, whole = said(profile, capsys), said(profile, capsys, full_names=True)
    assert "A<…>::f < red" in short
    assert "A<int>::f(int) < red" in whole
    assert "\x1b" not in short + whole


def test_too_little_contention_to_speak_of(profile_of, capsys) -> None:
    text = said(profile_of([(["f", LOCK, SLOW], 1), (["main"], 199)]), capsys)
    assert "no lock contention to speak of: 0.5 % of CPU time in contended locks, most in f; threads that" in text
    text = said(profile_of([(["f", LOCK], 1), (["main"], 199)]), capsys)
    assert "no lock contention to speak of: none seen; threads that sleep" in text


def test_nothing_of_locks_without_cpu_time(profile_of, capsys) -> None:
    assert "lock" not in said(profile_of([]), capsys).replace("lockflame", "")


def in_containers(profile: Profile, *containers: str) -> Profile:
    threads = tuple(Thread(PID + index, PID + index, "t", name) for index, name in enumerate(containers))
    return replace(profile, threads=threads, recording=RecordingInfo(pid=PID))


def test_containers_are_named(profile_of, capsys) -> None:
    base = profile_of([(["main"], 1)])
    assert "container" not in said(in_containers(base, "", ""), capsys)
    one = said(in_containers(base, "0123456789ab", "0123456789ab"), capsys)
    assert "of server (PID 7) in container 0123456789ab in " in one
    assert "other" not in one
    several = said(in_containers(base, "aaa", "b\nb", "b\nb", "ccc", ""), capsys)
    assert "in other containers: b" in several
    assert " (2 threads), ccc (1 thread)\n" in several
    assert "of its threads are in containers: bbb (1 thread)\n" in said(in_containers(base, "", "bbb"), capsys)
    many = said(in_containers(base, "", *map(str, range(9))), capsys)
    assert many.count("(1 thread)") == 5
    assert "4 more" in many
