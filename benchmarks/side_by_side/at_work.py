"""A process and what drives it, counted and stopped for a while."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.side_by_side.counters import Counter
from benchmarks.side_by_side.model import Progress
from benchmarks.tools import process_tree
from tests.support.process import wait_until

WARM_UP_S = 0.5
STOPPED_STATES = ("T", "t", "Z", "X")
"""Stopped, or at its end (proc_pid_stat(5))."""


class AtWork:
    """A `Running` workload. `drivers` are the processes that give a server its work."""

    def __init__(self, pid: int, counter: Counter, drivers: Sequence[int] = ()) -> None:
        self._pid = pid
        self._counter = counter
        self._drivers = drivers
        self._stopped: list[int] = []
        self._work_at_stop: float | None = None

    @property
    def pid(self) -> int:
        """The process to watch."""
        return self._pid

    def progress(self) -> Progress:
        """How far it is now. A stopped server doesn't answer: its count is that of just before."""
        if self._work_at_stop is not None:
            return Progress(time.monotonic(), self._work_at_stop)
        return self._counter.read()

    def pause(self) -> None:
        """Stops its drivers, then itself, with all their children."""
        for driver in self._drivers:
            self._stop_tree(driver)
        if self._drivers:
            self._work_at_stop = self._counter.read().work
        self._stop_tree(self._pid)

    def resume(self) -> None:
        """Goes on, what was stopped last first."""
        while self._stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._stopped.pop(), signal.SIGCONT)
        self._work_at_stop = None

    def wait_until_warm(self) -> None:
        """Returns half a second after the count began to grow."""
        start = self.progress().work
        wait_until(lambda: self.progress().work > start, f"{self._pid} is at work")
        time.sleep(WARM_UP_S)

    def _stop_tree(self, pid: int) -> None:
        # Until a process has stopped, it may still start children.
        while running := [member for member in process_tree(pid) if member not in self._stopped]:
            for member in running:
                self._stopped.append(member)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGSTOP)
                wait_until(lambda member=member: _has_stopped(member), f"{member} stops", pause=0.001)


@contextlib.contextmanager
def at_work(pid: int, counter: Counter, drivers: Sequence[int] = ()) -> Iterator[AtWork]:
    """Yields it once it is warm. It isn't left paused."""
    workload = AtWork(pid, counter, drivers)
    try:
        workload.wait_until_warm()
        yield workload
    finally:
        workload.resume()


def _has_stopped(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    # The name before it, in brackets, may hold anything.
    return stat.rpartition(")")[2].split()[0] in STOPPED_STATES
