"""The samples of a pprof file as columns: they are many, so all of them are read and written at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from lockflame.profile import Lock, Profile, SampleColumns, Stacks, Thread
from lockflame.profile_pb2 import Sample as SampleMessage
from lockflame.wire import (
    BYTES,
    VARINT,
    Fields,
    WireError,
    last_value,
    packed,
    places_of,
    read_fields,
    read_messages,
    read_packed,
    varint,
)

# Field numbers of profile.proto.
_LOCATION_ID, _VALUE, _LABEL, _LOCK = 1, 2, 3, 1000
_KEY, _STR, _NUM = 1, 2, 3
FIELDS_MOST = 256
"""Of a sample whose lists are packed, as all but the shortest should be: its labels, more or less."""
# The field's key and the length, which tell where the first label begins.
_LABEL_HEAD = 2
_TEXT_LABELS = ("thread", "container")
_NUMBER_LABELS = ("pid", "tid")


@dataclass(frozen=True, slots=True)
class SampleTable:
    """What the samples of a file are."""

    stacks: Stacks
    samples: SampleColumns
    threads: tuple[Thread, ...]


def decode_samples(
    messages: Sequence[bytes], strings: Sequence[str], location_ids: NDArray[np.uint64], types: int, locks: int
) -> SampleTable:
    """The samples of these messages (each a `Sample`). Stacks have the locations' places in `location_ids`.

    Raises `WireError` for an index that is wrong or a message that is none.
    """
    data, fields = _fields_of(messages)
    values = _values(data, fields, len(messages), types)
    stacks = _stacks(data, fields, len(messages), location_ids)
    stack = np.arange(len(messages), dtype=np.int32)
    thread, threads = _threads(data, fields, len(messages), strings)
    lock = np.zeros(len(messages), np.int64)
    given = fields.of(_LOCK, VARINT)
    lock[given.owner] = given.value.view(np.int64)
    if len(lock) and not 0 <= int(lock.min()) <= int(lock.max()) <= locks:
        raise WireError(f"lock {int(lock[(lock < 0) | (lock > locks)][0])} is not in it")
    return SampleTable(stacks, SampleColumns(stack, thread, values, (lock - 1).astype(np.int32)), threads)


def _fields_of(messages: Sequence[bytes]) -> tuple[NDArray[np.uint8], Fields]:
    try:
        return read_messages(messages, FIELDS_MOST)
    except WireError:
        # Lists may stand in a message number by number as well; protobuf writes them packed.
        try:
            again = [SampleMessage.FromString(message).SerializeToString() for message in messages]
            return read_messages(again, FIELDS_MOST)
        except DecodeError as error:
            raise WireError(str(error)) from error


def _lists(
    data: NDArray[np.uint8], fields: Fields, number: int, count: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The numbers of a repeated field of all messages, in a row, and how many each message has."""
    parts = fields.of(number, VARINT, BYTES)
    values, lengths = read_packed(data, parts.start, parts.end)
    counts = np.zeros(count, np.int64)
    np.add.at(counts, parts.owner, lengths)
    return values, counts


def _values(data: NDArray[np.uint8], fields: Fields, count: int, types: int) -> NDArray[np.int64]:
    values, counts = _lists(data, fields, _VALUE, count)
    wrong = np.flatnonzero(counts != types)
    if len(wrong):
        raise WireError(f"a sample has {int(counts[wrong[0]])} values instead of {types}")
    return values.view(np.int64).reshape(-1, types)


def _stacks(data: NDArray[np.uint8], fields: Fields, count: int, location_ids: NDArray[np.uint64]) -> Stacks:
    """That of each sample, equal or not."""
    identifiers, counts = _lists(data, fields, _LOCATION_ID, count)
    places = places_of(identifiers, location_ids, "location").astype(np.int32)
    return Stacks(np.concatenate((np.zeros(1, np.int64), np.cumsum(counts))), places)


def distinct_stacks(stacks: Stacks) -> tuple[NDArray[np.int32], Stacks]:
    """The stacks without those that were there before, and for each which of these it is: int32."""
    content = np.ascontiguousarray(stacks.locations).tobytes()
    width = stacks.locations.itemsize
    places: list[int] = (stacks.offsets * width).tolist()
    found: dict[bytes, int] = {}
    number = [found.setdefault(content[start:end], len(found)) for start, end in itertools.pairwise(places)]
    lengths = np.fromiter(map(len, found), np.int64, len(found)) // width
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    return np.array(number, np.int32), Stacks(offsets, np.frombuffer(b"".join(found), stacks.locations.dtype))


def _threads(
    data: NDArray[np.uint8], fields: Fields, count: int, strings: Sequence[str]
) -> tuple[NDArray[np.int32], tuple[Thread, ...]]:
    labels = fields.of(_LABEL, BYTES)
    which, chosen = _labelled_alike(data, labels, count)
    groups = len(chosen)
    group = np.full(count, -1, np.int64)
    group[chosen] = np.arange(groups)
    labels = labels.rows(np.flatnonzero(group[labels.owner] >= 0))
    parts = read_fields(data, labels.start, labels.end, FIELDS_MOST)
    key, text, number = (last_value(parts, field, len(labels.owner)) for field in (_KEY, _STR, _NUM))
    for index in (key, text):
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(strings):
            raise WireError("a label's string is not in its string table")
    columns = np.zeros((groups, len(_NUMBER_LABELS) + len(_TEXT_LABELS)), np.int64)
    name_of_key = {index: strings[index] for index in np.unique(key).tolist()}
    for place, name in enumerate((*_NUMBER_LABELS, *_TEXT_LABELS)):
        keys = [index for index, known in name_of_key.items() if known == name]
        rows = np.flatnonzero(np.isin(key, keys)) if keys else np.zeros(0, np.int64)
        columns[group[labels.owner[rows]], place] = (number if name in _NUMBER_LABELS else text)[rows]
    identities: list[list[int]] = columns.tolist()
    threads = [Thread(pid, tid, strings[comm], strings[container]) for pid, tid, comm, container in identities]
    place_of = {thread: index for index, thread in enumerate(dict.fromkeys(threads))}
    same = np.array([place_of[thread] for thread in threads], np.int32)
    return same[which], tuple(place_of)


def _labelled_alike(data: NDArray[np.uint8], labels: Fields, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Samples whose labels are the same bytes: the group of each, and one sample of each group."""
    start, end = np.full((2, count), _LABEL_HEAD, np.int64)
    # The last assignment stays: of the first label its start, of the last its end.
    start[labels.owner[::-1]] = labels.start[::-1]
    end[labels.owner] = labels.end
    content = data.tobytes()
    starts: list[int] = (start - _LABEL_HEAD).tolist()
    ends: list[int] = np.where(end > _LABEL_HEAD, end, 0).tolist()
    groups: dict[bytes, int] = {}
    which = [groups.setdefault(content[a:b], len(groups)) for a, b in zip(starts, ends, strict=True)]
    found = np.array(which, np.int64)
    _, chosen = np.unique(found, return_index=True)
    return found, chosen


def encode_samples(profile: Profile, string: Callable[[str], int]) -> list[bytes]:
    """A `Sample` message for each sample; `string` gives the index of a text in the string table."""
    stacks = _lists_of(_LOCATION_ID, profile.stacks.locations.astype(np.uint64) + np.uint64(1), profile.stacks.offsets)
    samples = profile.samples
    width = samples.values.shape[1]
    values = _lists_of(
        _VALUE,
        np.ascontiguousarray(samples.values).reshape(-1).view(np.uint64),
        np.arange(len(samples) + 1, dtype=np.int64) * width,
    )
    threads = [_thread_labels(thread, string) for thread in profile.threads]
    # The last is that of samples without a lock.
    locks = [*(_lock_fields(index, lock, string) for index, lock in enumerate(profile.locks)), b""]
    stack_rows: list[int] = samples.stack.tolist()
    thread_rows: list[int] = samples.thread.tolist()
    lock_rows: list[int] = samples.lock.tolist()
    return [
        b"".join((stacks[stack], value, locks[lock], threads[thread]))
        for stack, value, lock, thread in zip(stack_rows, values, lock_rows, thread_rows, strict=True)
    ]


def _lists_of(number: int, values: NDArray[np.uint64], bounds: NDArray[np.int64]) -> list[bytes]:
    """Packed fields, each with the numbers between two bounds; nothing where there are none."""
    content, places = packed(values)
    key = varint(number << 3 | BYTES)
    ends: list[int] = places[bounds].tolist()
    heads = {length: key + varint(length) for length in set(np.diff(places[bounds]).tolist())}
    return [heads[b - a] + content[a:b] if b > a else b"" for a, b in itertools.pairwise(ends)]


def _thread_labels(thread: Thread, string: Callable[[str], int]) -> bytes:
    labels = [_label(string(name), 0, value) for name, value in (("pid", thread.pid), ("tid", thread.tid))]
    labels += [
        _label(string(name), string(text), 0)
        for name, text in (("thread", thread.comm), ("container", thread.container))
        if text
    ]
    return b"".join(labels)


def _lock_fields(index: int, lock: Lock, string: Callable[[str], int]) -> bytes:
    labels = (
        _label(string("lock"), string(lock.name), 0),
        _label(string("lock_address"), 0, lock.address),
        _label(string("lock_kind"), string(lock.kind), 0),
    )
    return b"".join((*labels, varint(_LOCK << 3 | VARINT), varint(index + 1)))


def _label(key: int, text: int, number: int) -> bytes:
    """A label's number has a sign (profile.proto), which 64 bits hold as they are."""
    parts = ((_KEY, key), (_STR, text), (_NUM, number % (1 << 64)))
    content = b"".join(varint(field << 3 | VARINT) + varint(value) for field, value in parts if value)
    return varint(_LABEL << 3 | BYTES) + varint(len(content)) + content
