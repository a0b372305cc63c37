"""`lockflame locks` on recordings of real programs: one whose threads fight for a lock, one whose threads don't."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.cli import lockflame_command, run_lockflame
from tests.support.process import running
from tests.support.recording import record
from tests.support.targets import build_target

pytestmark = pytest.mark.integration

HOT = {"THD::set_query(char const*, unsigned long)", "THD::reset_query()"}


@pytest.fixture(scope="module")
def contended_recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A profile, and what `record` said."""
    output = tmp_path_factory.mktemp("contended") / "p.pb.gz"
    with running([build_target("thd_contention.cpp"), "--threads", "4"]) as target:
        result = record(output, "-p", target.pid, "-d", 3, "-F", 499)
    return output, result.stderr


@pytest.fixture(scope="module")
def contended(contended_recording: tuple[Path, str]) -> Path:
    return contended_recording[0]


@pytest.fixture(scope="module")
def calm_recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A profile, and what `record` said."""
    output = tmp_path_factory.mktemp("calm") / "p.pb.gz"
    result = record(output, "-F", 499, "--", build_target("split_70_30.c"), "--seconds", 2)
    return output, result.stderr


@pytest.fixture(scope="module")
def calm(calm_recording: tuple[Path, str]) -> Path:
    return calm_recording[0]


def test_the_summary_names_the_worst_lock_path_first(contended_recording: tuple[Path, str]) -> None:
    said = contended_recording[1]
    heading, first, *_ = said[said.index("   lost") :].splitlines()
    assert heading.split()[:5] == ["lost", "95", "%", "lock", "path:"]
    row = re.fullmatch(r" *([\d.]+)% +±([\d.]+)%  (.+) \(mutex\)", first)
    assert row is not None, first
    assert row[3].startswith("THD::set_query < Prepared_statement::execute < ")
    assert 0 < float(row[2]) < float(row[1])
    assert said.index(first) < said.index("lockflame: wrote ")


def test_the_summary_of_a_program_without_contention_says_so(calm_recording: tuple[Path, str]) -> None:
    assert "lockflame: no lock contention to speak of: " in calm_recording[1]
    assert "threads that sleep while they wait use no CPU" in calm_recording[1]


def test_the_contended_function_is_first(contended: Path) -> None:
    result = run_lockflame("locks", contended, "--json", "--top", "50")
    assert result.status == 0, result.stderr
    rows = json.loads(result.stdout)
    first = rows[0]
    assert first["site"] == "THD::set_query(char const*, unsigned long)"
    assert (first["kind"], first["threads"], first["module"]) == ("mutex", 4, "thd_contention")
    assert first["contended_cpu_ns"] > 0
    assert first["share_low"] < first["share"] < first["share_high"]
    # The only mutex of the program: whatever is contended in user space is its two callers' doing.
    total = sum(row["contended_cpu_ns"] for row in rows)
    assert sum(row["contended_cpu_ns"] for row in rows if row["site"] in HOT) > 0.9 * total
    assert sum(row["share"] for row in rows if row["site"] in HOT) > 0.05  # 0.2 to 0.6 where no others take the CPUs


def test_the_table_for_people(contended: Path) -> None:
    result = run_lockflame("locks", contended, "--top", "1")
    assert result.status == 0, result.stderr
    heading, row = result.stdout.splitlines()
    assert heading.split() == ["contended", "locking", "samples", "share", "95", "%", "threads", "kind", "site", "at"]
    assert "THD::set_query(char const*, unsigned long)" in row
    assert "\x1b" not in result.stdout
    assert " of CPU time in contended locks" in result.stderr
    assert "no contention" not in result.stderr
    assert "1 of " in result.stderr


def test_no_contention_is_said(calm: Path) -> None:
    result = run_lockflame("locks", calm)
    assert result.status == 0, result.stderr
    assert "lockflame: no contention to speak of: " in result.stderr
    rows = json.loads(run_lockflame("locks", calm, "--json").stdout)
    assert sum(row["share"] for row in rows if row["contended_cpu_ns"]) < 0.01


def test_a_rule_of_the_user_wins(contended: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nnames = ["THD::*"]\nkind = "thd"\nmeans = "locking"\n')
    rows = json.loads(run_lockflame("locks", contended, "--json", "--lock-rules", rules).stdout)
    assert (rows[0]["site"], rows[0]["kind"]) == ("Prepared_statement::execute(Counts*)", "thd")


def test_a_rules_file_with_a_mistake(contended: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nnames = ["a"]\nmeans = "none"\n\n[[rule]]\nnames = ["b"]\nmeans = "bad"\n')
    result = run_lockflame("locks", contended, "--lock-rules", rules)
    assert (result.status, result.stdout) == (1, "")
    assert result.stderr.startswith(f"lockflame: error: cannot use {rules}. Line 5: means is 'bad'")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("--top", "0"), ("--top", "x"), ("--sort", "size")])
def test_wrong_usage(contended: Path, arguments: tuple[str, str]) -> None:
    assert run_lockflame("locks", contended, *arguments).status == 2


def test_a_reader_that_ends_early(contended: Path) -> None:
    process = subprocess.Popen(
        lockflame_command("locks", contended),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    process.wait(60)
    assert "Traceback" not in errors
