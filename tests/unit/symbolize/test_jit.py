from __future__ import annotations

from pathlib import Path

import pytest

from lockflame.events import FileMapping, JitFiles, MapEvent, ProcessSnapshot
from lockflame.profile import FrameKind, Profile, RecordingInfo
from symbolize import jit
from symbolize.jit import find_jitdumps
from symbolize.symbolizer import symbolize
from tests.support.jitdump_writer import header, load
from tests.unit.symbolize.recordings import Sample, recording_of, stacks_of

PID = 2**22 + 3
CODE = FileMapping(0x10000, 0x20000, 0, "//anon", pid=PID)


@pytest.fixture
def perf_map() -> Path:
    return Path(f"/tmp/perf-{PID}.map")


def profile_of(dump: Path, *samples: tuple[int, int], content: bytes = b"") -> Profile:
    """A profile of a process with a jitdump of this content; samples are (time, address)."""
    if content:
        dump.write_bytes(content)
    mark = FileMapping(0x90000, 0x91000, 0, str(dump), pid=PID)
    snapshot = ProcessSnapshot(PID, {PID: "jit"}, (CODE, mark))
    rows = [Sample(time_ns, PID, PID, user=[address]) for time_ns, address in samples]
    return symbolize(recording_of(rows, snapshots=[snapshot]), RecordingInfo())


def leaves(profile: Profile) -> dict[str, int]:
    return {frames[0]: values[0] for _, frames, values in stacks_of(profile)}


def test_samples_at_one_address_have_the_names_of_their_times(tmp_path: Path) -> None:
    content = header() + load(10, 0x10000, 16, "f") + load(20, 0x10000, 16, "g") + load(30, 0x10000, 16, "f")
    samples = [(10, 0x10004), (15, 0x10004), (20, 0x10004), (35, 0x10004), (35, 0x10008)]
    profile = profile_of(tmp_path / "jit-7.dump", *samples, content=content)
    assert sum(values[0] for _, frames, values in stacks_of(profile) if frames[0] == "f") == 4
    assert leaves(profile)["g"] == 1
    assert len(profile.mappings) == 1
    by_name = {profile.functions[location.lines[0].function].name for location in profile.locations}
    assert {"f", "g"} <= by_name
    assert {location.address for location in profile.locations if location.kind == FrameKind.JIT} == {0x10004, 0x10008}
    assert profile.recording.unresolved == 0


def test_before_its_load_code_has_no_name(tmp_path: Path) -> None:
    content = header() + load(10, 0x10000, 16, "f")
    profile = profile_of(tmp_path / "jit-7.dump", (9, 0x10004), (10, 0x10004), content=content)
    assert leaves(profile) == {"[anon+0x10004]": 1, "f": 1}
    assert profile.recording.unresolved == 1


@pytest.mark.parametrize(
    ("head", "time_ns"), [(header(1), 10), (header(), 10**18)], ids=["arch-timestamp", "another-clock"]
)
def test_times_of_another_clock_are_a_note(tmp_path: Path, head: bytes, time_ns: int) -> None:
    content = head + load(time_ns, 0x10000, 16, "f") + load(time_ns + 1, 0x10000, 16, "g")
    profile = profile_of(tmp_path / "jit-7.dump", (100, 0x10004), content=content)
    assert leaves(profile) == {"g": 1}
    assert any("another clock" in note for note in profile.recording.notes)


def test_what_the_dump_does_not_have_is_looked_up_in_the_perf_map(tmp_path: Path, perf_map: Path) -> None:
    perf_map.write_bytes(b"10100 10 mapped\nbad\n")
    try:
        content = header() + load(10, 0x10000, 16, "f")
        profile = profile_of(tmp_path / "jit-7.dump", (20, 0x10004), (20, 0x10104), content=content)
    finally:
        perf_map.unlink()
    assert leaves(profile) == {"f": 1, "mapped": 1}
    assert any(note.startswith("1 lines of perf maps") for note in profile.recording.notes)


def test_a_dump_that_is_gone_is_a_note(tmp_path: Path) -> None:
    profile = profile_of(tmp_path / "jit-7.dump", (20, 0x10004))
    assert leaves(profile) == {"[anon+0x10004]": 1}
    assert any("it is gone" in note for note in profile.recording.notes)


def test_beyond_the_most_generations_code_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "GENERATIONS_MOST", 3)
    content = header() + b"".join(load(n, 0x10000, 16, f"f{n}") for n in range(6))
    profile = profile_of(tmp_path / "jit-7.dump", *((n, 0x10004) for n in range(6)), content=content)
    assert leaves(profile) == {"f0": 1, "f1": 1, "f2": 1, "[anon+0x10004]": 3}
    assert profile.recording.unresolved == 3


def test_jitdumps_are_found_among_mappings() -> None:
    def mapping(path: str) -> FileMapping:
        return FileMapping(0x1000, 0x2000, 0, path)

    dump, deleted = mapping("/x/jit-12.dump"), mapping("/tmp/jit-3.dump (deleted)")
    others = [mapping(path) for path in ("/x/jit-.dump", "/x/jit-12.dump.so", "//anon", "/x/myjit-1.dump")]
    snapshots = [ProcessSnapshot(1, {}, (dump, *others)), ProcessSnapshot(2, {}, tuple(others))]
    assert find_jitdumps(snapshots, [MapEvent(5, 3, deleted)], {}) == {1: dump, 3: deleted}


@pytest.mark.parametrize("pid", [12, 99])
def test_a_forked_process_has_its_own_jitdump(pid: int) -> None:
    parents, own = (FileMapping(0x1000, 0x2000, 0, f"/tmp/jit-{number}.dump") for number in (5, 12))
    held = {pid: JitFiles(12, 0)}
    for mappings in ((parents, own), (own, parents)):
        assert find_jitdumps([ProcessSnapshot(pid, {}, mappings)], [], held) == {pid: own}
