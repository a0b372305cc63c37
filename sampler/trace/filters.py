"""Which processes a trace is of: `-p`, `--comm` and `--cgroup`, told to the programs in the kernel (filter.bpf.h)."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from lockflame.errors import LockflameError, reason_of
from sampler import procfs
from sampler.bpf import syscall
from sampler.bpf.hooks import attach_tracepoint
from sampler.bpf.program import LoadedPrograms
from sampler.bpf.syscall import Map
from sampler.bpf.tracefs import TraceFs

COMM_BYTES = 15
"""The most that the kernel keeps of a thread's name (TASK_COMM_LEN, without the zero at its end)."""
TARGET_ENTRIES = 4096
"""Processes that are followed at a time."""
FAMILY_SCANS = 3
CGROUP_ROOT = "/sys/fs/cgroup"

WANT_PIDS, WANT_CGROUP, WANT_COMM = 1, 2, 4
FILTER = struct.Struct("<II16sQQ")
"""struct filter: wanted, padding, comm, namespace_device, namespace_inode."""
TARGET = struct.Struct("<QQ")
"""struct target: code_start, code_bytes."""

PROCESS_PROGRAMS = {
    "task:task_newtask": "on_new_task",
    "sched:sched_process_exec": "on_exec",
    "sched:sched_process_free": "on_process_free",
}
"""What follows processes, by tracepoint: attached with `-p` only."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What is asked for; all of it has to hold. `cgroup` is the path of a folder of a cgroup2 file system."""

    pids: tuple[int, ...] = ()
    comm: str | None = None
    cgroup: str | None = None

    @property
    def are_any(self) -> bool:
        """Whether anything is asked for; else all of the machine is traced."""
        return bool(self.pids or self.comm is not None or self.cgroup is not None)

    def described(self) -> str:
        """Briefly, for a person: `process 12 and its children, comm mariadbd`; `all processes` without any."""
        parts: list[str] = []
        if self.pids:
            numbers = ", ".join(map(str, self.pids))
            parts.append(f"process{'es' * (len(self.pids) > 1)} {numbers} and children")
        if self.comm is not None:
            parts.append(f"comm {self.comm}")
        if self.cgroup is not None:
            parts.append(f"cgroup {self.cgroup}")
        return ", ".join(parts) or "all processes"


def checked(pids: tuple[int, ...], comm: str | None, cgroup: str | None, what: str) -> Filters:
    """The filters that a user asked for. Raises `LockflameError`, in which `what` is said to fail.

    Of `comm` as much counts as the kernel keeps of names; `cgroup` may be given as /proc/PID/cgroup shows it.
    """
    pids = tuple(dict.fromkeys(pids))
    for pid in pids:
        _check_process(pid, what)
    if comm is not None:
        comm = os.fsdecode(os.fsencode(comm)[:COMM_BYTES])
    return Filters(pids, comm, None if cgroup is None else _cgroup_folder(cgroup, what))


def filter_definitions(tracefs: TraceFs) -> dict[str, int]:
    """The macros that the programs' common parts are compiled with. Raises `OSError`."""
    offsets = {
        "NEWTASK_PID": ("task:task_newtask", "pid"),
        "NEWTASK_FLAGS": ("task:task_newtask", "clone_flags"),
        "FREED_PID": ("sched:sched_process_free", "pid"),
    }
    definitions = {"TARGET_ENTRIES": TARGET_ENTRIES}
    for name, (event, field) in offsets.items():
        tracepoint = tracefs.tracepoint(event)
        if tracepoint is None or field not in tracepoint.fields:
            raise FileNotFoundError(2, f"the kernel has no tracepoint {event} with a field {field}")
        definitions[name] = tracepoint.fields[field][0]
    return definitions | {"IN_NAMESPACE": 1} if procfs.is_in_pid_namespace() else definitions


def apply_filters(filters: Filters, maps: Mapping[str, Map]) -> None:
    """Tells loaded programs what is asked for. `follow_processes` comes first, so that no child is missed.

    Raises `OSError`.
    """
    if filters.cgroup is not None:
        descriptor = os.open(filters.cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            maps["cgroups"].put(bytes(4), descriptor.to_bytes(4, "little"))
        finally:
            os.close(descriptor)
    _seed(filters.pids, maps["seeds" if procfs.is_in_pid_namespace() else "targets"])
    wanted = (
        (WANT_PIDS if filters.pids else 0)
        | (WANT_CGROUP if filters.cgroup is not None else 0)
        | (WANT_COMM if filters.comm is not None else 0)
    )
    namespace = os.stat("/proc/self/ns/pid")
    comm = os.fsencode(filters.comm or "")
    maps["filters"].put(bytes(4), FILTER.pack(wanted, 0, comm, namespace.st_dev, namespace.st_ino))


def follow_processes(filters: Filters, tracefs: TraceFs, loaded: LoadedPrograms) -> list[int]:
    """Attaches what follows processes; returns the descriptors that keep it so. Raises `OSError`."""
    if not filters.pids:
        return []
    hooks: list[int] = []
    for name, program in PROCESS_PROGRAMS.items():
        tracepoint = tracefs.tracepoint(name)
        if tracepoint is not None:
            hooks.append(attach_tracepoint(tracepoint, loaded.programs[program]))
    return hooks


def all_have_ended(filters: Filters, maps: Mapping[str, Map]) -> bool:
    """Whether the processes of `-p` have ended and all their children too; False without `-p`."""
    if not filters.pids or any(_lives(pid) for pid in filters.pids):
        return False
    # In a pid namespace the numbers of children aren't ours to look up: they are taken to be at work.
    return not any(
        procfs.is_in_pid_namespace() or _lives(int.from_bytes(key, "little")) for key, _ in maps["targets"].items()
    )


def untracked_processes(maps: Mapping[str, Map]) -> int:
    """Children that couldn't be followed, as the table of processes was full."""
    return int.from_bytes(maps["target_losses"].get(bytes(4)) or b"", "little")


def _seed(pids: tuple[int, ...], targets: Map) -> None:
    """Names the processes and the children that they have; several times, as some may be born meanwhile."""
    for _ in range(FAMILY_SCANS):
        for pid in (member for root in pids for member in procfs.family(root)):
            with suppress(FileExistsError):
                entry = TARGET.pack(*procfs.program_code(pid))
                targets.put(pid.to_bytes(4, "little"), entry, syscall.UPDATE_NOEXIST)


def _lives(pid: int) -> bool:
    status = procfs.process_status(pid)
    return status is not None and status.state not in "ZX"


def _check_process(pid: int, what: str) -> None:
    what = f"{what} of process {pid}"
    status = procfs.process_status(pid)
    if status is None:
        raise LockflameError(what, "there is no such process", "check the PID with: ps -e")
    if status.state in "ZX":
        raise LockflameError(what, f"it has ended ({status.comm} is a zombie)", "check the PID with: ps -e")
    if status.is_kernel_thread:
        raise LockflameError(what, f"it is a kernel thread ({status.comm})", "give the PID of a program")
    process = procfs.process_of_thread(pid)
    if process not in (None, pid):
        raise LockflameError(what, f"it is a thread of process {process}", f"use -p {process}")


def _cgroup_folder(path: str, what: str) -> str:
    mounts = _cgroup2_mounts()
    if not mounts:
        raise LockflameError(
            f"{what} of cgroup {path}", "no cgroup2 file system is mounted here", "leave --cgroup out, or mount one"
        )
    candidates = [path] if os.path.isabs(path) else []
    candidates += [os.path.join(folder, path.lstrip("/")) for folder in (CGROUP_ROOT, *mounts)]
    devices = {os.stat(mount).st_dev for mount in mounts}
    for candidate in candidates:
        try:
            if os.path.isdir(candidate) and os.stat(candidate).st_dev in devices:
                return os.path.normpath(candidate)
        except OSError as error:
            raise LockflameError(
                f"{what} of cgroup {path}", reason_of(error), "give a folder that may be read"
            ) from error
    raise LockflameError(
        f"{what} of cgroup {path}",
        f"there is no such folder in the cgroup2 file system at {mounts[0]}",
        "give a path as /proc/PID/cgroup shows it behind 0::",
    )


def _cgroup2_mounts() -> list[str]:
    """Where file systems of cgroup version 2 are mounted (proc_pid_mountinfo(5): fields, a dash, then the type)."""
    mounts: list[str] = []
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            before, dash, after = line.partition(b" - ")
            fields = before.split(b" ")
            if dash and after.split(b" ")[0] == b"cgroup2" and len(fields) > 4:
                mounts.append(os.fsdecode(fields[4].replace(b"\\040", b" ")))
    return [mount for mount in mounts if os.path.isdir(mount)]
