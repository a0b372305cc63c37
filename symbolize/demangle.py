"""Readable names for C++ and Rust symbols."""

from __future__ import annotations

from functools import lru_cache

import pydemumble

MANGLED_PREFIXES = ("_Z", "_R", "__Z", "___Z")


@lru_cache(maxsize=1 << 16)
def demangle(linkage_name: str) -> str:
    """The name as its source has it; a name that isn't mangled, or not rightly, comes back as it is."""
    # A version (`@GLIBC_2.34`, `@@GLIBCXX_3.4`) says nothing about what the function does.
    name = linkage_name.split("@", 1)[0] or linkage_name
    if not name.startswith(MANGLED_PREFIXES):
        return name
    if not name.isascii():
        return name  # perhaps bytes that are no text at all, which the demangler refuses
    # A compiler's clone (`.cold`, `.constprop.0`) has the mangled name in front.
    base, dot, clone = name.partition(".")
    readable = pydemumble.demangle(base)
    return readable + dot + clone if readable else name
