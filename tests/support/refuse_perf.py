"""Becomes a command to which the kernel refuses perf events, as in many containers.

usage: python -m tests.support.refuse_perf ERRNO COMMAND [ARGUMENT...]

A seccomp filter answers perf_event_open with ERRNO (a name: EPERM); see seccomp(2) and linux/filter.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

PERF_EVENT_OPEN = 298
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
SECCOMP_MODE_FILTER = 2
RETURN_ALLOW, RETURN_ERRNO = 0x7FFF0000, 0x00050000
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06


class FilterProgram(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse_perf(error: int) -> None:
    """From now on, perf_event_open fails with `error` in this process and in what it becomes."""
    steps = [
        (LOAD_WORD, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 1, PERF_EVENT_OPEN),
        (RETURN, 0, 0, RETURN_ERRNO | error),
        (RETURN, 0, 0, RETURN_ALLOW),
    ]
    program = FilterProgram(len(steps), b"".join(struct.pack("<HBBI", *step) for step in steps))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program))):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    refuse_perf(getattr(errno, sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
