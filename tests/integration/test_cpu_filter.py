"""CPU samples by an event on each CPU, which the kernel filters; and without, where it isn't allowed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lockflame.profile import CPU
from sampler import cpu_filter
from sampler.attach import choose_events, online_cpus, open_rings, system_wide
from tests.support.needs import find_program
from tests.support.process import Target, running
from tests.support.recording import WITHOUT_BPF, lockflame_session, record, recorded, samples_by_pid, weight_of
from tests.support.targets import build_target

pytestmark = [pytest.mark.integration, pytest.mark.requires_root]

THREADS = 50
SECONDS = 2


def open_events(pid: int) -> int:
    """How many perf events a process has open."""
    links = (f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd"))
    return sum(os.readlink(link) == "anon_inode:[perf_event]" for link in links)


@pytest.mark.parametrize("launcher", [(), WITHOUT_BPF], ids=["filtered", "by-thread"])
def test_both_ways_find_the_same(tmp_path: Path, launcher: tuple[str, ...]) -> None:
    output = tmp_path / "p.pb.gz"
    arguments = ("record", "-F", 999, "-d", SECONDS, "-o", output)
    with (
        running([build_target("many_threads.c"), "--threads", THREADS, "--working", 2]) as target,
        lockflame_session(*arguments, "-p", target.pid, launcher=launcher) as session,
    ):
        session.wait_until_recording()
        events = open_events(session.pid)
        profile = recorded(session.finish(), output).profile
    refused = any("refused a filter: Operation not permitted" in note for note in profile.recording.notes)
    assert refused == bool(launcher)
    if launcher:
        assert events >= THREADS * len(online_cpus())
    else:
        assert events < THREADS
    assert weight_of(profile, "worker_work") > 0.9 * profile.total(CPU)
    assert profile.total(CPU) == pytest.approx(profile.recording.cpu_time_ns, rel=0.15)


def test_others_are_not_recorded(tmp_path: Path) -> None:
    with (
        running([build_target("split_70_30.c")]),
        running([build_target("fork_storm.c")]),
        running([build_target("family.c")]) as target,
    ):
        profile = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 1, "-F", 999).profile
        family = {target.pid, *_descendants(target)}
    assert samples_by_pid(profile).keys() <= family
    assert not any("work_seventy" in function.name for function in profile.functions)


def test_a_program_that_perf_starts_meanwhile_is_recorded_by_perf_too(tmp_path: Path) -> None:
    """Build-ids in our records would make the kernel spoil those of perf, which then aborts."""
    perf, program, data = find_program("perf"), build_target("split_70_30.c"), tmp_path / "perf.data"
    command = [perf, "record", "-q", "-e", "cpu-clock", "-F", "99", "-g", "-o", data, "timeout", "1", program]
    with (
        running([program]) as target,
        lockflame_session("record", "-d", 4, "-o", tmp_path / "p.pb.gz", "-p", target.pid) as session,
    ):
        session.wait_until_recording()
        other = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (other.returncode, other.stderr) == (124, "")  # timeout's
        session.finish()
    shown = subprocess.run([perf, "script", "-i", data], capture_output=True, text=True, check=True, timeout=60)
    assert "work_seventy" in shown.stdout


def _descendants(target: Target) -> set[int]:
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
    parents = dict(map(int, line.split()) for line in listed.splitlines()[1:])
    found = {target.pid}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def test_short_lived_children_have_their_share(tmp_path: Path) -> None:
    """Each lives for less than a sampling period, which an event of its own would never see the end of."""
    with running([build_target("fork_storm.c"), "--burn-us", "3000", "--rate", "150"]) as target:
        profile = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", SECONDS, "-F", 99).profile
    assert weight_of(profile, "child_work") > 0.5 * profile.recording.cpu_time_ns


def test_more_processes_than_it_follows_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_filter, "TARGET_ENTRIES", 2)
    choice = system_wide(choose_events(os.getpid(), 99, 0))
    rings = open_rings(online_cpus(), 0)
    watched = cpu_filter.CpuFilter(os.getpid(), choice, rings)
    try:
        assert watched.notes == []
        sleepers = [subprocess.Popen(["sleep", "60"]) for _ in range(4)]
        assert watched.notes == ["3 child processes have no samples: more than 2 lived at a time."]
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()
    finally:
        watched.close()
        for ring in rings:
            ring.close()
