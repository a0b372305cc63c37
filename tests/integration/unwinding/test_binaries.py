"""Binaries that are stripped, replaced or deleted: names stay right, or are missing for a reason."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lockflame.pprof import read
from lockflame.profile import Profile
from tests.support.cli import run_lockflame
from tests.support.elf_sections import function_addresses, strip_symbols
from tests.support.process import Target, running
from tests.support.recording import function_names, lockflame_session, record, recorded
from tests.support.targets import build_target
from tests.support.truth import Truth
from tests.support.user_stacks import describe, samples_of, user_stacks

pytestmark = pytest.mark.integration

FLAGS = ("-O2", "-g")
FEWEST_SAMPLES = 60
OPTIONS = ("-d", 1.2, "-F", 499)
UNNAMED = re.compile(r"\[unwind_chain\+0x[0-9a-f]+\]")
CHAIN = ("chain_leaf", "chain_inner", "recurses", "chain_outer", "main")


@contextlib.contextmanager
def copied_chain(user: str | None = None) -> Iterator[tuple[Target, Path]]:
    """`unwind_chain` running from a copy of its own, in a folder that anyone can read."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="lf-unwind-") as folder:
        os.chmod(folder, 0o755)
        program = Path(folder) / "unwind_chain"
        shutil.copy(build_target("unwind_chain.c", flags=FLAGS), program)
        with running([program], user=user) as target:
            yield target, program


def replacement() -> Path:
    """A program with other functions at the addresses of those of `unwind_chain`."""
    return build_target("split_70_30.c", flags=FLAGS)


def replace(program: Path) -> None:
    """Puts another program in its place, as a package manager does."""
    other = program.with_name("new")
    shutil.copy(replacement(), other)
    other.replace(program)


def delete(program: Path) -> None:
    program.unlink()


def assert_names_are_right(profile: Profile, target: Target) -> None:
    truth = Truth.parse(target.lines[0])
    stacks = user_stacks(profile)
    wrong = [stack for stack in stacks if truth.concerns(stack.names) and not truth.matches(stack.names)]
    assert not wrong, describe(wrong)
    right = [stack for stack in stacks if truth.matches(stack.names) and not stack.is_truncated]
    assert samples_of(right) >= 0.99 * samples_of(stacks) >= FEWEST_SAMPLES, describe(stacks)


def test_functions_of_a_stripped_program_are_named_by_where_they_start(tmp_path: Path) -> None:
    built = build_target("unwind_chain.c", flags=FLAGS)
    program = tmp_path / "unwind_chain"
    shutil.copy(built, program)
    strip_symbols(program)
    with running([program]) as target:
        profile = record(tmp_path / "p.pb.gz", "-p", target.pid, *OPTIONS).profile
    starts = function_addresses(built)
    expected = tuple(f"unwind_chain+0x{starts[name]:x}" for name in CHAIN)
    stacks = user_stacks(profile)
    right = [stack for stack in stacks if stack.names[: len(CHAIN)] == expected and not stack.is_truncated]
    assert samples_of(right) >= 0.98 * samples_of(stacks) >= FEWEST_SAMPLES, describe(stacks)
    # One frame a function: wherever in it the samples are, its name is the same.
    named = {name for stack in stacks for name in stack.names if name.startswith("unwind_chain+")}
    assert named <= {f"unwind_chain+0x{address:x}" for address in starts.values()}
    # But where the program begins has its usual name.
    assert {stack.names[-1] for stack in right} == {"_start"}


@pytest.mark.requires_root
@pytest.mark.parametrize("change", [replace, delete])
def test_a_binary_that_is_gone_before_the_recording_is_read_where_the_kernel_keeps_it(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    with copied_chain() as (target, program):
        change(program)
        profile = record(tmp_path / "p.pb.gz", "-p", target.pid, *OPTIONS).profile
        assert_names_are_right(profile, target)


@pytest.mark.requires_root
@pytest.mark.parametrize("ends", [False, True], ids=["lives on", "ends too"])
@pytest.mark.parametrize("change", [replace, delete])
def test_a_binary_that_goes_while_it_is_recorded_keeps_its_names(
    change: Callable[[Path], None], ends: bool, tmp_path: Path
) -> None:
    output = tmp_path / "p.pb.gz"
    with copied_chain() as (target, program):
        with lockflame_session("record", "-p", target.pid, "-o", output, *OPTIONS) as session:
            session.wait_until_recording()
            change(program)
            if ends:
                time.sleep(0.6)
                target.stop()
            profile = recorded(session.finish(), output).profile
        assert_names_are_right(profile, target)


@pytest.mark.requires_root
@pytest.mark.parametrize("change", [replace, delete])
def test_a_binary_out_of_reach_leaves_its_frames_unnamed_with_the_reason(change: Callable[[Path], None]) -> None:
    """Users without privileges may not follow `/proc/PID/map_files`, and the path leads to another file."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="lf-nobody-") as folder:
        os.chmod(folder, 0o777)
        output = Path(folder) / "p.pb.gz"
        with copied_chain(user="nobody") as (target, program):
            change(program)
            result = run_lockflame("record", "-p", str(target.pid), *map(str, OPTIONS), "-o", output, user="nobody")
            assert result.status == 0, result.stderr
        profile = read(str(output))
    stacks = user_stacks(profile)
    unnamed = [stack for stack in stacks if UNNAMED.fullmatch(stack.names[0])]
    assert samples_of(unnamed) >= 0.98 * samples_of(stacks) >= FEWEST_SAMPLES, describe(stacks)
    assert not function_names(profile) & {*CHAIN, "work_seventy", "work_thirty"}
    assert profile.recording.unresolved >= samples_of(unnamed)
    reasons = {
        location.unresolved_reason
        for location in profile.locations
        if UNNAMED.fullmatch(profile.functions[location.lines[0].function].name)
    }
    assert all(("replaced" if change is replace else "gone") in reason for reason in reasons), reasons
