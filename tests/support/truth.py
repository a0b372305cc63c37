"""Compares stacks with those that the source of `unwind_truth` dictates."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

FOREIGN = "*"
"""In a chain: one or more frames of other modules."""

_SUFFIXES = re.compile(r"(\.cold|\.part\.\d+|@plt)+$|\(.*\)$")


@dataclass(frozen=True, slots=True)
class Truth:
    """The chains of one scenario, leaf first, down to `main` or to a thread's first function."""

    scenario: str
    chains: tuple[tuple[str, ...], ...]
    may_truncate: bool

    @classmethod
    def parse(cls, line: str) -> Truth:
        """From the first line that `unwind_truth` prints."""
        record = json.loads(line)
        chains = tuple(tuple(chain) for chain in record["chains"])
        return cls(record["scenario"], chains, record["may_truncate"])

    @property
    def names(self) -> frozenset[str]:
        """Every function that the chains name."""
        return frozenset(name for chain in self.chains for name in chain) - {FOREIGN}

    def concerns(self, stack: Sequence[str]) -> bool:
        """Whether a stack was taken while the scenario burned CPU: its leaf, or for the `plt` scenario some frame,
        is that of a chain. Other samples are of the program's start, of its clock, or of libc's throw."""
        names = [plain_name(name) for name in stack]
        leaves = {chain[0] for chain in self.chains}
        if FOREIGN in leaves:
            return bool(leaves.intersection(names))
        return bool(names) and names[0] in leaves

    def matches(self, stack: Sequence[str], truncated: bool = False) -> bool:
        """Whether a stack of user frames, leaf first, equals one of the chains.

        What stands below a chain's last function (`_start`, `clone3`) is not compared. A `truncated` stack (its marker
        not among its frames) matches only where the scenario allows it, and if it reaches the foreign frames.
        """
        names = [plain_name(name) for name in stack]
        if truncated and not self.may_truncate:
            return False
        return any(_matches_chain(names, chain, self.names, truncated) for chain in self.chains)


def plain_name(name: str) -> str:
    """A function's name without what compilers and demanglers add: `.cold` parts, parameter lists."""
    return _SUFFIXES.sub("", name)


def _matches_chain(stack: Sequence[str], chain: Sequence[str], ours: frozenset[str], truncated: bool) -> bool:
    position = 0
    passed_foreign = False
    for wanted in chain:
        if truncated and passed_foreign and position == len(stack):
            return True
        start = position
        if wanted == FOREIGN:
            while position < len(stack) and stack[position] not in ours:
                position += 1
            passed_foreign = True
        elif position < len(stack) and stack[position] == wanted:
            position += 1
        if position == start:
            return False
    return not ours.intersection(stack[position:])
