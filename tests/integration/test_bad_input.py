"""What can't work: one line on stderr, the right exit status, nothing half-written and nothing left behind."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockflame.pprof import read
from lockflame.profile_pb2 import Profile as Message
from tests.support.cli import CliResult
from tests.support.needs import CannotTest, find_program
from tests.support.paths import REPO
from tests.support.process import Target, running
from tests.support.recording import lockflame_session, record
from tests.support.targets import build_target

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

NO_SUCH_PID = 2**22 + 1
PF_KTHREAD = 0x00200000
INTERRUPTS_THE_IMPORT_OF_CLICK = """
import os, signal, sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
"""


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """A process at work."""
    with running([build_target("split_70_30.c")]) as started:
        yield started


@pytest.fixture(scope="module")
def profile_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound profile."""
    output = tmp_path_factory.mktemp("sound") / "p.pb.gz"
    record(output, "-F", 999, "--", build_target("burn_first.c"))
    return output


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The empty folder in which the command runs."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def fails(*arguments: object, cwd: Path, status: int = 1, **options: object) -> str:
    """Run `lockflame`, which must end at once with this status and one line, and must leave `cwd` as it was."""
    before = {path: path.stat().st_size for path in cwd.rglob("*")}
    start = time.monotonic()
    with lockflame_session(*arguments, cwd=cwd, **options) as session:  # type: ignore[arg-type]
        result: CliResult = session.finish()
    assert time.monotonic() - start < 20
    assert result.status == status, result
    assert result.stdout == ""
    assert result.stderr.startswith("lockflame: error: ")
    assert result.stderr.endswith(".\n") or status == 2
    assert result.stderr.count("\n") == 1
    assert {path: path.stat().st_size for path in cwd.rglob("*")} == before
    return result.stderr


def kernel_thread() -> int:
    """The PID of a thread of the kernel."""
    for entry in sorted(Path("/proc").glob("[0-9]*")):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[6]) & PF_KTHREAD:
                return int(entry.name)
    raise CannotTest("no kernel thread is to be seen in /proc: a pid namespace hides them")


@pytest.mark.parametrize("outputs", [(), ("-o", "p.pb.gz", "-o", "p.svg")], ids=["default-outputs", "outputs"])
def test_no_such_pid(work: Path, outputs: tuple[str, ...]) -> None:
    line = fails("record", "-p", NO_SUCH_PID, *outputs, cwd=work)
    assert f"cannot profile process {NO_SUCH_PID}. There is no such process. " in line


def test_zombie(work: Path) -> None:
    child = subprocess.Popen(["true"])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert "has ended" in fails("record", "-p", child.pid, cwd=work)
    finally:
        child.wait()


def test_kernel_thread(work: Path) -> None:
    assert "kernel thread" in fails("record", "-p", kernel_thread(), cwd=work)


@pytest.mark.requires_root
@pytest.mark.parametrize("error", ["EPERM", "EACCES", "ENOSYS"])
@pytest.mark.parametrize("kind", ["pid", "command"])
def test_perf_refused(work: Path, target: Target, error: str, kind: str) -> None:
    launcher = [sys.executable, "-m", "tests.support.refuse_perf", error]
    what = ("-p", target.pid) if kind == "pid" else ("--", "touch", work / "it-ran")
    line = fails("record", *what, cwd=work, launcher=launcher)
    assert os.strerror(getattr(errno, error)) in line


@pytest.mark.parametrize(
    "arguments",
    [
        ("-d", "0"),
        ("-d", "-1"),
        ("-d", "nan"),
        ("-d", "inf"),
        ("-d", "1e300"),
        ("-d", "soon"),
        ("-F", "0"),
        ("-F", "-99"),
        ("-F", "99.5"),
        ("-o", "p.png"),
        ("-o", "p"),
        ("-o", ""),
        ("--no-such-option",),
        ("--", "true"),
    ],
    ids=" ".join,
)
def test_wrong_usage_of_record(work: Path, target: Target, arguments: tuple[str, ...]) -> None:
    fails("record", "-p", target.pid, *arguments, cwd=work, status=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("record",),
        ("record", "--"),
        ("record", "-p", "0"),
        ("record", "-p", "-5"),
        ("record", "-p", "mariadbd"),
        ("record", "-p", ""),
        ("flame",),
        ("flame", "p.pb.gz"),
        ("flame", "p.pb.gz", "-o", "p.png"),
        ("doctor", "now"),
        ("no-such-command",),
    ],
    ids=" ".join,
)
def test_wrong_usage(work: Path, arguments: tuple[str, ...]) -> None:
    fails(*arguments, cwd=work, status=2)


@pytest.mark.parametrize("excess", [1, 2**31, 2**70], ids=["by-one", "32-bits", "70-bits"])
def test_frequency_above_the_kernels_limit(work: Path, target: Target, excess: int) -> None:
    limit = int(Path("/proc/sys/kernel/perf_event_max_sample_rate").read_text())
    line = fails("record", "-p", target.pid, "-F", limit + excess, cwd=work)
    assert f"{limit} Hz" in line


@pytest.mark.parametrize("output", ["no/such/folder/p.svg", "folder.svg", "/proc/p.svg", "x" * 300 + ".svg"])
def test_output_is_checked_before_recording(work: Path, target: Target, output: str) -> None:
    (work / "folder.svg").mkdir()
    line = fails("record", "-p", target.pid, "-d", "60", "-o", "sound.pb.gz", "-o", output, cwd=work)
    assert f"cannot write {output}" in line


@pytest.mark.parametrize("output", ["no/such/folder/p.svg", "folder.svg"])
def test_output_is_checked_before_the_command_starts(work: Path, output: str) -> None:
    (work / "folder.svg").mkdir()
    fails("record", "-o", output, "--", "touch", "it-ran", cwd=work)


@pytest.mark.requires_root
def test_read_only_folder(work: Path, target: Target) -> None:
    with tmpfs(work / "disk", "ro"):
        line = fails("record", "-p", target.pid, "-d", "60", "-o", "disk/p.svg", cwd=work)
    assert "Read-only file system" in line


@pytest.mark.requires_root
def test_read_only_working_folder(work: Path, target: Target) -> None:
    with tmpfs(work / "disk", "ro") as disk:
        assert "Read-only file system" in fails("record", "-p", target.pid, "-d", "60", cwd=disk)


def test_no_folder_for_the_spool(work: Path, target: Target) -> None:
    line = fails("record", "-p", target.pid, "-o", "p.svg", cwd=work, env={"TMPDIR": "/no/such/folder"})
    assert "/no/such/folder" in line
    assert "TMPDIR" in line


@contextlib.contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own at `folder`."""
    folder.mkdir()
    done = subprocess.run(
        [find_program("mount"), "-t", "tmpfs", "-o", options, "lockflame-test", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        folder.rmdir()
        raise CannotTest(f"no tmpfs can be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run([find_program("umount"), folder], check=True)
        folder.rmdir()


def fill(folder: Path) -> Path:
    """Take all room of a file system."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass
    return filler


@pytest.mark.requires_root
@pytest.mark.parametrize("is_full_at_start", [True, False], ids=["full-before", "filled-meanwhile"])
@pytest.mark.parametrize("suffix", [".pb.gz", ".svg", ".folded"])
def test_full_disk_leaves_no_half_file(work: Path, target: Target, suffix: str, is_full_at_start: bool) -> None:
    with tmpfs(work / "disk", "size=256k") as disk:
        old = disk / f"p{suffix}"
        old.write_text("the old content")
        filler = fill(disk) if is_full_at_start else disk / "filler"
        arguments = ("record", "-p", target.pid, "-d", 1, "-F", 99, "-o", old)
        with lockflame_session(*arguments, cwd=work) as session:
            if not is_full_at_start:
                session.wait_until_recording()
                fill(disk)
            result = session.finish()
        assert result.status == 1
        assert result.stderr.startswith(f"lockflame: error: cannot write {old}. No space left on device. ")
        assert result.stderr.count("\n") == 1
        assert old.read_text() == "the old content"
        assert sorted(disk.iterdir()) == sorted([old, filler])


@pytest.mark.requires_root
def test_a_full_disk_under_one_output_spares_the_other(work: Path, target: Target) -> None:
    sound = work / "p.svg"
    with tmpfs(work / "disk", "size=256k") as disk:
        fill(disk)
        outputs = ("-o", disk / "p.pb.gz", "-o", sound)
        with lockflame_session("record", "-p", target.pid, "-d", 0.5, *outputs, cwd=work) as session:
            result = session.finish()
    assert result.status == 1
    assert result.stderr.count("lockflame: error: ") == 1
    assert sound.exists()


@pytest.mark.requires_root
def test_full_disk_under_the_spool_keeps_what_was_taken(work: Path, target: Target) -> None:
    output = work / "p.pb.gz"
    with tmpfs(work / "disk", "size=6m") as disk:
        arguments = ("record", "-p", target.pid, "-d", 60, "-F", 999, "-o", output)
        with lockflame_session(*arguments, cwd=work, env={"TMPDIR": str(disk)}) as session:
            result = session.finish()
        assert list(disk.iterdir()) == []
    assert result.status == 0, result.stderr
    assert "TMPDIR" in result.stderr
    info = read(str(output)).recording
    assert info.samples > 50
    assert any("TMPDIR" in note for note in info.notes)
    assert info.duration_ns < 10e9


@pytest.mark.requires_root
def test_spool_without_any_room(work: Path, target: Target) -> None:
    output = work / "p.pb.gz"
    with tmpfs(work / "disk", "size=8k") as disk:
        fill(disk)
        arguments = ("record", "-p", target.pid, "-d", 1, "-F", 999, "-o", output)
        with lockflame_session(*arguments, cwd=work, env={"TMPDIR": str(disk)}) as session:
            result = session.finish()
    assert "Traceback" not in result.stderr
    assert result.status in (0, 1)
    if result.status == 0:
        assert "TMPDIR" in result.stderr
        assert read(str(output)).recording.samples == 0
    else:
        assert not output.exists()


def whole_message() -> Message:
    """The least that is a profile."""
    message = Message(string_table=["", "cpu", "nanoseconds"])
    message.sample_type.add(type=1, unit=2)
    message.function.add(id=1, name=1)
    message.location.add(id=1).line.add(function_id=1)
    message.sample.add(location_id=[1], value=[1])
    return message


def zipped(**changes: object) -> bytes:
    """A profile file in which something is not as it should be."""
    message = whole_message()
    if "strings" in changes:
        del message.string_table[:]
        message.string_table.extend(changes["strings"])  # type: ignore[arg-type]
    if "name" in changes:
        message.function[0].name = changes["name"]  # type: ignore[assignment]
    if "location" in changes:
        message.sample[0].location_id[0] = changes["location"]  # type: ignore[assignment,index]
    if "values" in changes:
        message.sample[0].value.extend(changes["values"])  # type: ignore[arg-type]
    if changes.get("no_types"):
        del message.sample_type[:]
    return gzip.compress(message.SerializeToString())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x1f\x8b",
        b"not a profile\n",
        gzip.compress(b""),
        gzip.compress(b"not a profile\n"),
        gzip.compress(os.urandom(1000)),
        gzip.compress(b"\x0a\xff\xff\xff\xff\x0f"),
        whole_message().SerializeToString()[:-3],
        gzip.compress(whole_message().SerializeToString())[:-9] + b"\0" * 9,
        zipped(strings=[]),
        zipped(strings=["", "cpu"]),
        zipped(name=99),
        zipped(name=-1),
        zipped(location=7),
        zipped(values=[1]),
        zipped(no_types=True),
        b"\x28\xb5\x2f\xfd" + b"\0" * 20,
    ],
    ids=[
        "empty",
        "two-bytes",
        "text",
        "gzip-of-nothing",
        "gzip-of-text",
        "gzip-of-noise",
        "gzip-of-a-huge-length",
        "not-gzip-and-cut-off",
        "bad-checksum",
        "no-strings",
        "string-missing",
        "name-not-there",
        "name-negative",
        "location-not-there",
        "too-many-values",
        "no-sample-types",
        "another-compression",
    ],
)
def test_flame_of_a_bad_file(work: Path, content: bytes) -> None:
    profile = work / "p.pb.gz"
    profile.write_bytes(content)
    assert f"cannot read {profile}" in fails("flame", profile, "-o", "p.svg", cwd=work)


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_flame_of_a_file_that_is_cut_off(work: Path, profile_file: Path, kept: float) -> None:
    content = profile_file.read_bytes()
    profile = work / "p.pb.gz"
    profile.write_bytes(content[: int(len(content) * kept)])
    fails("flame", profile, "-o", "p.svg", cwd=work)


@pytest.mark.parametrize("path", ["missing.pb.gz", "folder", "no/such/p.pb.gz", "a\nb\x1b[31m.pb.gz"])
def test_flame_of_no_file(work: Path, path: str) -> None:
    (work / "folder").mkdir()
    line = fails("flame", path, "-o", "p.svg", cwd=work)
    assert "\x1b" not in line


def test_flame_to_a_folder_that_is_not_there(work: Path, profile_file: Path) -> None:
    fails("flame", profile_file, "-o", "no/such/p.svg", cwd=work)


def test_flame_keeps_the_old_picture_when_the_file_is_bad(work: Path) -> None:
    (work / "p.svg").write_text("old")
    (work / "p.pb.gz").write_bytes(b"bad")
    fails("flame", "p.pb.gz", "-o", "p.svg", cwd=work)
    assert (work / "p.svg").read_text() == "old"


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_results_that_cannot_be_written(work: Path, redirection: str) -> None:
    launcher = ["sh", "-c", f'exec "$@" {redirection}', "sh"]
    with lockflame_session("doctor", cwd=work, launcher=launcher) as session:
        result = session.finish()
    assert "Traceback" not in result.stderr
    if redirection == ">/dev/full":
        assert result.status == 1
        assert result.stderr.startswith("lockflame: error: ")
        assert result.stderr.count("\n") == 1


def test_ctrl_c_while_python_still_imports(work: Path, tmp_path: Path) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(INTERRUPTS_THE_IMPORT_OF_CLICK)
    env = {"PYTHONPATH": os.pathsep.join([str(hooks), str(REPO)])}
    with lockflame_session("record", "-p", os.getpid(), cwd=work, env=env) as session:
        result = session.finish()
    assert result.status in (130, -signal.SIGINT)
    assert "Traceback" not in result.stderr
    assert list(work.iterdir()) == []


def test_repo_is_not_written_to() -> None:
    """Whatever runs with the repo as its folder leaves no profile there."""
    assert list(REPO.glob("lockflame-*.pb.gz")) == []


def test_the_id_of_a_thread_is_no_process(work: Path) -> None:
    with running([build_target("many_threads.c"), "--threads", 2]) as target:
        tid = next(int(name) for name in os.listdir(f"/proc/{target.pid}/task") if int(name) != target.pid)
        message = fails("record", "-p", tid, "-d", 1, cwd=work)
    assert f"Use -p {target.pid}." in message


def test_a_parent_that_ignores_its_children_changes_nothing(work: Path) -> None:
    launcher = ["python3", "-c", "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
                "os.execvp(sys.argv[1], sys.argv[1:])"]  # fmt: skip
    with lockflame_session(
        "record", "-o", "p.pb.gz", "--", "sh", "-c", "exit 3", cwd=work, launcher=launcher
    ) as session:
        assert session.finish().status == 3
