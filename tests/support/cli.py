"""Runs Lockflame's command as a person would, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import REPO
from tests.support.process import group_of, kill_group

LOCKFLAME = (sys.executable, "-m", "lockflame")


class CliResult(NamedTuple):
    """How a command ended and what it said."""

    status: int
    stdout: str
    stderr: str


def lockflame_command(*arguments: str | Path) -> list[str]:
    """The command line that runs `lockflame` with these arguments."""
    return [*LOCKFLAME, *map(str, arguments)]


def run_lockflame(
    *arguments: str | Path,
    timeout: float = 120,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    cwd: Path | None = None,
) -> CliResult:
    """Run `lockflame` to its end. `user` runs it as another user, which needs root."""
    with lockflame_running(*arguments, env=env, user=user, cwd=cwd) as process:
        stdout, stderr = process.communicate(timeout=timeout)
    return CliResult(process.returncode, stdout, stderr)


@contextlib.contextmanager
def lockflame_running(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Start `lockflame`; whatever is left of it and its children at the end is killed."""
    process = subprocess.Popen(
        lockflame_command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd or REPO,
        env={**os.environ, "PYTHONPATH": str(REPO), **(env or {})},
        user=user,
        group=None if user is None else group_of(user),
        extra_groups=None if user is None else [],
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill_group(process)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
