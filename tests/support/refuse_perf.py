"""Becomes a command to which the kernel refuses perf events or BPF, as in many containers.

usage: python -m tests.support.refuse_perf ERRNO[:CALL] COMMAND [ARGUMENT...]

A seccomp filter answers CALL with ERRNO (a name: EPERM); see seccomp(2) and linux/filter.h. CALL is perf_event_open
unless given, bpf, or perf_of_all: perf_event_open for all processes, as tracepoints with programs are opened.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

PERF_EVENT_OPEN, BPF = 298, 321
CALLS = {"perf_event_open": PERF_EVENT_OPEN, "perf_of_all": PERF_EVENT_OPEN, "bpf": BPF}
# Where struct seccomp_data has the low half of the second argument: the pid, -1 for all.
PID_OFFSET, ALL_PIDS = 24, 0xFFFFFFFF
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
SECCOMP_MODE_FILTER = 2
RETURN_ALLOW, RETURN_ERRNO = 0x7FFF0000, 0x00050000
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06


class FilterProgram(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse(error: int, call: str = "perf_event_open") -> None:
    """From now on, `call` fails with `error` in this process and in what it becomes."""
    of_all = [(LOAD_WORD, 0, 0, PID_OFFSET), (JUMP_IF_EQUAL, 0, 1, ALL_PIDS)] if call == "perf_of_all" else []
    steps = [
        (LOAD_WORD, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 1 + len(of_all), CALLS[call]),
        *of_all,
        (RETURN, 0, 0, RETURN_ERRNO | error),
        (RETURN, 0, 0, RETURN_ALLOW),
    ]
    program = FilterProgram(len(steps), b"".join(struct.pack("<HBBI", *step) for step in steps))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program))):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    name, _, refused = sys.argv[1].partition(":")
    refuse(getattr(errno, name), refused or "perf_event_open")
    os.execvp(sys.argv[2], sys.argv[2:])
