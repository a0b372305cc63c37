"""Signals that end a recording, as a file descriptor that a poll can wait on."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any


class StopSignals:
    """Collects SIGINT, SIGTERM and SIGHUP from `with` on, instead of letting them end the program.

    `descriptor` is readable while there are some that weren't taken.
    """

    def __init__(self) -> None:
        self._received: list[int] = []
        self._handlers_before: dict[int, Any] = {}
        self.descriptor = -1

    def __enter__(self) -> StopSignals:
        self.descriptor, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                self._handlers_before[number] = signal.signal(
                    number, lambda received, _: self._received.append(received)
                )
        self._wakeup_before = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def take(self) -> list[int]:
        """Returns what came since the last call."""
        with suppress(BlockingIOError):
            os.read(self.descriptor, 4096)
        received, self._received = self._received, []
        return received

    def act_on_early(self) -> None:
        """Lets what came by now do what it does to any program: there is nothing yet that it could stop."""
        received = self.take()
        if received:
            self.release()
            signal.raise_signal(received[0])

    def release(self) -> None:
        """Lets signals do what they did before: a second Ctrl-C may end what comes after the recording."""
        if self.descriptor < 0:
            return
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        os.close(self.descriptor)
        os.close(self._write_end)
        self.descriptor = -1
