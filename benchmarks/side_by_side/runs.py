"""A command of a tool, from its start to its end, with what it and all that it starts use."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from benchmarks.side_by_side.beginnings import Beginning
from benchmarks.side_by_side.files import COMPLAINED, SAID
from benchmarks.tools import ToolFailed, ends_within, has_ended, used_by_tree, written_mb
from tests.support.paths import REPO
from tests.support.process import kill_group

START_LIMIT_S = 30.0
END_LIMIT_S = 60.0
START_POLL_S = 0.005
RECORDING_POLL_S = 0.05
END_POLL_S = 0.01
SAID_SHOWN = 1000
"""Characters of what a tool said, in a message."""


class TookTooLong(ToolFailed):
    """A command wasn't done in time; the message tells what it said."""


class Run:
    """A command that has been started. Times are of the monotonic clock, in seconds; memory is in MB of 10^6 bytes.

    `peak_mb` is the largest sum of the peaks of all processes that ran at the same time. `cpu_s`, `written_mb` and
    `ended` are known at the end; they are with all children that were waited for.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], folder: Path, started: float) -> None:
        self.process = process
        self.started = started
        self.ended = 0.0
        self.cpu_s = 0.0
        self.peak_mb = 0.0
        self.written_mb = 0.0
        self._name = name
        self._folder = folder

    def wait_until_counting(self, beginning: Beginning) -> float:
        """When it was first seen to count. Raises `TookTooLong`, or `ToolFailed` if it ends before."""
        limit = time.monotonic() + START_LIMIT_S
        next_look = 0.0
        while not beginning.is_over(self.process.pid, self._folder):
            self._must_run()
            now = time.monotonic()
            if now > limit:
                raise TookTooLong(self._told(f"recorded nothing within {START_LIMIT_S:g} s"))
            if now >= next_look:
                # A compiler may come and go before the first sample, and need more than all that follows.
                self.look()
                next_look = now + RECORDING_POLL_S
            time.sleep(START_POLL_S)
        return time.monotonic()

    def look(self) -> float:
        """Keeps the peak of memory; returns the CPU seconds used so far."""
        cpu_s, peak_mib = used_by_tree(self.process.pid)
        self.peak_mb = max(self.peak_mb, peak_mib * 2**20 / 1e6)
        return cpu_s

    def look_for(self, seconds: float) -> None:
        """Lets it work for so long, and looks at its memory now and then."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.look()
            time.sleep(min(left, RECORDING_POLL_S))
        self._must_run()

    def finish(self, good: Collection[int] = (0,), limit_s: float | None = None) -> None:
        """Waits for its end. Raises `TookTooLong`, or `ToolFailed` if its exit status isn't `good`."""
        limit_s = END_LIMIT_S if limit_s is None else limit_s
        limit = time.monotonic() + limit_s
        while not ends_within(self.process.pid, END_POLL_S):
            if time.monotonic() > limit:
                raise TookTooLong(self._told(f"was not done within {limit_s:g} s"))
            self.look()
        self.ended = time.monotonic()
        self.written_mb = written_mb(self.process.pid)
        _, status, used = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_s = used.ru_utime + used.ru_stime
        if self.process.returncode not in good:
            raise ToolFailed(self._told(f"ended with status {self.process.returncode}"))

    def _must_run(self) -> None:
        if has_ended(self.process.pid):
            raise ToolFailed(self._told("ended by itself"))

    def _told(self, what: str) -> str:
        said = [(self._folder / name).read_text(errors="replace") for name in (SAID, COMPLAINED)]
        return f"{self._name} {what}: {' '.join(' '.join(said).split())[-SAID_SHOWN:]}"


@contextlib.contextmanager
def started(name: str, command: Sequence[str], folder: Path) -> Iterator[Run]:
    """Starts a command in a session of its own, its output added to files in `folder`; kills what is left of it."""
    start = time.monotonic()
    with open(folder / SAID, "ab") as said, open(folder / COMPLAINED, "ab") as complained:
        process = subprocess.Popen(
            command,
            cwd=REPO,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=complained,
            env={**os.environ, "TMPDIR": str(folder)},
            start_new_session=True,
        )
    try:
        yield Run(name, process, folder, start)
    finally:
        kill_group(process)
