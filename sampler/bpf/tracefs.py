"""The kernel's folder of tracepoints and kprobes, found where it is mounted, or opened without mounting it anywhere."""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOUNTED = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
# fsopen(2), fsconfig(2), fsmount(2), since Linux 5.2: asm-generic/unistd.h, the same on all machines.
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
FSOPEN_CLOEXEC = FSMOUNT_CLOEXEC = 1
FSCONFIG_CMD_CREATE = 6

_FIELD = re.compile(rb"field:[^;]*?(\w+)(?:\[\d*\])?;\s*offset:(\d+);\s*size:(\d+);")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Tracepoint:
    """A tracepoint's number for perf_event_open(2), and where its fields stand: (offset, size) in bytes, by name."""

    number: int
    fields: dict[str, tuple[int, int]]


class TraceFs:
    """Files of tracefs. Use as a context, or `close`."""

    def __init__(self) -> None:
        """Raises `OSError`: EPERM, or ENODEV where the kernel has no tracing."""
        self._root = _open_root()

    def __enter__(self) -> TraceFs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives it up."""
        os.close(self._root)

    def has(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        try:
            os.stat(path, dir_fd=self._root)
        except OSError:
            return False
        return True

    def read(self, path: str) -> bytes:
        """A file's content. Raises `OSError`."""
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._root), "rb") as file:
            return file.read()

    def names(self, folder: str) -> list[str]:
        """What is in a folder. Raises `OSError`."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root)
        try:
            return os.listdir(descriptor)
        finally:
            os.close(descriptor)

    def append(self, path: str, line: str) -> None:
        """Writes a command to a file such as `kprobe_events`. Raises `OSError`."""
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, dir_fd=self._root)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def tracepoint(self, name: str) -> Tracepoint | None:
        """The tracepoint `GROUP:NAME`; None where the kernel doesn't have it. Raises `OSError`."""
        folder = f"events/{name.replace(':', '/')}"
        with suppress(FileNotFoundError):
            fields = {
                field.decode(): (int(offset), int(size))
                for field, offset, size in _FIELD.findall(self.read(f"{folder}/format"))
            }
            return Tracepoint(int(self.read(f"{folder}/id")), fields)
        return None


def _open_root() -> int:
    for folder in MOUNTED:
        with suppress(OSError):
            if (folder / "events").is_dir():
                return os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    # A mount that is attached nowhere: nobody else sees it, and it goes with its descriptor.
    context = _call(FSOPEN, ctypes.c_char_p(b"tracefs"), FSOPEN_CLOEXEC)
    try:
        _call(FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
        return _call(FSMOUNT, context, FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(context)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
