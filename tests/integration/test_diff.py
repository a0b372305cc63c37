"""`lockflame diff` on recordings of real programs: one that was built anew with half the hold time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lockflame.pprof import encode
from tests.support.cli import CliResult, run_lockflame
from tests.support.lock_truth import watch
from tests.support.targets import RELEASE, build_target
from tests.unit.flame.conftest import profile_of

pytestmark = [pytest.mark.integration]

SECONDS = 3


def recorded(folder: Path, *flags: str) -> Path:
    """A recording of one build."""
    folder.mkdir()
    program = build_target("lock_rebuilt.cpp", flags=(*RELEASE, *flags))
    watch(folder, program, seconds=SECONDS, arguments=("-F", 1999))
    return folder / "waits.pb.gz"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("diff") / "before")


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("diff") / "after", "-DHOLD_US=1000", "-DREBUILT")


def rows_of(result: CliResult) -> list[dict[str, Any]]:
    assert result.status == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.requires_root
def test_text_says_what_stands_out(before: Path, after: Path, tmp_path: Path) -> None:
    picture = tmp_path / "diff.svg"
    result = run_lockflame("diff", "--before", before, "--after", after, "--top", 3, "-o", picture)
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
def test_several_recordings_of_a_side(before: Path, after: Path) -> None:
    sides = ("--before", before, before, "--after", after, after)
    several = rows_of(run_lockflame("diff", *sides, "--json"))
    single = rows_of(run_lockflame("diff", before, after, "--json"))
    (one,), (other,) = ([row for row in rows if row.get("lock") == "LOCK_index"] for rows in (several, single))
    assert one["total_before_ns"] == pytest.approx(other["total_before_ns"])


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
