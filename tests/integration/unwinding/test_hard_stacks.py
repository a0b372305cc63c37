"""Code whose unwind rules are elsewhere, absent or damaged, signals, and stacks larger than their copy."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.elf_sections import damage_section, section_names
from tests.support.process import running
from tests.support.recording import Recorded, function_names, record
from tests.support.targets import build_target, build_unwind_truth
from tests.support.truth import Truth
from tests.support.user_stacks import UserStack, describe, samples_of, user_stacks, whole_share

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

ONLY_DEBUG_FRAME = ("-O2", "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables")
FRAME_POINTERS = ("-O2", "-g", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer")
OPTIMISED = ("-O2", "-g", "-fomit-frame-pointer")
FEWEST_SAMPLES = 100
DEEP, DEEP_STACK_BYTES = 100, 100 * 512
"""What `unwind_chain --depth 100` has on its stack when built with LARGE_FRAMES, at the least."""
LARGE_FRAMES = ("-DFRAME_BYTES=512",)


def chain_stacks(
    program: Path, tmp_path: Path, *options: object, arguments: Sequence[str] = ()
) -> tuple[list[UserStack], Truth, Recorded]:
    """The stacks that a recording of a target with one chain finds where it burns its CPU."""
    with running([program, *arguments]) as target:
        truth = Truth.parse(target.lines[0])
        result = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 1.2, "-F", 499, *options)
    stacks = [stack for stack in user_stacks(result.profile) if truth.concerns(stack.names)]
    assert samples_of(stacks) >= FEWEST_SAMPLES
    return stacks, truth, result


def assert_all_match(stacks: list[UserStack], truth: Truth) -> None:
    wrong = [stack for stack in stacks if not truth.matches(stack.names, stack.is_truncated)]
    assert not wrong, f"{samples_of(wrong)} of {samples_of(stacks)} samples:{describe(wrong)}"


def test_rules_in_debug_frame_alone_are_enough(tmp_path: Path) -> None:
    program = build_target("unwind_chain.c", flags=ONLY_DEBUG_FRAME)
    assert ".debug_frame" in section_names(program)
    stacks, truth, _ = chain_stacks(program, tmp_path)
    assert_all_match(stacks, truth)


@pytest.mark.parametrize("flags", [("-O0",), OPTIMISED], ids=" ".join)
def test_assembly_without_rules_is_passed_by_its_frame_pointer(flags: Sequence[str], tmp_path: Path) -> None:
    stacks, truth, _ = chain_stacks(build_target("unwind_assembly.c", flags=flags), tmp_path)
    assert_all_match(stacks, truth)


def test_stacks_are_whole_on_the_way_back_from_a_signal(tmp_path: Path) -> None:
    with running([build_target("unwind_sigreturn.c")]) as target:
        profile = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 1.2, "-F", 999).profile
    stacks = user_stacks(profile)
    assert samples_of(stacks) >= FEWEST_SAMPLES
    with_main = [stack for stack in stacks if "main" in stack.names and not stack.is_truncated]
    # Where the kernel has restored half of the registers, there is nothing to unwind from.
    without = [stack for stack in stacks if stack not in with_main]
    assert samples_of(with_main) >= 0.99 * samples_of(stacks), f"of {samples_of(stacks)} samples:{describe(without)}"


def test_the_frame_of_a_signal_is_named_at_its_exact_address(tmp_path: Path) -> None:
    """The handler returns to the first instruction of `__restore_rt`: nothing before it belongs to the function."""
    with running([build_unwind_truth(), "--scenario", "signal_raised"]) as target:
        profile = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 0.6, "-F", 499).profile
    if "__pthread_kill_implementation" not in function_names(profile):
        pytest.skip("libc's own functions have no names here: apt-get install libc6-dbg")
    handling = [stack.names for stack in user_stacks(profile) if "on_signal" in stack.names]
    assert {names[names.index("on_signal") + 1] for names in handling} == {"__restore_rt"}


def test_frame_pointers_alone_give_whole_stacks(tmp_path: Path) -> None:
    program = build_target("unwind_chain.c", flags=FRAME_POINTERS)
    stacks, truth, result = chain_stacks(program, tmp_path, "--call-graph", "fp", arguments=["--depth", "20"])
    assert result.profile.recording.stack_bytes == 0
    # A function that has just been entered has no frame yet, so that its caller is missing.
    right = [stack for stack in stacks if truth.matches(stack.names)]
    wrong = [stack for stack in stacks if stack not in right]
    assert samples_of(right) >= 0.99 * samples_of(stacks), describe(wrong)


def test_stacks_by_frame_pointers_that_reach_the_start_are_not_marked(tmp_path: Path) -> None:
    program = build_target("unwind_chain.c", flags=FRAME_POINTERS)
    stacks, _, _ = chain_stacks(program, tmp_path, "--call-graph", "fp")
    assert whole_share(stacks) >= 0.99, describe(stacks)


def test_stacks_larger_than_their_copy_are_marked_and_counted(tmp_path: Path) -> None:
    program = build_target("unwind_chain.c", flags=(*OPTIMISED, *LARGE_FRAMES))
    stacks, truth, result = chain_stacks(program, tmp_path, "--stack-size", 1024, arguments=["--depth", str(DEEP)])
    assert result.profile.recording.stack_bytes == 1024
    assert all(stack.is_truncated for stack in stacks), describe(stacks)
    assert all(stack.names == truth.chains[0][: len(stack.names)] for stack in stacks), describe(stacks)
    everywhere = [stack for stack in user_stacks(result.profile) if stack.is_truncated]
    assert result.profile.recording.truncated == samples_of(everywhere)
    assert f"{result.profile.recording.truncated:,} truncated" in result.stderr


def test_a_copy_as_large_as_the_stack_is_enough(tmp_path: Path) -> None:
    program = build_target("unwind_chain.c", flags=(*OPTIMISED, *LARGE_FRAMES))
    arguments = ["--depth", str(DEEP)]
    stacks, truth, _ = chain_stacks(program, tmp_path, "--stack-size", DEEP_STACK_BYTES + 12_000, arguments=arguments)
    assert_all_match(stacks, truth)


def test_stacks_larger_than_their_copy_are_stitched_along_frame_pointers(tmp_path: Path) -> None:
    program = build_target("unwind_chain.c", flags=(*FRAME_POINTERS, *LARGE_FRAMES))
    stacks, truth, _ = chain_stacks(program, tmp_path, "--stack-size", 1024, arguments=["--depth", str(DEEP)])
    right = [stack for stack in stacks if truth.matches(stack.names)]
    wrong = [stack for stack in stacks if stack not in right]
    assert samples_of(right) >= 0.99 * samples_of(stacks), describe(wrong)


@pytest.mark.parametrize(
    ("section", "share", "seed"),
    [(".eh_frame", 1.0, 1), (".eh_frame", 0.05, 2), (".eh_frame", 0.05, 3), (".eh_frame_hdr", 1.0, 4)],
)
def test_damaged_rules_end_stacks_and_not_the_recording(section: str, share: float, seed: int, tmp_path: Path) -> None:
    program = tmp_path / "damaged"
    shutil.copy(build_target("unwind_chain.c", flags=OPTIMISED), program)
    damage_section(program, section, seed, share)
    stacks, truth, result = chain_stacks(program, tmp_path)
    if section == ".eh_frame_hdr":
        assert_all_match(stacks, truth)  # only a table to search: without it, the section itself is walked
    elif share == 1.0:
        assert all(stack.is_truncated for stack in stacks), describe(stacks)
    cut = [stack for stack in user_stacks(result.profile) if stack.is_truncated]
    assert result.profile.recording.truncated == samples_of(cut)
    assert "Traceback" not in result.stderr
