from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from lockflame.cli import run
from lockflame.cli.reading import NOTES_MOST, say_notes
from lockflame.pprof import encode
from lockflame.profile import CONTENTIONS, CPU, DELAY, SAMPLES, SampleType
from lockflame.profile_pb2 import Profile as Message
from tests.unit.flame.lock_profiles import small_profile

PERF = b"""app  100/101  1.000000: 10000000 cpu-clock:
\tffffffff81000010 native_queued_spin_lock_slowpath ([kernel.kallsyms])
\tffffffff81000020 _raw_spin_lock ([kernel.kallsyms])
\tffffffff81000030 do_task_dead ([kernel.kallsyms])

neither a sample
"""
LOST = "2 lines or samples of the file could not be read."


def of_types(path: Path, *types: SampleType, value: int = 7) -> str:
    """A file of another tool."""
    message = Message(string_table=["", "main"])
    for kind in types:
        message.string_table.extend([kind.name, kind.unit])
        message.sample_type.add(type=len(message.string_table) - 2, unit=len(message.string_table) - 1)
    message.function.add(id=1, name=1)
    message.location.add(id=1).line.add(function_id=1)
    message.sample.add(location_id=[1], value=[value] * len(types))
    path.write_bytes(message.SerializeToString())
    return str(path)


@pytest.fixture
def perf_text(tmp_path: Path) -> str:
    path = tmp_path / "perf\x1b[31m.txt"
    path.write_bytes(PERF + b"nor this\n")
    return str(path)


@pytest.mark.parametrize("command", [["flame", "-o", "{}/o.folded"], ["locks"], ["merge", "-o", "{}/o.pb.gz"]])
def test_what_a_reader_lost_is_told(
    perf_text: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *options = command
    assert run([name, perf_text, *(option.format(tmp_path) for option in options)]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "note:" in line]
    assert told == [f"lockflame: note: {tmp_path}/perf\N{REPLACEMENT CHARACTER}[31m.txt: {LOST}"]


def test_a_comparison_tells_it_once_for_each_file(perf_text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", perf_text, perf_text]) == 0
    assert capsys.readouterr().err.count(LOST) == 1


def test_values_below_zero_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = of_types(tmp_path / "p", CPU, value=-3)
    assert run(["locks", path]) == 0
    assert capsys.readouterr().err.count("1 sample has values below zero") == 1
    assert run(["diff", path, of_types(tmp_path / "q", CPU)]) == 0
    told = capsys.readouterr().err
    assert (told.count("below zero"), told.count("negative values")) == (0, 1)


def test_what_was_told_at_recording_is_not_told_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.pb.gz"
    profile = small_profile()
    recording = replace(profile.recording, notes=("Told when it was recorded.",))
    path.write_bytes(encode(replace(profile, recording=recording)))
    assert run(["flame", str(path), "-o", str(tmp_path / "p.folded")]) == 0
    assert "note" not in capsys.readouterr().err


def test_many_notes_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    say_notes(f"{number}: lost." for number in [*range(NOTES_MOST), *range(NOTES_MOST + 3)])
    told = capsys.readouterr().err.splitlines()
    assert told == [
        *(f"lockflame: note: {number}: lost." for number in range(NOTES_MOST)),
        "lockflame: 3 more notes on what was read",
    ]


def test_a_place_without_an_address_is_its_file(perf_text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["locks", perf_text]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split()[-1] == "[kernel.kallsyms]"


def test_nothing_compared_with_nothing_has_no_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.folded"
    path.write_bytes(b"main;a 0\n")
    assert run(["diff", str(path), str(path)]) == 0
    table = capsys.readouterr().out
    assert [line.split() for line in table.splitlines()[2:]] == [["-"] * 5 + ["a"], ["-"] * 5 + ["main"]]


@pytest.mark.parametrize(
    ("types", "shown"),
    [
        ((SAMPLES, CPU), CPU),
        ((DELAY, CONTENTIONS), DELAY),
        ((SampleType("objects", "count"), SampleType("space", "bytes")), SampleType("space", "bytes")),
    ],
)
def test_pprof_shows_time_of_a_merged_file(tmp_path: Path, types: tuple[SampleType, ...], shown: SampleType) -> None:
    output = tmp_path / "o.pb.gz"
    assert run(["merge", of_types(tmp_path / "p", *types), "-o", str(output)]) == 0
    message = Message.FromString(gzip.decompress(output.read_bytes()))
    assert message.string_table[message.default_sample_type] == shown.name
