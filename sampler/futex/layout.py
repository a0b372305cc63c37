"""The layouts of `futex.bpf.c`'s structures, for Python. Both files change together."""

from __future__ import annotations

import struct

WAIT_ENTRIES = 16384
"""Threads that are followed at a time."""
LOCK_ENTRIES = 16384
"""Futex words that are counted one by one."""
PLACE_ENTRIES = 65536
"""Places on threads' stacks where words are waited for or released."""
TARGET_ENTRIES = 4096
"""Processes."""

BUCKETS = 48
ENDS = 5
BUDGETS = 4

NEVER_NS = (1 << 64) - 1
CONTROL = struct.Struct("<QQQQQ")
"""struct control: start_ns, end_ns, sample_interval_ns, namespace_device, namespace_inode."""
TARGET = struct.Struct("<IIQQ")
"""struct target: generation, family, code_start, code_bytes."""
KEY = struct.Struct("<QII")
"""struct key: address, pid, space."""
BUDGET = struct.Struct("<QQQQ")
"""struct budget: period_ns and what the kernel keeps there."""
THREAD = struct.Struct("<Q16sIIBBBBBB2xQQ21Q16x")
"""struct thread: start_ns, key, owner, pid, operation, budget, is_counted, has_registers, is_contended,
restarts, code_start, code_bytes, registers, gap, charged (of the kernel's own)."""
LOCK = struct.Struct(f"<QQQqQQQQQQ{ENDS}QIIIIQQQ{BUCKETS}Q")
"""struct lock: entered, left, waiting, balance, charged, credit, next_sample, next_release_sample, max_ns, first_ns,
ends, pid, owner, operation, budget, is_free, unowned, woken, buckets."""

PLACE = (("address", "<u8"), ("tid", "<u4"), ("pid", "<u4"), ("space", "<u4"), ("path", "<u4"))
"""struct place, as the fields of a numpy type."""
PLACE_SUMS = (("waits", "<i8"), ("waited_ns", "<i8"), ("caused_ns", "<i8"))
"""struct place_sums likewise."""

PT_REGS = (
    *("r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8"),
    *("ax", "cx", "dx", "si", "di", "orig_ax", "ip", "cs", "flags", "sp", "ss"),
)
"""The user's registers as the kernel keeps them (arch/x86/include/uapi/asm/ptrace.h)."""

SAMPLE_WAIT, SAMPLE_RELEASE = 0, 1
SAMPLE = struct.Struct("<15I")
"""struct sample: kind, and pairs of low and high halves: address, (pid, space), weight_ns, duration_ns, credit_ns,
(owner, operation), and path."""

BUDGET_LOCK, BUDGET_OTHER = 0, 1
LOSSES = ("no_thread_entry", "missed_end", "no_place_entry", "deferred_charge", "no_target_entry")
"""What `losses` counts, in its order."""
