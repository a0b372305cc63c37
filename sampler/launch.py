"""Starts a command that waits before its first instruction until the sampler is attached."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import suppress
from dataclasses import dataclass

from lockflame.errors import LockflameError


@dataclass(slots=True)
class Child:
    """A started command. It runs once `go` was called."""

    name: str
    pid: int
    go_pipe: int
    error_pipe: int
    status: int | None = None
    """The wait status, once it has ended."""

    def go(self) -> None:
        """Lets the command run. Raises `LockflameError` when it can't be executed."""
        try:
            os.write(self.go_pipe, b"g")
        except BrokenPipeError:
            raise LockflameError(
                f"cannot run {self.name}", f"its process ended ({self.wait()}) before it ran"
            ) from None
        finally:
            os.close(self.go_pipe)
            self.go_pipe = -1
        # The pipe closes by itself as the exec succeeds.
        failure = os.read(self.error_pipe, 16)
        if failure:
            self.wait()
            raise LockflameError(
                f"cannot run {self.name}", os.strerror(int(failure)), "check the command's name and its permissions"
            )

    @property
    def was_let_go(self) -> bool:
        """Whether the command was told to run."""
        return self.go_pipe < 0

    def has_ended(self) -> bool:
        """Whether the command has ended; takes its status if so."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
        return self.status is not None

    def wait(self) -> int:
        """Waits for the command's end and returns what a shell would say: its status, or 128 + signal."""
        if self.status is None:
            _, self.status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(self.status)
        return code if code >= 0 else 128 - code

    def send(self, number: int) -> None:
        """Sends a signal, unless the command has ended."""
        if self.status is None:
            with suppress(PermissionError):  # it has become another user
                os.kill(self.pid, number)

    def close(self) -> None:
        """Frees what belongs to the start. A command that was never let go ends by itself."""
        for descriptor in (self.go_pipe, self.error_pipe):
            if descriptor >= 0:
                os.close(descriptor)
        if self.go_pipe >= 0:
            self.wait()
        self.go_pipe = self.error_pipe = -1


def start(command: tuple[str, ...]) -> Child:
    """Forks a child that will exec `command` in its own environment. Raises `LockflameError`."""
    go_read, go_write = os.pipe()
    error_read, error_write = os.pipe()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        pid = os.fork()
    except OSError as error:
        raise LockflameError(f"cannot start {command[0]}", error.strerror or "fork failed") from error
    if pid == 0:
        os.close(go_write)
        os.close(error_read)
        _become(command, go_read, error_write, limits)
    os.close(go_read)
    os.close(error_write)
    return Child(command[0], pid, go_write, error_read)


def _become(command: tuple[str, ...], go_pipe: int, error_pipe: int, limits: tuple[int, int]) -> None:
    """In the child: waits for the word, then becomes the command. Never returns."""
    status = 127
    try:
        # Python ignores these two; the command must find them as our own parent left them.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        if os.read(go_pipe, 1) == b"g":
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            os.execvp(command[0], command)
    except OSError as error:
        os.write(error_pipe, b"%d" % (error.errno or 0))
    finally:
        os._exit(status)
