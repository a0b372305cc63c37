"""How the CPU time of a profile compares with what the target and the kernel measured themselves."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest

from lockflame.profile import CPU, SAMPLES, Profile
from tests.support.process import running
from tests.support.recording import lockflame_session, process_cpu_ns, record, recorded, weight_of
from tests.support.targets import build_target

pytestmark = pytest.mark.integration


def share_of_seventy(profile: Profile) -> float:
    seventy, thirty = (weight_of(profile, name) for name in ("work_seventy", "work_thirty"))
    return seventy / (seventy + thirty)


def assert_sums_agree(profile: Profile, true_cpu_ns: int) -> None:
    """Samples, their weights, and the kernel's count of the CPU time all say the same."""
    assert profile.recording.cpu_time_ns == pytest.approx(true_cpu_ns, rel=0.1)
    assert profile.total(CPU) == pytest.approx(true_cpu_ns, rel=0.1)
    assert profile.total(SAMPLES) == profile.recording.samples
    assert profile.total(SAMPLES) * 10**9 / 999 == pytest.approx(true_cpu_ns, rel=0.1)


def test_split_is_measured_in_an_attached_process(tmp_path: Path) -> None:
    output = tmp_path / "p.pb.gz"
    with running([build_target("split_70_30.c")]) as target:
        with lockflame_session("record", "-p", target.pid, "-d", 5, "-F", 999, "-o", output) as session:
            session.wait_until_recording()
            before_ns = after_ns = process_cpu_ns(target.pid)
            while session.is_recording():
                after_ns = process_cpu_ns(target.pid)
                time.sleep(0.02)
            profile = recorded(session.finish(), output).profile
        truth = target.stop()
    assert share_of_seventy(profile) == pytest.approx(truth["work_seventy"], abs=0.03)
    assert profile.recording.duration_ns == pytest.approx(5e9, rel=0.05)
    assert_sums_agree(profile, after_ns - before_ns)


def test_split_is_measured_in_a_command(tmp_path: Path) -> None:
    command = [build_target("split_70_30.c"), "--seconds", "5"]
    result = record(tmp_path / "p.pb.gz", "-F", 999, "--", *command)
    assert result.stdout.splitlines()[0] == "ready"
    truth = json.loads(result.stdout.splitlines()[1])
    assert share_of_seventy(result.profile) == pytest.approx(truth["work_seventy"], abs=0.03)
    assert_sums_agree(result.profile, truth["cpu_ns"])


@pytest.mark.parametrize("frequency", [1, 99, 4999])
def test_each_sample_weighs_what_it_stands_for(tmp_path: Path, frequency: int) -> None:
    with running([build_target("split_70_30.c")]) as target:
        profile = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 2, "-F", frequency).profile
    taken = profile.total(SAMPLES) + profile.recording.lost
    # On a busy machine it is chance on whom a CPU's samples fall.
    noise = 0.1 + 3 / math.sqrt(taken + 1)
    assert taken == pytest.approx(profile.recording.cpu_time_ns * frequency / 1e9, rel=noise, abs=1.5)
    assert profile.total(CPU) == pytest.approx(profile.total(SAMPLES) * 1e9 / frequency, rel=noise)
