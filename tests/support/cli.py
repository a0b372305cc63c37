"""Runs Lockflame's command as a person would, in a process of its own."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.support.needs import CannotTest
from tests.support.paths import REPO
from tests.support.process import group_of, kill_group

SYSTEM_PYTHON = "/usr/bin/python3"
PROBE = "import click, numpy, lockflame"


class CliResult(NamedTuple):
    """How a command ended and what it said."""

    status: int
    stdout: str
    stderr: str


def lockflame_command(*arguments: str | Path) -> list[str]:
    """The command line that runs `lockflame` with these arguments."""
    return [sys.executable, "-m", "lockflame", *map(str, arguments)]


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
    command = lockflame_command(*arguments)
    if user is not None:
        command[0] = _python_for(user)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd or REPO,
        env={**os.environ, "PYTHONPATH": _python_path(), **(env or {})},
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


def _python_path() -> str:
    return os.pathsep.join([str(REPO), sysconfig.get_path("purelib")])


@functools.cache
def _python_for(user: str) -> str:
    """An interpreter that `user` may run: ours may be in root's home, as is what pyenv builds."""
    env = {**os.environ, "PYTHONPATH": _python_path()}
    for python in (sys.executable, SYSTEM_PYTHON):
        with contextlib.suppress(OSError):
            probe = subprocess.run([python, "-c", PROBE], user=user, env=env, cwd="/", capture_output=True, check=False)
            if probe.returncode == 0:
                return python
    raise CannotTest(f"user {user} may run neither {sys.executable} nor {SYSTEM_PYTHON} with {REPO}: they are private")
