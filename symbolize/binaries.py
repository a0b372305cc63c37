"""Finds the file behind a mapping and makes sure that it is the one that was mapped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from lockflame.errors import reason_of
from lockflame.events import FileMapping
from symbolize.elf import ElfImage, ElfProblem, NotElf, open_regular

DELETED = " (deleted)"
GONE = "the file is gone"
GONE_WITH_PROCESS = "the file is gone, or only the process, which has ended, could see it"
FORBIDDEN = "this user may not look into the process's own files"
ANOTHER = "the file at this path is not the mapped one: it was replaced, or the process saw another one there"
PLAIN_FILE_SYSTEMS = frozenset(("ext2", "ext3", "ext4", "f2fs", "ramfs", "squashfs", "tmpfs", "xfs"))
"""Those of which stat(2) and mappings show one and the same device; overlay and btrfs have several."""


@dataclass(frozen=True, slots=True, eq=False)
class Binary:
    """A mapped file, opened; `image` is None when it couldn't be, for `reason`.

    `is_generated`: no program file is behind it, but memory or a file of some other kind that a JIT has
    written code to.
    """

    path: str
    build_id: str
    image: ElfImage | None
    reason: str = ""
    is_generated: bool = False


def open_binary(mapping: FileMapping, pid: int, held_file: int | None = None) -> Binary:
    """Opens the file behind `mapping` of process `pid`, which may have ended.

    `held_file` is a descriptor of it that was opened while it was mapped.
    """
    if mapping.path == "[vdso]":
        return _open_vdso(mapping)
    path = mapping.path.removesuffix(DELETED)
    if not path.startswith("/") or path.startswith("//"):
        return Binary(mapping.path, mapping.build_id, None, "not backed by a file", is_generated=True)
    reason = GONE_WITH_PROCESS if _has_ended(pid) else GONE
    for candidate in _candidates(mapping, pid, path, held_file):
        try:
            image = _open_same(candidate, mapping)
        except FileNotFoundError:
            continue
        except OSError as error:
            # Not everyone may use the kernel's own links; that says nothing about the file.
            if candidate == path:
                reason = reason_of(error)
            elif "/root/" in candidate and isinstance(error, PermissionError):
                reason = FORBIDDEN
        except NotElf as error:
            return Binary(path, "", None, str(error), is_generated=True)
        except ElfProblem as error:
            # The process's own file may be the right one: who may not look there should know that.
            reason = str(error) if reason != FORBIDDEN else reason
        else:
            return Binary(path, image.build_id or mapping.build_id, image)
    return Binary(path, mapping.build_id, None, reason)


def _has_ended(pid: int) -> bool:
    try:
        os.readlink(f"/proc/{pid}/exe")
    except (FileNotFoundError, ProcessLookupError):
        return True  # a process that nobody has waited for yet has none either
    except OSError:
        return False
    return False


def _candidates(mapping: FileMapping, pid: int, path: str, held_file: int | None) -> Iterator[str]:
    if held_file is not None:
        yield f"/proc/self/fd/{held_file}"
    # The kernel's own link to the mapped file works even when it was deleted or replaced since.
    yield f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"
    yield f"/proc/{pid}/root{path}"
    yield path


def _open_same(path: str, mapping: FileMapping) -> ElfImage:
    """Opens a file if it is the mapped one: by build-id where known, else by inode and device."""
    file = open_regular(path)
    if mapping.inode and not mapping.build_id and not _is_same_file(os.fstat(file.fileno()), mapping):
        raise ElfProblem(ANOTHER)
    image = ElfImage(file)
    if mapping.build_id and image.build_id != mapping.build_id:
        raise ElfProblem(f"{ANOTHER} (its build-id differs)")
    return image


def _is_same_file(status: os.stat_result, mapping: FileMapping) -> bool:
    """Whether the inode is the mapped one, and the device too where it tells something.

    Two file systems, such as a container's and ours, often have the same inode number.
    """
    device = (os.major(status.st_dev), os.minor(status.st_dev))
    if status.st_ino != mapping.inode:
        return False
    return mapping.device in ((0, 0), device) or device not in _plain_devices()


@cache
def _plain_devices() -> frozenset[tuple[int, int]]:
    """The devices of this process's mounts of `PLAIN_FILE_SYSTEMS`."""
    devices: set[tuple[int, int]] = set()
    with suppress(OSError), open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            # proc_pid_mountinfo(5): the third field is the device, the first behind the dash the type.
            fields, _, rest = line.partition(b" - ")
            if os.fsdecode(rest.split(b" ", 1)[0]) in PLAIN_FILE_SYSTEMS:
                major, _, minor = fields.split()[2].partition(b":")
                devices.add((int(major), int(minor)))
    return frozenset(devices)


def _open_vdso(mapping: FileMapping) -> Binary:
    """The vdso is the kernel's: that of our own process is that of all 64-bit ones."""
    try:
        with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
            for line in maps:
                if line.rstrip().endswith("[vdso]"):
                    start, end = (int(part, 16) for part in line.split()[0].split("-"))
                    memory.seek(start)
                    image = ElfImage(memory.read(end - start))
                    return Binary(mapping.path, image.build_id, image)
    except (OSError, ElfProblem) as error:
        return Binary(mapping.path, "", None, str(error))
    return Binary(mapping.path, "", None, "this process has no vdso")
