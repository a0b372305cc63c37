"""`lockflame diff` on recordings of real programs: one that was built anew with half the hold time.

The machine may be busy. Then little is more than noise, and said to be so; what CPU a piece of work costs holds anyway.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockflame.pprof import encode
from lockflame.profile import Profile
from tests.support.cli import CliResult, run_lockflame
from tests.support.lock_truth import HOLD, Watched, watch
from tests.support.process import running
from tests.support.recording import record
from tests.support.targets import RELEASE, build_target
from tests.unit.flame.conftest import profile_of
from tests.unit.flame.diff.test_locks import waited
from tests.unit.flame.lock_profiles import MS, QUERY, RECORDING, WAITING, lock_profile

pytestmark = [pytest.mark.integration]

SECONDS = 2
RATIO_ERROR = 0.1
HOLD_US = {"before": 2000, "after": 1000}
PARSE_US = 800
NOTHING = "nothing changed by more than noise"


@dataclass(frozen=True, slots=True)
class Side:
    """A recording of one build, and what the program says of it."""

    path: Path
    watched: Watched

    @property
    def turns(self) -> int:
        """How many came to their end in the recording: each has one hold of the lock."""
        holds = self.watched.truth.within(self.watched.start_ns, self.watched.end_ns, HOLD)
        return int(np.count_nonzero(holds["end"] < self.watched.end_ns))

    def hold_cpu_us(self, asked_us: int) -> float:
        """The CPU time of a hold. Each turn burns twice, and a little more each time than it is asked to."""
        turn_us = self.watched.profile.recording.cpu_time_ns / 1000 / self.turns
        return asked_us + (turn_us - asked_us - PARSE_US) / 2


def recorded(folder: Path, *flags: str) -> Side:
    folder.mkdir()
    program = build_target("lock_rebuilt.cpp", flags=(*RELEASE, *flags))
    watched = watch(folder, program, seconds=SECONDS, arguments=("-F", 999))
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
    """Per turn: CPU is burnt by the threads' own clocks, so that it costs the same however busy the machine is."""
    work = ("--work", f"BEFORE={before.turns}", "--work", f"AFTER={after.turns}")
    rows = rows_of(run_lockflame("diff", before.path, after.path, "--json", *work))
    lock = next(row for row in rows if row["row"] == "lock")
    assert (lock["lock"], lock["kind"]) == ("LOCK_index", "mutex")
    # Burnt within the hold: inlined in one build, a function in the other.
    (burn,) = [row for row in rows if row.get("function") == "burn_index"]
    expected = after.hold_cpu_us(HOLD_US["after"]) / before.hold_cpu_us(HOLD_US["before"])
    assert burn["total_after_ns"] / burn["total_before_ns"] == pytest.approx(expected, rel=RATIO_ERROR)
    assert 0.4 < expected < 0.6
    if burn["total_stands_out"]:
        first = next(row for row in rows if row["row"] == "function")
        assert first["function"] in ("rebuild_index", "burn_index")  # one of them calls the other, and little else
        assert first["stands_out"]


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
    # A star in the tables or in rows that aren't shown, or none at all.
    assert ("changed by more than noise (*)" in result.stderr) != (NOTHING in result.stderr)
    if "*" in result.stdout:
        assert NOTHING not in result.stderr
    assert picture.read_text().startswith("<")


def test_the_same_program_twice_is_within_the_noise(tmp_path: Path) -> None:
    """One thread that burns all of its time in two functions."""
    program = build_target("split_70_30.c")
    paths = [tmp_path / "a.pb.gz", tmp_path / "b.pb.gz"]
    for path in paths:
        with running([program]) as target:
            record(path, "-p", target.pid, "-d", 1.5, "-F", 199)
    result = run_lockflame("diff", *paths, "--json", "--top", 2)
    rows = rows_of(result)
    assert NOTHING in result.stderr
    assert not any(row["stands_out"] for row in rows)


def calm(hold_ms: float, variation: float) -> Profile:
    """10 s of a program on a machine that has time for it. Each of 1000 turns burns 8 ms of CPU in parse_request, and
    `hold_ms` under LOCK_index, for which every second one waits as long; all of it a little more or less."""
    turns = round(1000 * variation)
    lock = waited("LOCK_index", turns // 2, round(hold_ms * MS))
    rebuild = ("serve", "rebuild_index")
    return lock_profile(
        [
            ((*rebuild, *WAITING), "LOCK_index", 0, lock.total_ns // MS),
            ((*rebuild, "burn_index"), "", 0, round(turns * hold_ms / 10)),
            (("serve", "parse_request"), "", 0, round(turns * 0.8)),
            ((*QUERY, *WAITING), "", 0, 3),
        ],
        (lock,),
        replace(RECORDING, run_delay_ns=0),
    )


def written(folder: Path, name: str, hold_ms: float, variations: Sequence[float]) -> list[Path]:
    paths = [folder / f"{name}{number}.pb.gz" for number in range(len(variations))]
    for path, variation in zip(paths, variations, strict=True):
        path.write_bytes(encode(calm(hold_ms, variation)))
    return paths


@pytest.fixture
def calm_sides(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    """Three recordings of each side, the second with half the hold time."""
    return written(tmp_path, "a", 20, (1, 1.01, 0.99)), written(tmp_path, "b", 10, (1.01, 0.98, 1))


@pytest.mark.parametrize("recordings", [1, 3])
def test_half_the_hold_time_on_a_calm_machine(calm_sides: tuple[list[Path], list[Path]], recordings: int) -> None:
    before, after = (side[:recordings] for side in calm_sides)
    rows = rows_of(run_lockflame("diff", "--before", *before, "--after", *after, "--json"))
    lock, function = (next(row for row in rows if row["row"] == kind) for kind in ("lock", "function"))
    assert lock["lock"] == "LOCK_index"
    # Waits differ between two runs by a fifth: half of them is just within the noise of a single pair.
    assert lock["total_stands_out"] == (recordings > 1)
    assert lock["total_change_percent"] == pytest.approx(-50, abs=2)
    assert function["function"] in ("burn_index", "rebuild_index")
    assert function["total_stands_out"]
    assert function["total_change_percent"] == pytest.approx(-50, abs=2)
    assert {row["function"] for row in rows if row["stands_out"] and row["row"] == "function"}.isdisjoint(
        {"parse_request", "do_command(THD*)"}
    )


def test_several_recordings_of_a_side(calm_sides: tuple[list[Path], list[Path]]) -> None:
    """The same file twice is no other value."""
    before, after = (side[0] for side in calm_sides)
    several = rows_of(run_lockflame("diff", "--before", before, before, "--after", after, after, "--json"))
    single = rows_of(run_lockflame("diff", before, after, "--json"))
    (one,), (other,) = ([row for row in rows if row.get("lock") == "LOCK_index"] for rows in (several, single))
    assert one["total_before_ns"] == pytest.approx(other["total_before_ns"])


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ("lock:LOCK_index", "time waited for LOCK_index"),
        ("wait", "time waited for locks"),
        ("cpu", "CPU time"),
    ],
)
def test_status_for_ci(calm_sides: tuple[list[Path], list[Path]], of: str, said: str) -> None:
    slow, fast = calm_sides
    question = ("--fail-above", "10", "--of", of)
    worse = run_lockflame("diff", "--before", *fast, "--after", *slow, *question)
    assert worse.status == 3, worse.stderr
    assert f"lockflame: above the limit of 10 %: {said}" in worse.stderr
    better = run_lockflame("diff", "--before", *slow, "--after", *fast, *question)
    assert better.status == 0, better.stderr
    assert f"not above the limit of 10 %: {said}" in better.stderr


def test_noise_does_not_fail(calm_sides: tuple[list[Path], list[Path]]) -> None:
    """It grew, but by no more than two runs differ."""
    _, more, less = calm_sides[0]
    result = run_lockflame("diff", less, more, "--fail-above", "0", "--of", "lock:LOCK_index")
    assert result.status == 0, result.stderr
    assert "not above the limit of 0 %: time waited for LOCK_index" in result.stderr
    assert "within the noise" in result.stderr


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
