"""Finds the file behind a mapping and makes sure that it is the one that was mapped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from lockflame.errors import reason_of
from lockflame.events import FileMapping
from symbolize.elf import ElfImage, ElfProblem, NotElf, open_regular

DELETED = " (deleted)"
DEBUG_ROOT = "/usr/lib/debug"


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
    reason = "the file is gone"
    for candidate in _candidates(mapping, pid, path, held_file):
        try:
            image = _open_same(candidate, mapping)
        except FileNotFoundError:
            continue
        except OSError as error:
            # Not everyone may use the kernel's own links; that says nothing about the file.
            if candidate == path:
                reason = reason_of(error)
        except NotElf as error:
            return Binary(path, "", None, str(error), is_generated=True)
        except ElfProblem as error:
            reason = str(error)
        else:
            return Binary(path, image.build_id or mapping.build_id, image)
    return Binary(path, mapping.build_id, None, reason)


def _candidates(mapping: FileMapping, pid: int, path: str, held_file: int | None) -> Iterator[str]:
    if held_file is not None:
        yield f"/proc/self/fd/{held_file}"
    # The kernel's own link to the mapped file works even when it was deleted or replaced since.
    yield f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"
    yield f"/proc/{pid}/root{path}"
    yield path


def _open_same(path: str, mapping: FileMapping) -> ElfImage:
    """Opens a file if it is the mapped one: by build-id where known, else by inode."""
    file = open_regular(path)
    # The device isn't compared: overlay and btrfs show another one in mappings than in stat(2).
    if mapping.inode and os.fstat(file.fileno()).st_ino != mapping.inode and not mapping.build_id:
        raise ElfProblem("the file was replaced since it was mapped")
    image = ElfImage(file)
    if mapping.build_id and image.build_id != mapping.build_id:
        raise ElfProblem("the file was replaced since it was mapped (its build-id differs)")
    return image


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


def open_debug_file(binary: Binary, debug_root: str = DEBUG_ROOT) -> ElfImage | None:
    """The separate debug file of a binary, by build-id or by `.gnu_debuglink`; None when there is none."""
    if binary.image is None:
        return None
    for path, checksum in _debug_candidates(binary, binary.image, debug_root):
        try:
            image = ElfImage.open(path)
        except (OSError, ElfProblem):
            continue  # most candidates don't exist
        if binary.build_id and image.build_id == binary.build_id:
            return image
        if not binary.build_id and image.checksum() == checksum:
            return image
    return None


def _debug_candidates(binary: Binary, image: ElfImage, debug_root: str) -> Iterator[tuple[str, int]]:
    """Paths, and the checksum that counts where there is no build-id (GDB manual, "Separate Debug Files")."""
    section = image.sections.get(".gnu_debuglink")
    link = bytes(image.data(section)) if section is not None else b""
    checksum = int.from_bytes(link[-4:], "little")
    if binary.build_id:
        yield f"{debug_root}/.build-id/{binary.build_id[:2]}/{binary.build_id[2:]}.debug", checksum
    name = os.fsdecode(link.split(b"\0", 1)[0])
    folder = os.path.dirname(binary.path)
    if name and "/" not in name:
        for path in (f"{folder}/{name}", f"{folder}/.debug/{name}", f"{debug_root}{folder}/{name}"):
            yield path, checksum
