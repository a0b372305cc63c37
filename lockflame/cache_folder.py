"""A folder of files in the user's cache: safe with several processes at once, bounded in size, never trusted.

Files are written beside and renamed, so that no reader ever sees half of one.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import platformdirs

UNFINISHED = ".new-"
# No process takes longer for a file; whoever began an older one was killed.
UNFINISHED_MOST_S = 86400.0


def user_cache(name: str) -> Path:
    """The user's cache folder (XDG_CACHE_HOME or ~/.cache), in its place for what is called `name`."""
    return Path(platformdirs.user_cache_dir("lockflame")) / name


def open_trusted(path: Path, owners: Collection[int]) -> IO[bytes] | None:
    """Opens a regular file of one of these users; None where there is none, or it is a link."""
    try:
        # Not blocking: it may be a FIFO.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid not in owners:
        os.close(descriptor)
        return None
    return open(descriptor, "rb")


class CacheFolder:
    """The files of one folder, which is made when the first is written. Names are plain: without `/`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, name: str) -> IO[bytes] | None:
        """Opens a file for reading; None where there is none of our own user's."""
        return open_trusted(self.path / name, (os.geteuid(),))

    @contextmanager
    def writing(self, name: str) -> Generator[IO[bytes]]:
        """A new file to write (and read), which takes its name at the end; after an exception nothing is left of it.

        Raises `OSError`.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(dir=self.path, prefix=UNFINISHED)  # of mode 0600
        try:
            with open(descriptor, "w+b") as file:
                yield file
            os.replace(beside, self.path / name)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(beside)
            raise

    def touch(self, name: str) -> None:
        """Notes that a file was used."""
        with suppress(OSError):
            os.utime(self.path / name)

    def prune(self, bytes_most: int, keep: Collection[str] = ()) -> None:
        """Removes the files unused for longest until the folder has its size, but none of `keep`. Raises `OSError`."""
        files: list[tuple[float, int, str]] = []
        for entry in os.scandir(self.path):
            with suppress(FileNotFoundError):  # another process prunes too
                status = entry.stat(follow_symlinks=False)
                if not entry.name.startswith(UNFINISHED):
                    files.append((status.st_mtime, status.st_size, entry.name))
                elif status.st_mtime < time.time() - UNFINISHED_MOST_S:
                    os.unlink(entry.path)
        excess = sum(size for _, size, _ in files) - bytes_most
        for _, size, name in sorted(files):
            if excess <= 0:
                break
            if name not in keep:
                with suppress(FileNotFoundError):
                    os.unlink(self.path / name)
                excess -= size
