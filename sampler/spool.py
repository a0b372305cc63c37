"""The file that takes the kernel's records while recording, one after the other."""

from __future__ import annotations

import os
import struct
import tempfile
from typing import IO

from lockflame.errors import LockflameError, reason_of
from sampler.record_types import RECORD_SAMPLE


def open_spool() -> IO[bytes]:
    """A temporary file without a name: it is gone when we are, however we end. Raises `LockflameError`.

    In TMPDIR or /var/tmp rather than /tmp, which is often held in memory.
    """
    directory = os.environ.get("TMPDIR") or ("/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir())
    try:
        return tempfile.TemporaryFile(dir=directory, buffering=0)
    except OSError as error:
        raise LockflameError(
            f"cannot write to {directory}", reason_of(error), "set TMPDIR to a folder with room for the samples"
        ) from error


class SampleCounter:
    """Counts the samples in a spool as it grows, by their headers alone: for a progress display."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._offset = 0
        self._samples = 0

    def count(self) -> int:
        """The samples in the file by now."""
        while len(header := os.pread(self._descriptor, 8, self._offset)) == 8:
            kind, _, size = struct.unpack("<IHH", header)
            self._samples += kind == RECORD_SAMPLE
            self._offset += max(size, 8)
        return self._samples
