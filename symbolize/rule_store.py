"""Unwind rules on disk by build-id: what one recording has decoded, the next one needn't.

A build-id is what a file says of itself, and a forged file must not spoil the rules of the real one: a
key holds a hash of the unwind data as well.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from lockflame.cache_folder import CacheFolder, user_cache
from symbolize.array_files import DAMAGED, load_arrays, save_arrays
from symbolize.unwind import RuleTable

FORMAT = 2
FILE_BYTES_MOST = 64 << 20
FOLDER_BYTES_MOST = 128 << 20
KEY_CHARACTERS_MOST = 128


def default_folder() -> Path:
    """Where the user's rules are, for this format."""
    return user_cache(f"rules-{FORMAT}")


class RuleStore:
    """A folder of rule tables. Whatever is wrong with it costs time, never a recording."""

    def __init__(self, folder: Path) -> None:
        self._folder = CacheFolder(folder)
        self.damaged = 0
        """Files that were no rule tables and were left out."""

    def load(self, key: str) -> RuleTable | None:
        """The table of an image, checked; None where there is none."""
        file = self._folder.open(_name(key)) if _is_fit(key) else None
        if file is None:
            return None
        with file:
            try:
                return RuleTable.from_arrays(load_arrays(file, FILE_BYTES_MOST))
            except DAMAGED:
                self.damaged += 1
                return None

    def save(self, key: str, table: RuleTable) -> None:
        """Keeps a table for the next recording. A full or read-only disk: that one decodes anew."""
        if not _is_fit(key):
            return
        with suppress(OSError):
            with self._folder.writing(_name(key)) as file:
                save_arrays(file, table.to_arrays())
            self._folder.prune(FOLDER_BYTES_MOST)


def _name(key: str) -> str:
    return f"{key}.arrays"


def _is_fit(key: str) -> bool:
    """Not so are the key of an image without build-id, which is empty, and one that is too long."""
    return 0 < len(key) <= KEY_CHARACTERS_MOST
