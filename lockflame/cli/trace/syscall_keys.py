"""Names for what calls are told apart by: comm, thread, descriptor, result, stack."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field

from sampler import procfs
from sampler.trace.descriptors import DescriptorNames
from sampler.trace.syscall_layout import By

# Within the kernel only, which begins such a call anew or has it return EINTR (linux/errno.h).
_RESTARTS = {512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 516: "ERESTART_RESTARTBLOCK"}
_ERRORS_MOST = 4095


@dataclass(frozen=True, slots=True)
class KeyNames:
    """What is known of keys; `stacks` are lines for each (process, path)."""

    by: By
    descriptors: DescriptorNames = field(default_factory=DescriptorNames)
    stacks: Mapping[tuple[int, int], tuple[str, ...]] = field(default_factory=dict[tuple[int, int], tuple[str, ...]])

    def lines(self, key: bytes) -> tuple[str, ...]:
        """A key in words, on one line or, for a stack, on several; none where there are no keys."""
        low, number = int.from_bytes(key[:4], "little"), int.from_bytes(key[:8], "little", signed=True)
        high = int.from_bytes(key[4:8], "little")
        if self.by is By.RET:
            return (f"ret {result_text(number)}",)
        if self.by is By.COMM:
            return (f"comm {_comm(key)}",)
        if self.by in (By.PID, By.TID):
            return (f"{self.by.name.lower()} {low} ({_name_of(low)})",)
        if self.by is By.FD:
            return (f"fd {signed(low)} of process {high}: {self.descriptors.name(high, signed(low))}",)
        if self.by is By.ERROR:
            return (error_name(low) if low else "no error",)
        if self.by is By.USTACK:
            return self.stacks.get((high, low), ("(no stack was taken)",))
        return ()

    def facts(self, key: bytes) -> dict[str, object]:
        """The same for JSON."""
        low, number = int.from_bytes(key[:4], "little"), int.from_bytes(key[:8], "little", signed=True)
        high = int.from_bytes(key[4:8], "little")
        if self.by is By.RET:
            return {"ret": number, **({"error": error_name(-number)} if _is_error(number) else {})}
        if self.by is By.COMM:
            return {"comm": _comm(key)}
        if self.by in (By.PID, By.TID):
            return {self.by.name.lower(): low, "comm": _name_of(low)}
        if self.by is By.FD:
            return {"pid": high, "fd": signed(low), "file": self.descriptors.name(high, signed(low))}
        if self.by is By.ERROR:
            return {"error": error_name(low) if low else None}
        if self.by is By.USTACK:
            return {"ustack": list(self.lines(key))}
        return {}


def descriptors_in(keys: set[bytes]) -> set[tuple[int, int]]:
    """The processes and descriptors of keys by fd."""
    return {(int.from_bytes(key[4:8], "little"), signed(int.from_bytes(key[:4], "little"))) for key in keys}


def error_name(number: int) -> str:
    """`EAGAIN`, or `error 4000` where it has no name."""
    return errno.errorcode.get(number) or _RESTARTS.get(number) or f"error {number}"


def result_text(number: int) -> str:
    """A call's result: an error by its name."""
    return error_name(-number) if _is_error(number) else f"{number:,}"


def signed(number: int) -> int:
    """32 bits as an int of C."""
    return number - (1 << 32) if number >> 31 else number


def _is_error(number: int) -> bool:
    return -_ERRORS_MOST <= number < 0


def _comm(key: bytes) -> str:
    return key.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _name_of(number: int) -> str:
    status = procfs.process_status(number)
    return status.comm if status else "ended by now"
