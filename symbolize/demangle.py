"""Readable names for C++ and Rust symbols.

Names come from outside, and a name of 300 bytes can stand for gigabytes, or nest until the demangler's
stack overflows. So they are demangled in a forked child with limits; a name that ends it stays as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import IO

import pydemumble

from symbolize.isolated import Isolated, Limits

MANGLED_PREFIXES = ("_Z", "_R", "__Z", "___Z")
MEMORY_BYTES = 256 << 20
CPU_SECONDS = 2
# Longer than anyone reads; the linkage name is shown instead.
NAME_CHARACTERS_MOST = 1 << 14
CHILDREN_MOST = 4
_LENGTH = struct.Struct("<I")


def demangle(linkage_names: Iterable[str]) -> dict[str, str]:
    """The names as their sources have them, by linkage name.

    A name that isn't mangled, or not rightly, comes back as it is, but without its version (`@GLIBC_2.34`).
    """
    readable = {name: name.split("@", 1)[0] or name for name in linkage_names}
    # A name that isn't ASCII may be bytes that are no text at all, which the demangler refuses.
    mangled = [name for name, base in readable.items() if base.startswith(MANGLED_PREFIXES) and base.isascii()]
    for _ in range(CHILDREN_MOST):
        if not mangled:
            break
        try:
            found = _in_child([readable[name] for name in mangled])
        except OSError:
            break  # no process may be started: the linkage names have to do
        readable.update(zip(mangled, found, strict=False))
        # The one after the last that came back has ended the child.
        mangled = mangled[len(found) + 1 :]
    return readable


def _in_child(names: Sequence[str]) -> list[str]:
    """The readable names up to the one that the child couldn't cope with."""
    answer_bytes = len(names) * (_LENGTH.size + NAME_CHARACTERS_MOST)
    child = Isolated(lambda file: _demangle_into(file, names), Limits(MEMORY_BYTES, CPU_SECONDS, answer_bytes))
    content, _ = child.answer()
    found: list[str] = []
    at = 0
    while at + _LENGTH.size <= len(content):
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size + length
        if at <= len(content):
            found.append(content[at - length : at].decode("utf-8", "replace"))
    return found


def _demangle_into(file: IO[bytes], names: Sequence[str]) -> None:
    """In the child: writes each name's length and text."""
    for name in names:
        # A compiler's clone (`.cold`, `.constprop.0`) has the mangled name in front.
        base, dot, clone = name.partition(".")
        text = pydemumble.demangle(base)
        text = text + dot + clone if text else name
        content = (text if len(text) <= NAME_CHARACTERS_MOST else name).encode()[:NAME_CHARACTERS_MOST]
        file.write(_LENGTH.pack(len(content)) + content)
        file.flush()
