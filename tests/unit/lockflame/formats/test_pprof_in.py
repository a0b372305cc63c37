from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockflame import pprof, wire
from lockflame.errors import LockflameError
from lockflame.formats import read_profile, reading
from lockflame.formats.units import with_cpu_time
from lockflame.profile import CPU, SAMPLES, SampleType, Thread
from lockflame.profile_pb2 import Profile as Message
from tests.unit.lockflame.profiles import profiles, rows_of


def of_others(types: list[tuple[str, str]], default: int = 0) -> Message:
    """A profile as other tools write it: unpacked lists, labels of their own, an address without a name."""
    table = ["", "main", "request", "pid", *(text for kind in types for text in kind)]
    message = Message(string_table=table, default_sample_type=default)
    for name, unit in types:
        message.sample_type.add(type=table.index(name), unit=table.index(unit))
    message.function.add(id=900, name=1)
    message.location.add(id=2**40, address=0x55).line.add(function_id=900)
    message.location.add(id=7, address=0x66)
    sample = message.sample.add(location_id=[7, 2**40], value=range(1, len(types) + 1))
    sample.label.add(key=2, str=1)
    sample.label.add(key=3, num=42)
    return message


def written(path: Path, message: Message) -> str:
    path.write_bytes(message.SerializeToString())
    return str(path)


def test_times_become_nanoseconds_and_other_types_are_kept(tmp_path: Path) -> None:
    message = of_others(
        [("sample", "count"), ("cpu", "microseconds"), ("wait", "ms"), ("alloc", "bytes"), ("x", "cycles")]
    )
    profile = read_profile(written(tmp_path / "p", message))
    values = dict(zip(profile.sample_types, profile.samples.values[0].tolist(), strict=True))
    assert values == {
        SampleType("x", "cycles"): 5,
        SAMPLES: 1,
        CPU: 2_000,
        SampleType("wait", "nanoseconds"): 3_000_000,
        SampleType("alloc", "bytes"): 4,
    }
    assert [profile.functions[location.lines[0].function].name for location in profile.locations] == ["main", "0x66"]
    assert profile.stacks[0].tolist() == [1, 0]
    assert profile.threads == (Thread(42, 0, ""),)


def test_the_type_that_pprof_shows_comes_first(tmp_path: Path) -> None:
    types = [("contentions", "count"), ("delay", "nanoseconds")]
    assert read_profile(written(tmp_path / "p", of_others(types))).sample_types[0].name == "delay"
    named = of_others(types, default=4)
    assert read_profile(written(tmp_path / "p", named)).sample_types[0].name == "contentions"


def test_times_beyond_64_bits_are_refused(tmp_path: Path) -> None:
    message = of_others([("cpu", "seconds")])
    message.sample[0].value[0] = 2**62
    with pytest.raises(LockflameError, match=r"2\^63"):
        read_profile(written(tmp_path / "p", message))


def test_cpu_time_by_a_rate() -> None:
    message = of_others([("samples", "count")])
    profile = pprof.decode(gzip.compress(message.SerializeToString()), "x")
    assert with_cpu_time(profile, 100).total(CPU) == 10_000_000


def test_lists_written_number_by_number_are_read(tmp_path: Path) -> None:
    message = of_others([("samples", "count")])
    content = message.SerializeToString()
    packed = message.sample[0].SerializeToString()
    message.sample[0].location_id[:] = []
    rest = message.sample[0].SerializeToString()
    many = b"".join(b"\x08" + wire.varint(number) for number in [7, 2**40] * 300) + rest
    head = content.replace(b"\x12" + wire.varint(len(packed)) + packed, b"\x12" + wire.varint(len(many)) + many)
    (tmp_path / "p").write_bytes(head)
    assert read_profile(str(tmp_path / "p")).stacks[0].tolist() == [1, 0] * 300


@given(profiles())
def test_gzipped_or_not_a_profile_is_the_same(profile: object) -> None:
    content = pprof.encode(profile)  # type: ignore[arg-type]
    first, second = pprof.decode(content, "x"), pprof.decode_unpacked(gzip.decompress(content), "x")
    assert rows_of(first) == rows_of(second)
    assert first.recording == second.recording


@pytest.mark.parametrize("piece", [b"\x12\x00", b"\x32\x00", b"\x22\x00", b"\x2a\x00", b"\x12\x02\x1a\x00"])
def test_a_message_of_nothing_but_small_parts_is_refused(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    monkeypatch.setattr(wire, "SMALL_BYTES", 1000)
    monkeypatch.setattr(wire, "ENTRIES_MOST", 1000)
    with pytest.raises(LockflameError, match="more entries"):
        pprof.decode(gzip.compress(b"\x0a\x00" + piece * 5000), "x")


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(bytes(4 << 20)))
    monkeypatch.setattr(pprof, "BYTES_MOST", 1 << 20)
    with pytest.raises(LockflameError, match="unpacks to more"):
        read_profile(str(path))
    path.write_bytes(gzip.compress(b"a;b 1\n" * 500_000))
    monkeypatch.setattr(reading, "UNPACKED_MOST", 1 << 20)
    with pytest.raises(LockflameError, match="unpacks to more"):
        read_profile(str(path))


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 300)))
def test_varints_come_back(numbers: list[int]) -> None:
    content, bounds = wire.packed(np.array(numbers, np.uint64))
    assert content == b"".join(map(wire.varint, numbers))
    data = np.frombuffer(content + wire.PADDING, np.uint8)
    found, counts = wire.read_packed(data, bounds[:1], bounds[-1:])
    assert found.tolist() == numbers
    assert counts.tolist() == [len(numbers)]
