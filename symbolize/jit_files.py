"""Opens what a runtime wrote about its own code: perf map or jitdump, in the process's own namespaces.

Anyone may write to /tmp, and a dump may lie anywhere: only a regular file of the process's own user (or of root, or
of ours) is taken, and no link is followed to it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress

from lockflame.events import FileMapping, HeldFiles, JitFiles

DELETED = " (deleted)"
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


@contextmanager
def open_perf_map(pid: int, held: JitFiles | None) -> Generator[int | None]:
    """A descriptor of the perf map of process `pid`, closed at the end; None when there is none to be trusted.

    The map at its path counts, which may be newer; where the process or the file is gone, what was held of it does.
    """
    yield from _opened(_perf_map_descriptors(pid, held), _owners(pid, held), 0)


@contextmanager
def open_jitdump(pid: int, mapping: FileMapping, held_files: HeldFiles, held: JitFiles | None) -> Generator[int | None]:
    """A descriptor of the jitdump that process `pid` has mapped as a mark; None when there is none to be trusted."""
    yield from _opened(_jitdump_descriptors(pid, mapping, held_files), _owners(pid, held), mapping.inode)


def _opened(descriptors: Iterator[int], owners: set[int], inode: int) -> Generator[int | None]:
    for descriptor in descriptors:
        try:
            status = os.fstat(descriptor)
            is_ours = stat.S_ISREG(status.st_mode) and status.st_uid in owners
            if is_ours and inode in (0, status.st_ino):
                yield descriptor
                return
        finally:
            os.close(descriptor)
    yield None


def _perf_map_descriptors(pid: int, held: JitFiles | None) -> Iterator[int]:
    inside = _pid_inside(pid) or (held.pid_inside if held else pid)
    with suppress(OSError):
        yield os.open(f"/proc/{pid}/root/tmp/perf-{inside}.map", _FLAGS)
    with suppress(OSError):
        if held and held.map_folder >= 0:
            yield os.open(f"perf-{held.pid_inside}.map", _FLAGS, dir_fd=held.map_folder)
        else:
            yield os.open(f"/tmp/perf-{held.pid_inside if held else pid}.map", _FLAGS)
    if held and held.map_file >= 0:
        yield os.dup(held.map_file)


def _jitdump_descriptors(pid: int, mapping: FileMapping, held_files: HeldFiles) -> Iterator[int]:
    held_file = held_files.get((mapping.device, mapping.inode))
    if held_file is not None:
        yield os.dup(held_file)
    with suppress(OSError):
        # The kernel's own link is no link to follow by name: it leads to the mapped file itself.
        link = f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"
        yield os.open(link, _FLAGS & ~os.O_NOFOLLOW)
    path = mapping.path.removesuffix(DELETED)
    for candidate in (f"/proc/{pid}/root{path}", path):
        with suppress(OSError):
            yield os.open(candidate, _FLAGS)


def _pid_inside(pid: int) -> int:
    """The process's number in its own pid namespace (the last one in NSpid of proc_pid_status(5)); 0 if unknown."""
    with suppress(OSError), open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return 0


def _owners(pid: int, held: JitFiles | None) -> set[int]:
    owners = {0, os.geteuid()}
    if held:
        owners.add(held.owner_uid)
    with suppress(OSError):
        owners.add(os.stat(f"/proc/{pid}").st_uid)
    return owners
