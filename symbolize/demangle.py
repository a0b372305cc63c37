"""Readable names for C++ and Rust symbols."""

from __future__ import annotations

from functools import lru_cache

import pydemumble

MANGLED_PREFIXES = ("_Z", "_R", "__Z", "___Z")


@lru_cache(maxsize=1 << 16)
def demangle(linkage_name: str) -> str:
    """The name as its source has it; a name that isn't mangled, or not rightly, comes back as it is."""
    if not linkage_name.startswith(MANGLED_PREFIXES):
        return linkage_name
    # A version (`@GLIBCXX_3.4`) or a clone's suffix (`.cold`, `.constprop.0`) isn't part of the mangled name.
    base, suffix = _split_suffix(linkage_name)
    if not base.isascii():
        return linkage_name  # perhaps bytes that are no text at all, which the demangler refuses
    readable = pydemumble.demangle(base)
    return readable + suffix if readable else linkage_name


def _split_suffix(name: str) -> tuple[str, str]:
    at = min((found for mark in (".", "@") if (found := name.find(mark)) > 0), default=len(name))
    return name[:at], name[at:]
