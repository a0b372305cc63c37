"""`python -m tests.kprobes.truth`: the truth tests of lock waits by kprobes, on Debian's kernel, in QEMU."""

from __future__ import annotations

import os
import sys

from lockflame.cli import run
from sampler.bpf.program import compiled
from sampler.bpf.tracefs import TraceFs
from sampler.futex.attachment import SOURCE, definitions_for
from tests.kprobes import boot
from tests.kprobes.by_kprobes import COMPILED
from tests.kprobes.guest import ENVIRONMENT
from tests.support.targets import build_target

TARGETS = ("lock_kinds.cpp", "lock_holder.cpp", "trace_locks.c")

OWN_TESTS = ("tests/kprobes/test_by_kprobes.py", "tests/kprobes/test_traces.py")
TRUTH = "tests/integration/locks/test_wait_truth.py"
TRUTH_TESTS = (
    "test_waits_for_each_kind_of_lock[mutex-LOCK_kinds-mutex]",
    "test_waits_for_each_kind_of_lock[pi-PI_kinds-PI mutex]",
    "test_holders",
    "test_waits_open_all_the_time",
)
"""Emulation is slow: one of each sort. Idle pools are in our own tests."""

TIMEOUT_SECONDS = 560

# Assertions aren't rewritten, which would cost a minute: a failed one shows its line.
PYTEST = ("-p", "no:cacheprovider", "-p", "tests.kprobes.by_kprobes", "--assert=plain", "--durations=12", "-v")


def main() -> int:
    """Make on the host what the guest needs, whose view of the host's files is read-only; then run the tests in it."""
    # What is built is found again by the compiler's path.
    os.environ["PATH"] = ENVIRONMENT["PATH"]
    for source in TARGETS:
        build_target(source)
    _compile_ahead()
    tests = [*OWN_TESTS, *(f"{TRUTH}::{name}" for name in TRUTH_TESTS)]
    command = ["env", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1", sys.executable, "-m", "pytest", *PYTEST, *tests]
    return boot.main(["--timeout", str(TIMEOUT_SECONDS), "--", *command, *sys.argv[1:]])


def _compile_ahead() -> None:
    """Has the programs kept that the guest needs, which would take a minute each to compile there.

    Where the guest's kernel has the fields of its tracepoint at other places than ours, it compiles them nevertheless.
    """
    os.environ["XDG_CACHE_HOME"] = str(COMPILED)
    with TraceFs() as tracefs:
        newtask = tracefs.tracepoint("task:task_newtask")
    assert newtask is not None
    for variant in ("WITH_KPROBES", "WITH_REGISTERS"):
        compiled(SOURCE, definitions_for(newtask, in_namespace=False) | {variant: 1}, "cannot test")
    # Those of the tracers, which doctor tries.
    run(["doctor", "--json"])


if __name__ == "__main__":
    sys.exit(main())
