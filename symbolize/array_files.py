"""Named arrays of integers in one file, which may be damaged by the time that it is read.

A file is a checksum in 8 hex digits, a line of JSON with each array's name, type and shape, and the arrays' bytes, each
array at a multiple of 8 bytes. (numpy's own files are archives: to open one of them takes milliseconds.)
"""

from __future__ import annotations

import json
import math
import zlib
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_CHECKSUM_BYTES = 8
_ALIGNMENT = 8

# What is raised for files with bits turned over.
DAMAGED = (ValueError, OSError, MemoryError, KeyError, TypeError, OverflowError, RecursionError)


def save_arrays(file: IO[bytes], arrays: dict[str, NDArray[Any]]) -> None:
    """Writes arrays. Raises `OSError`."""
    head = json.dumps([(name, array.dtype.str, array.shape) for name, array in arrays.items()]).encode()
    padding = b" " * (-(_CHECKSUM_BYTES + len(head) + 1) % _ALIGNMENT)
    contents = [array.tobytes() for array in arrays.values()]
    body = b"".join((head, padding, b"\n", *(content + bytes(-len(content) % _ALIGNMENT) for content in contents)))
    file.write(b"%08x" % zlib.crc32(body))
    file.write(body)


def load_arrays(file: IO[bytes], bytes_most: int) -> dict[str, NDArray[Any]]:
    """Reads what `save_arrays` wrote, as arrays that can't be written to.

    Raises one of `DAMAGED`, also for a file that is too large.
    """
    content = file.read(bytes_most + 1)
    if len(content) > bytes_most:
        raise ValueError("the file is too large")
    if content[:_CHECKSUM_BYTES] != b"%08x" % zlib.crc32(memoryview(content)[_CHECKSUM_BYTES:]):
        raise ValueError("the file is damaged")
    at = content.index(b"\n") + 1
    arrays: dict[str, NDArray[Any]] = {}
    for name, code, shape in json.loads(content[_CHECKSUM_BYTES:at]):
        dtype, count = np.dtype(code), math.prod(shape)
        if dtype.kind not in "iu" or count < 0:
            raise ValueError("no array of integers")
        arrays[name] = np.frombuffer(content, dtype, count, at).reshape(shape)
        at += -(-arrays[name].nbytes // _ALIGNMENT) * _ALIGNMENT
    return arrays
