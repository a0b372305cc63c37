"""`python -m tests.kprobes.boot -- COMMAND…`: COMMAND in this project, on Debian's kernel, in QEMU.

The guest has the host's files, read-only, with memory of its own on /tmp, /var/tmp and /run. The exit status is the
command's, or 125 where the guest itself failed.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from tests.kprobes.guest import Machine, run_in_guest
from tests.kprobes.kernel import KERNEL_CACHE, debian_kernel
from tests.kprobes.problem import BootProblem
from tests.support.paths import REPO

GUEST_FAILED = 125
CONSOLE_LOG = KERNEL_CACHE / "console.log"


def main(arguments: Sequence[str]) -> int:
    """Run the command line `arguments` and return the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    machine = Machine(options.cpus, options.memory, options.timeout)
    started = time.monotonic()
    try:
        kernel = debian_kernel()
        _say(f"booting {kernel.release} in QEMU ({machine.cpus} CPUs, {machine.memory_mb} MB, no KVM)")
        status = run_in_guest(kernel, options.command, REPO, machine, sys.stdout.buffer, CONSOLE_LOG)
    except BootProblem as problem:
        _say(str(problem))
        return GUEST_FAILED
    except KeyboardInterrupt:
        _say("interrupted")
        return 128 + signal.SIGINT
    _say(f"exit status {status} after {time.monotonic() - started:.0f} s")
    return status


def _parser() -> argparse.ArgumentParser:
    usual = Machine()
    parser = argparse.ArgumentParser(prog="python -m tests.kprobes.boot", description=__doc__)
    parser.add_argument("--cpus", type=int, default=usual.cpus)
    parser.add_argument("--memory", type=int, default=usual.memory_mb, help="in MB")
    parser.add_argument("--timeout", type=float, default=usual.timeout_seconds, help="in seconds, from the boot on")
    parser.add_argument("command", nargs="+")
    return parser


def _end(signal_number: int, _frame: FrameType | None) -> None:
    """Leave by an exception, so that QEMU and the scratch folder go."""
    sys.exit(128 + signal_number)


def _say(text: str) -> None:
    print(f"test-kprobes: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
