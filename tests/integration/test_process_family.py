"""A recording covers every thread and child that its process has or will have."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lockflame.profile import CPU
from tests.support.needs import find_program
from tests.support.process import Target, running
from tests.support.recording import (
    WITHOUT_BPF,
    lockflame_session,
    record,
    recorded,
    samples_by_pid,
    weight_of,
    weight_where,
)
from tests.support.targets import build_target

pytestmark = pytest.mark.integration

THREADS = 1000
ATTACH_MOST_S = 10.0
STORM = ("--rate", "200", "--seconds", "3", "--burn-us", "3000")


@pytest.fixture(scope="module")
def crowd() -> Iterator[Target]:
    """A process with a thousand threads, two of which work."""
    with running([build_target("many_threads.c"), "--threads", str(THREADS), "--working", "2"]) as target:
        yield target


@pytest.mark.parametrize("becomes", [(), ("--exec", "/bin/true")], ids=["fork", "exec"])
def test_fork_storm(tmp_path: Path, becomes: tuple[str, ...]) -> None:
    command = [build_target("measured.c"), build_target("fork_storm.c"), *STORM, *becomes]
    result = record(tmp_path / "p.pb.gz", "-F", 999, "--", *command)
    storm, measured = [json.loads(line) for line in result.stdout.splitlines()[-2:]]
    profile = result.profile
    assert storm["failed"] == 0
    assert storm["reaped"] == storm["forked"]
    assert profile.recording.cpu_time_ns == pytest.approx(measured["cpu_ns"], rel=0.15)
    assert profile.total(CPU) <= profile.recording.cpu_time_ns * 1.15
    # Each child burned three milliseconds at 999 Hz: hardly one has no sample.
    assert storm["forked"] * 0.8 <= len(samples_by_pid(profile)) <= storm["forked"] + 2
    assert weight_of(profile, "child_work") == pytest.approx(storm["forked"] * 3e6, rel=0.25)
    is_true_there = any(thread.comm == "true" for thread in profile.threads)
    assert is_true_there == bool(becomes)


def test_fork_storm_of_an_attached_process(tmp_path: Path) -> None:
    with running([build_target("fork_storm.c"), *STORM[:2], *STORM[4:]]) as target:
        result = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 2, "-F", 999)
        truth = target.stop()
    assert truth["failed"] == 0
    children = len(samples_by_pid(result.profile)) - 1
    assert 20 < children <= truth["forked"]
    assert weight_of(result.profile, "child_work") == pytest.approx(children * 3e6, rel=0.3)


def test_threads_that_start_after_the_attach(tmp_path: Path) -> None:
    output = tmp_path / "p.pb.gz"
    with (
        running([build_target("late_threads.c")]) as target,
        lockflame_session("record", "-p", target.pid, "-d", 60, "-F", 999, "-o", output) as session,
    ):
        session.wait_until_recording()
        time.sleep(2)
        truth = target.stop()  # the recording ends with its process
        profile = recorded(session.finish(), output).profile
    tids = {thread.tid for thread in profile.threads} - {target.pid}
    assert len(tids) > 20
    assert len(tids) <= truth["threads"]
    share = weight_of(profile, "late_work") / profile.recording.cpu_time_ns
    assert share > 0.9
    assert weight_of(profile, "late_work") <= truth["cpu_ns"] * 1.1


def test_children_that_were_there_before_the_attach(tmp_path: Path) -> None:
    with running([build_target("family.c")]) as target:
        pids = json.loads(target.lines[0])
        profile = record(tmp_path / "p.pb.gz", "-p", pids["parent"], "-d", 2, "-F", 999).profile
    assert set(samples_by_pid(profile)) >= {pids["child"], pids["grandchild"]}
    works = [weight_of(profile, f"{name}_work") for name in ("child", "child_thread", "grandchild")]
    assert min(works) > 0.1 * sum(works)
    assert sum(works) == pytest.approx(profile.recording.cpu_time_ns, rel=0.1)


def test_a_child_can_be_recorded_without_its_parent(tmp_path: Path) -> None:
    with running([build_target("family.c")]) as target:
        pids = json.loads(target.lines[0])
        profile = record(tmp_path / "p.pb.gz", "-p", pids["grandchild"], "-d", 1, "-F", 999).profile
    assert set(samples_by_pid(profile)) == {pids["grandchild"]}


def test_processes_are_told_apart_in_the_stacks(tmp_path: Path) -> None:
    with running([build_target("family.c")]) as target:
        profile = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 1, "-F", 999).profile
    works = {"child_work", "child_thread_work", "grandchild_work"}
    assert weight_where(profile, lambda stack: len(works.intersection(stack)) > 1) == 0


@pytest.mark.parametrize("soft_limit", [256, None], ids=["soft-limit-256", "soft-limit-as-it-is"])
def test_a_thousand_threads(
    tmp_path: Path, crowd: Target, soft_limit: int | None, record_property: Callable[[str, object], None]
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    launcher = [find_program("prlimit"), f"--nofile={soft_limit}:{hard}", "--"] if soft_limit else []
    output = tmp_path / "p.pb.gz"
    start = time.monotonic()
    with lockflame_session("record", "-p", crowd.pid, "-d", 1, "-F", 99, "-o", output, launcher=launcher) as session:
        session.wait_until_recording(60)
        attach_s = time.monotonic() - start
        profile = recorded(session.finish(), output).profile
    print(f"attached to {THREADS} threads in {attach_s:.2f} s, Python's start included")
    record_property("attach_s", attach_s)
    assert attach_s < ATTACH_MOST_S
    assert weight_of(profile, "worker_work") > 0.8 * profile.recording.cpu_time_ns


def test_too_low_a_hard_limit_is_one_line(tmp_path: Path, crowd: Target) -> None:
    launcher = [find_program("prlimit"), "--nofile=256:256", "--", *WITHOUT_BPF]
    output = tmp_path / "p.pb.gz"
    with lockflame_session("record", "-p", crowd.pid, "-d", 1, "-o", output, launcher=launcher) as session:
        result = session.finish()
    assert result.status == 1
    assert result.stderr.startswith("lockflame: error: cannot open events")
    assert result.stderr.count("\n") == 1
    assert "limit is 256" in result.stderr
    assert list(tmp_path.iterdir()) == []
