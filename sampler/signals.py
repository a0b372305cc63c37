"""Signals that end a recording, as a file descriptor that a poll can wait on."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass(slots=True)
class StopSignals:
    """The signals that came and were not yet taken; `descriptor` is readable while there are any."""

    descriptor: int
    _received: list[int] = field(default_factory=list[int])

    def add(self, number: int) -> None:
        """Called by the signal handler."""
        self._received.append(number)

    def take(self) -> list[int]:
        """Returns what came since the last call."""
        with suppress(BlockingIOError):
            os.read(self.descriptor, 4096)
        received, self._received = self._received, []
        return received


@contextmanager
def stop_signals() -> Generator[StopSignals]:
    """Collects SIGINT, SIGTERM and SIGHUP instead of letting them end the program."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    stop = StopSignals(read_end)
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # as under nohup
    ]
    before = {number: signal.signal(number, lambda received, _: stop.add(received)) for number in numbers}
    wakeup_before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read_end)
        os.close(write_end)
