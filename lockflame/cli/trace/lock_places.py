"""Which functions of a process a trace of locks looks at, and which lock the user means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lockflame.errors import LockflameError
from lockflame.events import FileMapping
from sampler import procfs
from sampler.trace.lock_probes import WHAT, LockProbe
from symbolize.lock_functions import LockFunctions
from symbolize.variables import variable_addresses

CONDITION_RETURN = "on_condition_return"


@dataclass(frozen=True, slots=True)
class LockChoice:
    """What `--lock` asks for: an address to be followed alone (0: all locks are), or a name to be shown alone."""

    address: int = 0
    name: str = ""


def mappings_of(pid: int) -> tuple[FileMapping, ...]:
    """The executable mappings of a process. Raises `LockflameError` where they can't be had."""
    mappings = procfs.snapshot(pid).mappings
    if not mappings:
        raise LockflameError(
            WHAT, f"the memory map of process {pid} cannot be read, or it has ended", "run as root; check the PID"
        )
    return mappings


def probes_of(functions: LockFunctions) -> list[LockProbe]:
    """The places to be probed, and what runs there."""
    probes: list[LockProbe] = []
    for function in functions.functions:
        probes.append(LockProbe(function.path, function.call, function.role.value, function.role.takes))
        probes += [LockProbe(function.path, place, CONDITION_RETURN, False) for place in function.returns]
    return probes


def lock_choice(text: str | None, mappings: Sequence[FileMapping]) -> LockChoice:
    """What `--lock ADDRESS|NAME` means in a process: a variable's name is an address. Raises `LockflameError`."""
    if text is None:
        return LockChoice()
    if text.lower().startswith("0x"):
        try:
            address = int(text, 16)
        except ValueError:
            address = 0
        if not 0 < address < 2**64:
            raise LockflameError(WHAT, f"{text} is no address", "give one like 0x7f0012345678, or a lock's name")
        return LockChoice(address=address)
    addresses = variable_addresses(mappings, text)
    return LockChoice(address=addresses[0]) if len(addresses) == 1 else LockChoice(name=text)
