"""One run of QEMU: its command line, its console, its end."""

from __future__ import annotations

import os
import selectors
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.kprobes.initramfs import BUSYBOX, initramfs
from tests.kprobes.kernel import Kernel
from tests.kprobes.problem import BootProblem

QEMU = "qemu-system-x86_64"
PANIC = "Kernel panic"

# panic=-1 and -no-reboot: a panic ends QEMU at once. mitigations=off: emulation has nothing to mitigate, and pays for a
# switch of page tables at every system call. tsc=reliable: the guest's time stamp counter is the host's, but lacks the
# flag that says so; the kernel would read its clock from the slow HPET, and perf's would jump.
KERNEL_ARGUMENTS = "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable"

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "COLUMNS": "120",
    # The host's files are read-only in the guest.
    "TMPDIR": "/tmp",
    "XDG_CACHE_HOME": "/tmp/cache",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTEST_ADDOPTS": "-p no:cacheprovider",
    "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis",
}

_POLL_SECONDS = 1.0
_READ_BYTES = 1 << 16
_TAIL_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class Machine:
    """The size of the guest, and the seconds from its start after which it is killed."""

    # With two, each in a thread of QEMU's, the kernel once jumped to address 0 out of a function on which a kprobe had
    # just been set: QEMU 7.2 seems to run old code that another CPU changes at that moment. One has no race.
    cpus: int = 1
    memory_mb: int = 2048
    timeout_seconds: float = 540


def run_in_guest(
    kernel: Kernel, command: Sequence[str], project: Path, machine: Machine, console: BinaryIO, log: Path
) -> int:
    """Run `command` in `project` on `kernel` and return its exit status.

    What the guest says goes to `console` at once and to `log`. Raises BootProblem where the guest never comes to an end
    of its own, or ends without a status. Nothing of the guest is left, whatever happens.
    """
    for needed, package in ((QEMU, "qemu-system-x86"), (str(BUSYBOX), "busybox-static")):
        if shutil.which(needed) is None:
            raise BootProblem(f"{needed} is missing: apt-get install --no-install-recommends {package}")
    with tempfile.TemporaryDirectory(prefix="kprobes-") as scratch:
        archive, results = Path(scratch) / "initramfs", Path(scratch) / "results"
        archive.write_bytes(initramfs(kernel, project))
        results.mkdir()
        (results / "command").write_text(_script(command, project, ENVIRONMENT))
        qemu = _start(qemu_command(kernel, archive, results, machine))
        try:
            in_time = _follow(qemu, console, log, time.monotonic() + machine.timeout_seconds)
        finally:
            qemu.kill()
            qemu.wait()
        return _status(results / "status", log, in_time, machine)


def qemu_command(kernel: Kernel, archive: Path, results: Path, machine: Machine) -> list[str]:
    """The command line of QEMU, which emulates: no /dev/kvm is needed."""
    # QEMU wants a comma of a value twice. Without la57 a page walk has four levels instead of five.
    return [
        *(QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"),
        *(
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max,la57=off",
            "-smp",
            str(machine.cpus),
            "-m",
            str(machine.memory_mb),
        ),
        *("-kernel", str(kernel.image), "-initrd", str(archive), "-append", KERNEL_ARGUMENTS),
        *("-virtfs", "local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap"),
        *("-virtfs", f"local,path={str(results).replace(',', ',,')},mount_tag=results,security_model=none"),
    ]


def _script(command: Sequence[str], project: Path, environment: Mapping[str, str]) -> str:
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    return "\n".join([*exports, f"cd {shlex.quote(str(project))} || exit", f"exec {shlex.join(command)}", ""])


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start QEMU so that it can't outlive this process, even when that is killed."""
    bound = ["setpriv", "--pdeathsig", "KILL", *command]
    return subprocess.Popen(bound, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _follow(qemu: subprocess.Popen[bytes], console: BinaryIO, log: Path, deadline: float) -> bool:
    """Copy QEMU's output until it ends (True) or `deadline` (time.monotonic) has passed (False)."""
    assert qemu.stdout is not None
    with log.open("wb") as log_file, selectors.DefaultSelector() as selector:
        selector.register(qemu.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(min(left, _POLL_SECONDS)):
                continue
            text = os.read(qemu.stdout.fileno(), _READ_BYTES)
            if not text:
                return True
            for output in (console, log_file):
                output.write(text.replace(b"\r", b""))
                output.flush()
    return False


def _status(status: Path, log: Path, in_time: bool, machine: Machine) -> int:
    if not in_time:
        raise BootProblem(f"the guest was killed after {machine.timeout_seconds:.0f} s; {_last_words(log)}")
    try:
        return int(status.read_text())
    except (FileNotFoundError, ValueError):
        raise BootProblem(f"the guest ended without a result; {_last_words(log)}") from None


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").split("\n")]
    said = [line for line in lines if line]
    # A panic says why first, and then dumps registers.
    last = next((line for line in said if PANIC in line), said[-1] if said else "")
    return f"it said {last!r}, all of it is in {log}" if last else "it said nothing"
