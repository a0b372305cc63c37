"""The exact tracers on another kernel than the host's, which sets uprobes one by one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sampler.bpf.uprobes import has_uprobe_links
from tests.support.cli import lockflame_running
from tests.support.needs import CannotTest
from tests.support.process import running
from tests.support.targets import build_target

pytestmark = [pytest.mark.integration, pytest.mark.requires_root]

TURNS = "12"
PATIENCE_S = 240
SENDER = """
import os, signal
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
print("ready", flush=True)
signal.sigwait({signal.SIGUSR1})
for _ in range(10):
    os.kill(os.getpid(), signal.SIGUSR2)
    os.getppid()
"""


def need_uprobes_one_by_one() -> None:
    if has_uprobe_links():
        raise CannotTest("this kernel sets uprobes at once: make test-kprobes runs this on one that doesn't")


def wait_for_start(tracer: subprocess.Popen[str]) -> None:
    """Until it says that it traces."""
    assert tracer.stderr is not None
    said = ""
    while "lockflame: tracing" not in said:
        line = tracer.stderr.readline()
        assert line, said
        said += line


def begin_when_traced(target: int, *arguments: str) -> str:
    """Traces a process, tells it to begin once it is traced, and returns what was printed at its end."""
    with lockflame_running("trace", *arguments, "-p", str(target)) as tracer:
        wait_for_start(tracer)
        # The line comes right before the start; emulation is slow.
        subprocess.run(["sleep", "3"], check=True)
        os.kill(target, signal.SIGUSR1)
        stdout, stderr = tracer.communicate(timeout=PATIENCE_S)
        assert tracer.returncode == 0, stderr
        return stdout


def test_locks_are_counted_exactly() -> None:
    need_uprobes_one_by_one()
    with running([build_target("trace_locks.c"), TURNS]) as target:
        rows = {row["lock"]: row for row in json.loads(begin_when_traced(target.pid, "locks", "--json"))}
        target.wait(PATIENCE_S)
        truth = target.last_json()
    for name, value in truth.items():
        side, _, rest = name.partition(" ")
        if side in ("wait", "hold"):
            lock, function = rest.split()
            paths = [path for path in rows[lock][f"{side}_stacks"] if function in path["stack"]]
            assert sum(path["count"] for path in paths) == value[0], name


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(("syscalls", "getppid", "--json"), 10), (("signals", "--signal", "USR2", "--json"), 10)],
)
def test_calls_and_signals_are_counted_exactly(arguments: tuple[str, ...], expected: int, tmp_path: Path) -> None:
    need_uprobes_one_by_one()
    program = tmp_path / "sender.py"
    program.write_text(SENDER)
    with running([sys.executable, program]) as target:
        printed = begin_when_traced(target.pid, *arguments)
    if arguments[0] == "signals":
        assert len(printed.splitlines()) == expected
    else:
        (row,) = json.loads(printed)
        assert row["calls"] == expected
