"""The samples of a pprof file as columns: they are many, so all of them are read and written at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from lockflame.distinct_rows import DistinctRows
from lockflame.profile import Lock, SampleColumns, Stacks, Thread
from lockflame.profile_pb2 import Sample as SampleMessage
from lockflame.wire import (
    BYTES,
    VARINT,
    Fields,
    WireError,
    last_value,
    packed,
    places_of,
    ranges,
    read_fields,
    read_messages,
    read_packed,
    row_blocks,
    varint,
)

# Field numbers of profile.proto.
_LOCATION_ID, _VALUE, _LABEL, _LOCK = 1, 2, 3, 1000
_KEY, _STR, _NUM = 1, 2, 3
FIELDS_MOST = 256
"""Of a sample whose lists are packed, as all but the shortest should be: its labels, more or less."""
# The field's key and the length, which tell where the first label begins.
_LABEL_HEAD = 2
_BLOCK_BYTES = 1 << 17
_BLOCK_SAMPLES = 1 << 14
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


def _values(data: NDArray[np.uint8], fields: Fields, count: int, types: int) -> NDArray[np.int64]:
    parts = fields.of(_VALUE, VARINT, BYTES)
    values, lengths = read_packed(data, parts.start, parts.end)
    counts = np.zeros(count, np.int64)
    np.add.at(counts, parts.owner, lengths)
    wrong = np.flatnonzero(counts != types)
    if len(wrong):
        raise WireError(f"a sample has {int(counts[wrong[0]])} values instead of {types}")
    return values.view(np.int64).reshape(-1, types)


def _stacks(data: NDArray[np.uint8], fields: Fields, count: int, location_ids: NDArray[np.uint64]) -> Stacks:
    """That of each sample, equal or not."""
    parts = fields.of(_LOCATION_ID, VARINT, BYTES)
    counts = np.zeros(count, np.int64)
    places = [np.zeros(0, np.int32)]
    for first, end in row_blocks(parts.end - parts.start, _BLOCK_BYTES):
        identifiers, lengths = read_packed(data, parts.start[first:end], parts.end[first:end])
        places.append(places_of(identifiers, location_ids, "location").astype(np.int32))
        np.add.at(counts, parts.owner[first:end], lengths)
    return Stacks(np.concatenate((np.zeros(1, np.int64), np.cumsum(counts))), np.concatenate(places))


def distinct_stacks(stacks: Stacks) -> tuple[NDArray[np.int32], Stacks]:
    """The stacks without those that were there before, and for each which of these it is: int32."""
    distinct = DistinctRows(np.int32)
    number = distinct.add(stacks.locations, stacks.offsets)
    locations, offsets = distinct.columns()
    return number.astype(np.int32), Stacks(offsets, locations)


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
    chosen = np.zeros(len(groups), np.int64)
    chosen[found] = np.arange(count)
    return found, chosen


def encode_samples(table: SampleTable, locks: Sequence[Lock], string: Callable[[str], int], field: int) -> list[bytes]:
    """The samples as fields of this number, one after the other, in pieces of many samples.

    `string` gives the index of a text in the string table.
    """
    threads = [_thread_labels(thread, string) for thread in table.threads]
    # The last is that of samples without a lock.
    lock_fields = [*(_lock_fields(index, lock, string) for index, lock in enumerate(locks)), b""]
    rows = np.arange(len(table.samples))
    return [
        _sample_fields(
            field, table.samples.select(rows[first : first + _BLOCK_SAMPLES]), table.stacks, lock_fields, threads
        )
        for first in range(0, len(rows), _BLOCK_SAMPLES)
    ]


def _sample_fields(
    field: int, samples: SampleColumns, stacks: Stacks, locks: Sequence[bytes], threads: Sequence[bytes]
) -> bytes:
    used, stack = np.unique(samples.stack, return_inverse=True)
    lengths = np.diff(stacks.offsets)[used]
    locations = stacks.locations[ranges(stacks.offsets[used], lengths)].astype(np.uint64) + np.uint64(1)
    width = samples.values.shape[1]
    columns = (
        (_lists_of(_LOCATION_ID, locations, np.append(0, np.cumsum(lengths))), stack),
        (
            _lists_of(_VALUE, samples.values.reshape(-1).view(np.uint64), np.arange(len(samples) + 1) * width),
            np.arange(len(samples)),
        ),
        (locks, samples.lock),
        (threads, samples.thread),
    )
    size = np.zeros(len(samples), np.int64)
    parts = [b""] * (len(samples) * (len(columns) + 1))
    for place, (texts, number) in enumerate(columns, 1):
        size += np.fromiter(map(len, texts), np.int64, len(texts))[number]
        parts[place :: len(columns) + 1] = map(texts.__getitem__, number.tolist())
    sizes: list[int] = size.tolist()
    key = varint(field << 3 | BYTES)
    heads = {length: key + varint(length) for length in set(sizes)}
    parts[:: len(columns) + 1] = map(heads.__getitem__, sizes)
    return b"".join(parts)


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
