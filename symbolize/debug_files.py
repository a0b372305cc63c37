"""Finds the separate debug file of a binary, and the supplementary file of that.

Where they lie: GDB manual, "Separate Debug Files"; for supplementary files (dwz(1)) the section
`.gnu_debugaltlink` names one by path and build-id.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from symbolize.binaries import Binary
from symbolize.elf import ElfImage, ElfProblem

if TYPE_CHECKING:
    from symbolize.debuginfod import Debuginfod

DEBUG_FOLDER = "/usr/lib/debug"
NOTES_MOST = 5
LINK_BYTES_MOST = 1 << 13
"""Of a section that names another file: a path (PATH_MAX is 4096), and its build-id or checksum."""


@dataclass(frozen=True, slots=True, eq=False)
class DebugInfo:
    """The file that has a binary's DWARF data (it may be the binary itself), and its supplementary file."""

    path: str
    image: ElfImage
    supplementary: ElfImage | None = None


def has_debug_info(image: ElfImage) -> bool:
    """Whether a file has DWARF data (`.zdebug_info` is GNU's older form of a compressed one)."""
    section = image.sections.get(".debug_info") or image.sections.get(".zdebug_info")
    return section is not None and section.has_bytes


class DebugFiles:
    """Looks in `folders` first, then where the binary's process looks, then on this machine, then on servers."""

    def __init__(self, folders: tuple[str, ...] = (), debuginfod: Debuginfod | None = None) -> None:
        self._folders = folders
        self._debuginfod = debuginfod
        self._problems: Counter[str] = Counter()
        self._roots: dict[int, str] = {}
        self._found: dict[Binary, ElfImage | None] = {}
        self._incomplete: set[Binary] = set()

    def symbols_of(self, binary: Binary, pid: int) -> ElfImage | None:
        """The debug file of a binary that process `pid` maps; None when there is none, or none is needed."""
        if binary not in self._found:
            self._found[binary] = self._find(binary, pid)
        return self._found[binary]

    def debug_info_of(self, binary: Binary, pid: int) -> DebugInfo | None:
        """Where the DWARF data of a binary is: in itself, or in its debug file."""
        for image in (binary.image, self.symbols_of(binary, pid)):
            if image is not None and has_debug_info(image):
                path = image.path or binary.path
                place = image.path or f"{self._root_of(pid)}{binary.path}"
                supplementary = self._supplementary(image, place, pid)
                if supplementary is None and _link_to_supplementary(image):
                    self._incomplete.add(binary)
                return DebugInfo(path, image, supplementary)
        return None

    def may_come_later(self, binary: Binary) -> bool:
        """Whether servers were asked in vain, or a supplementary file is missing: another time it may be there."""
        return binary in self._incomplete

    def identity(self, binary: Binary, pid: int) -> str:
        """Says what there is to name a binary: changes with its file, and when a debug file comes, changes or goes."""
        image = binary.image
        if image is None:
            return ""
        link, _ = _debug_link(image)
        found: list[str] = [_file_identity(os.fstat(image.descriptor))] if image.descriptor is not None else []
        for path in self._candidates(binary, pid, link):
            try:
                status = os.stat(path)
            except (OSError, ValueError):
                continue
            found.append(f"{path}={_file_identity(status)}")
        return f"{' '.join(found)} {'debuginfod' if self._debuginfod else ''}"

    def notes(self) -> Iterator[str]:
        """Sentences on the debug files that were found and couldn't be used."""
        for problem, _ in self._problems.most_common(NOTES_MOST):
            yield f"{problem}."
        if len(self._problems) > NOTES_MOST:
            yield f"{len(self._problems) - NOTES_MOST:,} more debug files couldn't be used."

    def _find(self, binary: Binary, pid: int) -> ElfImage | None:
        image = binary.image
        if image is None or (has_debug_info(image) and ".symtab" in image.sections):
            return None
        link, checksum = _debug_link(image)
        for path in self._candidates(binary, pid, link):
            found = self._open_same(path, binary, checksum)
            if found is not None:
                return found
        found = self._download(binary.build_id, binary.path)
        if found is None and self._debuginfod is not None:
            self._incomplete.add(binary)
        return found

    def _candidates(self, binary: Binary, pid: int, link: str) -> Iterator[str]:
        root = self._root_of(pid)
        folders = self._debug_folders(root)
        if binary.build_id:
            yield from (_by_build_id(folder, binary.build_id) for folder in folders)
        if link:
            folder = os.path.dirname(binary.path)
            for base in dict.fromkeys((f"{root}{folder}", folder)):
                yield f"{base}/{link}"
                yield f"{base}/.debug/{link}"
            yield from (f"{base}{folder}/{link}" for base in folders)

    def _debug_folders(self, root: str) -> list[str]:
        return list(dict.fromkeys((*self._folders, f"{root}{DEBUG_FOLDER}", DEBUG_FOLDER)))

    def _root_of(self, pid: int) -> str:
        """Where a process's own root is; nothing for one that sees the files that we see, or has ended."""
        if pid not in self._roots:
            root = f"/proc/{pid}/root"
            try:
                same_mounts = os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
                is_ours = same_mounts and os.path.samefile(f"{root}/", "/")
            except OSError:
                is_ours = True
            self._roots[pid] = "" if is_ours else root
        return self._roots[pid]

    def _open_same(self, path: str, binary: Binary, checksum: int) -> ElfImage | None:
        """Opens a debug file if it belongs to the binary; a checksum counts where there is no build-id."""
        what = f"{path} is not used for {binary.path}"
        try:
            image = ElfImage.open(path)
        except (FileNotFoundError, NotADirectoryError):
            return None  # most candidates don't exist
        except (OSError, ElfProblem) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else str(problem)
            self._problems[f"{what}: {reason}"] += 1
            return None
        if binary.image is not None and image.is_same_file(binary.image):
            return None  # a link to its own name
        if binary.build_id and image.build_id != binary.build_id:
            self._problems[f"{what}: its build-id differs"] += 1
        elif not binary.build_id and image.checksum() != checksum:
            self._problems[f"{what}: its checksum differs"] += 1
        else:
            return image
        return None

    def _supplementary(self, image: ElfImage, place: str, pid: int) -> ElfImage | None:
        """The file that a debug file, which lies at `place`, says it needs."""
        link = _link_to_supplementary(image)
        if not link:
            return None
        name, _, build_id_bytes = link.partition(b"\0")
        path, build_id = os.fsdecode(name), build_id_bytes.hex()
        root = self._root_of(pid)
        folders = self._debug_folders(root)
        candidates = [f"{root}{path}", path] if path.startswith("/") else [_beside(place, path)]
        candidates += [_by_build_id(folder, build_id) for folder in folders if build_id]
        for candidate in dict.fromkeys(candidates):
            try:
                found = ElfImage.open(candidate)
            except (OSError, ElfProblem, ValueError):
                continue
            if found.build_id == build_id:
                return found
        found = self._download(build_id, path)
        if found is None:
            self._problems[f"{place} needs {candidates[0]}, which isn't there: names in it are missing"] += 1
        return found

    def _download(self, build_id: str, name: str) -> ElfImage | None:
        path = self._debuginfod.find(build_id, name) if self._debuginfod and build_id else None
        try:
            return ElfImage.open(str(path)) if path else None
        except (OSError, ElfProblem):
            return None  # it was checked when it came; someone has removed it since


def _file_identity(status: os.stat_result) -> str:
    return f"{status.st_size}:{status.st_mtime_ns}"


def _by_build_id(folder: str, build_id: str) -> str:
    return f"{folder}/.build-id/{build_id[:2]}/{build_id[2:]}.debug"


def _beside(place: str, path: str) -> str:
    """A relative path is meant from where the debug file really is, which its name by build-id may only link to."""
    return os.path.join(os.path.dirname(os.path.realpath(place)), path)


def _link_to_supplementary(image: ElfImage) -> bytes:
    """The file's path and its build-id, with a zero byte between them."""
    return _link_bytes(image, ".gnu_debugaltlink")


def _link_bytes(image: ElfImage, name: str) -> bytes:
    section = image.sections.get(name)
    if section is None or not section.has_bytes:
        return b""
    return image.read(section.file_offset, min(section.size, LINK_BYTES_MOST))


def _debug_link(image: ElfImage) -> tuple[str, int]:
    """The file's name and its checksum; no name where there is none, or none that is a plain one."""
    link = _link_bytes(image, ".gnu_debuglink")
    name = os.fsdecode(link.split(b"\0", 1)[0])
    return ("" if "/" in name else name), int.from_bytes(link[-4:], "little")
