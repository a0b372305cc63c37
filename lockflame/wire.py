"""Protobuf's wire format, for many messages at once: columns of bytes in, columns of numbers out.

See https://protobuf.dev/programming-guides/encoding/. What reads raises `WireError` for bytes that are no messages.
"""

from __future__ import annotations

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
        key, at = read_varints(data, np.minimum(at, stop))
        wire = (key & np.uint64(7)).astype(np.int64)
        is_varint, is_bytes = wire == VARINT, wire == BYTES
        if not (is_varint | is_bytes | (wire == FIXED_64) | (wire == FIXED_32)).all():
            raise WireError("it has a field of an unknown type")
        value, after = read_varints(data, np.minimum(at, stop))
        start = np.where(is_bytes, after, at)
        left = np.maximum(stop - start, 0)
        # A length may be any number: compared before it is added.
        if (is_bytes & (value > left.astype(np.uint64))).any():
            raise WireError("it has a field that is cut off")
        length = np.where(is_bytes, np.minimum(value, left.astype(np.uint64)).astype(np.int64), 0)
        end = np.where(is_varint, after, start + length)
        end = np.where(wire == FIXED_64, start + 8, np.where(wire == FIXED_32, start + 4, end))
        if (end > stop).any() or (key >> np.uint64(3) == 0).any():
            raise WireError("it has a field that is cut off")
        number = np.minimum(key >> np.uint64(3), np.uint64(1 << 40)).astype(np.int64)
        steps.append((owner, number, wire, np.where(is_varint, value, np.uint64(0)), start, end))
        goes_on = end < stop
        owner, at, stop = owner[goes_on], end[goes_on], stop[goes_on]
    if not steps:
        none = np.zeros(0, np.int64)
        return Fields(none, none, none, np.zeros(0, np.uint64), none, none)
    return Fields(*(np.concatenate(column) for column in zip(*steps, strict=True)))  # pyright: ignore[reportArgumentType]


def read_messages(messages: Sequence[bytes], fields_most: int) -> tuple[NDArray[np.uint8], Fields]:
    """All messages in a row, with the padding, and their fields as `read_fields` gives them."""
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
        is_known = wanted <= known.max()
        place = table[np.where(is_known, wanted, np.uint64(0)).astype(np.int64)]
        is_known &= place >= 0
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
    is_last = content < 0x80
    lasts = np.flatnonzero(is_last)
    bounds = np.concatenate((np.zeros(1, np.int64), np.cumsum(ends - starts)))
    counts = np.diff(np.searchsorted(lasts, bounds))
    filled = np.flatnonzero(ends > starts)
    if not is_last[bounds[filled + 1] - 1].all():
        raise WireError("it has a number that is cut off")
    firsts = np.concatenate((np.zeros(1, np.int64), lasts[:-1] + 1))[: len(lasts)]
    lengths = lasts - firsts + 1
    longest = int(lengths.max(initial=0))
    if longest > _VARINT_BYTES_MOST:
        raise WireError("it has a number of more than 10 bytes")
    values = (content[firsts] & 0x7F).astype(np.uint64)
    for index in range(1, longest):
        rows = np.flatnonzero(lengths > index)
        values[rows] |= (content[firsts[rows] + index] & 0x7F).astype(np.uint64) << np.uint64(7 * index)
    return values, counts


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
