"""The samples of a pprof file as columns: they are many, so all of them are read and written at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from lockflame.distinct_rows import DistinctRows
from lockflame.pprof_labels import LABEL, lock_fields, read_labels, thread_fields
from lockflame.profile import Lock, SampleColumns, Stacks, Thread
from lockflame.profile_pb2 import Sample as SampleMessage
from lockflame.wire import (
    BYTES,
    VARINT,
    Fields,
    WireError,
    packed,
    places_of,
    ranges,
    read_messages,
    read_packed,
    row_blocks,
    varint,
)

# Field numbers of profile.proto.
_LOCATION_ID, _VALUE, _LOCK = 1, 2, 1000
FIELDS_MOST = 256
"""Of a sample whose lists are packed, as all but the shortest should be: its labels, more or less."""
_BLOCK_BYTES = 1 << 17
_BLOCK_SAMPLES = 1 << 14


@dataclass(frozen=True, slots=True)
class SampleTable:
    """What the samples of a file are. Of `unlabelled` of them, the labels of other tools were too many to be kept."""

    stacks: Stacks
    samples: SampleColumns
    threads: tuple[Thread, ...]
    unlabelled: int = 0


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
    lock = np.zeros(len(messages), np.int64)
    given = fields.of(_LOCK, VARINT)
    lock[given.owner] = given.value.view(np.int64)
    if len(lock) and not 0 <= int(lock.min()) <= int(lock.max()) <= locks:
        raise WireError(f"lock {int(lock[(lock < 0) | (lock > locks)][0])} is not in it")
    labelled = read_labels(data, fields.of(LABEL, BYTES), lock > 0, strings)
    samples = SampleColumns(stack, labelled.thread, values, (lock - 1).astype(np.int32))
    return SampleTable(stacks, samples, labelled.threads, labelled.unlabelled)


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


def encode_samples(table: SampleTable, locks: Sequence[Lock], string: Callable[[str], int], field: int) -> list[bytes]:
    """The samples as fields of this number, one after the other, in pieces of many samples.

    `string` gives the index of a text in the string table.
    """
    of_threads = [thread_fields(thread, string) for thread in table.threads]
    # The last is that of samples without a lock.
    of_locks = [*(_lock_fields(index, lock, string) for index, lock in enumerate(locks)), b""]
    rows = np.arange(len(table.samples))
    return [
        _sample_fields(
            field, table.samples.select(rows[first : first + _BLOCK_SAMPLES]), table.stacks, of_locks, of_threads
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


def _lock_fields(index: int, lock: Lock, string: Callable[[str], int]) -> bytes:
    return b"".join((lock_fields(lock, string), varint(_LOCK << 3 | VARINT), varint(index + 1)))
