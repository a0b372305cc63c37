"""Writes lines to the standard output as they come, and never sits in a write that a signal couldn't end."""

from __future__ import annotations

import os
import select

from sampler.signals import StopSignals

CHUNK_BYTES = select.PIPE_BUF
"""What a pipe that poll calls writable takes without making us wait (pipe(7))."""
STDOUT = 1
PATIENCE_S = 2.0
"""How long a reader may let us wait at the end."""


class LiveOutput:
    """The standard output. `is_closed` once nobody reads it any more, which is no error: `| head` does it."""

    def __init__(self, stop: StopSignals) -> None:
        """A signal of `stop` ends waiting for a reader that doesn't read; the signal stays to be taken."""
        self.is_closed = False
        self._rest = memoryview(b"")
        self._stop = stop.descriptor

    def write(self, text: str) -> None:
        """Writes it, or as much of it as there is room for when a stop signal comes; `finish` writes the rest.

        Raises `OSError` where it can't be written, such as on a full disk.
        """
        self._add(text)
        poll = select.poll()
        poll.register(STDOUT, select.POLLOUT)
        poll.register(self._stop, select.POLLIN)
        while self._rest and not self.is_closed:
            if STDOUT not in dict(poll.poll()):
                return
            self._write_some()

    def finish(self, text: str) -> bool:
        """Writes what is left, and this; False where nobody takes it within `PATIENCE_S`. Raises `OSError`."""
        self._add(text)
        poll = select.poll()
        poll.register(STDOUT, select.POLLOUT)
        while self._rest and not self.is_closed:
            if not poll.poll(PATIENCE_S * 1000):
                return False
            self._write_some()
        return not self.is_closed

    def _add(self, text: str) -> None:
        self._rest = memoryview(bytes(self._rest) + text.encode(errors="replace"))

    def _write_some(self) -> None:
        try:
            self._rest = self._rest[os.write(STDOUT, self._rest[:CHUNK_BYTES]) :]
        except BrokenPipeError:
            self.is_closed = True
        except BlockingIOError:
            pass  # somebody else has filled it meanwhile
