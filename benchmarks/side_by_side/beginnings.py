"""How it is seen from outside that a tool counts: each kind gives it away in its own way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.side_by_side.files import SAID
from benchmarks.tools import process_tree

PERF_EVENT = "anon_inode:[perf_event]"
BPF_LINK = "anon_inode:bpf_link"


@dataclass(frozen=True, slots=True)
class Beginning:
    """A tool counts as soon as its processes hold `least` files of this kind, or, if it opens none, has said a text.

    `since` tells from the tool's own files, and better, when its events were enabled or its first sample was taken: a
    time in seconds of the monotonic clock, or None.
    """

    held: str = PERF_EVENT
    least: int = 1
    said: str = ""
    since: Callable[[Path], float | None] = lambda _: None

    def is_over(self, pid: int, folder: Path) -> bool:
        """Whether the tool of this process id counts."""
        if self.said:
            return self.said.encode() in (folder / SAID).read_bytes()
        return sum(_held(member, self.held) for member in process_tree(pid)) >= self.least


def _held(pid: int, kind: str) -> int:
    count = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                count += kind in os.readlink(entry.path)
    return count
