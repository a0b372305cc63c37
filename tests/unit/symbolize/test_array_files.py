"""Arrays in a file: they come back as they were, and a file that isn't one of ours raises what it says."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from symbolize.array_files import DAMAGED, load_arrays, save_arrays

MOST = 1 << 16
ARRAYS: dict[str, NDArray[Any]] = {
    "bytes": np.frombuffer(b"seven..", np.uint8),
    "none": np.zeros(0, np.int64),
    "wide": np.array([0, 2**64 - 1], np.uint64),
    "table": np.arange(6, dtype=np.int16).reshape(2, 3),
}


def saved() -> bytes:
    file = io.BytesIO()
    save_arrays(file, ARRAYS)
    return file.getvalue()


def with_checksum(body: bytes) -> bytes:
    return b"%08x" % zlib.crc32(body) + body


def test_arrays_come_back() -> None:
    found = load_arrays(io.BytesIO(saved()), MOST)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].tolist()) == (array.dtype, array.tolist())


def test_every_bit_and_every_length_counts() -> None:
    content = saved()
    for at in range(len(content)):
        for other in (content[:at], content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]):
            with pytest.raises(DAMAGED):
                load_arrays(io.BytesIO(other), MOST)


def test_a_file_that_is_too_large_is_refused() -> None:
    content = saved()
    assert load_arrays(io.BytesIO(content), len(content))
    with pytest.raises(ValueError, match="large"):
        load_arrays(io.BytesIO(content), len(content) - 1)


@pytest.mark.parametrize(
    "head",
    [
        *('[["a","<i8",[2]]]', '[["a","<i8",[-1]]]', '[["a","|O",[1]]]', '[["a","<f8",[1]]]', '[["a","V8",[1]]]'),
        *('[["a","<i8",1]]', '[["a","<i8",["x"]]]', '[["a","nothing",[1]]]', '[["a","<i8"]]', "1", "{", "[" * 10_000),
        *('[["a","<i8",[4611686018427387904]]]', '[["a","<i8",[1e300]]]', '[[[],"<i8",[1]]]', '[["a",[],[1]]]'),
    ],
)
def test_a_head_that_says_nonsense_is_damage(head: str) -> None:
    with pytest.raises(DAMAGED):
        load_arrays(io.BytesIO(with_checksum(head.encode() + b"\n" + bytes(8))), MOST)


@given(st.binary(max_size=200))
def test_random_bytes_are_damage(body: bytes) -> None:
    for content in (body, with_checksum(body)):
        with pytest.raises(DAMAGED):
            load_arrays(io.BytesIO(content), MOST)
