"""What can be tested of the guest without booting one."""

from __future__ import annotations

import io
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.kprobes import boot, guest
from tests.kprobes.guest import Machine, run_in_guest
from tests.kprobes.initramfs import Entry, archive
from tests.kprobes.kernel import Kernel
from tests.kprobes.problem import BootProblem
from tests.support.needs import MissingProgram

KERNEL = Kernel("6.1.0-0-amd64", Path("/nonexistent"), ())


def run(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timeout_seconds: float = 60) -> tuple[int, str]:
    """`run_in_guest` where a shell script, given the folder of results as $1, stands in for QEMU."""
    monkeypatch.setattr(guest, "QEMU", "sh")
    monkeypatch.setattr(guest, "BUSYBOX", Path("/bin/sh"))
    monkeypatch.setattr(guest, "initramfs", lambda *_: b"")
    monkeypatch.setattr(guest, "qemu_command", lambda _k, _a, results, _m: ["sh", "-c", script, "sh", str(results)])
    console = io.BytesIO()
    machine = Machine(timeout_seconds=timeout_seconds)
    status = run_in_guest(KERNEL, ["printf", "%s|", "a  b", "it's"], tmp_path, machine, console, tmp_path / "log")
    return status, console.getvalue().decode()


def test_busybox_reads_the_archive(tmp_path: Path) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        raise MissingProgram("busybox")
    files = {"one": b"1", "folder/two": bytes(range(256)) * 5, "folder/empty": b""}
    packed = archive(
        [Entry("folder", stat.S_IFDIR | 0o755), *(Entry(n, stat.S_IFREG | 0o644, c) for n, c in files.items())]
    )
    subprocess.run([busybox, "cpio", "-i"], input=packed, cwd=tmp_path, check=True, capture_output=True)
    assert {name: (tmp_path / name).read_bytes() for name in files} == files


def test_the_command_runs_as_it_was_given_and_its_status_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run('sh "$1/command"; echo 7 >"$1/status"', tmp_path, monkeypatch) == (7, "a  b|it's|")


def test_a_panic_is_the_reason_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BootProblem, match="without a result; it said 'Kernel panic - no init'"):
        run("echo Kernel panic - no init; echo R13: 0", tmp_path, monkeypatch)


def test_a_guest_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BootProblem, match="killed after 1 s; it said 'booting'"):
        run("echo booting; exec sleep 600", tmp_path, monkeypatch, timeout_seconds=1)


def test_a_missing_program_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(boot, "debian_kernel", lambda: KERNEL)
    monkeypatch.setattr(guest, "QEMU", "no-such-qemu")
    assert boot.main(["true"]) == boot.GUEST_FAILED
    assert "no-such-qemu is missing: apt-get install --no-install-recommends qemu-system-x86" in capfd.readouterr().err
