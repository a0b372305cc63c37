"""What /proc says of processes: threads, children, names, executable mappings."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from lockflame.events import FileMapping, HeldFiles, HeldJitFiles, JitFiles, ProcessSnapshot
from sampler.containers import read_container

MACHINE_PID_NAMESPACE = 0xEFFFFFFC
"""The inode of the first pid namespace (PROC_PID_INIT_INO in linux/proc_ns.h)."""
PF_KTHREAD = 0x00200000
"""In the flags of /proc/PID/stat (linux/sched.h)."""


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """The fields of /proc/PID/stat that matter here."""

    comm: str
    state: str
    parent_pid: int
    is_kernel_thread: bool


def process_status(pid: int) -> ProcessStatus | None:
    """None when there is no such process."""
    content = _read(f"/proc/{pid}/stat")
    if content is None:
        return None
    # The comm stands in parentheses and may hold any byte, parentheses too.
    comm = content[content.index(b"(") + 1 : content.rindex(b")")]
    fields = content[content.rindex(b")") + 2 :].split()
    return ProcessStatus(
        comm=os.fsdecode(comm),
        state=fields[0].decode(),
        parent_pid=int(fields[1]),
        is_kernel_thread=bool(int(fields[6]) & PF_KTHREAD),
    )


def cpu_times_ns(pid: int) -> tuple[int, int]:
    """User and system time of a process and its descendants so far, those included that were waited for."""
    ticks = [0, 0]
    for member in family(pid):
        content = _read(f"/proc/{member}/stat") or b""
        # utime, stime, cutime and cstime (proc_pid_stat(5)), counted from behind the comm.
        fields = [int(field) for field in content[content.rfind(b")") + 2 :].split()[11:15]]
        for number, value in enumerate(fields):
            ticks[number % 2] += value
    per_second = os.sysconf("SC_CLK_TCK")
    return ticks[0] * 10**9 // per_second, ticks[1] * 10**9 // per_second


def cpu_time_ns(pid: int) -> int:
    """Both together."""
    return sum(cpu_times_ns(pid))


def process_of_thread(tid: int) -> int | None:
    """The process that a thread belongs to; None when there is no such thread."""
    for line in (_read(f"/proc/{tid}/status") or b"").splitlines():
        if line.startswith(b"Tgid:"):
            return int(line.split()[1])
    return None


def owner_uid(pid: int) -> int | None:
    """The user that a process runs as; None when there is no such process."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def command_line(pid: int) -> str:
    """The command line with its arguments; the comm in brackets where there is none."""
    content = _read(f"/proc/{pid}/cmdline") or b""
    words = [os.fsdecode(word) for word in content.rstrip(b"\0").split(b"\0")]
    if any(words):
        return " ".join(words)
    status = process_status(pid)
    return f"[{status.comm}]" if status else ""


def threads(pid: int) -> list[int]:
    """The thread ids of a process; empty when it has ended."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def family(pid: int) -> list[int]:
    """A process and all that descend from it, as far as they live."""
    found = [pid]
    seen = {pid}
    for parent in found:
        new = [child for child in _children(parent) if child not in seen]
        seen.update(new)
        found.extend(new)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for tid in threads(pid):
        content = _read(f"/proc/{pid}/task/{tid}/children")
        if content is None:
            if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
                return _children_by_parent(pid)  # a kernel without CONFIG_PROC_CHILDREN
            continue
        found.extend(int(word) for word in content.split())
    return found


def _children_by_parent(pid: int) -> list[int]:
    numbers = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [child for child in numbers if (status := process_status(child)) and status.parent_pid == pid]


def snapshot(pid: int) -> ProcessSnapshot:
    """The names of a process's threads, its executable mappings and its container, as they are now.

    Empty where the process has ended or may not be looked at.
    """
    comms: dict[int, str] = {}
    for tid in threads(pid):
        comm = _read(f"/proc/{pid}/task/{tid}/comm")
        if comm is not None:
            comms[tid] = os.fsdecode(comm.rstrip(b"\n"))
    return ProcessSnapshot(pid, comms, tuple(_executable_mappings(pid)), read_container(pid))


def hold_files(snapshots: Iterable[ProcessSnapshot]) -> HeldFiles:
    """Opens each mapped file once. The processes may end, and their files be gone, before they are read."""
    held: HeldFiles = {}
    for process in snapshots:
        for mapping in process.mappings:
            file = (mapping.device, mapping.inode)
            if mapping.inode and file not in held:
                with suppress(OSError):
                    held[file] = _open_mapped(process.pid, mapping)
    return held


def _open_mapped(pid: int, mapping: FileMapping) -> int:
    """Opens the file behind a mapping of a living process. Raises `OSError`."""
    try:
        return os.open(f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}", os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        # Not everyone may use this link (proc_pid_map_files(5)). The path may lead to another file by now.
        path = f"/proc/{pid}/root{mapping.path}"
        status = os.stat(path)
        if status.st_ino != mapping.inode or not stat.S_ISREG(status.st_mode):
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def hold_jit_files(pids: Iterable[int]) -> HeldJitFiles:
    """Takes down where each process's runtime names its generated code, and opens it as far as it is there.

    Whoever reads it has to check whose it is.
    """
    held: HeldJitFiles = {}
    for pid in pids:
        inside, uid = _pid_inside(pid), owner_uid(pid)
        if inside is None or uid is None:
            continue
        folder = f"/proc/{pid}/root/tmp"
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        map_file = _open(f"{folder}/perf-{inside}.map", flags)
        map_folder = -1 if _is_our_folder(folder) else _open(folder, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
        held[pid] = JitFiles(inside, uid, map_file, map_folder)
    return held


def close_jit_files(held: HeldJitFiles) -> None:
    """Closes the descriptors of `hold_jit_files`."""
    for files in held.values():
        for descriptor in (files.map_file, files.map_folder):
            if descriptor >= 0:
                os.close(descriptor)


def _is_our_folder(folder: str) -> bool:
    """Whether a process's /tmp is ours, or can't be looked at."""
    try:
        return os.path.samefile(folder, "/tmp")
    except OSError:
        return True


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags)
    except OSError:
        return -1


def first_of_program(pid: int) -> int:
    """The oldest of a process's ancestors, itself included, of which it is a fork by way of forks of one program."""
    program = _program(pid)
    while program:
        status = process_status(pid)
        if status is None or status.parent_pid <= 1 or _program(status.parent_pid) != program:
            break
        pid = status.parent_pid
    return pid


def _program(pid: int) -> tuple[int, int] | None:
    """The file that a process runs, by device and inode."""
    try:
        status = os.stat(f"/proc/{pid}/exe")
    except OSError:
        return None
    return status.st_dev, status.st_ino


def program_code(pid: int) -> tuple[int, int]:
    """Where the code of a process's own program lies (address, bytes), without its libraries'; 0 if unknown."""
    try:
        program = os.stat(f"/proc/{pid}/exe").st_ino
    except OSError:
        return 0, 0
    code = [mapping for mapping in _executable_mappings(pid) if mapping.inode == program]
    return (code[0].start, code[-1].end - code[0].start) if code else (0, 0)


def memory_maps(pids: Iterable[int]) -> dict[int, bytes]:
    """/proc/PID/maps as it is, of those that live."""
    maps = {pid: _read(f"/proc/{pid}/maps") for pid in pids}
    return {pid: content for pid, content in maps.items() if content}


def is_in_pid_namespace() -> bool:
    """Whether we are in another pid namespace than the machine's first."""
    return _pid_namespace(os.getpid()) != MACHINE_PID_NAMESPACE


def inner_tids(pids: Iterable[int]) -> dict[tuple[int, int], int]:
    """The threads of processes in another pid namespace than ours: (pid, tid as they see it) to their tid here."""
    ours = _pid_namespace(os.getpid())
    found: dict[tuple[int, int], int] = {}
    for pid in pids:
        if _pid_namespace(pid) in (ours, None):
            continue
        for tid in threads(pid):
            inside = _pid_inside(tid)
            if inside is not None:
                found[pid, inside] = tid
    return found


def _pid_namespace(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return None


def _pid_inside(pid: int) -> int | None:
    """A process's number in its own pid namespace (the last one in NSpid of proc_pid_status(5))."""
    for line in (_read(f"/proc/{pid}/status") or b"").splitlines():
        if line.startswith(b"NSpid:"):
            return int(line.split()[-1])
    return None


def _executable_mappings(pid: int) -> Iterator[FileMapping]:
    for line in (_read(f"/proc/{pid}/maps") or b"").split(b"\n"):
        # proc_pid_maps(5): address perms offset dev inode pathname
        fields = line.split(None, 5)
        if len(fields) < 5 or b"x" not in fields[1]:
            continue
        start, _, end = fields[0].partition(b"-")
        major, _, minor = fields[3].partition(b":")
        # A newline is all that the kernel escapes there (fs/proc/task_mmu.c).
        path = fields[5].replace(b"\\012", b"\n") if len(fields) > 5 else b"//anon"
        yield FileMapping(
            start=int(start, 16),
            end=int(end, 16),
            file_offset=int(fields[2], 16),
            path=os.fsdecode(path),
            device=(int(major, 16), int(minor, 16)),
            inode=int(fields[4]),
            pid=pid,
        )


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return None
