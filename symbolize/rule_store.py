"""Unwind rules on disk by build-id: what one recording has decoded, the next one needn't.

A build-id is what a file says of itself, and a forged file must not spoil the rules of the real one: a
key holds a hash of the unwind data as well.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import platformdirs

from symbolize.unwind import RuleTable

FORMAT = 1
FILE_BYTES_MOST = 64 << 20
FOLDER_BYTES_MOST = 128 << 20
KEY_CHARACTERS_MOST = 128
# What numpy and zipfile raise for files with bits turned over.
_DAMAGED = (
    *(ValueError, OSError, EOFError, MemoryError, KeyError, TypeError, OverflowError),
    *(NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error),
)


def default_folder() -> Path:
    """The user's cache folder (XDG_CACHE_HOME or ~/.cache), in its place for this format."""
    return Path(platformdirs.user_cache_dir("lockflame")) / f"rules-{FORMAT}"


class RuleStore:
    """A folder of rule tables. Whatever is wrong with it costs time, never a recording."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.damaged = 0
        """Files that were no rule tables and were left out."""

    def load(self, key: str) -> RuleTable | None:
        """The table of an image, checked; None where there is none."""
        path = self._path(key)
        if path is None:
            return None
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if status.st_uid != os.geteuid() or status.st_size > FILE_BYTES_MOST:
                return None
            try:
                with np.load(file, allow_pickle=False) as arrays:
                    return RuleTable.from_arrays(arrays)
            except _DAMAGED:
                self.damaged += 1
                return None

    def save(self, key: str, table: RuleTable) -> None:
        """Writes a table beside and renames it, so that no reader ever sees half of one."""
        path = self._path(key)
        if path is None:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, beside = tempfile.mkstemp(dir=self._folder, prefix=".new-")
            try:
                with open(descriptor, "wb") as file:
                    np.savez(file, allow_pickle=False, **table.to_arrays())
                os.replace(beside, path)
            except BaseException:
                os.unlink(beside)
                raise
            self._prune()
        except OSError:
            return  # a full or read-only disk: the next recording decodes anew

    def _path(self, key: str) -> Path | None:
        """None for an image without build-id, which has no key, and for keys that are too long."""
        return self._folder / f"{key}.npz" if 0 < len(key) <= KEY_CHARACTERS_MOST else None

    def _prune(self) -> None:
        """Removes the files that are unused for longest where the folder has grown too large."""
        files = sorted(
            ((entry.stat(), entry.path) for entry in os.scandir(self._folder)), key=lambda row: row[0].st_mtime
        )
        excess = sum(status.st_size for status, _ in files) - FOLDER_BYTES_MOST
        for status, path in files:
            if excess <= 0:
                break
            os.unlink(path)
            excess -= status.st_size
