"""The bpf(2) system call by ctypes: maps and programs (linux/bpf.h)."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import suppress

BPF_SYSCALL = 321
MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT_KEY, PROG_LOAD = range(6)

MAP_LOOKUP_BATCH = 24
BATCH_BYTES = 56

MAP_HASH, MAP_ARRAY, MAP_PERF_EVENT_ARRAY = 1, 2, 4
PROG_KPROBE, PROG_TRACEPOINT, PROG_PERF_EVENT = 2, 5, 7
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

    def dump(self) -> tuple[bytes, bytes]:
        """All keys of a hash that nobody changes any more, one after the other, and all values. Raises `OSError`."""
        try:
            return self._dump_at_once()
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        # Before Linux 5.6.
        entries = list(self._walk())
        return b"".join(key for key, _ in entries), b"".join(value for _, value in entries)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """The same, entry by entry."""
        keys, values = self.dump()
        for number in range(len(keys) // self.key_bytes):
            key = keys[number * self.key_bytes : (number + 1) * self.key_bytes]
            yield key, values[number * self.value_bytes : (number + 1) * self.value_bytes]

    def _dump_at_once(self) -> tuple[bytes, bytes]:
        """BPF_MAP_LOOKUP_BATCH, whose attributes are `batch` of union bpf_attr."""
        keys = ctypes.create_string_buffer(self.entries * self.key_bytes)
        values = ctypes.create_string_buffer(self.entries * self.value_bytes)
        position = ctypes.create_string_buffer(max(self.key_bytes, 8))
        found, before, is_all = 0, 0, False
        while found < self.entries and not is_all:
            keys_at, values_at = (
                ctypes.addressof(keys) + found * self.key_bytes,
                ctypes.addressof(values) + found * self.value_bytes,
            )
            room = self.entries - found
            head = struct.pack("<QQQQ", before, ctypes.addressof(position), keys_at, values_at)
            attr = ctypes.create_string_buffer(head + struct.pack("<IIQQ", room, self.descriptor, 0, 0), BATCH_BYTES)
            try:
                _call(MAP_LOOKUP_BATCH, attr)
            except FileNotFoundError:
                is_all = True
            found += int.from_bytes(attr.raw[len(head) : len(head) + 4], "little")
            before = ctypes.addressof(position)
        return keys.raw[: found * self.key_bytes], values.raw[: found * self.value_bytes]

    def _walk(self) -> Iterator[tuple[bytes, bytes]]:
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
    return _call(command, ctypes.create_string_buffer(attr, len(attr)))


def _call(command: int, attr: ctypes.Array[ctypes.c_char]) -> int:
    size = ctypes.c_uint(len(attr))
    result: int = _libc.syscall(ctypes.c_long(BPF_SYSCALL), ctypes.c_int(command), attr, size)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
