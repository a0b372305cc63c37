"""BPF programs are named as their loader named them, also when they are gone by the time of naming."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lockflame.profile import CPU, FrameKind, Profile
from tests.support.needs import CannotTest
from tests.support.paths import TARGETS
from tests.support.process import Target, TargetFailed, running
from tests.support.recording import kinds_of, lockflame_session, record, recorded, weight_of

pytestmark = [pytest.mark.integration, pytest.mark.requires_root, pytest.mark.side_by_side]

SHOWN = Path("/proc/sys/net/core/bpf_jit_kallsyms")
ENABLED = Path("/proc/sys/net/core/bpf_jit_enable")


def spin_command(seconds: float, name: str) -> list[str]:
    if not ENABLED.exists() or ENABLED.read_text().strip() == "0":
        raise CannotTest("the kernel doesn't compile BPF programs here: net.core.bpf_jit_enable is 0")
    return [sys.executable, str(TARGETS / "bpf_spin.py"), str(seconds), name]


def wait_until_loaded(target: Target) -> None:
    try:
        target.wait_until_ready()
    except TargetFailed as error:
        if any(line.startswith("refused") for line in target.lines):
            raise CannotTest(f"bpf(2) isn't allowed here: {target.lines[-1]}") from error
        raise


def assert_named(profile: Profile, name: str) -> None:
    found = [function for function in profile.functions if function.name == f"bpf_prog {name}"]
    assert found, [function.linkage_name for function in profile.functions if "bpf" in function.linkage_name]
    function = found[0]
    assert function.linkage_name.startswith("bpf_prog_")
    assert function.linkage_name.endswith(f"_{name}")
    assert weight_of(profile, function.name) > 0.5 * profile.total(CPU)
    assert kinds_of(profile, function.name) == {FrameKind.KERNEL}
    index = profile.functions.index(function)
    places = {location.mapping for location in profile.locations if location.lines[-1].function == index}
    assert {profile.mappings[place].path for place in places} == {"[bpf]"}


def test_a_program_that_stays_loaded(tmp_path: Path) -> None:
    if not SHOWN.exists() or SHOWN.read_text().strip() == "0":
        raise CannotTest("BPF programs loaded before the recording are hidden: net.core.bpf_jit_kallsyms is 0")
    with running(spin_command(60, "lf_stays"), wait_ready=False) as target:
        wait_until_loaded(target)
        profile = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 1, "-F", 999).profile
    assert_named(profile, "lf_stays")


def test_a_program_that_was_loaded_before_and_is_gone_at_the_end(tmp_path: Path) -> None:
    output = tmp_path / "p.pb.gz"
    with running(spin_command(2.5, "lf_goes"), wait_ready=False) as target:
        wait_until_loaded(target)
        with lockflame_session("record", "-p", target.pid, "-d", 30, "-F", 999, "-o", output) as session:
            session.wait_until_recording()
            target.wait()
            profile = recorded(session.finish(), output).profile
    assert_named(profile, "lf_goes")


def test_a_program_that_came_and_went_during_the_recording(tmp_path: Path) -> None:
    result = record(tmp_path / "p.pb.gz", "-F", 999, "--", *spin_command(1, "lf_passes"))
    assert_named(result.profile, "lf_passes")
    assert "lf_passes" not in Path("/proc/kallsyms").read_text()
