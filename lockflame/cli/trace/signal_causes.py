"""Why the kernel sent a signal, as far as its number and siginfo's code tell (uapi/asm-generic/siginfo.h)."""

from __future__ import annotations

import signal
from signal import Signals

USER, QUEUE, TIMER, MESSAGE, ASYNC_IO, SIGNAL_IO, TKILL = 0, -1, -2, -3, -4, -5, -6
"""si_code of signals that aren't the kernel's alone."""
KERNEL = 128

OUT_OF_MEMORY = "out of memory"

_BY_CODE: dict[tuple[int, int], str] = {
    (Signals.SIGSEGV, 1): "nothing mapped at the address",
    (Signals.SIGSEGV, 2): "access not allowed",
    (Signals.SIGSEGV, 3): "bounds check failed",
    (Signals.SIGSEGV, 4): "protection key",
    (Signals.SIGSEGV, KERNEL): "general protection fault",
    (Signals.SIGBUS, 1): "unaligned address",
    (Signals.SIGBUS, 2): "no memory behind the address, as past the end of a mapped file",
    (Signals.SIGBUS, 3): "hardware error",
    (Signals.SIGBUS, 4): "memory error",
    (Signals.SIGBUS, 5): "memory error, found early",
    (Signals.SIGILL, 1): "illegal opcode",
    (Signals.SIGILL, 2): "illegal operand",
    (Signals.SIGILL, 5): "privileged opcode",
    (Signals.SIGFPE, 1): "integer division by zero",
    (Signals.SIGFPE, 2): "integer overflow",
    (Signals.SIGFPE, 3): "floating-point division by zero",
    (Signals.SIGFPE, 4): "floating-point overflow",
    (Signals.SIGFPE, 5): "floating-point underflow",
    (Signals.SIGFPE, 6): "inexact floating-point result",
    (Signals.SIGFPE, 7): "invalid floating-point operation",
    (Signals.SIGTRAP, 1): "breakpoint",
    (Signals.SIGTRAP, 2): "single step",
    (Signals.SIGTRAP, 4): "hardware breakpoint",
    (Signals.SIGTRAP, 6): "perf event",
    (Signals.SIGTRAP, KERNEL): "breakpoint",
    (Signals.SIGSYS, 1): "system call that seccomp forbids",
    (Signals.SIGPIPE, USER): "write to a pipe or socket that nobody reads",
    (Signals.SIGXFSZ, USER): "file size limit",
    (Signals.SIGXCPU, KERNEL): "CPU time limit",
    (Signals.SIGALRM, KERNEL): "timer",
    (Signals.SIGVTALRM, KERNEL): "timer",
    (Signals.SIGPROF, KERNEL): "timer",
    (Signals.SIGINT, KERNEL): "terminal",
    (Signals.SIGQUIT, KERNEL): "terminal",
    (Signals.SIGTSTP, KERNEL): "terminal",
    (Signals.SIGTTIN, KERNEL): "read from the terminal in the background",
    (Signals.SIGTTOU, KERNEL): "write to the terminal in the background",
    (Signals.SIGWINCH, KERNEL): "terminal resized",
    (Signals.SIGURG, KERNEL): "urgent data",
}
_BY_CODE_ALONE = {
    TIMER: "timer",
    MESSAGE: "message queue",
    ASYNC_IO: "asynchronous I/O",
    SIGNAL_IO: "I/O",
}
_CHILD = {1: "ended", 2: "was killed", 3: "dumped core", 4: "trapped", 5: "stopped", 6: "goes on"}
"""CLD_* of SIGCHLD."""


def cause_of(number: int, code: int, running: str, *, is_own: bool) -> str:
    """Briefly; empty where nothing more is known than that the kernel sent it.

    `running` is the thread that ran then, as a text: of SIGCHLD that is the child. `is_own`: it is the target too.
    """
    if number == signal.SIGCHLD and code in _CHILD:
        return f"{running} {_CHILD[code]}"
    if code == USER and not is_own:
        return f"caused by {running}"  # as by writing to cgroup.kill, or by its own end (prctl(2), PR_SET_PDEATHSIG)
    return _BY_CODE.get((number, code)) or _BY_CODE_ALONE.get(code, "")


def is_timer(number: int, code: int) -> bool:
    """Whether a timer brought it about: whoever ran then has nothing to do with it."""
    return code == TIMER or (
        code == KERNEL and number in (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGXCPU)
    )
