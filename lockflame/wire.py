"""Protobuf's wire format, for many messages at once: columns of bytes in, columns of numbers out.

See https://protobuf.dev/programming-guides/encoding/. What reads raises `WireError` for bytes that are no messages.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5
PADDING = bytes(16)
"""What has to follow the bytes that are read: more than the longest varint."""

SMALL_BYTES = 16 << 20
ENTRIES_MOST = 8_000_000
OTHER_BYTES_MOST = 64 << 20

_VARINT_BYTES_MOST = 10
_FIXED_LENGTH = np.array([0, 8, 0, 0, 0, 4, 0, 0])
_IS_KNOWN = np.isin(np.arange(8), [VARINT, FIXED_64, BYTES, FIXED_32])
_SPARSE_MOST = 8

Ints = NDArray[np.int64]


class WireError(Exception):
    """What is wrong with the bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """Fields of many messages, in the order in which each message has them.

    `owner` int64[n] is the message that has the field, `number` int64[n] the field's; `value` uint64[n] is that of a
    varint, else 0. The content is `data[start:end]`, int64[n] both: a varint's own bytes, or what `BYTES` hold.
    """

    owner: Ints
    number: Ints
    wire: Ints
    value: NDArray[np.uint64]
    start: Ints
    end: Ints

    def of(self, number: int, *wires: int) -> Fields:
        """The fields of this number, ordered by owner. Raises `WireError` if one has another wire type."""
        rows = np.flatnonzero(self.number == number)
        wire = self.wire[rows]
        if not np.logical_or.reduce([wire == known for known in wires]).all():
            raise WireError(f"a field {number} has the wrong type")
        owner = self.owner[rows]
        # Mostly all messages have their fields in the same order.
        if (owner[1:] < owner[:-1]).any():
            rows = rows[np.argsort(owner, kind="stable")]
        return self.rows(rows)

    def rows(self, rows: Ints) -> Fields:
        """Some of the fields."""
        return Fields(*(getattr(self, name)[rows] for name in ("owner", "number", "wire", "value", "start", "end")))


def read_fields(data: NDArray[np.uint8], starts: Ints, ends: Ints, fields_most: int) -> Fields:
    """The fields of the messages `data[starts[i]:ends[i]]`, one step for each field of the longest.

    `PADDING` has to follow the last message. A message with more than `fields_most` fields is refused.
    """
    steps: list[tuple[NDArray[np.int64] | NDArray[np.uint64], ...]] = []
    owner = np.flatnonzero(starts < ends)
    at, stop = starts[owner], ends[owner]
    while len(owner):
        if len(steps) == fields_most:
            raise WireError(f"it has a part with more than {fields_most} fields")
        key, at = read_varints(data, at)
        number, wire = (key >> np.uint64(3)).view(np.int64), (key & np.uint64(7)).view(np.int64)
        if not _IS_KNOWN[wire].all():
            raise WireError("it has a field of an unknown type")
        value, after = read_varints(data, np.minimum(at, stop))
        is_varint, is_bytes = wire == VARINT, wire == BYTES
        start = np.where(is_bytes, after, at)
        fixed = np.where(is_varint, after - at, _FIXED_LENGTH[wire]).view(np.uint64)
        length = np.where(is_bytes, value, fixed)
        left = stop - start
        # A length may be any number: compared before it is added.
        if (left < 0).any() or (length > left.view(np.uint64)).any() or not number.all():
            raise WireError("it has a field that is cut off")
        end = start + length.view(np.int64)
        steps.append((owner, number, wire, np.where(is_varint, value, np.uint64(0)), start, end))
        goes_on = np.flatnonzero(end < stop)
        owner, at, stop = owner[goes_on], end[goes_on], stop[goes_on]
    if not steps:
        none = np.zeros(0, np.int64)
        return Fields(none, none, none, np.zeros(0, np.uint64), none, none)
    return Fields(*(np.concatenate(column) for column in zip(*steps, strict=True)))  # pyright: ignore[reportArgumentType]


def read_messages(messages: Sequence[bytes], fields_most: int) -> tuple[NDArray[np.uint8], Fields]:
    """All messages in a row, with the padding, and their fields as `read_fields` gives them."""
    # A list of protobuf's own makes its bytes anew each time.
    messages = list(messages)
    ends = np.cumsum(np.fromiter(map(len, messages), np.int64, len(messages)))
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1]))[: len(ends)]
    data = np.frombuffer(b"".join((*messages, PADDING)), np.uint8)
    return data, read_fields(data, starts, ends, fields_most)


def last_value(fields: Fields, number: int, count: int) -> Ints:
    """A number of each of `count` messages: 0 where it isn't, the last where it is twice."""
    found = fields.of(number, VARINT)
    result = np.zeros(count, np.int64)
    result[found.owner] = found.value.view(np.int64)
    return result


def places_of(wanted: NDArray[np.uint64], known: NDArray[np.uint64], what: str) -> Ints:
    """Where in `known`, all different, each of the wanted is. Raises `WireError` for one that isn't there."""
    if len(known) and int(known.max()) <= _SPARSE_MOST * len(known):
        # Numbered in a row, more or less: looked up in a table.
        table = np.full(int(known.max()) + 1, -1, np.int64)
        table[known.astype(np.int64)] = np.arange(len(known))
        last = known.max()
        place = table[np.minimum(wanted, last).view(np.int64)]
        is_known = (place >= 0) & (wanted <= last)
        if not is_known.all():
            raise WireError(f"{what} {int(wanted[~is_known][0])} is not in it")
        return place
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known[order], wanted)
    is_known = place < len(known)
    is_known[is_known] = known[order][place[is_known]] == wanted[is_known]
    if not is_known.all():
        raise WireError(f"{what} {int(wanted[~is_known][0])} is not in it")
    return order[place]


def check_top_level(content: bytes, samples: int) -> None:
    """Refuses a message that would take far more memory than its own size once it is taken apart.

    Small messages pass. In a large one there may be `ENTRIES_MOST` fields, and all that isn't in fields of the number
    `samples` may be `OTHER_BYTES_MOST` long. Raises `WireError`.
    """
    if len(content) <= SMALL_BYTES:
        return
    at, entries, other = 0, 0, 0
    while at < len(content):
        entries += 1
        key, start = _varint_at(content, at)
        value, after = _varint_at(content, start) if key & 7 in (VARINT, BYTES) else (0, start + 8)
        end = after + value if key & 7 == BYTES else after
        if key >> 3 != samples:
            other += end - at
        if entries > ENTRIES_MOST or other > OTHER_BYTES_MOST:
            raise WireError("it has more entries than any recording")
        at = end


def _varint_at(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(content[at : at + _VARINT_BYTES_MOST]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise WireError("it has a number that is cut off")


def read_varints(data: NDArray[np.uint8], at: Ints) -> tuple[NDArray[np.uint64], Ints]:
    """The varints that begin at these places, and where each ends: uint64 and int64."""
    byte = data[at]
    value = (byte & 0x7F).astype(np.uint64)
    after = at + 1
    rows = np.flatnonzero(byte >= 0x80)
    for shift in range(7, 7 * _VARINT_BYTES_MOST, 7):
        if not len(rows):
            return value, after
        if int(after[rows].max()) >= len(data):
            raise WireError("it has a number that is cut off")
        byte = data[after[rows]]
        value[rows] |= (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
        after[rows] += 1
        rows = rows[byte >= 0x80]
    if len(rows):
        raise WireError("it has a number of more than 10 bytes")
    return value, after


def read_packed(data: NDArray[np.uint8], starts: Ints, ends: Ints) -> tuple[NDArray[np.uint64], Ints]:
    """All varints in the ranges, in a row, and how many each range has: uint64[n], int64[ranges]."""
    content = data[ranges(starts, ends - starts)]
    bounds = np.concatenate((np.zeros(1, np.int64), np.cumsum(ends - starts)))
    goes_on = content >= 0x80
    filled = np.flatnonzero(ends > starts)
    if goes_on[bounds[filled + 1] - 1].any():
        raise WireError("it has a number that is cut off")
    is_first = np.ones(len(content), np.bool_)
    is_first[1:] = ~goes_on[:-1]
    firsts = np.flatnonzero(is_first)
    counts = np.diff(np.searchsorted(firsts, bounds))
    # At each byte the number that would begin there, in a type that is just wide enough: most are small.
    low = content & 0x7F
    values = low.astype(np.uint16)
    reaches = goes_on
    for index in range(1, _VARINT_BYTES_MOST + 1):
        reaches = reaches[: len(content) - index]
        if not reaches.any():
            return values[firsts].astype(np.uint64), counts
        if 7 * (index + 1) > 8 * values.itemsize:
            values = values.astype(np.uint32 if index < 4 else np.uint64)
        values[:-index] |= (low[index:] * reaches).astype(values.dtype) << values.dtype.type(7 * index)
        reaches = reaches & goes_on[index:]
    raise WireError("it has a number of more than 10 bytes")


def row_blocks(lengths: Ints, numbers_most: int) -> list[tuple[int, int]]:
    """Rows of so many numbers in blocks of about `numbers_most`, or of a single row: its first row and its end.

    Large arrays come from the kernel page by page and go back to it: what is computed block by block takes less memory
    and less time.
    """
    block = (np.cumsum(lengths) - 1) // numbers_most
    firsts: list[int] = np.flatnonzero(np.diff(block, prepend=-2)).tolist()
    return list(itertools.pairwise([*firsts, len(block)]))


def packed(values: NDArray[np.uint64]) -> tuple[bytes, Ints]:
    """The numbers as varints in a row, and where each begins, with the end of the last: int64[n + 1]."""
    lengths = np.ones(len(values), np.int64)
    longest = max(1, -(-int(values.max(initial=0)).bit_length() // 7))
    for index in range(1, longest):
        lengths += values >= np.uint64(1) << np.uint64(7 * index)
    bounds = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    content = np.zeros(int(bounds[-1]), np.uint8)
    rows = np.arange(len(values))
    for index in range(_VARINT_BYTES_MOST):
        rows = rows[lengths[rows] > index]
        if not len(rows):
            break
        byte = (values[rows] >> np.uint64(7 * index)).astype(np.uint8) & 0x7F
        content[bounds[rows] + index] = byte | np.where(lengths[rows] > index + 1, 0x80, 0).astype(np.uint8)
    return content.tobytes(), bounds


def varint_messages(columns: Sequence[tuple[int, NDArray[np.int64] | NDArray[np.uint64]]]) -> list[bytes]:
    """A message for each row of the columns, which are varint fields by number; zeros are left out as proto3 has it."""
    values = np.stack([column.view(np.uint64) for _, column in columns], axis=1)
    keys = np.array([number << 3 | VARINT for number, _ in columns], np.uint64)
    pairs = np.stack(np.broadcast_arrays(keys, values), axis=2)
    is_there = values != 0
    content, places = packed(pairs[is_there].reshape(-1))
    return pieces(content, places[np.append(0, 2 * np.cumsum(is_there.sum(axis=1)))])


def pieces(content: bytes, bounds: Ints) -> list[bytes]:
    """What is between two bounds each."""
    places: list[int] = bounds.tolist()
    return [content[start:end] for start, end in itertools.pairwise(places)]


def varint(value: int) -> bytes:
    """One number from 0 to 2**64 - 1."""
    pieces = bytearray()
    while value > 0x7F:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    pieces.append(value)
    return bytes(pieces)


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """The numbers from each start on, as many as its length, all in a row."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - ends + lengths, lengths) + np.arange(int(ends[-1]) if len(ends) else 0)
