"""`trace locks` beside what a program counts and times itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lockflame.pprof import read
from lockflame.profile import DELAY, HELD
from tests.support.cli import lockflame_running, run_lockflame
from tests.support.process import Target, running
from tests.support.targets import RELEASE, build_target

pytestmark = [pytest.mark.integration, pytest.mark.requires_root]

TURNS = 60
SETTLE_S = 0.5
"""From the line that says that tracing begins until it does, and more."""
HOT_LOOP = """
import ctypes, sys, threading
libc = ctypes.CDLL(None)
mutex = ctypes.create_string_buffer(64)
print("ready", flush=True)
while True:
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_unlock(mutex)
"""
PATCHED = """
import ctypes, mmap, sys, time
libc = ctypes.CDLL(None)
address = ctypes.cast(libc.pthread_mutex_trylock, ctypes.c_void_p).value
page = address & -4096
assert libc.mprotect(ctypes.c_void_p(page), 8192, 7) == 0
ctypes.memmove(address, b"\\xb8\\x10\\x00\\x00\\x00\\xc3", 6)  # mov $EBUSY, %eax; ret
print("ready", flush=True)
time.sleep(60)
"""


RUNS_ANOTHER = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
print("ready", flush=True)
signal.sigwait({signal.SIGUSR1})
os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"])
"""


@dataclass(frozen=True, slots=True)
class Traced:
    """A trace of trace_locks from its first lock to its last, and what it says itself."""

    rows: dict[str, dict[str, Any]]
    truth: dict[str, Any]
    stderr: str
    profile: Path

    def path(self, name: str) -> tuple[int, int]:
        """Count and time of `wait LOCK FUNCTION`, or of holds likewise."""
        side, lock, function = name.split()
        stacks = [path for path in self.rows[lock][f"{side}_stacks"] if function in path["stack"]]
        return sum(path["count"] for path in stacks), sum(path["total_ns"] for path in stacks)


@contextmanager
def waiting_target(program: Path) -> Iterator[Target]:
    """trace_locks before it takes its first lock."""
    with running([str(program), str(TURNS)]) as target:
        yield target


def wait_for_start(tracer: subprocess.Popen[str]) -> str:
    """Until it says that it traces; what it said is returned."""
    assert tracer.stderr is not None
    said = ""
    while "lockflame: tracing" not in said:
        line = tracer.stderr.readline()
        assert line, said
        said += line
    time.sleep(SETTLE_S)
    return said


def traced(program: Path, folder: Path, *arguments: str) -> Traced:
    """Traces it until it ends."""
    profile = folder / "trace.pb.gz"
    with waiting_target(program) as target:
        command = ("trace", "locks", "-p", str(target.pid), "--json", "-o", str(profile), *arguments)
        with lockflame_running(*command) as tracer:
            said = wait_for_start(tracer)
            os.kill(target.pid, signal.SIGUSR1)
            stdout, stderr = tracer.communicate(timeout=60)
        assert tracer.returncode == 0, stderr
        target.wait()
        rows = {row["lock"]: row for row in json.loads(stdout)}
        return Traced(rows, target.last_json(), said + stderr, profile)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    return traced(build_target("trace_locks.c"), tmp_path_factory.mktemp("trace"))


def assert_counts_are_equal(trace: Traced) -> None:
    for name, (count, _) in ((name, value) for name, value in trace.truth.items() if name[:4] in ("wait", "hold")):
        assert trace.path(name)[0] == count, name
    busy, condition = trace.rows["LOCK_busy"], trace.rows["LOCK_condition"]
    assert (busy["waits"], busy["failed_waits"], busy["holds"]) == (
        1 + trace.truth["timed_out"],
        trace.truth["timed_out"],
        1,
    )
    assert f"{trace.truth['refused']:,} attempts didn't get the lock" in trace.stderr
    # Each thread takes it once; each wait on the condition gives it up and takes it again.
    waited_on_condition, held_ns = trace.truth["condition"]
    assert condition["waits"] == 3
    assert condition["holds"] == 3 + waited_on_condition
    # The probe on the return from a condition costs most: its instruction takes a second trap.
    assert condition["held_total_ns"] == pytest.approx(held_ns, rel=0.02, abs=200_000 * waited_on_condition)


def test_counts_are_exact_and_times_are_right(whole: Traced) -> None:
    assert_counts_are_equal(whole)
    for name in ("hold LOCK_shared take_long", "hold LOCK_rows write_rows", "hold LOCK_rows read_rows"):
        assert whole.path(name)[1] == pytest.approx(whole.truth[name][1], rel=0.02), name
    # Of short waits, the target's own clock has seen the probes too.
    name = "wait LOCK_shared take_short"
    assert whole.path(name)[1] == pytest.approx(whole.truth[name][1], rel=0.02, abs=5_000 * whole.truth[name][0])
    for row in whole.rows.values():
        for side, count in (("wait", row["waits"]), ("held", row["holds"])):
            assert sum(number for _, number in row[f"{side}_histogram"]) == count
    assert [whole.rows[name]["kind"] for name in ("LOCK_shared", "LOCK_rows", "LOCK_spin")] == [
        "mutex",
        "rwlock",
        "spinlock",
    ]


@pytest.mark.parametrize(
    ("flags", "compiler"),
    [((*RELEASE, "-static"), None), (RELEASE, "musl-gcc"), ((*RELEASE, "-static"), "musl-gcc")],
    ids=["static", "musl", "static-musl"],
)
def test_other_libcs(flags: tuple[str, ...], compiler: str | None, tmp_path: Path) -> None:
    assert_counts_are_equal(traced(build_target("trace_locks.c", flags=flags, compiler=compiler), tmp_path))


@pytest.mark.parametrize("compiler", [None, "musl-gcc"])
def test_lock_functions_that_are_left_in_unusual_ways(compiler: str | None, tmp_path: Path) -> None:
    trace = traced(build_target("trace_locks_left.c", compiler=compiler), tmp_path)
    taken = {name: row["waits"] for name, row in trace.rows.items() if name in trace.truth}
    assert taken | {"failures": 0} == trace.truth
    # A condition that was cancelled has its mutex again without anybody seeing it.
    missed = trace.truth["LOCK_cancelled"] // 2
    assert trace.rows["LOCK_interrupted"]["holds"] == taken["LOCK_interrupted"]
    assert trace.rows["LOCK_cancelled"]["holds"] == taken["LOCK_cancelled"]
    assert f"{missed} times a lock was given back that hadn't been seen taken" in trace.stderr


def test_the_profile_is_read_by_the_other_commands(whole: Traced, tmp_path: Path) -> None:
    profile = read(str(whole.profile))
    for row in whole.rows.values():
        (lock,) = [lock for lock in profile.locks if f"0x{lock.address:x}" == row["address"]]
        assert (lock.ends.total, lock.total_ns) == (row["waits"], row["wait_total_ns"])
        assert (lock.held.count if lock.held else 0) == row["holds"]
    assert profile.total(DELAY) == sum(row["wait_total_ns"] for row in whole.rows.values())
    assert profile.total(HELD) == sum(row["held_total_ns"] for row in whole.rows.values())
    listed = json.loads(run_lockflame("locks", whole.profile, "--json").stdout)
    assert {row["lock"]: row["waits"] for row in listed if row["waits"]}["LOCK_shared"] == whole.rows["LOCK_shared"][
        "waits"
    ]
    for view in ("wait", "holder", "chain"):
        result = run_lockflame("flame", whole.profile, "--view", view, "-o", tmp_path / f"{view}.svg")
        assert result.status == 0, result.stderr
    assert "take_long" in (tmp_path / "holder.svg").read_text()
    result = run_lockflame("diff", whole.profile, whole.profile)
    assert "nothing changed by more than noise" in result.stderr


def test_one_lock_alone(tmp_path: Path) -> None:
    alone = traced(build_target("trace_locks.c"), tmp_path, "--lock", "LOCK_rows", "--min-wait", "100us", "--wait")
    assert alone.rows.keys() == {"LOCK_rows"}
    row = alone.rows["LOCK_rows"]
    assert "holds" not in row
    assert 0 < row["waits"] < alone.truth["wait LOCK_rows read_rows"][0]
    assert row["wait_histogram"][0][0] > 65_536
    assert "waits shorter than --min-wait" in alone.stderr


def test_text_has_a_histogram_for_each_path() -> None:
    with (
        waiting_target(build_target("trace_locks.c")) as target,
        lockflame_running("trace", "locks", "-p", str(target.pid), "--top", "2") as tracer,
    ):
        wait_for_start(tracer)
        os.kill(target.pid, signal.SIGUSR1)
        target.wait()
        stdout, stderr = tracer.communicate(timeout=60)
    assert tracer.returncode == 0, stderr
    heading, *rows = stdout.split("\n\n")[0].splitlines()
    assert heading.split() == ["waits", "total", "mean", "p99", "max", "holds", "held", "mean", "max", "kind", "lock"]
    assert len(rows) == 3
    assert re.search(r"and \d+ more locks", rows[-1])
    assert re.search(r"LOCK_shared waited for by: \d+ waits, .*\n    pthread_mutex_lock\n    take_short\n", stdout)
    assert re.search(r"LOCK_shared held, and given back by: \d+ holds, .*\n    pthread_mutex_unlock\n    take_", stdout)
    assert max(map(len, (line for line in stdout.splitlines() if "|" in line))) <= 80


def test_it_ends_by_itself_where_there_are_too_many() -> None:
    with running([sys.executable, "-c", HOT_LOOP]) as target:
        result = run_lockflame("trace", "locks", "-p", str(target.pid), "--max-events-per-second", "1000", "--json")
    assert result.status == 0, result.stderr
    assert "are more than --max-events-per-second 1,000" in result.stderr
    assert re.search(
        r"lock calls and returns a second: (about \d+ % of the CPU time|too little CPU time)", result.stderr
    )
    row = max(json.loads(result.stdout), key=lambda row: row["waits"])
    assert row["waits"] > 1000
    assert abs(row["waits"] - row["holds"]) <= 1


def test_a_function_that_another_tool_has_patched_is_left_out() -> None:
    with running([sys.executable, "-c", PATCHED]) as target:
        result = run_lockflame("trace", "locks", "-p", str(target.pid), "-d", "0.2")
    assert result.status == 0, result.stderr
    assert (
        "note: pthread_mutex_trylock of libc.so.6 was changed in memory by another tool: it is left out"
        in result.stderr
    )


def test_a_target_that_runs_another_program() -> None:
    with (
        running([sys.executable, "-c", RUNS_ANOTHER]) as target,
        lockflame_running("trace", "locks", "-p", str(target.pid), "-d", "2") as tracer,
    ):
        wait_for_start(tracer)
        os.kill(target.pid, signal.SIGUSR1)
        _, stderr = tracer.communicate(timeout=60)
    assert tracer.returncode == 0, stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("-p", "999999"), 1, "There is no such process"),
        (("-p", "2"), 1, "It is a kernel thread"),
        (("-p", "1", "--wait", "--held"), 2, "--wait and --held exclude each other"),
        (("-p", "1", "--min-wait", "5"), 2, "give a number with its unit"),
        (("-p", "1", "-d", "nan"), 2, "duration"),
        ((), 2, "Missing option '-p'"),
    ],
)
def test_wrong_usage_is_one_line(arguments: tuple[str, ...], status: int, said: str) -> None:
    result = run_lockflame("trace", "locks", *arguments)
    assert result.status == status
    assert said in result.stderr
    assert len([line for line in result.stderr.splitlines() if line]) == 1


def test_a_program_without_symbols_and_one_of_another_user() -> None:
    with waiting_target(build_target("trace_locks.c", flags=("-O2", "-static", "-s"))) as target:
        without = run_lockflame("trace", "locks", "-p", str(target.pid))
        forbidden = run_lockflame("trace", "locks", "-p", str(target.pid), user="nobody")
    assert without.status == forbidden.status == 1
    assert "None of its files has a symbol pthread_mutex_lock" in without.stderr
    assert "run as root" in forbidden.stderr.lower()
    assert "Traceback" not in forbidden.stderr
