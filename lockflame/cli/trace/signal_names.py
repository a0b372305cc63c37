"""Signals by name and by number, as `kill -l` lists them."""

from __future__ import annotations

import difflib
import signal

REAL_TIME_FIRST = 34
"""glibc's SIGRTMIN; it keeps the kernel's first two real-time signals, 32 and 33, to itself."""
REAL_TIME_LAST = 64
REAL_TIME_HALF = 15
"""As far as names count up from SIGRTMIN; from there on they count down from SIGRTMAX."""
OF_LIBC = {32: "SIGCANCEL", 33: "SIGSETXID"}
"""What glibc uses these for: to cancel a thread, and to set the user ids of all threads."""
ALIASES = {"IOT": signal.SIGABRT, "POLL": signal.SIGIO, "CLD": signal.SIGCHLD}
CLOSE_NAMES = 3

_PLAIN = {16: "SIGSTKFLT"} | {int(number): number.name for number in signal.Signals if number < min(OF_LIBC)}


def signal_name(number: int) -> str:
    """Such as SIGTERM or SIGRTMIN+3; the number itself where no signal has it."""
    if number in _PLAIN:
        return _PLAIN[number]
    if number in OF_LIBC:
        return OF_LIBC[number]
    if not REAL_TIME_FIRST <= number <= REAL_TIME_LAST:
        return str(number)
    up, down = number - REAL_TIME_FIRST, REAL_TIME_LAST - number
    if up <= REAL_TIME_HALF:
        return f"SIGRTMIN+{up}" if up else "SIGRTMIN"
    return f"SIGRTMAX-{down}" if down else "SIGRTMAX"


def signal_number(text: str) -> int | None:
    """The number of a signal given as 15, TERM, SIGTERM or RTMIN+3, in any case; None if there is none."""
    if text.isascii() and text.isdigit():
        return int(text) if len(text) <= 2 and int(text) <= REAL_TIME_LAST else None
    name = text.upper().removeprefix("SIG")
    return _numbers().get(name)


def close_names(text: str) -> list[str]:
    """Names that look like this one."""
    name = f"SIG{text.upper().removeprefix('SIG')}"
    return difflib.get_close_matches(name, [f"SIG{known}" for known in _numbers()], CLOSE_NAMES)


def _numbers() -> dict[str, int]:
    """All names, without SIG."""
    numbers = {name: int(number) for name, number in ALIASES.items()}
    for number in range(1, REAL_TIME_LAST + 1):
        numbers[signal_name(number).removeprefix("SIG")] = number
    for number in range(REAL_TIME_FIRST, REAL_TIME_LAST + 1):
        numbers[f"RTMIN+{number - REAL_TIME_FIRST}"] = number
        numbers[f"RTMAX-{REAL_TIME_LAST - number}"] = number
    return numbers
