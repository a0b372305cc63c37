"""A load generator in the background: what it reports second by second, and in its summary."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tests.support.process import kill_group
from tests.support.workdir import ServerFailed


class Load:
    """Runs a load generator and keeps each line that it prints with the time at which it came.

    `rate_pattern` finds the operations per second in a report of one second (its first group). `summary_pattern` finds
    them in the summary that the generator prints at its end.
    """

    def __init__(self, command: Sequence[str | Path], rate_pattern: str, summary_pattern: str, cwd: Path) -> None:
        self._rate = re.compile(rate_pattern)
        self._summary = re.compile(summary_pattern)
        self.lines: list[tuple[float, str]] = []
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """All that it printed so far."""
        return "\n".join(line for _, line in self.lines)

    def rates(self) -> list[tuple[float, float]]:
        """(time on the monotonic clock, operations per second) of each report so far."""
        found = [(when, self._rate.search(line)) for when, line in self.lines]
        return [(when, float(match[1])) for when, match in found if match]

    def rate_between(self, start: float, end: float) -> float:
        """Mean operations per second of the reports whose second lies between two times of the monotonic clock."""
        inside = [rate for when, rate in self.rates() if start + 0.9 <= when <= end + 0.1]
        if not inside:
            raise ServerFailed(f"no report between {start:.1f} and {end:.1f}:\n{self.output[-2000:]}")
        return sum(inside) / len(inside)

    def wait_for_report(self, timeout: float = 30) -> float:
        """The time of the first report: the load is on from then."""
        deadline = time.monotonic() + timeout
        while not self.rates():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"the load did not start:\n{self.output[-2000:]}")
            time.sleep(0.02)
        return self.rates()[0][0]

    def wait(self, timeout: float = 120) -> float:
        """Wait for the end of the load and return the operations per second of its summary."""
        status = self.process.wait(timeout)
        self._reader.join(timeout)
        summary = self._summary.search(self.output)
        if status != 0 or summary is None:
            raise ServerFailed(f"the load ended with status {status}:\n{self.output[-2000:]}")
        return float(summary[1])

    def stop(self) -> None:
        """End the load now, whatever it is doing."""
        kill_group(self.process)
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self.lines.append((time.monotonic(), line.rstrip("\n")))
