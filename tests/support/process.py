"""Starts programs to profile, waits until they are at work, and always ends them."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

READY = "ready"


class TargetFailed(Exception):
    """A target ended or stayed silent where it should have said something."""


class Target:
    """A running program whose standard output is read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.lines: list[str] = []
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    def wait_for_line(self, wanted: Callable[[str], bool], timeout: float = 20) -> str:
        """The next line for which `wanted` holds; lines before it stay in `lines`."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise TargetFailed(f"{self.process.args!r} was silent for {timeout} s, after {self.lines}") from None
            if line is None:
                raise TargetFailed(f"{self.process.args!r} ended with {self.process.wait()}, after {self.lines}")
            if wanted(line):
                return line

    def wait_until_ready(self, timeout: float = 20) -> None:
        """Return when the target has printed `ready`."""
        self.wait_for_line(lambda line: line == READY, timeout)

    def wait(self, timeout: float = 60) -> int:
        """Wait for the target to end by itself; returns its exit status."""
        status = self.process.wait(timeout)
        self._reader.join(timeout)
        return status

    def stop(self, timeout: float = 20) -> dict[str, Any]:
        """Ask the target to end (SIGTERM) and return its own counts: the JSON object in its last line."""
        self.process.terminate()
        self.wait(timeout)
        return self.last_json()

    def interrupt(self, patience: float = 15, timeout: float = 60) -> int:
        """Ask it to end by SIGINT, a second time after `patience` seconds; returns its exit status.

        bpftrace 0.17 loses a SIGINT that comes while it doesn't sleep; a second one ends it while it prints.
        """
        self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(patience)
        self.process.send_signal(signal.SIGINT)
        return self.wait(timeout)

    def last_json(self) -> dict[str, Any]:
        """The JSON object in the last line printed so far."""
        if not self.lines or not self.lines[-1].startswith("{"):
            raise TargetFailed(f"{self.process.args!r} printed no counts: {self.lines}")
        counts: dict[str, Any] = json.loads(self.lines[-1])
        return counts

    def close(self) -> None:
        """End the target and all that it started, however it is."""
        kill_group(self.process)
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self.lines.append(line.rstrip("\n"))
            self._queue.put(self.lines[-1])
        self._queue.put(None)


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    wait_ready: bool = True,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    stderr: IO[bytes] | int | None = None,
) -> Iterator[Target]:
    """Start `command`, wait until it prints `ready`, and kill it and its children at the end.

    The program has a process group of its own. `user` starts it as another user (root only).
    """
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=None if env is None else {**os.environ, **env},
        user=user,
        group=None if user is None else group_of(user),
        extra_groups=None if user is None else [],
        start_new_session=True,
    )
    target = Target(process)
    try:
        if wait_ready:
            target.wait_until_ready()
        yield target
    finally:
        target.close()


def kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process that leads its own group, with its group, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def group_of(user: str) -> int:
    """The id of a user's own group."""
    return pwd.getpwnam(user).pw_gid


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 30, pause: float = 0.05) -> None:
    """Return as soon as `condition` holds; `what` names it where it doesn't in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TargetFailed(f"{what}: not within {timeout} s")
        time.sleep(pause)
