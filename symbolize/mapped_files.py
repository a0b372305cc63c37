"""The files behind the mappings of a process that lives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lockflame.events import FileMapping


def files_of(mappings: Sequence[FileMapping]) -> Iterator[list[FileMapping]]:
    """The mappings of each file."""
    files: dict[tuple[tuple[int, int], int], list[FileMapping]] = {}
    for mapping in mappings:
        if mapping.inode:
            files.setdefault((mapping.device, mapping.inode), []).append(mapping)
    yield from files.values()


def mapped_path(mapping: FileMapping) -> str:
    """The file that is mapped, though its name may be another's or nobody's by now (proc_pid_map_files(5))."""
    return f"/proc/{mapping.pid}/map_files/{mapping.start:x}-{mapping.end:x}"
