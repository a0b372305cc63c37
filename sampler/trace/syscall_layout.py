"""The layouts of `syscalls.bpf.c`'s structures, for Python. Both files change together."""

from __future__ import annotations

import struct
from enum import IntEnum

CALLS_MOST = 512
"""System calls that are followed at a time: as many as there are."""
OPEN_ENTRIES = 16384
"""Threads that are followed at a time."""
CELL_ENTRIES = 65536
"""Counts that are kept apart, where there is memory for so many."""
CELL_BYTES_MOST = 64 << 20
STACK_ENTRIES = 16384
MEASURES = 4
CALL_MARK = 0x7FCA11

QUESTION = struct.Struct("<IIIIqQQ")
"""struct question: measures, by, at_enter, is_linear, linear_min, linear_step, linear_buckets."""
MEASURE = struct.Struct("<IIII")
"""struct measure: kind, argument, shift, is_signed."""
FD_ARGUMENT = struct.Struct("<II")
"""The end of struct call: fd_argument, padding."""
KEY = struct.Struct("<IIiI16s")
"""struct key: call, measure, bucket, error, by."""
CALL_AND_MEASURE = struct.Struct("<II")
"""The beginning of struct key."""
CELL = struct.Struct("<QQqQ")
"""struct cell: count, sum_low, sum_high, max."""
STACK_SAMPLE = struct.Struct("<II52x")
"""struct stack_sample: pid, path."""

LOSSES = ("no_open_entry", "no_cell", "no_begin", "no_stack_entry", "no_end")
"""What `losses` counts, in its order."""


class MeasureKind(IntEnum):
    """What is measured of a call (enum measure_kind)."""

    ARGUMENT = 0
    RESULT = 1
    LATENCY = 2
    OUTCOME = 3
    """Its error and its latency: for the table."""


class By(IntEnum):
    """By what calls are told apart (enum by)."""

    NOTHING = 0
    RET = 1
    COMM = 2
    PID = 3
    TID = 4
    FD = 5
    ERROR = 6
    USTACK = 7
