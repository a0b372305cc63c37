"""Counts the instructions of each part under callgrind, two parts at a time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.support.needs import CannotTest, find_program
from tests.support.paths import REPO

AT_A_TIME = 2
SECONDS_MOST = 300.0
"""For one part: some ten seconds are usual."""
TRAPS_MOST = 3
"""Valgrind 3.19 sometimes ends by SIGTRAP when counting starts, in code that it has translated before."""
SWITCH = Path(__file__).parent / "switch.c"
CLIENT_REQUESTS = Path("/usr/include/valgrind/callgrind.h")
_TOTALS = re.compile(rb"^totals: (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Counted:
    """The instructions of one part. The input, which `words` describe, has `count` of what `each` names."""

    name: str
    words: str
    each: str
    count: int
    instructions: int

    @property
    def millions(self) -> float:
        """The instructions in millions."""
        return self.instructions / 1e6

    @property
    def instructions_each(self) -> float:
        """The instructions for each sample, frame, address or stack."""
        return self.instructions / self.count


class CountingFailed(Exception):
    """A part didn't end well under callgrind; the message is its own."""


def count_parts(names: Sequence[str], python: str = sys.executable) -> list[Counted]:
    """Counts the named parts. Raises `CannotTest` without valgrind or a C compiler, `CountingFailed`."""
    valgrind = str(find_program("valgrind"))
    if not CLIENT_REQUESTS.exists():
        raise CannotTest(f"{CLIENT_REQUESTS} is missing: apt-get install --no-install-recommends valgrind")
    with tempfile.TemporaryDirectory(prefix="lf-bench-") as name:
        folder = Path(name)
        switch = _compile_switch(folder)
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            return list(pool.map(lambda part: _count(part, (valgrind, python, str(switch)), folder / part), names))


def _compile_switch(folder: Path) -> Path:
    switch = folder / "switch.so"
    command = [str(find_program("cc")), "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", str(SWITCH), "-o", str(switch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CountingFailed(f"{SWITCH.name}: {done.stderr}")
    return switch


def _count(part: str, programs: tuple[str, str, str], folder: Path) -> Counted:
    valgrind, python, switch = programs
    folder.mkdir()
    # A file for each process: the demangler works in a forked child, which counts like its parent.
    options = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/counted.%p"]
    command = [valgrind, *options, python, "-m", "benchmarks.instructions.inside", part, switch, str(folder)]
    done = _run(part, command, folder)
    for _ in range(TRAPS_MOST):
        if done.returncode != -signal.SIGTRAP:
            break
        for file in folder.glob("counted.*"):
            file.unlink()
        done = _run(part, command, folder)
    if done.returncode != 0:
        raise CountingFailed(f"{part}: {done.stderr[-2000:]}")
    told = json.loads(done.stdout)
    instructions = sum(_totals(file) for file in folder.glob("counted.*"))
    return Counted(part, told["words"], told["each"], told["count"], instructions)


def _run(part: str, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = _environment(folder)
    try:
        return subprocess.run(
            command, cwd=REPO, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS_MOST
        )
    except subprocess.TimeoutExpired as late:
        raise CountingFailed(f"{part}: not ready after {SECONDS_MOST:.0f} s") from late


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of ours: hashes, threads and what Python finds at home would change the count."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _totals(file: Path) -> int:
    """What a file of callgrind says in all ("Callgrind Format Specification", totals)."""
    found = _TOTALS.search(file.read_bytes())
    if found is None:
        raise CountingFailed(f"{file.name}: no totals")
    return int(found[1])
