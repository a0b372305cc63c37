"""One way in for whatever holds stacks with weights; the content tells what a file is, never its name."""

from __future__ import annotations

import gzip
import io
import itertools
from typing import IO, cast

from lockflame.errors import LockflameError, reason_of
from lockflame.formats.folded import is_folded_line, read_folded
from lockflame.formats.lines import text_of
from lockflame.formats.perf_data import MAGIC, read_perf_data
from lockflame.formats.perf_script import is_perf_header, read_perf_script
from lockflame.formats.units import in_our_units
from lockflame.pprof import decode_tables, read_unpacked, unpacking
from lockflame.pprof_tables import Tables, profile_of, tables_of
from lockflame.profile import Profile

KNOWN = "give a profile of lockflame record or another tool: pprof, folded stacks, the text of perf script, perf.data"

UNPACKED_MOST = 4 << 30
"""Of a gzipped file; one that isn't may be of any size."""

_OUR_UNITS = ("count", "nanoseconds")
_GZIP = b"\x1f\x8b"
_HEAD_BYTES = 1 << 16
_LINES_LOOKED_AT = 50
# What no text has; a pprof message has some in its first bytes.
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))


def read_profile(path: str) -> Profile:
    """Reads a profile file of ours or of another tool, gzipped or not. Times come in nanoseconds.

    In files of others the sample type that they show by default is the first. Raises `LockflameError`.
    """
    found = _opened(path)
    return in_our_units(profile_of(found) if isinstance(found, Tables) else found, path)


def read_tables(path: str) -> Tables:
    """The same as columns, at less cost for files of pprof. Raises `LockflameError`."""
    found = _opened(path)
    if isinstance(found, Tables) and all(kind.unit in _OUR_UNITS for kind in found.sample_types):
        return found
    return tables_of(in_our_units(profile_of(found) if isinstance(found, Tables) else found, path))


def _opened(path: str) -> Profile | Tables:
    try:
        with open(path, "rb") as file, unpacking(path):
            head = file.peek(len(_GZIP))
            if not head:
                raise LockflameError(f"cannot read {path}", "it is empty", KNOWN)
            if head.startswith(MAGIC):
                return read_perf_data(path)
            if not head.startswith(_GZIP):
                return _read(file, path)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read(
                    io.BufferedReader(cast("io.RawIOBase", _Bounded(cast("IO[bytes]", unpacked), path)), _HEAD_BYTES),
                    path,
                )
    except OSError as error:
        raise LockflameError(f"cannot read {path}", reason_of(error), "check the path") from error


class _Bounded(io.RawIOBase):
    """A file that refuses to give more than a profile may have: gzip can pack much into little."""

    def __init__(self, file: IO[bytes], path: str) -> None:
        self._file = file
        self._path = path
        self._left = UNPACKED_MOST

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The next bytes."""
        piece = self._file.read(len(buffer))
        self._left -= len(piece)
        if self._left < 0:
            raise LockflameError(
                f"cannot read {self._path}",
                f"it unpacks to more than {UNPACKED_MOST >> 30} GiB",
                "check where it is from",
            )
        buffer[: len(piece)] = piece
        return len(piece)


def _read(file: IO[bytes], path: str) -> Profile | Tables:
    head = cast(io.BufferedReader, file).peek(_HEAD_BYTES)[:_HEAD_BYTES]
    if head.translate(None, _CONTROLS) != head:
        return decode_tables(read_unpacked(file, path), path)
    lines = [line for line in head.split(b"\n")[:_LINES_LOOKED_AT] if line.strip() and not line.startswith(b"#")]
    if any(is_perf_header(text_of(line)) for line in itertools.islice(lines, 1)):
        return read_perf_script(file, path)
    if any(is_folded_line(line) for line in lines):
        return read_folded(file, path)
    raise LockflameError(f"cannot read {path}", _why_not(head), KNOWN)


def _why_not(head: bytes) -> str:
    if head.lstrip().startswith((b"{", b"[")):
        return "it is JSON, which is written but not read"
    return "it is text, but neither folded stacks nor the output of perf script"
