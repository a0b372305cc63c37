"""What happens to processes during a recording: mappings, names, forks, exits.

Apart from the samples' columns, so that the sampler can do without numpy while it records.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileMapping:
    """An executable range of addresses in a process.

    `device` is (major, minor), (0, 0) if unknown; `pid` the process that mapped it, whose children share it.
    """

    start: int
    end: int
    file_offset: int
    path: str
    device: tuple[int, int] = (0, 0)
    inode: int = 0
    build_id: str = ""
    pid: int = 0


HeldFiles = dict[tuple[tuple[int, int], int], int]
"""Descriptors of mapped files by (device, inode): they still can be read when they are deleted or replaced."""


@dataclass(frozen=True, slots=True)
class JitFiles:
    """What leads to the names of a process's generated code when it has ended or has deleted them.

    `pid_inside` is its number in its own pid namespace, `owner_uid` its user. `map_file` is a descriptor of its perf
    map, `map_folder` one of its /tmp where that isn't ours; -1 for none.
    """

    pid_inside: int
    owner_uid: int
    map_file: int = -1
    map_folder: int = -1


HeldJitFiles = dict[int, JitFiles]
"""By pid."""


@dataclass(frozen=True, slots=True)
class MapEvent:
    """A process mapped executable memory."""

    time_ns: int
    pid: int
    mapping: FileMapping


@dataclass(frozen=True, slots=True)
class CommEvent:
    """A thread got a name; `is_exec`: by exec, which gives its process a new address space too."""

    time_ns: int
    pid: int
    tid: int
    comm: str
    is_exec: bool


@dataclass(frozen=True, slots=True)
class ForkEvent:
    """A thread (`pid == parent_pid`) or a process came into being."""

    time_ns: int
    pid: int
    tid: int
    parent_pid: int
    parent_tid: int


@dataclass(frozen=True, slots=True)
class ExitEvent:
    """A thread ended."""

    time_ns: int
    pid: int
    tid: int


@dataclass(frozen=True, slots=True)
class KernelSymbolEvent:
    """The kernel made code of its own at run time, such as a BPF program, or (`is_unregister`) gave it up.

    `size` is in bytes; `name` as /proc/kallsyms has it.
    """

    time_ns: int
    address: int
    size: int
    name: str
    is_unregister: bool


Event = MapEvent | CommEvent | ForkEvent | ExitEvent | KernelSymbolEvent


@dataclass(frozen=True, slots=True)
class ProcessSnapshot:
    """A process as it was when the sampler attached: `comms` by tid, executable mappings.

    `container` is the short id or the name of the container that it is in; empty when in none.
    """

    pid: int
    comms: dict[int, str]
    mappings: tuple[FileMapping, ...]
    container: str = ""
