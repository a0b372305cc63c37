"""Names of an image as the columns of a file: of thousands of names, only those asked for become objects.

A file is a digest, the lengths of the columns, the columns, all int64, and the bytes of all texts in a row.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from symbolize.source_frames import Extent

_DIGEST_BYTES = 16
_COLUMNS = 15

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NamedFrame:
    """A function at a source line. `function` is for readers; line 0 and no path where they aren't known."""

    function: str
    linkage_name: str
    path: str = ""
    line: int = 0
    declared_line: int = 0


@dataclass(frozen=True, slots=True)
class ImageName:
    """What is at an address: inlined functions innermost first, then the one that has the code.

    `reason` says why that one couldn't be named; then its name is made of module and offset.
    """

    frames: tuple[NamedFrame, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StoredNames:
    """Names by address as linked, and where functions are, by unit of the DWARF data."""

    names: dict[int, ImageName] = field(default_factory=dict[int, ImageName])
    extents: dict[int, list[Extent]] = field(default_factory=dict[int, list[Extent]])


@dataclass(frozen=True, slots=True, eq=False)
class NameTables:
    """The columns of a file, int64 all. Every index in them is valid.

    `address` is ascending, `name` is its index of names. Of those, `reason` is an index of texts, and the frames are
    `name_frames` between two of `name_bounds`. A frame has the texts `function`, `linkage_name` and `path`. The
    extents of the DWARF unit `unit[i]` are between two of `unit_bounds`. Text `i` is `texts` between two of
    `text_bounds`.
    """

    address: Ints
    name: Ints
    reason: Ints
    name_bounds: Ints
    name_frames: Ints
    function: Ints
    linkage_name: Ints
    path: Ints
    line: Ints
    declared_line: Ints
    unit: Ints
    unit_bounds: Ints
    extents: Ints
    text_bounds: Ints
    texts: bytes

    def names_of(self, addresses: Collection[int]) -> dict[int, ImageName]:
        """The names of those addresses that have one here: one object for all that have the same."""
        wanted = np.array(sorted(addresses), np.uint64).view(np.int64)
        row = np.searchsorted(self.address, wanted)
        row[row == len(self.address)] = 0
        is_known = self.address[row] == wanted if len(self.address) else np.zeros(len(wanted), np.bool_)
        numbers: list[int] = self.name[row[is_known]].tolist()
        name_of = self._names(set(numbers))
        return {address: name_of[number] for address, number in zip(wanted[is_known].tolist(), numbers, strict=True)}

    def extents_of_units(self) -> dict[int, list[Extent]]:
        """Where functions are, by unit of the DWARF data."""
        rows: list[Extent] = list(zip(*self.extents.reshape(3, -1).tolist(), strict=True))
        bounds = itertools.pairwise(self.unit_bounds.tolist())
        return {unit: rows[first:end] for unit, (first, end) in zip(self.unit.tolist(), bounds, strict=True)}

    def all_names(self) -> StoredNames:
        """All that the file says."""
        return StoredNames(self.names_of(self.address.tolist()), self.extents_of_units())

    def _names(self, numbers: Iterable[int]) -> dict[int, ImageName]:
        """The names with these indices."""
        chosen = np.array(sorted(numbers), np.int64)
        firsts: list[int] = self.name_bounds[chosen].tolist()
        ends: list[int] = self.name_bounds[chosen + 1].tolist()
        frames: list[int] = self.name_frames.tolist()
        frame_of = self._frames({frame for first, end in zip(firsts, ends, strict=True) for frame in frames[first:end]})
        reasons = self._texts(self.reason[chosen])
        return {
            number: ImageName(tuple([frame_of[frame] for frame in frames[first:end]]), reason)
            for number, first, end, reason in zip(chosen.tolist(), firsts, ends, reasons, strict=True)
        }

    def _frames(self, numbers: Iterable[int]) -> dict[int, NamedFrame]:
        """The frames with these indices."""
        chosen = np.array(sorted(numbers), np.int64)
        texts = [self._texts(column[chosen]) for column in (self.function, self.linkage_name, self.path)]
        lines = [column[chosen].tolist() for column in (self.line, self.declared_line)]
        return dict(zip(chosen.tolist(), map(NamedFrame, *texts, *lines), strict=True))

    def _texts(self, numbers: Ints) -> list[str]:
        """The texts with these indices: one object for all that are the same."""
        wanted: list[int] = numbers.tolist()
        bounds = self.text_bounds
        distinct = np.array(sorted(set(wanted)), np.int64)
        places = zip(distinct.tolist(), bounds[distinct].tolist(), bounds[distinct + 1].tolist(), strict=True)
        text_of = {number: self.texts[start:end].decode("utf-8", "surrogateescape") for number, start, end in places}
        return [text_of[number] for number in wanted]


def encode(stored: StoredNames) -> bytes:
    """The content of a file. Raises `OverflowError` for numbers of more than 63 bits."""
    texts: dict[str, int] = {}
    frames: dict[NamedFrame, int] = {}
    names: dict[ImageName, int] = {}
    name = [names.setdefault(stored.names[address], len(names)) for address in sorted(stored.names)]
    name_frames = [[frames.setdefault(frame, len(frames)) for frame in name.frames] for name in names]
    columns: list[Sequence[int]] = [
        sorted(stored.names),
        name,
        [texts.setdefault(name.reason, len(texts)) for name in names],
        _bounds(name_frames),
        list(itertools.chain.from_iterable(name_frames)),
        [texts.setdefault(frame.function, len(texts)) for frame in frames],
        [texts.setdefault(frame.linkage_name, len(texts)) for frame in frames],
        [texts.setdefault(frame.path, len(texts)) for frame in frames],
        [frame.line for frame in frames],
        [frame.declared_line for frame in frames],
        list(stored.extents),
        _bounds(stored.extents.values()),
        [extent[column] for column in range(3) for rows in stored.extents.values() for extent in rows],
    ]
    contents = [text.encode("utf-8", "surrogateescape") for text in texts]
    columns.append(_bounds(contents))
    lengths = np.array([*map(len, columns), sum(map(len, contents))], np.int64)
    body = b"".join((lengths.tobytes(), *(np.array(column, np.int64).tobytes() for column in columns), *contents))
    return _digest(body) + body


def decode(content: bytes) -> NameTables:
    """The columns in a file's content. Raises `ValueError` for what `encode` didn't make."""
    body = memoryview(content)[_DIGEST_BYTES:]
    if content[:_DIGEST_BYTES] != _digest(body) or len(body) < 8 * _COLUMNS:
        raise ValueError("damaged")
    lengths: list[int] = np.frombuffer(body, np.int64, _COLUMNS).tolist()
    if min(lengths) < 0 or 8 * (_COLUMNS + sum(lengths[:-1])) + lengths[-1] != len(body):
        raise ValueError("columns of another length")
    numbers = np.frombuffer(body, np.int64, sum(lengths[:-1]), 8 * _COLUMNS)
    columns = np.split(numbers, np.cumsum(lengths[:-2]))
    tables = NameTables(*columns, texts=bytes(body[len(body) - lengths[-1] :]))
    _check(tables)
    return tables


def _check(tables: NameTables) -> None:
    """Raises `ValueError` for columns that don't fit each other."""
    if len(tables.name) != len(tables.address) or (tables.address[1:] <= tables.address[:-1]).any():
        raise ValueError("addresses that aren't ascending")
    if len({len(tables.function), len(tables.linkage_name), len(tables.path), len(tables.line)}) != 1:
        raise ValueError("columns of another length")
    if len(tables.declared_line) != len(tables.line) or len(tables.extents) % 3:
        raise ValueError("columns of another length")
    _check_bounds(tables.name_bounds, len(tables.reason), len(tables.name_frames), least=1)
    _check_bounds(tables.unit_bounds, len(tables.unit), len(tables.extents) // 3)
    _check_bounds(tables.text_bounds, len(tables.text_bounds) - 1, len(tables.texts))
    _check_numbers(tables.name, len(tables.reason))
    _check_numbers(tables.name_frames, len(tables.function))
    for column in (tables.reason, tables.function, tables.linkage_name, tables.path):
        _check_numbers(column, len(tables.text_bounds) - 1)
    for column in (tables.address, tables.line, tables.declared_line, tables.unit, tables.extents):
        _check_numbers(column)


def _check_bounds(bounds: Ints, lists: int, end: int, least: int = 0) -> None:
    """Raises `ValueError` where they aren't those of so many lists, of `least` entries each."""
    if (
        not len(bounds)
        or len(bounds) != lists + 1
        or bounds[0] != 0
        or bounds[-1] != end
        or (np.diff(bounds) < least).any()
    ):
        raise ValueError("bounds of other lists")


def _check_numbers(column: Ints, end: int | None = None) -> None:
    """Raises `ValueError` for numbers below 0, or from `end` on."""
    if len(column) and (column.min() < 0 or (end is not None and column.max() >= end)):
        raise ValueError("not numbers that were stored")


def _bounds(lists: Iterable[Sequence[object]]) -> list[int]:
    """Where each list begins when all stand in a row, and the end of the last."""
    return [0, *itertools.accumulate(map(len, lists))]


def _digest(body: bytes | memoryview) -> bytes:
    """A bit that flips in a name would be a wrong name."""
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest()


NO_NAMES = decode(encode(StoredNames()))
