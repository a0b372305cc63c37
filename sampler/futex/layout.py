"""The layouts of `futex.bpf.c`'s structures, for Python. Both files change together."""

from __future__ import annotations

import struct

WAIT_ENTRIES = 16384
"""Threads that are followed at a time."""
LOCK_ENTRIES = 16384
"""Futex words that are counted one by one."""
SEEN_ENTRIES = 65536
"""Pairs of a thread and a word that it waited for."""
TARGET_ENTRIES = 4096
"""Processes."""

BUCKETS = 48
ENDS = 5
BUDGETS = 4

NEVER_NS = (1 << 64) - 1
CONTROL = struct.Struct("<QQQQQ")
"""struct control: start_ns, end_ns, sample_interval_ns, namespace_device, namespace_inode."""
TARGET = struct.Struct("<II")
"""struct target: generation, family."""
KEY = struct.Struct("<QII")
"""struct key: address, pid, space."""
BUDGET = struct.Struct("<QQQQ")
"""struct budget: period_ns and what the kernel keeps there."""
THREAD = struct.Struct("<Q16sIIBBBBB3x21Q")
"""struct thread: start_ns, key, owner, pid, operation, budget, is_counted, was_counted, has_registers, registers."""
LOCK = struct.Struct(f"<QQQqQQQQQQ{ENDS}QQIIIIQQ{BUCKETS}Q")
"""struct lock: entered, left, waiting, balance, charged, credit, next_sample, next_release_sample, max_ns, first_ns,
ends, threads, pid, owner, operation, budget, is_free, unowned, buckets."""

PT_REGS = (
    *("r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8"),
    *("ax", "cx", "dx", "si", "di", "orig_ax", "ip", "cs", "flags", "sp", "ss"),
)
"""The user's registers as the kernel keeps them (arch/x86/include/uapi/asm/ptrace.h)."""

SAMPLE_WAIT, SAMPLE_RELEASE = 0, 1
SAMPLE = struct.Struct("<13I")
"""struct sample: kind, and pairs of low and high halves: address, (pid, space), weight_ns, duration_ns, credit_ns,
(owner, operation)."""

BUDGET_LOCK, BUDGET_OTHER = 0, 1
LOSSES = ("no_thread_entry", "missed_end", "no_seen_entry", "deferred_charge", "no_target_entry")
"""What `losses` counts, in its order."""
