"""Lockflame watched from outside while it works, and its profiles read back."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lockflame.pprof import read
from lockflame.profile import CPU, SAMPLES, FrameKind, Profile, SampleType
from tests.support.cli import CliResult, lockflame_command
from tests.support.paths import REPO
from tests.support.process import kill_group, wait_until

WITHOUT_BPF = (sys.executable, "-m", "tests.support.refuse_perf", "EPERM:bpf")
"""A launcher that has the kernel refuse BPF, as in many containers."""
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Session:
    """A started `lockflame`, alone in a session of processes, with a temporary folder of its own."""

    def __init__(self, process: subprocess.Popen[str], temporary: Path) -> None:
        self.process = process
        self.temporary = temporary

    @property
    def pid(self) -> int:
        """The process id of `lockflame` itself."""
        return self.process.pid

    def is_recording(self) -> bool:
        """Whether it waits for records: only then does it hold a pidfd of its target."""
        return any("pidfd" in link for link in _open_links(self.pid))

    def wait_until_recording(self, timeout: float = 20) -> None:
        """Return when the recording has begun."""
        wait_until(self.is_recording, "lockflame records", timeout, pause=0.01)

    def finish(self, send: str | None = None, timeout: float = 60) -> CliResult:
        """Wait for its end, having written `send` to its stdin; it must leave no process and no temporary file."""
        stdout, stderr = self.process.communicate(send, timeout=timeout)
        assert session_members(self.pid) == []
        assert os.listdir(self.temporary) == []
        return CliResult(self.process.returncode, stdout, stderr)


@contextlib.contextmanager
def lockflame_session(
    *arguments: object,
    launcher: Sequence[str | Path] = (),
    stdin: int | IO[str] = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    temporary: Path | None = None,
) -> Iterator[Session]:
    """Start `lockflame` with these arguments, by `launcher` (a command that becomes it) if there is one.

    Whatever is left of its session at the end is killed.
    """
    with contextlib.ExitStack() as stack:
        if temporary is None:
            temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp", prefix="lf-spool-")))
            temporary.chmod(0o777)
        process = subprocess.Popen(
            [*map(str, launcher), *lockflame_command(*map(str, arguments))],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd or REPO,
            env={**os.environ, "PYTHONPATH": str(REPO), "TMPDIR": str(temporary), **(env or {})},
            pass_fds=pass_fds,
            start_new_session=True,
        )
        try:
            yield Session(process, temporary)
        finally:
            kill_group(process)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a recording said, and the profile that it wrote."""

    status: int
    stdout: str
    stderr: str
    profile: Profile


def record(output: Path, *arguments: object, status: int = 0, **options: object) -> Recorded:
    """`lockflame record -o output ARGUMENTS` to its end, which must be of this exit status."""
    with lockflame_session("record", "-o", output, *arguments, **options) as session:  # type: ignore[arg-type]
        return recorded(session.finish(), output, status)


def recorded(result: CliResult, output: Path, status: int = 0) -> Recorded:
    """The profile that a finished `lockflame record` wrote to `output`."""
    assert result.status == status, result.stderr
    return Recorded(result.status, result.stdout, result.stderr, read(str(output)))


def stacks_of(profile: Profile) -> list[list[str]]:
    """The function names of each stack, leaf first, inlined ones too."""
    names = [[profile.functions[line.function].name for line in location.lines] for location in profile.locations]
    return [
        [name for location in profile.stacks[index].tolist() for name in names[location]]
        for index in range(len(profile.stacks))
    ]


def weight_where(profile: Profile, holds: Callable[[list[str]], bool], kind: SampleType = CPU) -> int:
    """The sum of one sample type over the samples whose stack of names is such."""
    column = profile.samples.values[:, profile.sample_types.index(kind)].tolist()
    wanted = [holds(stack) for stack in stacks_of(profile)]
    return sum(value for stack, value in zip(profile.samples.stack.tolist(), column, strict=True) if wanted[stack])


def weight_of(profile: Profile, function: str, kind: SampleType = CPU) -> int:
    """The sum of one sample type over the samples that have the function on their stack."""
    return weight_where(profile, lambda stack: function in stack, kind)


def function_names(profile: Profile) -> set[str]:
    """The names of all functions of all stacks."""
    return {name for stack in stacks_of(profile) for name in stack}


def samples_by_pid(profile: Profile) -> Counter[int]:
    """How many samples each process has."""
    column = profile.samples.values[:, profile.sample_types.index(SAMPLES)].tolist()
    counts: Counter[int] = Counter()
    for thread, count in zip(profile.samples.thread.tolist(), column, strict=True):
        counts[profile.threads[thread].pid] += count
    return counts


def frame_kinds(profile: Profile) -> set[FrameKind]:
    """The kinds of frames that occur."""
    return {location.kind for location in profile.locations}


def kinds_of(profile: Profile, function: str) -> set[FrameKind]:
    """The kinds of the locations that have this function."""
    return {
        location.kind
        for location in profile.locations
        if any(profile.functions[line.function].name == function for line in location.lines)
    }


def process_cpu_ns(pid: int) -> int:
    """What the kernel says a process used so far, all of its threads: utime + stime of /proc/PID/stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 10**9 // TICKS_PER_SECOND


def session_members(leader: int) -> list[int]:
    """The living processes of a session."""
    members: list[int] = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, *fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == leader and state not in "ZX":
                members.append(int(entry.name))
    return members


def _open_links(pid: int) -> list[str]:
    links: list[str] = []
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                links.append(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return links
