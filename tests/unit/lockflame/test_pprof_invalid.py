from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockflame.errors import LockflameError
from lockflame.pprof import decode, encode, read
from lockflame.profile import Profile
from lockflame.profile_pb2 import Profile as Message
from tests.unit.lockflame.profiles import profiles


def valid_message() -> Message:
    message = Message(string_table=["", "samples", "count", "main", "pid"])
    message.sample_type.add(type=1, unit=2)
    message.mapping.add(id=1)
    message.function.add(id=1, name=3)
    message.location.add(id=1, mapping_id=1).line.add(function_id=1)
    message.sample.add(location_id=[1], value=[1]).label.add(key=4, num=7)
    return message


def packed(message: Message) -> bytes:
    return gzip.compress(message.SerializeToString())


def test_the_message_that_these_tests_damage_is_valid() -> None:
    assert len(decode(packed(valid_message()), "x").samples) == 1


def set_sample_type(message: Message) -> None:
    message.sample_type[0].type = 99


def set_huge_string(message: Message) -> None:
    message.function[0].name = 2**63 - 1


def set_negative_string(message: Message) -> None:
    message.function[0].system_name = -1


def set_file_name(message: Message) -> None:
    message.mapping[0].filename = 5


def set_label_key(message: Message) -> None:
    message.sample[0].label[0].key = 99


def set_label_text(message: Message) -> None:
    message.sample[0].label[0].str = 99


def set_reason(message: Message) -> None:
    message.location[0].unresolved_reason = 99


def set_location(message: Message) -> None:
    message.sample[0].location_id[0] = 2


def set_location_0(message: Message) -> None:
    message.sample[0].location_id[0] = 0


def set_function(message: Message) -> None:
    message.location[0].line[0].function_id = 2


def set_mapping(message: Message) -> None:
    message.location[0].mapping_id = 2**64 - 1


def add_value(message: Message) -> None:
    message.sample[0].value.append(1)


def drop_values(message: Message) -> None:
    del message.sample[0].value[:]


def repeat_mapping(message: Message) -> None:
    message.mapping.add(id=1)


def repeat_function(message: Message) -> None:
    message.function.add(id=1)


def repeat_location(message: Message) -> None:
    message.location.add(id=1)


def add_function_0(message: Message) -> None:
    message.function.add(id=0)


def drop_sample_types(message: Message) -> None:
    del message.sample_type[:]


def drop_strings(message: Message) -> None:
    del message.string_table[:]


def set_first_string(message: Message) -> None:
    message.string_table[0] = "x"


@pytest.mark.parametrize(
    "damage",
    [
        set_sample_type,
        set_huge_string,
        set_negative_string,
        set_file_name,
        set_label_key,
        set_label_text,
        set_reason,
        set_location,
        set_location_0,
        set_function,
        set_mapping,
        add_value,
        drop_values,
        repeat_mapping,
        repeat_function,
        repeat_location,
        add_function_0,
        drop_sample_types,
        drop_strings,
        set_first_string,
    ],
)
def test_a_profile_that_contradicts_itself_is_refused(damage: Callable[[Message], None]) -> None:
    message = valid_message()
    damage(message)
    with pytest.raises(LockflameError, match=r"cannot read x\..*not a valid pprof profile"):
        decode(packed(message), "x")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"not gzip", "gzip", id="text"),
        pytest.param(valid_message().SerializeToString(), "gzip", id="not-packed"),
        pytest.param(packed(valid_message())[:-12], "cut off", id="cut-off"),
        pytest.param(packed(valid_message())[:5], "cut off", id="header-cut-off"),
        pytest.param(packed(valid_message()) + b"garbage", "gzip", id="garbage-behind"),
        pytest.param(packed(valid_message())[:-8] + bytes(8), "gzip", id="wrong-checksum"),
        pytest.param(gzip.compress(b"not a protobuf message"), "pprof", id="not-pprof"),
        pytest.param(gzip.compress(b""), "pprof", id="nothing-packed"),
        pytest.param(gzip.compress(valid_message().SerializeToString()[:-3]), "pprof", id="message-cut-off"),
    ],
)
def test_what_is_no_whole_profile_file_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(LockflameError, match=why) as caught:
        decode(content, "x.pb.gz")
    assert caught.value.what_to_do
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(LockflameError, match="cannot read"):
            read(str(path))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(content: bytes) -> None:
    for data in (content, gzip.compress(content), b"\x1f\x8b\x08\0" + content):
        with pytest.raises(LockflameError):
            decode(data, "x")


WHOLE = valid_message().SerializeToString()
CHANGES = st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=5)


@settings(max_examples=300)
@given(CHANGES)
def test_changed_bytes_are_read_or_refused(changes: list[tuple[int, int]]) -> None:
    content = bytearray(WHOLE)
    for position, value in changes:
        content[position] = value
    try:
        profile = decode(gzip.compress(bytes(content)), "x")
    except LockflameError:
        return
    check_indices(profile)


def check_indices(profile: Profile) -> None:
    """What `Profile` promises to everyone who reads one."""
    for location in profile.locations:
        assert -1 <= location.mapping < len(profile.mappings)
        assert location.lines
        assert all(0 <= line.function < len(profile.functions) for line in location.lines)
    assert ((profile.stacks.locations >= 0) & (profile.stacks.locations < len(profile.locations))).all()
    assert profile.samples.values.shape == (len(profile.samples), len(profile.sample_types))


@settings(max_examples=50)
@given(profiles(), st.data())
def test_a_file_cut_off_anywhere_is_refused(profile: Profile, data: st.DataObject) -> None:
    content = encode(profile)
    with pytest.raises(LockflameError):
        decode(content[: data.draw(st.integers(0, len(content) - 1))], "x")
