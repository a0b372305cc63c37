"""The symbols of the running kernel's own code, kept on disk until the next boot.

The kernel takes a tenth of a second to print all its symbols, each time. Those between `_stext` and `_etext`
stay where they are from boot to boot; modules and BPF programs come and go, and are read anew.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from lockflame.cache_folder import CacheFolder, user_cache
from symbolize.array_files import DAMAGED, load_arrays, save_arrays
from symbolize.kernel import KernelSymbols

FORMAT = 2
FILE_BYTES_MOST = 64 << 20
FOLDER_BYTES_MOST = 64 << 20
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
FIRST, LAST = b"_stext", b"_etext"


def default_folder() -> Path:
    """Where the user's files of this kind are."""
    return user_cache(f"kernel-{FORMAT}")


class KernelStore:
    """A folder with the symbols of this boot's kernel. Whatever is wrong with it costs time only."""

    def __init__(self, folder: Path, boot_id: Path = BOOT_ID) -> None:
        self._folder = CacheFolder(folder)
        self._boot_id = boot_id

    def load(self) -> KernelSymbols | None:
        """The symbols from `_stext` to `_etext`, the last of them only as an end."""
        name = self._name()
        file = self._folder.open(name) if name else None
        if file is None:
            return None
        with file:
            try:
                arrays = load_arrays(file, FILE_BYTES_MOST)
                symbols = KernelSymbols(arrays["starts"], arrays["lines"], arrays["content"].data)
            except DAMAGED:
                return None
        return symbols if _is_sound(symbols) else None

    def save(self, symbols: KernelSymbols) -> None:
        """Keeps what of all symbols is the kernel's own code. None where they are hidden."""
        own = own_code(symbols)
        name = self._name()
        if own is None or not name:
            return
        # A full or read-only disk: the next recording asks the kernel again.
        with suppress(OSError):
            with self._folder.writing(name) as file:
                content = np.frombuffer(own.content, dtype=np.uint8)
                save_arrays(file, {"starts": own.starts, "lines": own.lines, "content": content})
            self._folder.prune(FOLDER_BYTES_MOST, (name,))

    def _name(self) -> str:
        try:
            boot_id = self._boot_id.read_text().strip()
        except OSError:
            return ""
        return f"{boot_id}.arrays" if boot_id.replace("-", "").isalnum() else ""


def own_code(symbols: KernelSymbols) -> KernelSymbols | None:
    """Of all symbols those from `_stext` to `_etext`: the kernel prints its own in the order of their addresses."""
    content = bytes(symbols.content)
    first, last = _line_of(FIRST, content), _line_of(LAST, content)
    if first is None or last is None or last < first:
        return None
    end = content.index(b"\n", last) + 1
    rows = np.flatnonzero((symbols.lines >= first) & (symbols.lines <= last))
    return KernelSymbols(symbols.starts[rows], symbols.lines[rows] - first, symbols.content[first:end])


def _line_of(name: bytes, content: bytes) -> int | None:
    """Where the line of the kernel's own symbol of this name begins."""
    at = content.find(b" " + name + b"\n")
    return content.rfind(b"\n", 0, at) + 1 if at >= 0 else None


def _is_sound(symbols: KernelSymbols) -> bool:
    """Whether arrays from a file are what was saved."""
    starts, lines = symbols.starts, symbols.lines
    if starts.dtype != np.uint64 or lines.dtype != np.int64 or starts.ndim != 1 or starts.shape != lines.shape:
        return False
    if symbols.content.ndim != 1 or symbols.content.format != "B":
        return False
    if not len(starts) or (starts[1:] < starts[:-1]).any():
        return False
    return bool((lines >= 0).all() and (lines < len(symbols.content)).all())
