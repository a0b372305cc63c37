"""Every stack of `unwind_truth` equals the one that its source dictates, however it was compiled."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.process import running
from tests.support.recording import record
from tests.support.targets import UNWIND_FLAG_SETS, build_unwind_truth
from tests.support.truth import Truth
from tests.support.user_stacks import UserStack, describe, samples_of, user_stacks

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

PLAIN = ("plain", "recursion", "saved_registers", "alloca", "large_frames", "tail_calls", "realigned", "plt")
SPECIAL = ("exceptions", "signal_raised", "signal_timer", "signal_altstack", "qsort", "thread", "dlopen", "assembly")
FREQUENCY_HZ, SECONDS = 999, 1.0
FEWEST_SAMPLES = 200
"""Of some 1,000, where another process shares the CPU."""


@pytest.mark.parametrize("flags", UNWIND_FLAG_SETS, ids=" ".join)
@pytest.mark.parametrize("scenario", PLAIN + SPECIAL)
def test_stacks_are_what_the_source_dictates(scenario: str, flags: Sequence[str], tmp_path: Path) -> None:
    program = build_unwind_truth(flags)
    with running([program, "--scenario", scenario]) as target:
        truth = Truth.parse(target.lines[0])
        options = ("-p", target.pid, "-d", SECONDS, "-F", FREQUENCY_HZ)
        profile = record(tmp_path / "p.pb.gz", *options).profile
    stacks = user_stacks(profile)
    concerned = [stack for stack in stacks if truth.concerns(stack.names)]
    wrong = [stack for stack in concerned if not truth.matches(stack.names, stack.is_truncated)]
    assert not wrong, f"{samples_of(wrong)} of {samples_of(concerned)} samples:{describe(wrong)}"
    assert samples_of(concerned) >= FEWEST_SAMPLES, describe(stacks)
    cut = [stack for stack in stacks if stack.is_truncated and not _is_in_context_switch(stack)]
    assert truth.may_truncate or not cut, f"{samples_of(cut)} of {samples_of(stacks)} samples:{describe(cut)}"


def _is_in_context_switch(stack: UserStack) -> bool:
    """Whether libgcc was about to jump into a landing pad.

    It has overwritten the registers that its own frame saved by then, and the return address with them
    (uw_install_context in unwind-dw2.c): for these few instructions no unwind data can tell what the stack is.
    """
    return any(name.startswith("_Unwind_R") for name in stack.names[:2])


def test_no_scenario_is_left_out() -> None:
    listed = subprocess.run([build_unwind_truth(), "--list"], capture_output=True, text=True, check=True).stdout
    assert listed.split() == [*PLAIN, *SPECIAL]
