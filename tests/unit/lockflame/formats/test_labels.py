from __future__ import annotations

import gzip
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockflame import pprof_labels
from lockflame.errors import LockflameError
from lockflame.formats import labels, read_profile, read_tables
from lockflame.formats.merging import merged
from lockflame.formats.merging_files import merged_files
from lockflame.pprof import decode, encode, encode_tables
from lockflame.pprof_tables import profile_of
from lockflame.profile import Label, Profile, Thread
from lockflame.profile_pb2 import Profile as Message
from tests.unit.flame.lock_profiles import small_profile

Given = tuple[str, str, int, str]
"""A label by its key, text, number and unit."""
TEXTS = ["", "cpu", "nanoseconds", "main", "bytes"]

GIVEN = st.lists(
    st.tuples(st.sampled_from(["req", "size", ""]), st.sampled_from(["", "a", "b\x1b[31m"]), st.just(0), st.just(""))
    | st.tuples(
        st.sampled_from(["req", "size", "bytes"]),
        st.just(""),
        st.sampled_from([0, 7, -(2**63), 2**63 - 1]),
        st.sampled_from(["", "bytes", "requests"]),
    ),
    max_size=3,
)


def written(path: Path, samples: list[tuple[list[Given], int]], unit: str = "nanoseconds") -> str:
    """A file of another tool: one stack, and samples of these labels and values."""
    message = Message(string_table=[*TEXTS])

    def index(text: str) -> int:
        if text not in message.string_table:
            message.string_table.append(text)
        return list(message.string_table).index(text)

    message.sample_type.add(type=1, unit=index(unit))
    message.function.add(id=1, name=3)
    message.location.add(id=1).line.add(function_id=1)
    for own, value in samples:
        sample = message.sample.add(location_id=[1], value=[value])
        for key, text, number, number_unit in own:
            sample.label.add(key=index(key), str=index(text), num=number, num_unit=index(number_unit))
    path.write_bytes(message.SerializeToString())
    return str(path)


def sums(profile: Profile) -> Counter[Thread]:
    result: Counter[Thread] = Counter()
    for thread, values in zip(profile.samples.thread.tolist(), profile.samples.values.tolist(), strict=True):
        result[profile.threads[thread]] += values[0]
    return result


def labelled(*given: Given) -> Thread:
    return Thread(0, 0, "", labels=tuple(sorted(Label(*label) for label in given)))


@given(st.lists(st.tuples(GIVEN, st.integers(1, 9)), max_size=6))
def test_sums_by_label_stay_through_reading_merging_and_writing(
    tmp_path_factory: pytest.TempPathFactory, samples: list[tuple[list[Given], int]]
) -> None:
    folder = tmp_path_factory.mktemp("labels")
    # The same labels in another order are the same.
    paths = [
        written(folder / "a", samples),
        written(folder / "b", [(own[::-1], value) for own, value in samples[::-1]]),
    ]
    expected: Counter[Thread] = Counter()
    for own, value in samples:
        expected[labelled(*own)] += 2 * value
    content = encode_tables(merged_files(paths).content)
    assert sums(decode(content, "x")) == expected
    (folder / "both").write_bytes(content)
    assert encode_tables(read_tables(str(folder / "both")).content) == content
    assert sums(read_profile(paths[0])) == Counter({Thread(0, 0, ""): sum(value for _, value in samples)})


def test_threads_and_labels_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    given: list[Given] = [
        ("pid", "", 42, ""),
        ("tid", "main-1", 0, ""),
        ("thread", "", 7, ""),
        ("container", "first", 0, ""),
        ("container", "last", 0, ""),
        ("lock", "LOCK_open", 0, ""),
    ]
    path = written(tmp_path / "p", [(given, 1)])
    expected = replace(labelled(given[1], given[2], given[3], given[5]), pid=42, container="last")
    found = profile_of(read_tables(path).content)
    assert found.threads == (expected,)
    assert decode(encode(found), "x").threads == (expected,)


def test_labels_that_tell_our_locks_are_written_anew() -> None:
    profile = small_profile()
    labels_of = [thread.labels for thread in decode(encode(profile), "x").threads]
    assert labels_of == [()] * len(profile.threads)
    # Another tool knows nothing of our own fields, and keeps the labels alone.
    message = Message.FromString(gzip.decompress(encode(profile)))
    for sample in message.sample:
        sample.lock = 0
    found = decode(gzip.compress(message.SerializeToString()), "x")
    names = {label.text for thread in found.threads for label in thread.labels if label.key == "lock"}
    assert names == {lock.name for lock in profile.locks}


def test_labels_stay_where_units_are_made_ours(tmp_path: Path) -> None:
    given: Given = ("bytes", "", 512, "bytes")
    content = merged_files([written(tmp_path / "p", [([given], 3)], unit="ms")]).content
    assert sums(profile_of(content)) == {labelled(given): 3_000_000}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three labels are kept."""
    monkeypatch.setattr(pprof_labels, "LABELS_MOST", 3)
    monkeypatch.setattr(labels, "LABELS_MOST", 3)


@pytest.mark.usefixtures("few")
def test_labels_that_are_too_many_are_left_out_and_counted(tmp_path: Path) -> None:
    samples: list[tuple[list[Given], int]] = [([("req", f"{n % 5}", 0, "")], 1) for n in range(10)]
    found = read_tables(written(tmp_path / "p", samples))
    assert found.notes[0].startswith("4 samples have lost their labels")
    assert found.notes == found.content.recording.notes
    kept = {labelled(("req", f"{n}", 0, "")): 2 for n in range(3)}
    assert sums(profile_of(found.content)) == {**kept, Thread(0, 0, ""): 4}


@pytest.mark.usefixtures("few")
def test_labels_that_are_too_many_together_are_left_out_and_counted(tmp_path: Path) -> None:
    paths = [
        written(tmp_path / name, [([("req", f"{name}{n}", 0, "")], 1) for n in range(2)] + [([("req", "x", 0, "")], 1)])
        for name in "abc"
    ]
    found = merged_files(paths)
    assert found.notes == tuple(note for note in found.content.recording.notes if "lost" in note)
    assert found.notes[0].startswith("4 samples of all profiles have lost their labels")
    kept = [("req", "a0", 0, ""), ("req", "a1", 0, "")]
    expected = {**{labelled(each): 1 for each in kept}, labelled(("req", "x", 0, "")): 3, Thread(0, 0, ""): 4}
    assert sums(profile_of(found.content)) == expected
    # Parts that were merged before count what they lost.
    parts = [merged([read_tables(path).content for path in group]) for group in (paths[:2], paths[2:])]
    assert merged(parts).unlabelled == 4


@pytest.mark.parametrize("field", ["key", "str", "num_unit"])
def test_a_label_without_its_text_is_refused(field: str) -> None:
    message = Message(string_table=TEXTS)
    message.sample_type.add(type=1, unit=2)
    for index in (99, -1):
        message.sample.add(value=[1]).label.add(**{field: index})
        with pytest.raises(LockflameError, match="string table"):
            decode(gzip.compress(message.SerializeToString()), "x")
        del message.sample[:]


def test_pprof_shows_the_labels(go_pprof: tuple[list[str], dict[str, str]], tmp_path: Path) -> None:
    given: list[Given] = [("req", "GET /", 0, ""), ("size", "", 2048, "bytes"), ("tries", "", 3, "tries")]
    path = written(tmp_path / "p", [(given, 1_000_000_000), (given[:1], 2_000_000_000), ([], 4_000_000_000)])
    both = tmp_path / "both.pb.gz"
    both.write_bytes(encode_tables(merged_files([path, path]).content))
    command, env = go_pprof
    shown = [
        subprocess.run([*command, "-tags", name], env=env, capture_output=True, text=True, check=True).stdout
        for name in (path, str(both))
    ]
    assert next(line.split() for line in shown[1].splitlines() if "GET" in line)[0] == "6.0s"
    assert next(line.split() for line in shown[1].splitlines() if "2kB" in line)[0] == "2.0s"
    first, second = ([line.split()[-1] for line in text.splitlines() if "%" in line] for text in shown)
    assert first == second
