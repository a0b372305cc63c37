"""Which stacks a busy machine changes most."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flame.diff.changes import frame_changes, whole_change
from flame.diff.exposed import exposed_stacks
from flame.diff.functions import function_table
from flame.diff.normalize import Mode, scales
from flame.diff.union import unite
from flame.locks.attribution import attribute
from flame.locks.rule_file import load_rules
from flame.views import Merger
from lockflame.profile import CPU, RecordingInfo
from tests.unit.flame.conftest import profile_of
from tests.unit.flame.lock_profiles import WAITING

RULES = load_rules()
LOCK = ("main", "work", "pthread_mutex_lock")
BUSY = RecordingInfo(duration_ns=10**10, cpu_time_ns=10**10, run_delay_ns=10**10)


def is_exposed(*stack: str | tuple[str, ...]) -> bool:
    profile = profile_of([(("main", "other"), 1), (stack, 1), (("main",), 1)])
    found = exposed_stacks(profile, attribute(profile, RULES))
    assert found[[0, 2]].tolist() == [False, False]
    return bool(found[1])


@pytest.mark.parametrize(
    "entry",
    [
        "asm_sysvec_apic_timer_interrupt",
        "asm_sysvec_reschedule_ipi",
        "sysvec_call_function_single",
        "asm_common_interrupt",
        "smp_apic_timer_interrupt",
        "reschedule_interrupt",
        "ret_from_intr",
        "el0t_64_irq",
        "el1h_64_irq_handler",
        "el0_irq",
        "irqentry_exit_to_user_mode",
        "handle_softirqs",
        "__do_softirq",
    ],
)
def test_interrupts(entry: str) -> None:
    assert is_exposed("main", "work", f"{entry}[k]")
    assert is_exposed("main", "work", "memcpy", f"{entry}[k]", "schedule[k]", "finish_task_switch[k]")
    assert not is_exposed("main", "work", entry)  # the program's own


def test_locks() -> None:
    assert is_exposed(*LOCK)
    assert is_exposed(*LOCK, *WAITING)
    assert not is_exposed("main", "work")


@pytest.mark.parametrize(
    "frame", ["asm_exc_page_fault[k]", "do_syscall_64[k]", "el0_svc[k]", "irq[k]", "[truncated stack][m]"]
)
def test_what_the_program_does_itself(frame: str) -> None:
    assert not is_exposed("main", "work", frame)


def test_without_stacks() -> None:
    profile = profile_of([])
    assert exposed_stacks(profile, attribute(profile, RULES)).tolist() == []


@pytest.mark.parametrize(("run_delay_ns", "sure"), [(10**10, {"other"}), (0, {"main", "other", LOCK[1], LOCK[2]})])
def test_frames_of_the_picture_are_judged_as_functions_of_the_table(run_delay_ns: int, sure: set[str]) -> None:
    """Half of all is more than noise, but not where a busy machine changes most."""
    recording = replace(BUSY, run_delay_ns=run_delay_ns)
    before, after = (
        [profile_of([(LOCK, samples), (("main", "other"), samples)], recording)] for samples in (4000, 2000)
    )
    pair = scales(before, after, Mode.SECOND)
    table = function_table(before, after, pair, RULES)
    names = [key.name for key in table.keys]
    assert {name for name, is_sure in zip(names, table.total.change.stands_out, strict=True) if is_sure} == sure
    union = unite(before, after, pair, CPU, ("difference", "before", "after"), RULES)
    merged = Merger(union.profile, None, picture_width=1000, min_width=0).merged(union.types[0], from_leaf=False)
    steps = frame_changes(union, merged).step[1:]
    frames = merged.tree.frame[merged.layout.node][1:].tolist()
    shown = {merged.tree.frames.names[frame] for frame, step in zip(frames, steps.tolist(), strict=True) if step}
    assert shown == sure
    assert bool(whole_change(union).step[0]) == bool(table.whole.change.stands_out[0]) == ("main" in sure)
