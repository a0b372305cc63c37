"""The kernel's perf_event interface by ctypes: see perf_event_open(2) and linux/perf_event.h."""

from __future__ import annotations

import ctypes
import enum
import fcntl
import os
import platform
import struct
from dataclasses import dataclass

# The system call's number by machine (asm/unistd_64.h, asm-generic/unistd.h).
SYSCALL_NUMBERS = {"x86_64": 298}

PERF_TYPE_HARDWARE = 0
PERF_TYPE_SOFTWARE = 1
PERF_COUNT_HW_CPU_CYCLES = 0
PERF_COUNT_SW_CPU_CLOCK = 0
PERF_COUNT_SW_DUMMY = 9
PERF_COUNT_SW_BPF_OUTPUT = 10

PERF_FLAG_FD_CLOEXEC = 8
PERF_FORMAT_TOTAL_TIME_RUNNING = 2

IOC_ENABLE = 0x2400
IOC_SET_OUTPUT = 0x2405
IOC_ID = 0x80082407
PR_SET_NAME = 15
PR_TASK_PERF_EVENTS_DISABLE = 31
PR_TASK_PERF_EVENTS_ENABLE = 32

CLOCK_MONOTONIC = 1


class SampleFields(enum.IntFlag):
    """What each sample carries (PERF_SAMPLE_*), in the order of the record where they are set."""

    IDENTIFIER = 1 << 16
    IP = 1 << 0
    TID = 1 << 1
    TIME = 1 << 2
    CPU = 1 << 7
    PERIOD = 1 << 8
    CALLCHAIN = 1 << 5
    RAW = 1 << 10
    REGS_USER = 1 << 12
    STACK_USER = 1 << 13


class AttrFlags(enum.IntFlag):
    """The bit field of `struct perf_event_attr`."""

    DISABLED = 1 << 0
    INHERIT = 1 << 1
    EXCLUDE_KERNEL = 1 << 5
    EXCLUDE_HV = 1 << 6
    EXCLUDE_IDLE = 1 << 7
    MMAP = 1 << 8
    COMM = 1 << 9
    FREQ = 1 << 10
    ENABLE_ON_EXEC = 1 << 12
    TASK = 1 << 13
    WATERMARK = 1 << 14
    SAMPLE_ID_ALL = 1 << 18
    MMAP2 = 1 << 23
    COMM_EXEC = 1 << 24
    USE_CLOCKID = 1 << 25
    KSYMBOL = 1 << 29
    BUILD_ID = 1 << 34


class PerfEventAttr(ctypes.Structure):
    """`struct perf_event_attr` up to PERF_ATTR_SIZE_VER5 (112 bytes)."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_freq", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("wakeup_watermark", ctypes.c_uint32),
        ("bp_type", ctypes.c_uint32),
        ("config1", ctypes.c_uint64),
        ("config2", ctypes.c_uint64),
        ("branch_sample_type", ctypes.c_uint64),
        ("sample_regs_user", ctypes.c_uint64),
        ("sample_stack_user", ctypes.c_uint32),
        ("clockid", ctypes.c_int32),
        ("sample_regs_intr", ctypes.c_uint64),
        ("aux_watermark", ctypes.c_uint32),
        ("sample_max_stack", ctypes.c_uint16),
        ("reserved", ctypes.c_uint16),
    )


def output_attr(attr: PerfEventAttr, flags: AttrFlags = AttrFlags.DISABLED) -> PerfEventAttr:
    """Like the CPU samples' event, but written by programs in the kernel, with bytes of theirs.

    Of its own records it has those that `flags` ask for.
    """
    output = PerfEventAttr.from_buffer_copy(attr)
    output.type, output.config = PERF_TYPE_SOFTWARE, PERF_COUNT_SW_BPF_OUTPUT
    output.sample_freq = 1  # as a period: each one counts
    output.sample_type |= SampleFields.RAW
    output.flags = flags | AttrFlags.DISABLED | AttrFlags.SAMPLE_ID_ALL | AttrFlags.USE_CLOCKID
    return output


@dataclass(frozen=True, slots=True)
class Count:
    """What an event counted, its inherited children included."""

    value: int
    time_running_ns: int


_libc = ctypes.CDLL(None, use_errno=True)


def open_event(attr: PerfEventAttr, pid: int, cpu: int) -> int:
    """perf_event_open(2) for one thread (0: the caller's) on one CPU; returns the file descriptor.

    Raises `OSError`; ENOSYS where the machine's system call number isn't known.
    """
    number = SYSCALL_NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(38, f"perf_event_open isn't known for {platform.machine()}")
    attr.size = ctypes.sizeof(PerfEventAttr)
    descriptor = _libc.syscall(
        ctypes.c_long(number),
        ctypes.byref(attr),
        ctypes.c_int(pid),
        ctypes.c_int(cpu),
        ctypes.c_int(-1),
        ctypes.c_ulong(PERF_FLAG_FD_CLOEXEC),
    )
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return descriptor


def redirect_output(descriptor: int, ring_descriptor: int) -> None:
    """Makes an event write into another event's ring buffer."""
    fcntl.ioctl(descriptor, IOC_SET_OUTPUT, ring_descriptor)


def event_id(descriptor: int) -> int:
    """The id that stands in the samples of an event and of the events that children inherit from it."""
    buffer = bytearray(8)
    fcntl.ioctl(descriptor, IOC_ID, buffer)
    return int.from_bytes(buffer, "little")


def read_count(descriptor: int) -> Count:
    """Reads an event that was opened with PERF_FORMAT_TOTAL_TIME_RUNNING."""
    return Count(*struct.unpack("<QQ", os.read(descriptor, 16)))


def enable_own_events() -> None:
    """Enables every event that the calling thread has opened, in one system call."""
    _prctl(PR_TASK_PERF_EVENTS_ENABLE)


def disable_own_events() -> None:
    """Disables every event that the calling thread has opened, in one system call."""
    _prctl(PR_TASK_PERF_EVENTS_DISABLE)


def set_own_comm(comm: bytes) -> None:
    """Names the calling thread, which makes the kernel write a COMM record for it."""
    _prctl(PR_SET_NAME, ctypes.c_char_p(comm))


def _prctl(option: int, argument: ctypes.c_char_p | int = 0) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
