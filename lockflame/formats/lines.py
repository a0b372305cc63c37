"""Lines of a text of any size, in bounded memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import IO

LINE_BYTES_MOST = 1 << 20
BLOCK_BYTES = 1 << 22


def lines_of(file: IO[bytes]) -> Iterator[bytes | None]:
    """The lines without their ends; None for one longer than `LINE_BYTES_MOST`.

    A byte order mark, which Windows puts before UTF-8, is no part of the first.
    """
    lines = _lines(file)
    for first in lines:
        yield first and first.removeprefix(codecs.BOM_UTF8)
        break
    yield from lines


def _lines(file: IO[bytes]) -> Iterator[bytes | None]:
    rest = b""
    is_skipping = False
    while block := file.read(BLOCK_BYTES):
        first, *others = block.split(b"\n")
        if not others:
            rest = b"" if is_skipping else rest + first
            if len(rest) > LINE_BYTES_MOST:
                is_skipping, rest = True, b""
            continue
        yield None if is_skipping or len(rest) + len(first) > LINE_BYTES_MOST else rest + first
        is_skipping = False
        *whole, rest = others
        for line in whole:
            yield line if len(line) <= LINE_BYTES_MOST else None
    if is_skipping:
        yield None
    elif rest:
        yield rest


def text_of(raw: bytes) -> str:
    """Text of unknown encoding; bytes that are no UTF-8 as `os.fsdecode` has them."""
    return raw.decode("utf-8", "surrogateescape")
