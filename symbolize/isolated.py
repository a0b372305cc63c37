"""Work on data from outside that a library might not survive, done in a forked child with limits.

A library in C ends its process by a crash, by endless memory or by endless time when a hostile or damaged
file gets the better of it. The child may end so; what it has written by then is kept.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

PIPE_BYTES = 1 << 20
_PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use beyond what its parent uses already, and how much it may answer."""

    memory_bytes: int
    cpu_seconds: int
    answer_bytes: int


class Isolated:
    """A child at work. Several may run at once: each one's `answer` is asked for once."""

    def __init__(self, work: Callable[[IO[bytes]], None], limits: Limits) -> None:
        """Starts `work`, which writes its answer to the file that it is given. Raises `OSError`."""
        self._limits = limits
        self._read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            self._pid = os.fork()
        except OSError:
            os.close(self._read_end)
            os.close(write_end)
            raise
        if self._pid == 0:
            os.close(self._read_end)
            _run(work, write_end, limits)
        os.close(write_end)

    def answer(self) -> tuple[bytes, bool]:
        """What the child wrote, and whether it came to its end."""
        try:
            with open(self._read_end, "rb", buffering=0) as pipe:
                parts: list[bytes] = []
                room = self._limits.answer_bytes
                while room and (part := pipe.read(min(PIPE_BYTES, room))):
                    parts.append(part)
                    room -= len(part)
        except BaseException:
            os.kill(self._pid, signal.SIGKILL)
            raise
        finally:
            _, status = os.waitpid(self._pid, 0)
        return b"".join(parts), status == 0


def _run(work: Callable[[IO[bytes]], None], pipe: int, limits: Limits) -> None:
    """In the child. Never returns."""
    status = 1
    try:
        with open("/proc/self/statm") as file:
            used_bytes = int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE")
        _limit(resource.RLIMIT_AS, used_bytes + limits.memory_bytes)
        _limit(resource.RLIMIT_CPU, limits.cpu_seconds)
        _limit(resource.RLIMIT_CORE, 0)  # its end is no crash that anyone should look into
        # A file may also make it wait (a FIFO, a network file system): twice the time, by the clock.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(2 * limits.cpu_seconds)
        # Nobody else ends it where the parent is killed, or gives up while it waits for another child.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # Ctrl-C goes to the whole process group; it is the parent's to decide what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with open(pipe, "wb") as file:
            work(file)
        status = 0
    finally:
        os._exit(status)


def _limit(resource_number: int, value: int) -> None:
    _, hard = resource.getrlimit(resource_number)
    resource.setrlimit(resource_number, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
