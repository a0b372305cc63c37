"""Names on disk by build-id: what one recording has looked up, the next one needn't.

A file is a digest and JSON; its strings stand in one list. A build-id is what a file says of itself: a key holds
a hash of the unwind data as well, and one of what there is to name it, so that a new debug file is looked into.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lockflame.cache_folder import CacheFolder, user_cache
from lockflame.errors import reason_of
from symbolize.source_frames import Extent

FORMAT = 1
FILE_BYTES_MOST = 64 << 20
FOLDER_BYTES_MOST = 256 << 20
NAMES_MOST = 100_000
"""Of one image. Where there would be more, the file stays as it is, and what is new is looked up again."""
_DAMAGED = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError, MemoryError)


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


def default_folder() -> Path:
    """Where the user's names are, for this format."""
    return user_cache(f"names-{FORMAT}")


class NameStore:
    """A folder of names. Whatever is wrong with it costs time, never a recording."""

    def __init__(self, folder: Path) -> None:
        self._folder = CacheFolder(folder)
        self.damaged = 0
        """Files that weren't of this format and were left out."""
        self.problem = ""
        """Why names couldn't be kept."""

    @staticmethod
    def key(rules_key: str, debug_files: str) -> str:
        """The name of an image's file; empty for an image without build-id, which is not stored."""
        if not rules_key:
            return ""
        return hashlib.blake2b(f"{rules_key} {debug_files}".encode(), digest_size=20).hexdigest()

    def load(self, key: str) -> StoredNames:
        """The names of an image, checked; none where there are none."""
        file = self._folder.open(f"{key}.json") if key else None
        if file is None:
            return StoredNames()
        with file:
            try:
                content = file.read(FILE_BYTES_MOST + 1)
                if len(content) > FILE_BYTES_MOST:
                    raise ValueError("too large")
                digest, _, body = content.partition(b"\n")
                if digest != _digest(body):
                    raise ValueError("damaged")
                names = _decode(json.loads(body))
            except (*_DAMAGED, OSError):
                self.damaged += 1
                return StoredNames()
        self._folder.touch(f"{key}.json")
        return names

    def save(self, key: str, names: StoredNames) -> None:
        """Writes the names of an image beside and renames the file."""
        body = json.dumps(_encode(names), separators=(",", ":")).encode()
        content = b"%b\n%b" % (_digest(body), body)
        if len(names.names) > NAMES_MOST or len(content) > FILE_BYTES_MOST:
            return
        try:
            with self._folder.writing(f"{key}.json") as file:
                file.write(content)
            self._folder.prune(FOLDER_BYTES_MOST, (f"{key}.json",))
        except OSError as error:
            # A full or read-only disk: the next recording looks them up anew.
            self.problem = reason_of(error)


def _digest(body: bytes) -> bytes:
    """A bit that flips in a name would be a wrong name."""
    return hashlib.blake2b(body, digest_size=16).hexdigest().encode()


def _encode(stored: StoredNames) -> dict[str, Any]:
    strings: dict[str, int] = {}
    frames: dict[NamedFrame, int] = {}

    def number(text: str) -> int:
        return strings.setdefault(text, len(strings))

    names = [
        (address, number(name.reason), [frames.setdefault(frame, len(frames)) for frame in name.frames])
        for address, name in stored.names.items()
    ]
    rows = [(number(f.function), number(f.linkage_name), number(f.path), f.line, f.declared_line) for f in frames]
    return {"strings": list(strings), "frames": rows, "names": names, "extents": list(stored.extents.items())}


def _decode(content: Any) -> StoredNames:
    """Raises one of `_DAMAGED` for what `_encode` didn't make."""
    strings: list[str] = [
        text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") for text in content["strings"]
    ]
    text = strings.__getitem__
    function, linkage, path, line, declared = map(_numbers, _columns(content["frames"], 5))
    frames = list(map(NamedFrame, map(text, function), map(text, linkage), map(text, path), line, declared))
    address, reason, frame_rows = _columns(content["names"], 3)
    if not all(frame_rows):
        raise ValueError("an address without frames")
    _numbers(itertools.chain.from_iterable(frame_rows))
    frames_of_names = [tuple(map(frames.__getitem__, rows)) for rows in frame_rows]
    of_address = map(ImageName, frames_of_names, map(text, _numbers(reason)))
    extents = {
        _index(unit): list(zip(*map(_numbers, _columns(rows, 3)), strict=True)) for unit, rows in content["extents"]
    }
    return StoredNames(dict(zip(_numbers(address), of_address, strict=True)), extents)


def _columns(rows: list[Any], count: int) -> list[tuple[Any, ...]]:
    """Rows of so many fields as columns: there are thousands, and what is checked at once takes a third of the time."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * count
    if len(columns) != count:
        raise ValueError("rows of another length")
    return columns


def _numbers(column: Iterable[Any]) -> list[int]:
    """A column of integers that aren't negative, since those would count from the end."""
    numbers = list(column)
    if not set(map(type, numbers)) <= {int} or (numbers and not 0 <= min(numbers) <= max(numbers) < 1 << 63):
        raise ValueError("not numbers that were stored")
    return numbers


def _index(number: Any) -> int:
    return _numbers([number])[0]
