"""Names on disk by build-id: what one recording has looked up, the next one needn't.

A build-id is what a file says of itself: a key holds a hash of the unwind data as well, and one of what there is to
name it, so that a new debug file is looked into.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from lockflame.cache_folder import CacheFolder, user_cache
from lockflame.errors import reason_of
from symbolize.name_tables import NO_NAMES, NameTables, StoredNames, decode, encode

FORMAT = 2
FILE_BYTES_MOST = 64 << 20
FOLDER_BYTES_MOST = 256 << 20
NAMES_MOST = 100_000
"""Of one image. Where there would be more, the file stays as it is, and what is new is looked up again."""


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

    def load(self, key: str) -> NameTables:
        """The names of an image, checked; none where there are none."""
        file = self._folder.open(f"{key}.names") if key else None
        if file is None:
            return NO_NAMES
        with file:
            try:
                content = file.read(FILE_BYTES_MOST + 1)
                if len(content) > FILE_BYTES_MOST:
                    raise ValueError("too large")
                names = decode(content)
            except (ValueError, MemoryError, OSError):
                self.damaged += 1
                return NO_NAMES
        self._folder.touch(f"{key}.names")
        return names

    def save(self, key: str, names: StoredNames) -> None:
        """Writes the names of an image beside and renames the file."""
        if len(names.names) > NAMES_MOST:
            return
        try:
            content = encode(names)
        except OverflowError:
            return  # DWARF data may hold any number, also those of more than 63 bits
        if len(content) > FILE_BYTES_MOST:
            return
        try:
            with self._folder.writing(f"{key}.names") as file:
                file.write(content)
            self._folder.prune(FOLDER_BYTES_MOST, (f"{key}.names",))
        except OSError as error:
            # A full or read-only disk: the next recording looks them up anew.
            self.problem = reason_of(error)
