"""How many instructions each part may take: budgets.json, by the interpreter that they were measured with."""

from __future__ import annotations

import json
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.instructions.counting import Counted
from tests.support.needs import find_program

FILE = Path(__file__).parent / "budgets.json"
ROOM = 1.1
"""How much of its budget a part may use."""
TOO_HIGH = 1.2
"""Budgets that are this many times what is used hide what gets slower."""
PACKAGES = ("numpy", "pydemumble", "flameprof")
"""Whose instructions are counted too."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A part's budget in millions of instructions, for the input that these words describe."""

    words: str
    millions: float


@dataclass(frozen=True, slots=True)
class Budgets:
    """The budgets by part, and what they were measured with: versions by name."""

    versions: Mapping[str, str]
    parts: Mapping[str, Budget]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a count means. `budget` is None where there is none for this interpreter and this input."""

    counted: Counted
    budget: float | None

    @property
    def share(self) -> float | None:
        """How much of the budget is used; 1 is all of it."""
        return self.counted.millions / self.budget if self.budget else None

    @property
    def is_over(self) -> bool:
        """Whether it is more than the budget with its room."""
        return self.share is not None and self.share > ROOM

    @property
    def is_too_high(self) -> bool:
        """Whether the budget should be lowered."""
        return self.share is not None and self.share * TOO_HIGH < 1


def interpreter() -> str:
    """Whose budgets are ours: another version of Python, or another build of it, takes other instructions."""
    compiler = platform.python_compiler()
    return f"{platform.python_implementation()} {platform.python_version()}, {compiler}"


def versions() -> dict[str, str]:
    """What else the counts depend on. Raises `CannotTest` without valgrind."""
    told = subprocess.run([find_program("valgrind"), "--version"], capture_output=True, text=True, check=True)
    library, number = platform.libc_ver()
    return {
        **{package: version(package) for package in PACKAGES},
        "C library": f"{library} {number}",
        "valgrind": re.sub(r"^valgrind-", "", told.stdout.strip()),
    }


def load(file: Path = FILE) -> dict[str, Budgets]:
    """All budgets, by `interpreter`; none where there is no file."""
    if not file.exists():
        return {}
    content: dict[str, Any] = json.loads(file.read_text())
    return {name: _budgets(entry) for name, entry in content.items()}


def save(counted: Sequence[Counted], file: Path = FILE) -> None:
    """Makes what was counted the budgets of this interpreter's; parts that weren't counted keep theirs."""
    known = load(file)
    ours = known.get(interpreter())
    parts = {**(ours.parts if ours else {}), **{one.name: Budget(one.words, round(one.millions, 1)) for one in counted}}
    known[interpreter()] = Budgets(versions(), parts)
    file.write_text(json.dumps({name: _record(known[name]) for name in sorted(known)}, indent=2) + "\n")


def judge(counted: Sequence[Counted], budgets: Budgets | None) -> list[Verdict]:
    """What each count means by these budgets; one for another input doesn't count."""
    parts = budgets.parts if budgets else {}
    found = {one.name: parts[one.name] for one in counted if one.name in parts and parts[one.name].words == one.words}
    return [Verdict(one, found[one.name].millions if one.name in found else None) for one in counted]


def differences(measured_with: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Which versions aren't those that the budgets were measured with; empty where all are."""
    names = sorted(name for name in {*measured_with, *now} if measured_with.get(name) != now.get(name))
    return ", ".join(f"{name} {now.get(name, 'none')}, not {measured_with.get(name, 'none')}" for name in names)


def _budgets(entry: dict[str, Any]) -> Budgets:
    parts = {name: Budget(part["input"], part["millions"]) for name, part in entry["parts"].items()}
    return Budgets(entry["measured with"], parts)


def _record(budgets: Budgets) -> dict[str, Any]:
    parts = {name: {"input": part.words, "millions": part.millions} for name, part in budgets.parts.items()}
    return {"measured with": dict(budgets.versions), "parts": parts}
