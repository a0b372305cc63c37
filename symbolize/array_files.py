"""Named numpy arrays in one file, which may be damaged by the time that it is read."""

from __future__ import annotations

import os
import zipfile
import zlib
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

# What numpy and zipfile raise for files with bits turned over.
DAMAGED = (
    *(ValueError, OSError, EOFError, MemoryError, KeyError, TypeError, OverflowError),
    *(NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error),
)


def save_arrays(file: IO[bytes], arrays: dict[str, NDArray[Any]]) -> None:
    """Writes arrays. Raises `OSError`."""
    np.savez(file, allow_pickle=False, **arrays)


def load_arrays(file: IO[bytes], bytes_most: int) -> dict[str, NDArray[Any]]:
    """Reads what `save_arrays` wrote. Raises one of `DAMAGED`, also for a file that is too large."""
    if os.fstat(file.fileno()).st_size > bytes_most:
        raise ValueError("the file is too large")
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
