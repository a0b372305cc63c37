"""The frames of lock pictures that are no code: the locks themselves, and notes on what isn't known."""

from __future__ import annotations

import enum

from lockflame.profile import TRUNCATED_STACK, Lock, Memory

NOT_RELEASED = "[not released in the recording]"
"""In the place of a holder: nobody had given the lock back by the end."""
HOLDER_NOT_SAMPLED = "[holder not sampled]"
WAITER_NOT_SAMPLED = "[waiter not sampled]"
OTHER_HOLDERS = "[other holders]"
"""Those with little weight, together."""

_NOTES = frozenset({NOT_RELEASED, HOLDER_NOT_SAMPLED, WAITER_NOT_SAMPLED, OTHER_HOLDERS, TRUNCATED_STACK})


class ViewName(enum.StrEnum):
    """The pictures of a profile."""

    CPU = "cpu"
    """CPU time."""
    WAIT = "wait"
    """Who waits, for which lock."""
    HOLDER = "holder"
    """Who releases the locks that others wait for."""
    CHAIN = "chain"
    """Who waits, for which lock, and on top of it who held it."""


def lock_label(lock: Lock) -> str:
    """Which lock it is, in a few words: `LOCK_open (mutex)`. Not escaped."""
    name = lock.name or lock.symbol
    if not name:
        name = "not told apart" if lock.memory is Memory.UNKNOWN else f"0x{lock.address:x}"
    # The name of a class may begin with its kind: `condition waited for in pop`.
    return f"{name} ({lock.kind})" if lock.kind and not name.startswith(f"{lock.kind} ") else name


def lock_mark(lock: Lock, view: ViewName) -> str:
    """The name of a lock's frame: `[LOCK_open (mutex)]`.

    Where releases are shown, it says whether who released it is known to have held it, or only to have woken waiters.
    """
    label = lock_label(lock).removeprefix("[").removesuffix("]")
    if view is ViewName.WAIT:
        return f"[{label}]"
    how = "held" if lock.has_owner else "woken"
    return f"[{label}, {how} by]" if view is ViewName.CHAIN else f"[{label}, {how}]"


def is_lock_mark(name: str) -> bool:
    """Whether a marker frame of this name stands for a lock, as those do that are no notes."""
    return name.startswith("[") and name not in _NOTES
