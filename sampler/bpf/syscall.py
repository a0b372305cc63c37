"""The bpf(2) system call by ctypes: maps and programs (linux/bpf.h)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import suppress

BPF_SYSCALL = 321
MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT_KEY, PROG_LOAD = range(6)

MAP_HASH, MAP_ARRAY, MAP_PERF_EVENT_ARRAY = 1, 2, 4
PROG_KPROBE, PROG_TRACEPOINT = 2, 5
UPDATE_ANY, UPDATE_NOEXIST = 0, 1
LOG_BYTES = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class VerifierError(OSError):
    """The kernel refuses a program; `log` is what its verifier says."""

    def __init__(self, number: int, log: str) -> None:
        super().__init__(number, os.strerror(number))
        self.log = log


def create_map(kind: int, key_bytes: int, value_bytes: int, entries: int, flags: int) -> int:
    """BPF_MAP_CREATE; returns the descriptor. Raises `OSError`."""
    return _bpf(MAP_CREATE, struct.pack("<5I", kind, key_bytes, value_bytes, entries, flags))


def load_program(kind: int, code: bytes) -> int:
    """BPF_PROG_LOAD of instructions under the GPL; returns the descriptor. Raises `OSError`."""
    try:
        return _load_program(kind, code, None)
    except OSError as error:
        log = ctypes.create_string_buffer(LOG_BYTES)
        try:
            return _load_program(kind, code, log)
        except OSError:
            raise VerifierError(error.errno or 0, log.value.decode(errors="replace")) from error


def _load_program(kind: int, code: bytes, log: ctypes.Array[ctypes.c_char] | None) -> int:
    instructions, licence = ctypes.create_string_buffer(code, len(code)), ctypes.c_char_p(b"GPL")
    return _bpf(
        PROG_LOAD,
        struct.pack(
            "<IIQQIIQII",
            kind,
            len(code) // 8,
            ctypes.addressof(instructions),
            ctypes.cast(licence, ctypes.c_void_p).value or 0,
            1 if log else 0,
            len(log) if log else 0,
            ctypes.addressof(log) if log else 0,
            0,
            0,
        ),
    )


class Map:
    """A map of the kernel by its descriptor; keys and values are bytes of its sizes."""

    def __init__(self, descriptor: int, key_bytes: int, value_bytes: int, entries: int) -> None:
        self.descriptor = descriptor
        self.key_bytes = key_bytes
        self.value_bytes = value_bytes
        self.entries = entries

    def get(self, key: bytes) -> bytes | None:
        """The value; None where there is none."""
        value = ctypes.create_string_buffer(self.value_bytes)
        try:
            self._element(MAP_LOOKUP, key, value, 0)
        except FileNotFoundError:
            return None
        return value.raw

    def put(self, key: bytes, value: bytes, flags: int = UPDATE_ANY) -> None:
        """Sets a value. Raises `OSError`: E2BIG where it is full, EEXIST for UPDATE_NOEXIST."""
        self._element(MAP_UPDATE, key, ctypes.create_string_buffer(value, self.value_bytes), flags)

    def delete(self, key: bytes) -> None:
        """Takes an entry away, if there is one."""
        with suppress(FileNotFoundError):
            self._element(MAP_DELETE, key, None, 0)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries of a hash that nobody changes any more; at most as many as it has room for."""
        key = b""
        following = ctypes.create_string_buffer(self.key_bytes)
        for _ in range(self.entries):
            try:
                self._element(MAP_NEXT_KEY, key, following, 0)
            except FileNotFoundError:
                return
            key = following.raw
            value = self.get(key)
            if value is not None:
                yield key, value

    def _element(self, command: int, key: bytes, value: ctypes.Array[ctypes.c_char] | None, flags: int) -> None:
        buffer = ctypes.create_string_buffer(key, self.key_bytes) if key else None
        key_at = ctypes.addressof(buffer) if buffer else 0
        value_at = ctypes.addressof(value) if value else 0
        _bpf(command, struct.pack("<IIQQQ", self.descriptor, 0, key_at, value_at, flags))


def _bpf(command: int, attr: bytes) -> int:
    buffer = ctypes.create_string_buffer(attr, len(attr))
    result: int = _libc.syscall(ctypes.c_long(BPF_SYSCALL), ctypes.c_int(command), buffer, ctypes.c_uint(len(attr)))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
