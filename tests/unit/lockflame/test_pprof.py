from __future__ import annotations

import gzip
import re
import subprocess
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from lockflame.errors import LockflameError
from lockflame.pprof import decode, encode, read
from lockflame.profile import (
    CPU,
    SAMPLES,
    FrameKind,
    Function,
    Label,
    Line,
    Location,
    Mapping,
    Profile,
    RecordingInfo,
    Stacks,
    Thread,
    samples_of_no_lock,
)
from lockflame.profile_pb2 import Profile as Message
from tests.unit.lockflame.profiles import escaped, profiles, rows_of

EVERY_FIELD = RecordingInfo(
    **{
        field.name: {"str": f"a {field.name}", "int": number, "bool": False, "tuple[str, ...]": ("One.", "Two.")}[
            str(field.type)
        ]
        for number, field in enumerate(fields(RecordingInfo), 1_000)
    }  # pyright: ignore
)


def small_profile(recording: RecordingInfo | None = None) -> Profile:
    """Two stacks, main;work and main;futex_wait, in one thread."""
    return Profile(
        sample_types=(SAMPLES, CPU),
        mappings=(Mapping(0x1000, 0x9000, 0, "/srv/server", "ab" * 20),),
        functions=(Function("main", "main"), Function("THD::work(int)", "_ZN3THD4workEi"), Function("futex_wait", "")),
        locations=(
            Location(0x1100, 0, (Line(0),), FrameKind.USER),
            Location(0x1200, 0, (Line(1),), FrameKind.USER),
            Location(2**64 - 4096, -1, (Line(2),), FrameKind.KERNEL),
        ),
        threads=(Thread(10, 11, "worker"),),
        stacks=Stacks(np.array([0, 2, 4], np.int64), np.array([1, 0, 2, 0], np.int32)),
        samples=samples_of_no_lock(
            np.array([0, 1], np.int32), np.array([0, 0], np.int32), np.array([[7, 70_000_000], [3, 30_000_000]])
        ),
        recording=recording or RecordingInfo(samples=10, frequency_asked_hz=99, event="cpu-clock"),
    )


@given(profiles())
def test_a_profile_comes_back_as_it_was(profile: Profile) -> None:
    found = decode(encode(profile), "x")
    assert found.sample_types == profile.sample_types
    assert [(each.start, each.end, each.file_offset, each.build_id) for each in found.mappings] == [
        (each.start, each.end, each.file_offset, each.build_id) for each in profile.mappings
    ]
    assert [each.path for each in found.mappings] == [escaped(each.path) for each in profile.mappings]
    assert found.functions == tuple(
        Function(escaped(each.name), escaped(each.linkage_name), escaped(each.path), each.line)
        for each in profile.functions
    )
    assert found.locations == tuple(
        replace(each, unresolved_reason=escaped(each.unresolved_reason)) for each in profile.locations
    )
    assert rows_of(found) == [
        (stack, replace(thread, comm=escaped(thread.comm), container=escaped(thread.container)), values)
        for stack, thread, values in rows_of(profile)
    ]


@given(profiles())
def test_the_same_profile_gives_the_same_bytes(profile: Profile) -> None:
    content = encode(profile)
    assert encode(profile) == content
    once = encode(decode(content, "x"))
    assert encode(decode(once, "x")) == once


@given(profiles())
def test_what_is_known_of_the_recording_comes_back(profile: Profile) -> None:
    found = decode(encode(profile), "x").recording
    for field in fields(RecordingInfo):
        value = getattr(profile.recording, field.name)
        if field.name == "notes":
            value = tuple(map(escaped, value))
        assert getattr(found, field.name) == (escaped(value) if isinstance(value, str) else value), field.name


@pytest.mark.parametrize("name", [field.name for field in fields(RecordingInfo)])
def test_no_field_of_the_recording_is_forgotten(name: str) -> None:
    assert getattr(EVERY_FIELD, name) != getattr(RecordingInfo(), name)
    assert getattr(decode(encode(small_profile(EVERY_FIELD)), "x").recording, name) == getattr(EVERY_FIELD, name)


def test_columns_have_their_types() -> None:
    found = decode(encode(small_profile()), "x")
    types = [each.dtype for each in (found.stacks.offsets, found.stacks.locations)]
    types += [each.dtype for each in (found.samples.stack, found.samples.thread, found.samples.values)]
    assert types == [np.int64, np.int32, np.int32, np.int32, np.int64]
    assert found.total(CPU) == 100_000_000


def test_a_profile_without_samples_can_be_read() -> None:
    empty = replace(
        small_profile(),
        samples=samples_of_no_lock(np.empty(0, np.int32), np.empty(0, np.int32), np.empty((0, 2), np.int64)),
        stacks=Stacks(np.zeros(1, np.int64), np.empty(0, np.int32)),
    )
    found = decode(encode(empty), "x")
    assert (len(found.samples), len(found.stacks), found.total(CPU)) == (0, 0, 0)


def test_reading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pb.gz"
    path.write_bytes(encode(small_profile()))
    assert read(str(path)).recording.event == "cpu-clock"


def test_the_file_shows_neither_when_nor_where_it_was_written() -> None:
    content = encode(small_profile())
    assert content[4:8] == bytes(4)  # gzip's time
    assert not content[3] & 8  # nor a file name


@pytest.fixture
def profile_path(tmp_path: Path) -> Path:
    path = tmp_path / "x.pb.gz"
    path.write_bytes(encode(small_profile()))
    return path


def go_output(go_pprof: tuple[list[str], dict[str, str]], *arguments: str | Path) -> str:
    command, env = go_pprof
    done = subprocess.run([*command, *map(str, arguments)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_go_reads_every_table(go_pprof: tuple[list[str], dict[str, str]], profile_path: Path) -> None:
    raw = go_output(go_pprof, "-raw", profile_path)
    for part in ("samples/count cpu/nanoseconds", "/srv/server", "ab" * 20, "thread:[worker]", "pid:[10]", "tid:[11]"):
        assert part in raw
    assert re.search(r"\b7 +70000000: 1 2\s", raw)  # numbered anew, by their first use


def test_go_shows_the_heaviest_functions(go_pprof: tuple[list[str], dict[str, str]], profile_path: Path) -> None:
    top = go_output(go_pprof, "-top", profile_path)
    assert "Type: cpu" in top
    names = [line.split("%")[-1].strip() for line in top.splitlines() if line.count("%") == 3]
    assert [name for name in names if name] == ["THD::work(int)", "futex_wait", "main"]


def foreign_profile() -> Message:
    """As Go's own: no extension fields, ids with gaps, an address without a name, labels of other kinds."""
    strings = ["", "samples", "count", "cpu", "nanoseconds", "runtime.main", "/go/server", "key", "value", "bytes"]
    message = Message(string_table=strings, time_nanos=5, duration_nanos=6, period=10_000_000)
    message.sample_type.add(type=1, unit=2)
    message.sample_type.add(type=3, unit=4)
    message.mapping.add(id=5, memory_start=0x400000, memory_limit=0x500000, filename=6)
    message.function.add(id=9, name=5, system_name=5)
    message.location.add(id=3, mapping_id=5, address=0x401000).line.add(function_id=9, line=12)
    message.location.add(id=4, address=0x7000)
    sample = message.sample.add(location_id=[4, 3], value=[2, 20_000_000])
    sample.label.add(key=7, str=8)
    sample.label.add(key=9, num=512)
    return message


def labels_of(content: bytes) -> list[dict[str, str | int]]:
    message = Message.FromString(gzip.decompress(content))
    texts = message.string_table
    return [{texts[label.key]: texts[label.str] or label.num for label in each.label} for each in message.sample]


def test_samples_carry_their_container_where_there_is_one() -> None:
    profile = small_profile()
    assert all("container" not in labels for labels in labels_of(encode(profile)))
    assert profile.container == ""
    inside = replace(profile, threads=(replace(profile.threads[0], container="0123456789ab"),))
    expected = {"pid": 10, "tid": 11, "thread": "worker", "container": "0123456789ab"}
    assert labels_of(encode(inside)) == [expected, expected]
    assert decode(encode(inside), "x").threads == inside.threads


def test_the_container_of_a_profile_is_that_of_the_process_recorded() -> None:
    threads = (Thread(20, 20, "child", "ba9876543210"), Thread(10, 10, "main", "0123456789ab"))
    profile = replace(small_profile(RecordingInfo(pid=10)), threads=threads)
    assert profile.container == "0123456789ab"
    assert replace(profile, recording=RecordingInfo(pid=30)).container == ""


def test_a_foreign_profile_can_be_read() -> None:
    found = decode(gzip.compress(foreign_profile().SerializeToString()), "x")
    stack = [found.functions[found.locations[index].lines[0].function].name for index in found.stacks[0]]
    assert stack == ["0x7000", "runtime.main"]
    assert found.total(CPU) == 20_000_000
    assert found.threads == (Thread(0, 0, "", labels=(Label("bytes", number=512), Label("key", "value"))),)
    assert found.locations[0].lines == (Line(0, 12),)
    assert decode(encode(found), "x").total(SAMPLES) == 2


def test_of_a_foreign_profile_only_what_it_says_is_known() -> None:
    message = foreign_profile()
    recording = decode(gzip.compress(message.SerializeToString()), "x").recording
    assert recording == RecordingInfo(started_unix_ns=message.time_nanos, duration_ns=message.duration_nanos)


GO_PROGRAM = """
package main

import ("os"; "runtime/pprof"; "time")

func main() {
	file, _ := os.Create(os.Args[1])
	pprof.StartCPUProfile(file)
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {}
	pprof.StopCPUProfile()
	file.Close()
}
"""


@pytest.mark.slow
def test_a_profile_written_by_go_can_be_read(go_pprof: tuple[list[str], dict[str, str]], tmp_path: Path) -> None:
    command, env = go_pprof
    source, output = tmp_path / "main.go", tmp_path / "cpu.pb.gz"
    source.write_text(GO_PROGRAM)
    done = subprocess.run(
        [command[0], "run", str(source), str(output)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = read(str(output))
    assert found.total(CPU) > 0
    assert any(function.name == "main.main" for function in found.functions)


def test_a_file_of_a_newer_format_is_refused() -> None:
    message = Message()
    message.ParseFromString(gzip.decompress(encode(small_profile())))
    message.format += 1
    with pytest.raises(LockflameError, match="newer Lockflame"):
        decode(gzip.compress(message.SerializeToString()), "p.pb.gz")
