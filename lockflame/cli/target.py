"""The process that a command is about."""

from __future__ import annotations

from dataclasses import dataclass

from lockflame.errors import LockflameError
from sampler import procfs
from sampler.launch import Child


@dataclass(frozen=True, slots=True)
class Target:
    """A process by its PID, or a command that we start."""

    pid: int
    name: str
    command_line: str
    child: Child | None = None


def running_target(pid: int, what: str) -> Target:
    """The process of this PID. Raises `LockflameError`, in which `what` is said to fail, if it is none to look at."""
    status = procfs.process_status(pid)
    if status is None:
        raise LockflameError(what, "there is no such process", "check the PID with: ps -e")
    if status.is_kernel_thread:
        raise LockflameError(what, f"it is a kernel thread ({status.comm})", "give the PID of a program")
    if status.state in "ZX":
        raise LockflameError(what, f"it has ended ({status.comm} is a zombie)", "check the PID with: ps -e")
    process = procfs.process_of_thread(pid)
    if process not in (None, pid):
        raise LockflameError(what, f"it is a thread of process {process}", f"use -p {process}")
    return Target(pid, status.comm, procfs.command_line(pid))
