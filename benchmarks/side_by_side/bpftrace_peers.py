"""bpftrace's scripts as tools: they count every event, and print histograms by stack at their end. None draws."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.side_by_side.beginnings import Beginning
from benchmarks.side_by_side.files import SAID
from benchmarks.side_by_side.folding import Histogram, Stack, bpftrace_histograms, lock_callers
from benchmarks.side_by_side.model import Answer, Tool
from tests.support.needs import find_program
from tests.support.tracefs import WITH_TRACEFS

SCRIPTS = Path(__file__).parents[1]
CACHED = "BPFTRACE_CACHE_USER_SYMBOLS=1"
"""Else it reads the symbols of all files anew for every frame: minutes for MariaDB. It keeps them by itself only where
addresses are not random."""
PROBES = {"futex_waits.bt": 3, "pmlock.bt": 3, "pmheld.bt": 6}
"""How many each script has."""


def answer(folder: Path) -> Answer:
    """What a script printed. Its samples are all calls that it saw; how many it missed it doesn't tell."""
    return answer_of(bpftrace_histograms((folder / SAID).read_text(errors="replace")))


def answer_of(found: Sequence[Histogram]) -> Answer:
    """The same, of its histograms. The paths' order is that of times estimated from buckets, idle waits among them."""
    paths = lock_callers(Stack(one.names, one.total_ns) for one in found)
    return Answer(samples=sum(one.count for one in found), lock_paths=paths)


def _command(script: str, pid: int, _: Path) -> Sequence[str]:
    return ["env", CACHED, *WITH_TRACEFS, str(find_program("bpftrace")), "-B", "line", str(SCRIPTS / script), str(pid)]


def _beginning(script: str) -> Beginning:
    """When all of its probes are there; its buffers, one for each CPU, are perf events too and opened before."""
    return Beginning(least=(os.cpu_count() or 1) + PROBES[script])


def _tool(name: str, script: str) -> Tool:
    return Tool(name, "bpftrace", functools.partial(_command, script), answer, has_picture=False)


SCRIPT_OF = {"bpftrace futex": "futex_waits.bt", "pmlock": "pmlock.bt", "pmheld": "pmheld.bt"}
TOOLS = tuple(_tool(name, script) for name, script in SCRIPT_OF.items())
BEGINNINGS = {name: _beginning(script) for name, script in SCRIPT_OF.items()}
