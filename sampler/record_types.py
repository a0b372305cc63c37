"""The types of perf_event records that Lockflame reads (enum perf_event_type in linux/perf_event.h)."""

from __future__ import annotations

RECORD_LOST = 2
RECORD_COMM = 3
RECORD_EXIT = 4
RECORD_THROTTLE = 5
RECORD_UNTHROTTLE = 6
RECORD_FORK = 7
RECORD_SAMPLE = 9
RECORD_MMAP2 = 10
RECORD_KSYMBOL = 17

MISC_COMM_EXEC = 1 << 13
MISC_MMAP_BUILD_ID = 1 << 14
KSYMBOL_UNREGISTER = 1 << 0

CONTEXT_KERNEL = 2**64 - 128
CONTEXT_USER = 2**64 - 512
CONTEXT_MAX = 2**64 - 4095
"""Addresses from here up are marks in a callchain: what follows is kernel, user, … (enum perf_callchain_context)."""
