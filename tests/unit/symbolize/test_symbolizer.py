from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockflame.events import CommEvent, Event, FileMapping, ForkEvent, ProcessSnapshot
from lockflame.profile import CPU, SAMPLES, TRUNCATED_STACK, FrameKind, Location, Profile, RecordingInfo
from symbolize.symbolizer import symbolize
from tests.support.elf_writer import ElfFile, ElfSymbol
from tests.unit.symbolize.recordings import Sample, frames_of, recording_of, stacks_of

BASE = 0x7F00_0000_0000
"""Where `.text`, linked at 0x2000, is mapped."""
START, MAIN, WORK = BASE + 0x10, BASE + 0x110, BASE + 0x210
ANON = 0x1000_0000
KERNEL_CODE = 2**64 - 2**46
"""Below all of the kernel's symbols."""
NO_PID = 2**22 + 1
SYMBOLS = [
    ElfSymbol("_start", 0x2000, 0x100),
    ElfSymbol("main", 0x2100, 0x100),
    ElfSymbol("_ZN3THD4workEi", 0x2200, 0x100),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> FileMapping:
    path = tmp_path_factory.mktemp("symbolizer") / "server"
    path.write_bytes(bytes(ElfFile(symbols=SYMBOLS, build_id="ab" * 20)))
    return FileMapping(BASE, BASE + 0x1000, 0x1000, str(path), build_id="ab" * 20)


def process(program: FileMapping, pid: int = 1, comm: str = "server") -> ProcessSnapshot:
    return ProcessSnapshot(pid, {pid: comm}, (program, FileMapping(ANON, ANON + 0x1000, 0, "//anon")))


def profile_of(
    program: FileMapping, samples: list[Sample], events: list[Event] | None = None, ns_per_period: float = 1.0
) -> Profile:
    return symbolize(recording_of(samples, events or [], [process(program)]), RecordingInfo(), ns_per_period)


def test_user_frames_are_named_leaf_first(program: FileMapping) -> None:
    profile = profile_of(program, [Sample(1, user=(WORK, MAIN, START))])
    assert stacks_of(profile) == [("server", ["THD::work(int)", "main", "_start"], [1, 10])]
    assert (profile.recording.samples, profile.recording.truncated, profile.recording.unresolved) == (1, 0, 0)


def test_the_linkage_name_is_kept(program: FileMapping) -> None:
    profile = profile_of(program, [Sample(1, user=(WORK, START))])
    assert {function.linkage_name for function in profile.functions} == {"_ZN3THD4workEi", "_start"}


def test_kernel_frames_stand_above_user_frames(program: FileMapping) -> None:
    profile = profile_of(program, [Sample(1, kernel=(KERNEL_CODE, KERNEL_CODE + 0x100), user=(MAIN, START))])
    kinds = [profile.locations[index].kind for index in profile.stacks[0]]
    assert kinds == [FrameKind.KERNEL, FrameKind.KERNEL, FrameKind.USER, FrameKind.USER]
    assert frames_of(profile, 0)[2:] == ["main", "_start"]
    assert profile.recording.unresolved == 1


def test_a_return_address_is_looked_up_at_its_call(program: FileMapping) -> None:
    """A call that ends its function returns to the next one; a leaf is exact."""
    profile = profile_of(program, [Sample(1, user=(BASE + 0x200, BASE + 0x200, START))])
    assert frames_of(profile, 0) == ["THD::work(int)", "main", "_start"]


def test_a_stack_that_does_not_reach_a_start_says_so(program: FileMapping) -> None:
    profile = profile_of(program, [Sample(1, user=(WORK, MAIN)), Sample(2, user=(WORK, START))])
    assert {tuple(frames) for _, frames, _ in stacks_of(profile)} == {
        ("THD::work(int)", "main", TRUNCATED_STACK),
        ("THD::work(int)", "_start"),
    }
    assert profile.recording.truncated == 1
    assert [location.kind for location in profile.locations].count(FrameKind.MARKER) == 1


def leaf_of(profile: Profile) -> tuple[str, Location]:
    return frames_of(profile, 0)[0], profile.locations[profile.stacks[0][0]]


def test_an_address_outside_of_all_mappings_is_unresolved(program: FileMapping) -> None:
    profile = profile_of(program, [Sample(1, user=(0x5000, START)), Sample(2, user=(WORK, START))])
    reasons = [location.unresolved_reason for location in profile.locations if location.unresolved_reason]
    assert len(reasons) == 1
    assert "no executable mapping" in reasons[0]
    assert profile.recording.unresolved == 1


def test_an_address_without_symbol_has_its_module(program: FileMapping) -> None:
    name, location = leaf_of(profile_of(program, [Sample(1, user=(BASE + 0x456, START))]))
    assert name.startswith("[server+0x")
    assert location.unresolved_reason == "no symbol at this address"
    assert (location.kind, location.address) == (FrameKind.USER, 0x2456)


def test_generated_code_without_a_map_says_which_is_missing(program: FileMapping) -> None:
    snapshot = process(program, NO_PID)
    profile = symbolize(recording_of([Sample(1, NO_PID, NO_PID, user=(ANON + 5,))], [], [snapshot]), RecordingInfo())
    name, location = leaf_of(profile)
    assert location.kind == FrameKind.JIT
    assert name == f"[anon+0x{ANON + 5:x}]"
    assert f"/tmp/perf-{NO_PID}.map" in location.unresolved_reason


def test_code_of_a_file_that_is_gone_has_its_offset(program: FileMapping, tmp_path: Path) -> None:
    gone = FileMapping(ANON, ANON + 0x1000, 0x3000, f"{tmp_path}/gone.so (deleted)", (8, 1), 7)
    snapshot = ProcessSnapshot(NO_PID, {}, (program, gone))
    profile = symbolize(recording_of([Sample(1, NO_PID, NO_PID, user=(ANON + 5,))], [], [snapshot]), RecordingInfo())
    name, location = leaf_of(profile)
    assert (name, location.kind) == ("[gone.so+0x3005]", FrameKind.USER)


def test_threads_have_the_name_of_their_time(program: FileMapping) -> None:
    events: list[Event] = [
        ForkEvent(5, 1, 2, 1, 1),
        CommEvent(10, 1, 2, "worker", False),
        CommEvent(20, 1, 2, "cleaner", False),
    ]
    samples = [Sample(time_ns, tid=2, user=(WORK, START)) for time_ns in (6, 11, 12, 21)]
    rows = stacks_of(profile_of(program, samples, events))
    assert sorted((comm, values[0]) for comm, _, values in rows) == [("cleaner", 1), ("server", 1), ("worker", 2)]


def test_threads_of_one_name_stay_apart(program: FileMapping) -> None:
    profile = profile_of(program, [Sample(1, tid=1, user=(START,)), Sample(2, tid=2, user=(START,))])
    assert sorted((thread.pid, thread.tid) for thread in profile.threads) == [(1, 1), (1, 2)]
    assert len(profile.stacks) == 1


def test_equal_code_of_two_processes_is_one_location(program: FileMapping) -> None:
    moved = FileMapping(BASE + 0x9000, BASE + 0xA000, 0x1000, program.path, build_id=program.build_id)
    samples = [Sample(1, 1, 1, user=(START,)), Sample(2, 2, 2, user=(START + 0x9000,))]
    snapshots = [process(program), ProcessSnapshot(2, {}, (moved,))]
    profile = symbolize(recording_of(samples, [], snapshots), RecordingInfo())
    assert (len(profile.locations), len(profile.stacks), len(profile.mappings)) == (1, 1, 1)
    assert profile.mappings[0].build_id == program.build_id
    assert len(profile.samples) == 2


def test_periods_become_cpu_time(program: FileMapping) -> None:
    samples = [Sample(time_ns, period=1_000, user=(WORK, START)) for time_ns in range(3)]
    profile = profile_of(program, samples, ns_per_period=0.25)
    assert (profile.total(SAMPLES), profile.total(CPU)) == (3, 750)


def test_a_sample_without_frames_is_kept(program: FileMapping) -> None:
    profile = profile_of(program, [Sample(1)])
    assert stacks_of(profile) == [("server", [], [1, 10])]
    assert (profile.recording.truncated, profile.recording.unresolved) == (0, 0)


def test_no_samples() -> None:
    profile = symbolize(recording_of([]), RecordingInfo(command="sleep 1"))
    assert (len(profile.samples), profile.total(CPU), profile.recording.samples) == (0, 0, 0)
    assert profile.recording.command == "sleep 1"


ADDRESSES = st.sampled_from([0, 1, 0x5000, START, MAIN, WORK, BASE + 0xFFF, ANON, 2**47, 2**48 - 1, 2**63, 2**64 - 1])
SAMPLES_OF_ANY_KIND = st.builds(
    Sample,
    time_ns=st.just(5),
    pid=st.sampled_from([1, 2]),
    tid=st.integers(1, 3),
    period=st.integers(0, 10**9),
    kernel=st.lists(st.integers(2**63 + 1, 2**64 - 4097), max_size=2),
    user=st.lists(ADDRESSES, max_size=4),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(samples=st.lists(SAMPLES_OF_ANY_KIND, max_size=8))
def test_nothing_is_lost_or_made_up(program: FileMapping, samples: list[Sample]) -> None:
    profile = profile_of(program, samples)
    assert profile.total(SAMPLES) == len(samples) == profile.recording.samples
    assert profile.total(CPU) == sum(sample.period for sample in samples)
    rows = list(zip(profile.samples.stack.tolist(), profile.samples.thread.tolist(), strict=True))
    assert len(rows) == len(set(rows))
    assert {(thread.pid, thread.tid) for thread in profile.threads} == {(each.pid, each.tid) for each in samples}
    truncated = sum(values[0] for _, frames, values in stacks_of(profile) if TRUNCATED_STACK in frames)
    assert truncated == profile.recording.truncated


def test_an_address_of_48_ones_is_not_taken_for_the_marker(program: FileMapping) -> None:
    profile = profile_of(program, [Sample(1, user=(2**48 - 1, START))])
    assert TRUNCATED_STACK not in frames_of(profile, 0)


def test_a_thread_that_the_kernel_no_longer_numbers_keeps_its_process(program: FileMapping) -> None:
    profile = profile_of(program, [Sample(1, pid=1, tid=-1, user=(START,))])
    assert profile.threads[0].pid == 1


def test_stacks_that_are_cut_short_ask_for_a_larger_copy(program: FileMapping) -> None:
    recording = recording_of([Sample(1, user=(START, 5))], [], [process(program)])
    (note,) = [note for note in symbolize(recording, RecordingInfo(stack_bytes=1024)).recording.notes if "cut" in note]
    assert "1 of 1 stacks" in note
    assert "--stack-size 65528" in note
    assert not any("cut" in note for note in symbolize(recording, RecordingInfo(stack_bytes=65528)).recording.notes)
