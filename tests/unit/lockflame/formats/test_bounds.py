from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from lockflame.errors import LockflameError
from lockflame.formats import read_noted, read_profile, read_tables
from lockflame.formats.bounds import FRAMES_MOST
from lockflame.pprof import encode
from lockflame.pprof_tables import profile_of
from lockflame.profile import CPU, TRUNCATED_STACK, FrameKind
from lockflame.profile_pb2 import Profile as Message
from tests.support.recording import stacks_of
from tests.unit.flame.lock_profiles import small_profile


def written(path: Path, stacks: list[list[int]], *values: int, **fields: int) -> str:
    message = Message(string_table=["", "cpu", "nanoseconds", "main", "f"], **fields)
    message.sample_type.add(type=1, unit=2)
    for number in (1, 2):
        message.function.add(id=number, name=2 + number)
        message.location.add(id=number).line.add(function_id=number)
    for stack, value in zip(stacks, values, strict=True):
        message.sample.add(location_id=stack, value=[value])
    path.write_bytes(gzip.compress(message.SerializeToString()))
    return str(path)


@pytest.mark.parametrize("values", [(2**63 - 1, 2**63 - 1), (2**63 - 1, -(2**63) + 1), (-(2**63), 0)])
def test_values_beyond_64_bits_are_refused(tmp_path: Path, values: tuple[int, int]) -> None:
    path = written(tmp_path / "p", [[1], [2]], *values)
    for read in (read_profile, read_tables):
        with pytest.raises(LockflameError, match=r"adds up to more than 2\^63"):
            read(path)


@pytest.mark.parametrize("time", [-5, 2**63 - 1])
def test_times_that_cannot_be_are_unknown(tmp_path: Path, time: int) -> None:
    info = read_profile(written(tmp_path / "p", [[1]], 7, duration_nanos=time, time_nanos=time)).recording
    assert (info.duration_ns, info.started_unix_ns) == (0, 0)
    assert read_profile(written(tmp_path / "p", [[1]], 7, duration_nanos=8)).recording.duration_ns == 8


def test_stacks_that_are_too_deep_are_cut_and_marked(tmp_path: Path) -> None:
    just_fits = [2] * (FRAMES_MOST - 1) + [1]
    path = written(tmp_path / "p", [just_fits, [2, *just_fits], [2] * 100_000, [1]], 1, 20, 300, 4000)
    for profile in (read_profile(path), profile_of(read_tables(path).content)):
        cut = [*["f"] * FRAMES_MOST, TRUNCATED_STACK]
        assert stacks_of(profile) == [[*["f"] * (FRAMES_MOST - 1), "main"], cut, ["main"]]
        assert profile.locations[-1].kind is FrameKind.MARKER
        assert profile.total(CPU) == 4321
        assert any(note.startswith("2 stacks have more than 4,096 frames") for note in profile.recording.notes)


def test_values_below_zero_are_noted(tmp_path: Path) -> None:
    found = read_noted(written(tmp_path / "p", [[1], [2], [1, 2]], 5, -3, -1))
    assert len(found.notes) == 1
    assert found.notes[0].startswith("2 samples have values below zero")
    assert found.notes == found.content.recording.notes
    assert read_noted(written(tmp_path / "p", [[1]], 0)).notes == ()
    one = read_noted(written(tmp_path / "p", [[1]], -3))
    assert one.notes[0].startswith("1 sample has values below zero")


def test_only_what_reading_lost_is_told(tmp_path: Path) -> None:
    recorded = small_profile()
    told = replace(recorded, recording=replace(recorded.recording, notes=("Told when it was recorded.",)))
    (tmp_path / "p").write_bytes(encode(told))
    found = read_noted(str(tmp_path / "p"))
    assert (found.notes, found.content.recording.notes) == ((), ("Told when it was recorded.",))
    (tmp_path / "p").write_bytes(b"main;a 3\nmain;a -1\nmain;b 2\n")
    for notes in (read_noted(str(tmp_path / "p")).notes, read_tables(str(tmp_path / "p")).notes):
        assert notes == ("1 lines of the file could not be read.",)
    deep = read_noted(written(tmp_path / "p", [[1] * (FRAMES_MOST + 1)], 1))
    assert [note[:20] for note in deep.notes] == ["1 stacks have more t"]
