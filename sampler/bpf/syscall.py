"""The bpf(2) system call by ctypes: maps and programs (linux/bpf.h)."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress

BPF_SYSCALL = 321
MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT_KEY, PROG_LOAD = range(6)

OBJECT_INFO = 15
MAP_LOOKUP_BATCH = 24
LINK_CREATE = 28
BATCH_BYTES = 56

MAP_HASH, MAP_ARRAY, MAP_PERF_EVENT_ARRAY = 1, 2, 4
MAPS_BY_CPU = (5, 6, 10)
"""Hash, array and LRU hash with a value for each CPU."""
TRACE_UPROBE_MULTI = 48
UPROBE_MULTI_RETURN = 1
POSSIBLE_CPUS = "/sys/devices/system/cpu/possible"
PROG_KPROBE, PROG_TRACEPOINT, PROG_PERF_EVENT = 2, 5, 7
UPDATE_ANY, UPDATE_NOEXIST, UPDATE_EXIST = 0, 1, 2
LOG_BYTES = 1 << 20
# Up to `recursion_misses` of struct bpf_prog_info, and where that stands.
PROGRAM_INFO_BYTES, PROGRAM_INFO_MISSES = 216, 208

_libc = ctypes.CDLL(None, use_errno=True)


class VerifierError(OSError):
    """The kernel refuses a program; `log` is what its verifier says."""

    def __init__(self, number: int, log: str) -> None:
        super().__init__(number, os.strerror(number))
        self.log = log


def create_map(kind: int, key_bytes: int, value_bytes: int, entries: int, flags: int) -> int:
    """BPF_MAP_CREATE; returns the descriptor. Raises `OSError`."""
    return _bpf(MAP_CREATE, struct.pack("<5I", kind, key_bytes, value_bytes, entries, flags))


def possible_cpus() -> int:
    """How many values an entry of a map by CPU has: as many as CPUs there may be, online or not. Raises `OSError`."""
    with open(POSSIBLE_CPUS) as file:
        # Such as 0-63, or 0,2-3.
        return int(file.read().strip().replace("-", ",").split(",")[-1]) + 1


def load_program(kind: int, code: bytes, attach_type: int = 0) -> int:
    """BPF_PROG_LOAD of instructions under the GPL; returns the descriptor. Raises `OSError`."""
    try:
        return _load_program(kind, code, attach_type, None)
    except OSError as error:
        log = ctypes.create_string_buffer(LOG_BYTES)
        try:
            return _load_program(kind, code, attach_type, log)
        except OSError:
            raise VerifierError(error.errno or 0, log.value.decode(errors="replace")) from error


def link_uprobes(program: int, pid: int, path: str, file_offsets: Sequence[int], *, at_return: bool) -> int:
    """BPF_LINK_CREATE: runs a program at many places of a file, in one process only; returns the descriptor.

    Since Linux 6.6; the program has to be loaded for TRACE_UPROBE_MULTI. Raises `OSError`.
    """
    name = ctypes.create_string_buffer(os.fsencode(path))
    offsets = (ctypes.c_uint64 * len(file_offsets))(*file_offsets)
    places = struct.pack("<4Q", ctypes.addressof(name), ctypes.addressof(offsets), 0, 0)
    flags = UPROBE_MULTI_RETURN if at_return else 0
    attr = struct.pack("<4I", program, 0, TRACE_UPROBE_MULTI, 0) + places
    # Padded to the 64 bytes that the structure has since it can name a process.
    return _bpf(LINK_CREATE, attr + struct.pack("<4I", len(file_offsets), flags, pid, 0))


def _load_program(kind: int, code: bytes, attach_type: int, log: ctypes.Array[ctypes.c_char] | None) -> int:
    instructions, licence = ctypes.create_string_buffer(code, len(code)), ctypes.c_char_p(b"GPL")
    return _bpf(
        PROG_LOAD,
        struct.pack(
            "<IIQQIIQII16xII",
            kind,
            len(code) // 8,
            ctypes.addressof(instructions),
            ctypes.cast(licence, ctypes.c_void_p).value or 0,
            1 if log else 0,
            len(log) if log else 0,
            ctypes.addressof(log) if log else 0,
            0,
            0,
            0,
            attach_type,
        ),
    )


def missed_runs(program: int) -> int:
    """How often the kernel passed a program by, as its CPU ran one already; 0 where it doesn't count (before 6.7).

    An interrupt does it, such as a timer's that sends a signal. Raises `OSError`.
    """
    info = ctypes.create_string_buffer(PROGRAM_INFO_BYTES)
    attr = struct.pack("<IIQ", program, len(info), ctypes.addressof(info))
    _bpf(OBJECT_INFO, attr)
    return int.from_bytes(info.raw[PROGRAM_INFO_MISSES : PROGRAM_INFO_MISSES + 8], "little")


class Map:
    """A map of the kernel by its descriptor; keys and values are bytes of its sizes.

    The value of a map by CPU is those of all CPUs, each padded to whole words.
    """

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
