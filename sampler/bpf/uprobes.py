"""Attaches loaded programs to places in a process's code. They end with their descriptors, however we end."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from pathlib import Path

from sampler import perf_event
from sampler.bpf import syscall
from sampler.bpf.hooks import IOC_SET_BPF, close_all
from sampler.perf_event import AttrFlags, PerfEventAttr

UPROBE_SOURCE = Path("/sys/bus/event_source/devices/uprobe")
"""The kernel's own kind of perf events for uprobes, since Linux 4.17: nothing is written to tracefs."""

# The program that does nothing: r0 = 0; exit.
_NOTHING = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)


def has_uprobe_events() -> bool:
    """Whether the kernel has uprobes at all (CONFIG_UPROBE_EVENTS)."""
    return (UPROBE_SOURCE / "type").exists()


def has_uprobe_links() -> bool:
    """Whether many uprobes can be set, and taken away, at once. One by one, that waits for all CPUs each time.

    Found out by asking for some in a folder: a kernel that knows such links says that it isn't a file (EBADF), others
    don't come as far as that. Raises `OSError` where BPF is refused.
    """
    program = syscall.load_program(syscall.PROG_KPROBE, _NOTHING, syscall.TRACE_UPROBE_MULTI)
    try:
        os.close(syscall.link_uprobes(program, os.getpid(), "/", [0], at_return=False))
    except OSError as error:
        return error.errno == errno.EBADF
    finally:
        os.close(program)
    return True


def attach_uprobes(
    pid: int, path: str, file_offsets: Sequence[int], program: int, *, at_return: bool, as_link: bool
) -> list[int]:
    """Runs a program whenever process `pid` comes to one of these places in a file; returns the descriptors of that.

    With `at_return`, when the function returns whose return address is on top of the stack at that place. Only the
    process's own memory is changed. `as_link` is whether the program was loaded for that. Raises `OSError`.
    """
    if as_link:
        return [syscall.link_uprobes(program, pid, path, file_offsets, at_return=at_return)]
    descriptors: list[int] = []
    try:
        for file_offset in file_offsets:
            descriptors.append(_open_uprobe(pid, path, file_offset, at_return=at_return))
            fcntl.ioctl(descriptors[-1], IOC_SET_BPF, program)
            fcntl.ioctl(descriptors[-1], perf_event.IOC_ENABLE, 0)
    except BaseException:
        close_all(descriptors)
        raise
    return descriptors


def _open_uprobe(pid: int, path: str, file_offset: int, *, at_return: bool) -> int:
    name = ctypes.create_string_buffer(os.fsencode(path))
    attr = PerfEventAttr(type=int((UPROBE_SOURCE / "type").read_text()), flags=AttrFlags.DISABLED)
    # Such as config:0.
    return_bit = 1 << int((UPROBE_SOURCE / "format/retprobe").read_text().partition(":")[2])
    attr.config = return_bit if at_return else 0
    attr.config1, attr.config2 = ctypes.addressof(name), file_offset  # uprobe_path and probe_offset
    return perf_event.open_event(attr, pid, -1)
