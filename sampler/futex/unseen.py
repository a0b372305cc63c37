"""Processes whose futex calls the probes don't see, and what is to be said about them."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress

# The first bytes of an ELF file: the mark, then its class (elf(5)).
ELF_32 = b"\x7fELF\x01"
NAMED_MOST = 5


def is_32_bit(pid: int) -> bool:
    """Whether a process runs a 32-bit program: the kernel has other functions and no tracepoints for its calls."""
    with suppress(OSError), open(f"/proc/{pid}/exe", "rb", buffering=0) as file:
        return file.read(len(ELF_32)) == ELF_32
    return False


def is_in_our_pid_namespace(pid: int) -> bool:
    """Whether a process has its numbers from the same pid namespace as we; True where it has ended."""
    with suppress(OSError):
        return os.path.samestat(os.stat(f"/proc/{pid}/ns/pid"), os.stat("/proc/self/ns/pid"))
    return True


def note_of_32_bit(pids: Collection[int]) -> str:
    """What to say of processes that run 32-bit programs; empty for none."""
    if not pids:
        return ""
    return f"{_named(pids)}: lock waits of 32-bit programs are not seen, and are not in the totals."


def note_of_inner(pids: Collection[int]) -> str:
    """What to say of processes in another pid namespace than ours, where ours isn't the machine's; empty for none."""
    if not pids:
        return ""
    return f"{_named(pids)}: in a pid namespace of their own, whose lock waits are only seen from the machine's own."


def _named(pids: Collection[int]) -> str:
    shown = ", ".join(map(str, sorted(pids)[:NAMED_MOST]))
    more = f" and {len(pids) - NAMED_MOST:,} more" if len(pids) > NAMED_MOST else ""
    return f"Process{'es' if len(pids) > 1 else ''} {shown}{more}"
