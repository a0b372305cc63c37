"""The wait table as JSON objects."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flame.locks.histogram import buckets
from flame.locks.naming import object_address
from flame.locks.wait_stacks import WeightedStack
from flame.locks.wait_table import WaitRow, WaitTable
from lockflame.profile import Lock


def wait_json(table: WaitTable, row: WaitRow) -> dict[str, Any]:
    """A row as a JSON object. Addresses are hexadecimal text: JSON's numbers are too small for them in many readers.

    How the waits ended is there by the names of `WaitEnds`. `holders_are` tells what the stacks in `holders` are:
    `holders` of the lock, or `wakers` of the waiters. `members` has an object for each futex word.
    """
    return {
        "lock": row.lock,
        "kind": row.kind,
        "is_idle": row.is_idle,
        "addresses": row.addresses,
        "waits": row.waits,
        "threads": row.threads,
        "total_ns": row.total_ns,
        "share": row.share,
        "mean_ns": row.mean_ns,
        "p50_ns": row.p50_ns,
        "p99_ns": row.p99_ns,
        "max_ns": row.max_ns,
        "contended_cpu_ns": row.contended_cpu_ns,
        "caused_ns": row.caused_ns,
        "unreleased_ns": row.unreleased_ns,
        "woken_ns": row.woken_ns,
        **asdict(row.ends),
        "histogram": [[upper_ns, count] for upper_ns, count in buckets(row.histogram)],
        "wait_path": list(row.wait_path),
        "hold_path": list(row.hold_path),
        "waiters": [_stack_json(stack) for stack in table.waiters(row)],
        "holders": [_stack_json(stack) for stack in table.holders(row)],
        "holders_are": "holders" if row.has_owner else "wakers",
        "members": [_member_json(table.profile.locks[index]) for index in row.members],
    }


def _stack_json(stack: WeightedStack) -> dict[str, Any]:
    return {"stack": list(stack.names), "weight_ns": stack.weight_ns}


def _member_json(lock: Lock) -> dict[str, Any]:
    return {
        "pid": lock.pid,
        "address": f"0x{lock.address:x}",
        "object_address": f"0x{object_address(lock):x}",
        "symbol": lock.symbol,
        "waits": lock.ends.total,
        "total_ns": lock.total_ns,
        "max_ns": lock.max_ns,
        "threads": lock.threads,
    }
