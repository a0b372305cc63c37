"""Control groups that tests make."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.support.process import wait_until


def remove_cgroup(folder: Path) -> None:
    """Removes a group of which a process that was killed may be a member for a moment more."""

    def is_removed() -> bool:
        with contextlib.suppress(OSError):
            folder.rmdir()
        return not folder.exists()

    wait_until(is_removed, f"{folder} is gone", timeout=10)
