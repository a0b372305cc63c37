"""`lockflame diff` on recordings of real programs: one that was built anew with half the hold time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockflame.pprof import encode
from tests.support.cli import CliResult, run_lockflame
from tests.support.lock_truth import HOLD, Watched, watch
from tests.support.process import running
from tests.support.recording import record
from tests.support.targets import RELEASE, build_target
from tests.unit.flame.conftest import profile_of

pytestmark = [pytest.mark.integration]

SECONDS = 3
RATIO_ERROR = 0.1
WAITS_RATIO_ERROR = 0.15
"""On a busy machine the log and the kernel differ by more than the waits: they end when the thread runs again."""


@dataclass(frozen=True, slots=True)
class Side:
    """A recording of one build, and what the program says of the time: its turns and its waits."""

    path: Path
    watched: Watched

    @property
    def wait_ns(self) -> int:
        return self.watched.truth.time_ns(self.watched.waits(), "rebuild_index")

    @property
    def turns(self) -> int:
        """Each is one hold of the lock."""
        return int(np.count_nonzero(self.watched.truth.within(self.watched.start_ns, self.watched.end_ns, HOLD)))


def recorded(folder: Path, *flags: str) -> Side:
    folder.mkdir()
    program = build_target("lock_rebuilt.cpp", flags=(*RELEASE, *flags))
    watched = watch(folder, program, seconds=SECONDS, arguments=("-F", 1999))
    return Side(folder / "waits.pb.gz", watched)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Side:
    return recorded(tmp_path_factory.mktemp("diff") / "before")


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Side:
    return recorded(tmp_path_factory.mktemp("diff") / "after", "-DHOLD_US=1000", "-DREBUILT")


def rows_of(result: CliResult) -> list[dict[str, Any]]:
    assert result.status == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.requires_root
def test_half_the_hold_time_names_the_lock_and_the_function_first(before: Side, after: Side) -> None:
    """The truth: CPU is burnt by the thread's clock, so that a turn costs just half; waits are as the program logs."""
    work = ("--work", f"BEFORE={before.turns}", "--work", f"AFTER={after.turns}")
    rows = rows_of(run_lockflame("diff", before.path, after.path, "--json", *work))
    lock = next(row for row in rows if row["row"] == "lock")
    assert (lock["lock"], lock["kind"]) == ("LOCK_index", "mutex")
    expected = (after.wait_ns / after.turns) / (before.wait_ns / before.turns)
    assert lock["total_after_ns"] / lock["total_before_ns"] == pytest.approx(expected, rel=WAITS_RATIO_ERROR)
    function = next(row for row in rows if row["row"] == "function")
    assert function["function"] in ("rebuild_index", "burn_index")  # one of them calls the other, and little else
    assert function["total_stands_out"]
    assert function["total_change_percent"] < 0
    # Burnt within the hold: inlined in one build, a function in the other.
    (burn,) = [row for row in rows if row.get("function") == "burn_index"]
    assert burn["total_after_ns"] / burn["total_before_ns"] == pytest.approx(0.5, rel=RATIO_ERROR)
    assert burn["total_change_low_ns"] < -1e6 < burn["total_change_high_ns"]


@pytest.mark.requires_root
def test_text_says_what_stands_out(before: Side, after: Side, tmp_path: Path) -> None:
    picture = tmp_path / "diff.svg"
    result = run_lockflame("diff", "--before", before.path, "--after", after.path, "--top", 3, "-o", picture)
    assert result.status == 0, result.stderr
    first, second = result.stdout.split("\n\n")
    assert first.startswith("Locks, per second of recording\n")
    assert "LOCK_index" in first
    assert "→" in first
    assert second.startswith("Functions: CPU time per second of recording\n")
    assert len(second.splitlines()) == 5
    assert "changed by more than noise (*)" in result.stderr
    assert picture.read_text().startswith("<")


@pytest.mark.requires_root
def test_several_recordings_of_a_side(before: Side, after: Side) -> None:
    sides = ("--before", before.path, before.path, "--after", after.path, after.path)
    rows = rows_of(run_lockflame("diff", *sides, "--json", "--top", 1))
    single = rows_of(run_lockflame("diff", before.path, after.path, "--json", "--top", 1))
    assert rows[0]["total_before_ns"] == pytest.approx(single[0]["total_before_ns"])


@pytest.mark.requires_root
def test_status_for_ci(before: Side, after: Side) -> None:
    limit = ("--fail-above", "10", "--of", "lock:LOCK_index")
    worse = run_lockflame("diff", after.path, before.path, *limit)
    assert worse.status == 3, worse.stderr
    assert "above the limit of 10 %: time waited for LOCK_index" in worse.stderr
    better = run_lockflame("diff", before.path, after.path, *limit)
    assert better.status == 0
    assert "not above the limit" in better.stderr
    same = run_lockflame("diff", before.path, before.path, "--fail-above", "0", "--of", "cpu")
    assert same.status == 0, same.stderr


def test_the_same_program_twice_is_within_the_noise(tmp_path: Path) -> None:
    """One thread that burns all of its time in two functions; others may take its CPU, so shares are compared."""
    program = build_target("split_70_30.c")
    paths = [tmp_path / "a.pb.gz", tmp_path / "b.pb.gz"]
    for path in paths:
        with running([program]) as target:
            record(path, "-p", target.pid, "-d", 2, "-F", 199)
    result = run_lockflame("diff", *paths, "--normalize", "total", "--json", "--top", 2)
    rows = rows_of(result)
    assert "nothing changed by more than noise" in result.stderr
    assert not any(row["stands_out"] for row in rows)
    assert {row["per"] for row in rows} == {"total"}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("full", "empty"), 1, "nothing to compare. There are no samples after"),
        (("full",), 2, "give two profiles"),
        (("full", "full", "--before", "full"), 2, "or both --before FILE"),
        (("--before", "full", "full"), 2, "or both --before FILE"),
        (("full", "full", "--work", "BEFORE=5"), 2, "give --work twice"),
        (("full", "full", "--work", "BEFORE=0", "--work", "AFTER=1"), 2, "isn't like BEFORE=120000"),
        (("full", "full", "--fail-above", "5", "--of", "lock:"), 2, "--of is cpu, wait or lock:NAME"),
        (("full", "full", "--fail-above", "5", "--of", "wait"), 1, "cannot tell how waits changed"),
        (("full", "full", "--normalize", "second"), 1, "A file doesn't tell how long was recorded"),
        (("full", "missing"), 1, "missing"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], status: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "full").write_bytes(encode(profile_of([(("main", "work"), 50)])))
    (tmp_path / "empty").write_bytes(encode(profile_of([])))
    result = run_lockflame("diff", *arguments, cwd=tmp_path)
    assert result.status == status, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    error = [line for line in result.stderr.splitlines() if line.startswith("lockflame: error:")]
    assert len(error) == 1
