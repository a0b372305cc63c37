"""Code that a runtime generates has the runtime's names: by perf map or jitdump, over time, in its own namespaces."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lockflame.profile import CPU, FrameKind, Profile
from tests.support.needs import CannotTest, find_program
from tests.support.process import running
from tests.support.recording import (
    Recorded,
    function_names,
    kinds_of,
    lockflame_session,
    record,
    recorded,
    weight_of,
    weight_where,
)
from tests.support.targets import build_target

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

NAMES = ("first_jitted", "second_jitted")
MARKS = (b"hot_script", b"first_jitted", b"py::<module>:<string>")
PERF_JIT_PROBE = "import sys; print(sys.version_info >= (3, 13) and sys.is_stack_trampoline_active())"
JAVASCRIPT = """
function hot_script(n) { let s = 0; for (let i = 0; i < n; i++) s = (s * 31 + i) % 1000003; return s; }
function call_hot(n) { return hot_script(n) + 1; }
const end = Date.now() + 1500;
while (Date.now() < end) call_hot(200000);
"""
PYTHON = """
import time
def hot_script(n):
    s = 0
    for i in range(n):
        s = (s * 31 + i) % 1000003
def call_hot(n):
    hot_script(n)
end = time.time() + 1.5
while time.time() < end:
    call_hot(20000)
"""


@pytest.fixture(autouse=True)
def our_files_removed() -> Iterator[None]:
    """Removes the perf maps and jitdumps that the test's own targets leave in /tmp: others may be at work there."""
    before = _jit_files()
    yield
    for path in _jit_files() - before:
        with path.open("rb") as file:
            start = file.read(1 << 24)
        if any(mark in start for mark in MARKS):
            path.unlink()


def _jit_files() -> set[Path]:
    return {*Path("/tmp").glob("perf-*.map"), *Path("/tmp").glob("jit-*.dump")}


def assert_shares(profile: Profile, truth: dict[str, Any]) -> None:
    first, second = (weight_of(profile, name) for name in NAMES)
    true_share = truth["first_cpu_ns"] / (truth["first_cpu_ns"] + truth["second_cpu_ns"])
    assert first + second > 0.9 * profile.total(CPU)
    assert first / (first + second) == pytest.approx(true_share, abs=0.05)
    assert weight_where(profile, lambda stack: stack[1:2] == ["call_jit"]) > 0.9 * profile.total(CPU)
    assert {kind for name in NAMES for kind in kinds_of(profile, name)} == {FrameKind.JIT}


def test_different_functions_at_one_address(tmp_path: Path) -> None:
    command = [build_target("jit_reuse.c"), "--seconds", 2, "--folder", tmp_path]
    result = record(tmp_path / "p.pb.gz", "-F", 999, "--", *command)
    truth = json.loads(result.stdout.splitlines()[-1])
    assert truth["turns"] > 20
    assert_shares(result.profile, truth)
    assert result.profile.recording.notes == ()
    lines = [line for location in result.profile.locations for line in location.lines]
    functions = [(result.profile.functions[line.function], line.line) for line in lines]
    found = {(function.name, function.path, line) for function, line in functions if function.name in NAMES}
    assert found == {(NAMES[0], "/src/jit.src", 11), (NAMES[1], "/src/jit.src", 22)}


@pytest.mark.requires_root
@pytest.mark.parametrize(
    ("file_format", "deletes"), [("dump", 1), ("map", 1), ("map", 0)], ids=["dump-deleted", "map-deleted", "map"]
)
def test_a_target_with_its_own_tmp_that_has_ended(tmp_path: Path, file_format: str, deletes: int) -> None:
    output = tmp_path / "p.pb.gz"
    program = build_target("jit_reuse.c")
    # The program itself may lie in the /tmp that goes away.
    run = f"exec /proc/self/fd/3 --seconds 3 --format {file_format} --delete {deletes}"
    script = f'exec 3< "{program}" && mount -t tmpfs tmp /tmp && {run}'
    unshare = [find_program("unshare"), "--pid", "--fork", "--mount", "--mount-proc", "--", "sh", "-c", script]
    with (
        running(unshare) as target,
        lockflame_session("record", "-p", target.pid, "-d", 60, "-F", 999, "-o", output) as session,
    ):
        session.wait_until_recording()
        assert target.wait() == 0
        profile = recorded(session.finish(), output).profile
        assert_shares(profile, target.last_json())


def test_a_perf_map_of_a_gigabyte(tmp_path: Path) -> None:
    with running([build_target("jit_reuse.c"), "--format", "map"]) as target:
        os.truncate(f"/tmp/perf-{target.pid}.map", 1 << 30)
        result = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 1, "-F", 999)
        assert_shares(result.profile, target.stop())
    assert f"805.3 MB at the end of /tmp/perf-{target.pid}.map were not read" in result.stderr
    assert "1 lines of perf maps" in result.stderr


def test_a_jitdump_that_is_rubbish_is_a_note(tmp_path: Path) -> None:
    with running([build_target("jit_reuse.c"), "--folder", tmp_path]) as target:
        dump = tmp_path / f"jit-{target.pid}.dump"
        with dump.open("r+b") as file:
            file.write(b"rubbish!")
        result = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 1, "-F", 999)
    assert f"The jitdump of process {target.pid}: it is no jitdump of version 1." in result.stderr
    assert not set(NAMES) & function_names(result.profile)
    assert weight_of(result.profile, "call_jit") > 0.9 * result.profile.total(CPU)


def _record_script(tmp_path: Path, *command: object) -> Recorded:
    # Node leaves logs and dumps where it is started.
    return record(tmp_path / "p.pb.gz", "-F", 499, "--", *command, cwd=tmp_path)


@pytest.mark.parametrize("option", ["--perf-basic-prof", "--perf-prof"])
def test_javascript_is_named_as_node_names_it(tmp_path: Path, option: str) -> None:
    script = tmp_path / "w.js"
    script.write_text(JAVASCRIPT)
    profile = _record_script(tmp_path, find_program("node"), option, script).profile

    def is_hot(stack: list[str]) -> bool:
        return any(name.startswith("JS:") and "hot_script" in name for name in stack)

    assert weight_where(profile, is_hot) > 0.7 * profile.total(CPU)
    name = next(name for name in function_names(profile) if "hot_script" in name)
    assert name.endswith(f"hot_script {script}:2:20")
    assert kinds_of(profile, name) == {FrameKind.JIT}


def _python_with_jitdumps() -> str:
    candidates = [
        "python3.15",
        "python3.14",
        "python3.13",
        *map(str, Path.home().glob(".pyenv/versions/3.*/bin/python3")),
    ]
    for candidate in candidates:
        try:
            probe = [candidate, "-X", "perf_jit", "-c", PERF_JIT_PROBE]
            done = subprocess.run(probe, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            continue
        if done.stdout.strip() == "True":
            return candidate
    raise CannotTest("no Python here offers -X perf_jit (3.13 or newer does, on x86-64)")


def test_python_with_a_jitdump(tmp_path: Path) -> None:
    script = tmp_path / "w.py"
    script.write_text(PYTHON)
    profile = _record_script(tmp_path, _python_with_jitdumps(), "-X", "perf_jit", script).profile
    hot, caller = (f"py::{function}:{script}" for function in ("hot_script", "call_hot"))
    assert weight_where(profile, lambda stack: hot in stack and caller in stack) > 0.7 * profile.total(CPU)
    assert kinds_of(profile, hot) == {FrameKind.JIT}
