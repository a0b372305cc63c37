"""A pprof file as columns, before it becomes a `Profile`: what is many is never an object here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lockflame.pprof_samples import SampleTable, distinct_stacks
from lockflame.profile import FrameKind, Function, Line, Location, Lock, Mapping, Profile, RecordingInfo, SampleType
from lockflame.wire import (
    BYTES,
    WireError,
    last_value,
    places_of,
    read_fields,
    read_messages,
    varint,
    varint_messages,
)

FIELDS_MOST = 4096
"""Of a location: the functions that are inlined at it, more or less."""

# Field numbers of profile.proto.
_ID = 1
_FUNCTION_TEXTS, _START_LINE = (2, 3, 4), 5
_MAPPING_ID, _ADDRESS, _LINE, _KIND, _REASON = 2, 3, 4, 1000, 1001
_LINE_FUNCTION, _LINE_NUMBER = 1, 2
_KINDS = {kind.value: kind for kind in FrameKind}


@dataclass(frozen=True, slots=True, eq=False)
class Functions:
    """`texts` int64[n, 3] are the name, the linkage name and the path as indices of strings, `line` is int64[n]."""

    texts: NDArray[np.int64]
    line: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Locations:
    """Columns of `Location`. The lines of location `i` are `line_bounds[i]` to `line_bounds[i + 1]`, one at least.

    `address` is uint64[n], all others int64: `mapping` (-1 for none), `kind`, `reason` (an index of strings), [n];
    `line_bounds` [n + 1]; `line_function` and `line_number`, as long as there are lines.
    """

    address: NDArray[np.uint64]
    mapping: NDArray[np.int64]
    kind: NDArray[np.int64]
    reason: NDArray[np.int64]
    line_bounds: NDArray[np.int64]
    line_function: NDArray[np.int64]
    line_number: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """All of a profile. Every index in it is valid. The same stack may be there more than once."""

    strings: list[str]
    sample_types: tuple[SampleType, ...]
    mappings: tuple[Mapping, ...]
    functions: Functions
    locations: Locations
    rows: SampleTable
    locks: tuple[Lock, ...]
    recording: RecordingInfo


def decode_code(
    functions: Sequence[bytes], locations: Sequence[bytes], strings: list[str], mapping_ids: NDArray[np.uint64]
) -> tuple[Functions, Locations, NDArray[np.uint64]]:
    """The columns of `Function` and `Location` messages, and the ids of the locations.

    An address without a name gets one made of itself, which is added to `strings`. Raises `WireError`.
    """
    known, function_ids = _functions(functions, strings)
    data, fields = read_messages(locations, FIELDS_MOST)
    count = len(locations)
    identifiers = _identifiers(last_value(fields, _ID, count), "location")
    address = last_value(fields, _ADDRESS, count).view(np.uint64)
    mapping_id = last_value(fields, _MAPPING_ID, count).view(np.uint64)
    mapping = np.full(count, -1, np.int64)
    mapping[mapping_id != 0] = places_of(mapping_id[mapping_id != 0], mapping_ids, "mapping")
    kind = last_value(fields, _KIND, count)
    reason = last_value(fields, _REASON, count)
    check_texts(reason, strings)
    lines = fields.of(_LINE, BYTES)
    parts = read_fields(data, lines.start, lines.end, FIELDS_MOST)
    function_id = last_value(parts, _LINE_FUNCTION, len(lines.owner)).view(np.uint64)
    owner, number = lines.owner, last_value(parts, _LINE_NUMBER, len(lines.owner))
    function = places_of(function_id, function_ids, "function")
    is_named = np.zeros(count, np.bool_)
    is_named[owner] = True
    unnamed = np.flatnonzero(~is_named)
    if len(unnamed):
        # Others leave addresses unnamed; a frame needs a name to be shown.
        names = [f"0x{value:x}" for value in address[unnamed].tolist()]
        made = np.zeros((len(unnamed), len(_FUNCTION_TEXTS)), np.int64)
        made[:, 0] = np.arange(len(strings), len(strings) + len(names))
        strings.extend(names)
        added = np.arange(len(unnamed)) + len(known.line)
        known = Functions(np.vstack((known.texts, made)), np.append(known.line, np.zeros(len(unnamed), np.int64)))
        order = np.argsort(np.append(owner, unnamed), kind="stable")
        function = np.append(function, added)[order]
        number = np.append(number, np.zeros(len(unnamed), np.int64))[order]
        owner = np.append(owner, unnamed)[order]
    bounds = np.searchsorted(owner, np.arange(count + 1)).astype(np.int64)
    return known, Locations(address, mapping, kind, reason, bounds, function, number), identifiers


def _functions(messages: Sequence[bytes], strings: Sequence[str]) -> tuple[Functions, NDArray[np.uint64]]:
    _, fields = read_messages(messages, FIELDS_MOST)
    columns = [last_value(fields, number, len(messages)) for number in _FUNCTION_TEXTS]
    for column in columns:
        check_texts(column, strings)
    identifiers = _identifiers(last_value(fields, _ID, len(messages)), "function")
    return Functions(np.stack(columns, axis=1), last_value(fields, _START_LINE, len(messages))), identifiers


def _identifiers(column: NDArray[np.int64], what: str) -> NDArray[np.uint64]:
    identifiers = column.view(np.uint64)
    ordered = np.sort(identifiers)
    if (ordered[1:] == ordered[:-1]).any() or (ordered[:1] == 0).any():
        raise WireError(f"a {what} id is 0 or is used twice")
    return identifiers


def check_texts(column: NDArray[np.int64], strings: Sequence[str]) -> None:
    """Raises `WireError` for an index that no string has."""
    wrong = column[(column < 0) | (column >= len(strings))]
    if len(wrong):
        raise WireError(f"string {int(wrong[0])} is not in its string table")


def encode_code(tables: Tables, string: Callable[[str], int]) -> tuple[list[bytes], list[bytes]]:
    """A `Function` message for each function and a `Location` message for each location, with ids from 1 on.

    `string` gives the index of a text in the file's string table.
    """
    functions, locations = tables.functions, tables.locations
    texts = _interned(np.append(functions.texts, locations.reason), tables.strings, string)
    reason = texts[functions.texts.size :]
    columns = texts[: functions.texts.size].reshape(functions.texts.shape)
    function_messages = varint_messages(
        [
            (_ID, np.arange(1, len(columns) + 1)),
            *((number, columns[:, place]) for place, number in enumerate(_FUNCTION_TEXTS)),
            (_START_LINE, functions.line),
        ]
    )
    count = len(locations.address)
    heads = varint_messages(
        [(_ID, np.arange(1, count + 1)), (_MAPPING_ID, locations.mapping + 1), (_ADDRESS, locations.address)]
    )
    # Kinds that aren't known are read as the code of a process, and so they are written.
    kind = np.where(np.isin(locations.kind, list(_KINDS)), locations.kind, FrameKind.USER)
    tails = varint_messages([(_KIND, kind), (_REASON, reason)])
    lines = varint_messages([(_LINE_FUNCTION, locations.line_function + 1), (_LINE_NUMBER, locations.line_number)])
    key = varint(_LINE << 3 | BYTES)
    heads_of_lines = {length: key + varint(length) for length in set(map(len, lines))}
    framed = [heads_of_lines[len(line)] + line for line in lines]
    bounds: list[int] = locations.line_bounds.tolist()
    location_messages = [
        b"".join((head, *framed[first:end], tail))
        for head, (first, end), tail in zip(heads, itertools.pairwise(bounds), tails, strict=True)
    ]
    return function_messages, location_messages


def _interned(texts: NDArray[np.int64], strings: Sequence[str], string: Callable[[str], int]) -> NDArray[np.int64]:
    """The indices of texts in the file's string table, which gets them in this order."""
    used, first, which = np.unique(texts, return_index=True, return_inverse=True)
    order = np.argsort(first)
    index = np.zeros(len(used), np.int64)
    places: list[int] = used[order].tolist()
    index[order] = [string(strings[place]) for place in places]
    return index[which]


def profile_of(tables: Tables) -> Profile:
    """The profile with its functions and locations as objects."""
    strings, functions, locations = tables.strings, tables.functions, tables.locations
    names: list[list[int]] = functions.texts.tolist()
    line_of_function: list[int] = functions.line.tolist()
    function_rows: list[int] = locations.line_function.tolist()
    number_rows: list[int] = locations.line_number.tolist()
    lines = [Line(function, number) for function, number in zip(function_rows, number_rows, strict=True)]
    bounds: list[int] = locations.line_bounds.tolist()
    addresses: list[int] = locations.address.tolist()
    mappings: list[int] = locations.mapping.tolist()
    kinds: list[int] = locations.kind.tolist()
    reasons: list[int] = locations.reason.tolist()
    rows = zip(addresses, mappings, kinds, reasons, strict=True)
    number, stacks = distinct_stacks(tables.rows.stacks)
    samples = replace(tables.rows.samples, stack=number[tables.rows.samples.stack])
    return Profile(
        sample_types=tables.sample_types,
        mappings=tables.mappings,
        functions=tuple(
            Function(strings[name], strings[linkage], strings[path], line)
            for (name, linkage, path), line in zip(names, line_of_function, strict=True)
        ),
        locations=tuple(
            Location(
                address,
                mapping,
                tuple(lines[bounds[index] : bounds[index + 1]]),
                _KINDS.get(kind, FrameKind.USER),
                strings[reason],
            )
            for index, (address, mapping, kind, reason) in enumerate(rows)
        ),
        threads=tables.rows.threads,
        stacks=stacks,
        samples=samples,
        recording=tables.recording,
        locks=tables.locks,
    )


def tables_of(profile: Profile) -> Tables:
    """A profile as columns."""
    strings: dict[str, int] = {"": 0}

    def index(text: str) -> int:
        return strings.setdefault(text, len(strings))

    texts = [[index(entry.name), index(entry.linkage_name), index(entry.path)] for entry in profile.functions]
    lines = [line for location in profile.locations for line in location.lines]
    counts = [len(location.lines) for location in profile.locations]
    locations = Locations(
        address=np.array([location.address for location in profile.locations], np.uint64),
        mapping=np.array([location.mapping for location in profile.locations], np.int64),
        kind=np.array([location.kind for location in profile.locations], np.int64),
        reason=np.array([index(location.unresolved_reason) for location in profile.locations], np.int64),
        line_bounds=np.concatenate((np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64))),
        line_function=np.array([line.function for line in lines], np.int64),
        line_number=np.array([line.line for line in lines], np.int64),
    )
    functions = Functions(
        np.array(texts, np.int64).reshape(-1, len(_FUNCTION_TEXTS)),
        np.array([function.line for function in profile.functions], np.int64),
    )
    return Tables(
        strings=list(strings),
        sample_types=profile.sample_types,
        mappings=profile.mappings,
        functions=functions,
        locations=locations,
        rows=SampleTable(profile.stacks, profile.samples, profile.threads),
        locks=profile.locks,
        recording=profile.recording,
    )
