"""The layouts of `locks.bpf.c`'s structures, for Python. Both files change together."""

from __future__ import annotations

import struct

THREAD_ENTRIES = 16384
HOLD_ENTRIES = 65536
"""Locks that are held at a time."""
PLACE_ENTRIES = 16384
"""Paths that wait for a lock or release it."""

BUCKETS = 48
KINDS = ("mutex", "rwlock read", "rwlock write", "spin")
SIDE_WAIT, SIDE_HOLD = 0, 1
COUNTS = (
    "events",
    "no_thread_entry",
    "no_hold_entry",
    "missed_release",
    "unknown_hold",
    "short",
    "refused",
)
"""What `counts` counts, in its order."""

NEVER_NS = (1 << 64) - 1
CONTROL = struct.Struct("<8Q")
"""struct control: start_ns, end_ns, code_start, code_bytes, only, least_wait_ns, type_offset, hold_floor_ns."""
THREAD = struct.Struct("<Q32xQ56x")
"""struct thread, of which only the start_ns of both its waits are read."""
HOLD = struct.Struct("<QII")
"""struct hold: start_ns, depth, kind."""

PLACE = (("lock", "<u8"), ("path", "<u4"), ("side", "<u4"))
"""struct place, as the fields of a numpy type."""
PLACE_KEY = struct.Struct("<QII")
"""The same by itself."""
SUMS = (
    *(("count", "<i8"), ("total_ns", "<i8"), ("max_ns", "<i8"), ("min_ns", "<i8")),
    *(("samples", "<u4"), ("kind", "<u4"), ("failed", "<u4"), ("padding", "<u4")),
    ("buckets", "<u4", (BUCKETS,)),
)
"""struct sums likewise."""
SUMS_HEAD = struct.Struct("<4Q")
"""The first of them: count, total_ns, max_ns, min_ns."""
