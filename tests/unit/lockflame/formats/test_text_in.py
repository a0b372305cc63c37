from __future__ import annotations

import contextlib
import gzip
import io
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.folded import folded_lines
from lockflame.errors import LockflameError
from lockflame.formats import collecting, lines, read_profile
from lockflame.formats.folded import read_folded
from lockflame.formats.lines import lines_of
from lockflame.formats.perf_script import read_perf_script
from lockflame.profile import CPU, SAMPLES, FrameKind, Profile, SampleType
from tests.support.recording import stacks_of, weight_of

UNSHOWABLE = ["Cc", "Cf", "Cs", "Z"]
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=UNSHOWABLE, exclude_characters=";#"), min_size=1)
SUFFIXES = st.sampled_from(["", "", "_[k]", "_[j]"])
FRAMES = st.builds(lambda name, suffix: f"{name}{suffix}", NAMES.filter(lambda name: not name.endswith("]")), SUFFIXES)
STACKS = st.dictionaries(st.lists(FRAMES, min_size=1, max_size=6).map(";".join), st.integers(1, 10**12), min_size=1)


def folded(text: str | bytes) -> Profile:
    return read_folded(io.BytesIO(text.encode() if isinstance(text, str) else text), "x")


def script(text: str) -> Profile:
    return read_perf_script(io.BytesIO(text.encode()), "x")


@given(STACKS)
def test_folded_stacks_come_back_as_they_were(stacks: dict[str, int]) -> None:
    profile = folded("".join(f"{stack} {weight}\n" for stack, weight in stacks.items()))
    expected = {f"{stack} {weight}" for stack, weight in stacks.items()}
    assert set(folded_lines(profile, SAMPLES)) == expected


def test_inlined_frames_share_their_callers_location() -> None:
    profile = folded("main;f_[k];g_[i];h_[i];leaf 3\n[no stack] 2\n")
    stack = profile.stacks[0].tolist()
    assert len(stack) == 3
    assert stacks_of(profile) == [["leaf", "h", "g", "f", "main"], []]
    assert profile.locations[stack[1]].kind is FrameKind.KERNEL
    assert sorted(folded_lines(profile)) == ["[no stack] 2", "main;f_[k];g_[i];h_[i];leaf 3"]


def test_async_profilers_marks_of_java_are_no_part_of_names() -> None:
    profile = folded("[main tid=1];Thread.run_[0];Foo.bar_[1];Foo.get_[j] 1\n")
    assert stacks_of(profile) == [["Foo.get", "Foo.bar", "Thread.run", "[main tid=1]"]]
    assert [location.kind for location in profile.locations].count(FrameKind.JIT) == 3


@pytest.mark.parametrize(
    ("line", "weight"),
    [("a b;c d 7", 7), ("a;b\t7", 7), ("a;b 7\r", 7), ("a;b 7.9", 8), ("a 999999999999999999", 999999999999999999)],
)
def test_a_weight_is_the_last_word(line: str, weight: int) -> None:
    assert folded(f"{line}\n").total(SAMPLES) == weight


def test_what_is_no_stack_is_counted_and_said() -> None:
    profile = folded("# comment\n\na;b 1\nno weight here\n17\na -3\na 1e5\na 9999999999999999999\n")
    assert profile.total(SAMPLES) == 1
    assert profile.recording.skipped == 5
    assert "5 lines of the file could not be read." in profile.recording.notes


def test_fractions_are_rounded_for_each_stack_and_said() -> None:
    profile = folded("a;b 0.4\na;b 0.4\na;b 0.4\nc 0.3\nd 2.5000000000001\n")
    assert set(folded_lines(profile, SAMPLES)) == {"a;b 1", "d 2"}
    assert any("fractions" in note for note in profile.recording.notes)


def test_a_byte_order_mark_and_ends_of_windows_are_no_part_of_names() -> None:
    profile = folded(b"\xef\xbb\xbfmain;a 1\r\nmain;;b 2\r\n")
    assert stacks_of(profile) == [["a", "main"], ["b", "[unknown]", "main"]]


def test_sums_beyond_64_bits_are_refused() -> None:
    with pytest.raises(LockflameError, match=r"2\^63"):
        folded("a 999999999999999999\n" * 10)


def test_stacks_beyond_the_limits_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "STACKS_MOST", 3)
    profile = folded("".join(f"main;f{n} 2\n" for n in range(10)) + "main;f1 5\n")
    assert profile.total(SAMPLES) == 25
    assert weight_of(profile, "f1", SAMPLES) == 7
    assert weight_of(profile, collecting.OTHER_STACKS, SAMPLES) == 14
    assert any(note.startswith("7 lines have stacks beyond") for note in profile.recording.notes)


@given(st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b""))), st.integers(1, 9))
def test_lines_are_those_of_the_text_whatever_the_block(parts: list[bytes], block: int) -> None:
    before = lines.BLOCK_BYTES, lines.LINE_BYTES_MOST
    lines.BLOCK_BYTES, lines.LINE_BYTES_MOST = block, 8
    try:
        found = list(lines_of(io.BytesIO(b"".join(part + b"\n" for part in parts))))
    finally:
        lines.BLOCK_BYTES, lines.LINE_BYTES_MOST = before
    assert found == [part if len(part) <= 8 else None for part in parts]


def test_a_line_without_an_end_takes_no_memory() -> None:
    with pytest.raises(LockflameError, match="no stacks"):
        folded(b"a;" * (lines.LINE_BYTES_MOST * 3))


COMMS = st.from_regex(r"[a-z][a-z0-9/:. -]{0,12}[a-z]", fullmatch=True)
SYMBOLS = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_:~<>,.]{0,20}(\(int, char \(\*\)\(\)\))?", fullmatch=True)
SAMPLE = st.tuples(
    COMMS, st.integers(1, 99999), st.integers(1, 99999), st.integers(0, 10**9), st.lists(SYMBOLS, max_size=5)
)


@given(st.lists(SAMPLE, min_size=1, max_size=8), st.booleans())
def test_perf_script_text_comes_back(samples: list[tuple[str, int, int, int, list[str]]], offsets: bool) -> None:
    text = ""
    for comm, pid, tid, period, names in samples:
        text += f"{comm:>16} {pid:>5}/{tid:<5} [003] 12345.678901: {period:>10} cpu-clock:ppp: \n"
        for name in names:
            text += f"\t{0x7F00DEAD:16x} {name}{'+0x1f' if offsets else ''} (/usr/lib/libc.so.6)\n"
        text += "\n"
    profile = script(text)
    found: Counter[tuple[str, ...]] = Counter()
    expected: Counter[tuple[str, ...]] = Counter()
    stacks = stacks_of(profile)
    columns = profile.samples
    rows = zip(columns.stack.tolist(), columns.thread.tolist(), columns.values.tolist(), strict=True)
    for stack, thread, (count, period) in rows:
        who = profile.threads[thread]
        found[(who.comm, str(who.pid), str(who.tid), *stacks[stack], "n")] += count
        found[(who.comm, str(who.pid), str(who.tid), *stacks[stack], "p")] += period
    for comm, pid, tid, period, names in samples:
        expected[(comm, str(pid), str(tid), *names, "n")] += 1
        expected[(comm, str(pid), str(tid), *names, "p")] += period
    assert profile.sample_types == (SAMPLES, CPU)
    assert found == expected


def test_perf_scripts_kinds_modules_and_inlined_frames() -> None:
    profile = script(
        "swapper 0 [001] 1.5: 250000 cycles:P: \n"
        "\tffffffff81 native_safe_halt+0x10 ([kernel.kallsyms])\n"
        "\t55 inner (inlined)\n\t55 outer+0x2 (/tmp/a (deleted))\n"
        "\t66 [unknown] (/opt/b.so)\n\t77 [unknown] ([unknown])\n"
    )
    assert profile.sample_types == (SAMPLES, SampleType("cycles", "count"))
    (stack,) = stacks_of(profile)
    assert stack == ["native_safe_halt", "inner", "outer", "[b.so]", "0x77"]
    kinds = [profile.locations[index].kind for index in profile.stacks[0].tolist()]
    assert kinds == [FrameKind.KERNEL, FrameKind.USER, FrameKind.USER, FrameKind.USER]
    assert "/tmp/a (deleted)" in [mapping.path for mapping in profile.mappings]
    assert profile.threads[0].pid == 0


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("pool 2 24674 34714.48:  2004008 cpu-clock:", ("pool 2", 0, 24674, {CPU: 2004008})),
        ("  dd 7/8 [001] 1.5: 3 cycles:u:", ("dd", 7, 8, {SampleType("cycles", "count"): 3})),
        ("a 7/8 1.5: cpu-clock:", ("a", 7, 8, {SampleType("cpu-clock samples", "count"): 1})),
        ("a 8 1.5:", ("a", 0, 8, {})),
        ("a 7/8   250", ("a", 7, 8, {SampleType("period", "count"): 250})),
        (
            "a 8 cpu/event=0x3c,umask=0x0/u:",
            ("a", 0, 8, {SampleType("cpu/event=0x3c,umask=0x0/u samples", "count"): 1}),
        ),
    ],
)
def test_fields_that_perf_script_leaves_out(header: str, expected: tuple[str, int, int, dict[SampleType, int]]) -> None:
    comm, pid, tid, values = expected
    chains = f"{header} \n\t    55 work+0x1f (/a)\n\n"
    flat = f"{header}   55 work+0x1f (/a)\n"
    for text in (chains, flat) if header.endswith(":") else (chains,):
        profile = script(text * 3)
        assert [(thread.comm, thread.pid, thread.tid) for thread in profile.threads] == [(comm, pid, tid)]
        assert stacks_of(profile) == [["work"]]
        found = {kind: profile.total(kind) for kind in profile.sample_types}
        assert found == {SAMPLES: 3, **{kind: 3 * value for kind, value in values.items()}}
        assert not profile.recording.skipped


def test_what_a_tracepoint_says_is_no_frame() -> None:
    profile = script(
        "a 8 [001] 1.5: sched:sched_switch: prev_comm=b (c)\n\t55 work (/a)\n\na 8 [001] 1.6: probe:f: (55) x=1\n"
    )
    assert stacks_of(profile) == [["work"], []]


def test_records_are_no_samples_and_two_clocks_no_double_time() -> None:
    profile = script(
        "perf 0/0 0.0: PERF_RECORD_COMM: perf:1/1\n"
        "a 1/1 1.5: PERF_RECORD_MMAP2 1/1: [0x5(0x6) @ 0x2 fe:00 2 0]: r-xp /a\n"
        "a 1/1 2.5: 7 cpu-clock:\n\t55 work (/a)\n\na 1/1 2.5: 9 task-clock:\n\t55 work (/a)\n"
    )
    assert (profile.total(SAMPLES), profile.total(CPU)) == (2, 7)
    assert profile.total(SampleType("task-clock", "nanoseconds")) == 9
    assert (profile.recording.samples, profile.recording.skipped) == (2, 0)


def test_strange_lines_of_perf_script_are_counted_and_take_no_time() -> None:
    profile = script("a 1/1 1.0: 5 cycles:\n\tzz not hex\n" + "1 " * 50_000 + "\n" + "\t" + "( " * 50_000 + "\n")
    assert profile.total(SAMPLES) == 1
    assert profile.recording.skipped >= 2


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b'{"profiles": []}', "JSON", id="json"),
        pytest.param(b"hello world\n", "neither folded", id="text"),
        pytest.param(b"\x1f\x8b\x08\0", "cut off", id="gzip-cut-off"),
        pytest.param(gzip.compress(b""), "neither folded", id="nothing-packed"),
        pytest.param(gzip.compress(b"a;b 1\n" * 999)[:-9], "cut off", id="folded-cut-off"),
        pytest.param(b"\0\1\2\3", "pprof", id="binary"),
        pytest.param(b"PERFILE2" + bytes(200), "perf", id="perf-data"),
    ],
)
def test_files_that_are_nothing_are_refused_in_one_line(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(LockflameError, match=why) as caught:
        read_profile(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_content_tells_what_a_file_is(tmp_path: Path, pack: object) -> None:
    path = tmp_path / "any.name"
    path.write_bytes(pack(b"# by a tool\nmain;work 12\n"))  # type: ignore[operator]
    assert read_profile(str(path)).total(SAMPLES) == 12
    path.write_bytes(pack(b"comm 1/2 1.0: 7 cpu-clock: \n\t55 work+0x1 (/a)\n\n"))  # type: ignore[operator]
    assert read_profile(str(path)).total(CPU) == 7


@given(st.binary(max_size=300))
def test_random_bytes_are_read_or_refused(content: bytes) -> None:
    for read in (read_folded, read_perf_script):
        with contextlib.suppress(LockflameError):
            assert len(read(io.BytesIO(content), "x").samples)
