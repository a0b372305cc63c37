"""One way in for whatever holds stacks with weights; the content tells what a file is, never its name."""

from __future__ import annotations

import gzip
import os
import stat
from dataclasses import replace
from typing import IO, cast

from lockflame.errors import LockflameError, reason_of
from lockflame.formats.bounds import check_sums, cut_short, is_too_deep, note_of_negatives, sound_times
from lockflame.formats.detecting import HEAD_BYTES, KNOWN, Kind, kind_of, why_unknown
from lockflame.formats.folded import read_folded
from lockflame.formats.labels import TOO_MANY_LABELS, without_labels
from lockflame.formats.noted import Noted
from lockflame.formats.perf_data import MAGIC, read_perf_data
from lockflame.formats.perf_script import read_perf_script
from lockflame.formats.units import in_our_units
from lockflame.pprof import decode_tables, read_unpacked, unpacking
from lockflame.pprof_tables import Tables, profile_of, tables_of
from lockflame.profile import Profile, RecordingInfo

UNPACKED_MOST = 4 << 30
"""Of a gzipped file; one that isn't may be of any size."""

_OUR_UNITS = ("count", "nanoseconds")
_GZIP = b"\x1f\x8b"


def read_profile(path: str) -> Profile:
    """Reads a profile file of ours or of another tool, gzipped or not. Times come in nanoseconds.

    In files of others the sample type that they show by default is the first; what they label samples with beside
    threads is left out. Raises `LockflameError`.
    """
    return read_noted(path).content


def read_noted(path: str) -> Noted[Profile]:
    """The same, with what the reader has to tell. It is in the recording's notes as well."""
    opened = _opened(path)
    found = _bounded(opened, path)
    profile = without_labels(in_our_units(profile_of(found) if isinstance(found, Tables) else found, path))
    below = note_of_negatives(profile.samples.values)
    if below:
        profile = replace(profile, recording=replace(profile.recording, notes=(*profile.recording.notes, below)))
    return Noted(profile, _new_notes(opened, profile.recording))


def read_tables(path: str) -> Noted[Tables]:
    """The same as columns, at less cost for files of pprof, and with all labels. Raises `LockflameError`."""
    opened = _opened(path)
    found = _bounded(opened, path)
    if not isinstance(found, Tables) or any(kind.unit not in _OUR_UNITS for kind in found.sample_types):
        found = tables_of(in_our_units(profile_of(found) if isinstance(found, Tables) else found, path))
    if isinstance(opened, Tables) and opened.rows.unlabelled:
        note = f"{opened.rows.unlabelled:,} samples {TOO_MANY_LABELS}"
        found = replace(found, recording=replace(found.recording, notes=(*found.recording.notes, note)))
    return Noted(found, _new_notes(opened, found.recording))


def _new_notes(opened: Profile | Tables, recording: RecordingInfo) -> tuple[str, ...]:
    """The notes that reading added. A file of pprof may hold some itself; all those of text are its reader's."""
    stored = len(opened.recording.notes) if isinstance(opened, Tables) else 0
    return recording.notes[stored:]


def _bounded(found: Profile | Tables, path: str) -> Profile | Tables:
    """What was read, with numbers and stacks that can be worked with. Raises `LockflameError`."""
    content = found.rows if isinstance(found, Tables) else found
    check_sums(path, found.sample_types, content.samples.values)
    found = replace(found, recording=sound_times(found.recording))
    if not is_too_deep(content.stacks):
        return found
    return cut_short(profile_of(found) if isinstance(found, Tables) else found)


def _opened(path: str) -> Profile | Tables:
    try:
        with open(path, "rb") as file, unpacking(path):
            head = file.peek(len(_GZIP))
            if not head:
                raise LockflameError(f"cannot read {path}", "it is empty", KNOWN)
            if head.startswith(MAGIC):
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    # perf goes back and forth in it.
                    raise LockflameError(f"cannot read {path}", "perf.data can't come from a pipe", "save it in a file")
                return read_perf_data(path)
            if not head.startswith(_GZIP):
                return _read(file, path)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read(cast("IO[bytes]", _Bounded(cast("IO[bytes]", unpacked), path)), path)
    except OSError as error:
        raise LockflameError(f"cannot read {path}", reason_of(error), "check the path") from error


class _Bounded:
    """A file that refuses to give more than a profile may have: gzip can pack much into little."""

    def __init__(self, file: IO[bytes], path: str) -> None:
        self._file = file
        self._path = path
        self._left = UNPACKED_MOST

    def read(self, size: int) -> bytes:
        """The next bytes. Raises `LockflameError` when there were too many."""
        piece = self._file.read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise LockflameError(
                f"cannot read {self._path}",
                f"it unpacks to more than {UNPACKED_MOST >> 30} GiB",
                "check where it is from",
            )
        return piece


class _AfterHead:
    """A file from its beginning again, though its first bytes were read: a pipe can't go back."""

    def __init__(self, head: bytes, file: IO[bytes]) -> None:
        self._head = head
        self._file = file

    def read(self, size: int) -> bytes:
        """The next bytes, fewer than asked for where the head ends."""
        if not self._head:
            return self._file.read(size)
        piece, self._head = self._head[:size], self._head[size:]
        return piece


def _read(file: IO[bytes], path: str) -> Profile | Tables:
    head = file.read(HEAD_BYTES)
    kind = kind_of(head)
    content = cast("IO[bytes]", _AfterHead(head, file))
    if kind is Kind.PPROF:
        return decode_tables(read_unpacked(content, path), path)
    if kind is Kind.PERF_SCRIPT:
        return read_perf_script(content, path)
    if kind is Kind.FOLDED:
        return read_folded(content, path)
    raise LockflameError(f"cannot read {path}", *why_unknown(head))
