"""Folders for servers that don't run as root, and how to start a program as their user."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.needs import find_program, is_root


class ServerFailed(Exception):
    """A server or its load didn't do what it should; the message holds the end of its log."""


@contextlib.contextmanager
def server_folder(name: str, user: str) -> Iterator[Path]:
    """A new folder below /tmp, of `user` where this is root, removed at the end.

    Its path is short, since a Unix socket's path may have 107 bytes only.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"lf-{name}-", dir="/tmp"))
    try:
        if is_root():
            entry = pwd.getpwnam(user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def as_user(user: str, command: Sequence[str | Path]) -> list[str]:
    """The command line that runs `command` as `user`, or as oneself where this isn't root."""
    plain = [str(part) for part in command]
    if not is_root():
        return plain
    switch = [str(find_program("setpriv")), f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups"]
    return [*switch, "--", *plain]


def run_tool(command: Sequence[str | Path], cwd: Path, timeout: float = 120) -> str:
    """Run a set-up step to its end and return what it printed."""
    plain = [str(part) for part in command]
    done = subprocess.run(plain, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise ServerFailed(f"{' '.join(plain)}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def end_of(log: Path, characters: int = 2000) -> str:
    """The end of a log file, for a message."""
    return log.read_text(errors="replace")[-characters:] if log.exists() else f"(no {log})"
