"""The tools of others that a user would pick instead: those that sample."""

from __future__ import annotations

import os
import platform
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.perf_output import PerfStack, is_start, perf_first_sample_s, perf_lost, perf_stacks
from benchmarks.side_by_side import bpftrace_peers
from benchmarks.side_by_side.beginnings import BPF_LINK, Beginning
from benchmarks.side_by_side.files import COMPLAINED, PERF_DATA, PICTURE, SAID
from benchmarks.side_by_side.folding import (
    KERNEL_MARK,
    Stack,
    folded_offcputime,
    folded_stacks,
    futex_waits,
    lock_callers,
    shares_of,
    svg_shares,
)
from benchmarks.side_by_side.model import Answer, Tool
from tests.support.needs import CannotTest, find_program

FREQUENCY_HZ = 99
MISSED = "[Missed User Stack]"
KPROBES = Path("/sys/bus/event_source/devices/kprobe")
MODULES = Path("/lib/modules")
# Debian has a kernel's headers in two folders, and BCC looks into one: both are laid over each other, seen by it alone.
# It asks for tracefs too.
_BCC = """mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing || exit 99
mount -t overlay overlay -o "ro,lowerdir=$1:$2" "$1" || exit 98
export BCC_KERNEL_SOURCE="$1"
shift 2
exec "$@"
"""
_LOST_STACKS = re.compile(r"WARNING: (\d+) stack traces (?:lost|could not)")
_PY_SPY_COUNTS = re.compile(r"Samples: (\d+) Errors: (\d+)")


def perf_picture(folder: Path) -> Sequence[Sequence[str]]:
    """inferno's own command: `perf script`, folding and drawing, all compiled."""
    return [perf_picture_command(folder / PERF_DATA, folder / PICTURE)]


def perf_picture_command(data: Path, picture: Path, *, inlined: bool = False) -> list[str]:
    """Draws a perf.data; with `inlined`, perf names inlined functions too."""
    return [
        _of_environment("flamegraph"),
        "--perfdata",
        str(data),
        *([] if inlined else ["--no-inline"]),
        "-o",
        str(picture),
    ]


def perf_answer(folder: Path) -> Answer:
    """What is in a perf.data, unwound by `perf script --no-inline`."""
    data = folder / PERF_DATA
    return perf_answer_of(perf_stacks(data), perf_lost(data))


def perf_answer_of(stacks: Sequence[PerfStack], lost: int) -> Answer:
    """The same, of the user frames of each sample."""
    with_user = [stack for stack in stacks if stack.names]
    whole = sum(stack.is_whole for stack in with_user)
    shares = shares_of(Stack(tuple(stack.names), 1) for stack in stacks)
    return Answer(len(stacks), lost, 100 * whole / len(with_user) if with_user else None, shares)


def profile_answer(folder: Path) -> Answer:
    """What BCC's profile printed."""
    return profile_answer_of((folder / SAID).read_text(errors="replace"), (folder / COMPLAINED).read_text())


def profile_answer_of(folded: str, complaints: str) -> Answer:
    """The same, of its folded lines, in which the kernel's functions are marked, and of its warnings."""
    stacks = list(folded_stacks(folded))
    users = [(stack.names[-1], stack.weight) for stack in stacks if not _is_without_user(stack)]
    total = sum(weight for _, weight in users)
    whole = sum(weight for root, weight in users if is_start(root))
    lost = _LOST_STACKS.search(complaints)
    return Answer(
        samples=int(sum(stack.weight for stack in stacks)),
        lost=int(lost[1]) if lost else 0,
        whole_percent=100 * whole / total if total else None,
        shares=shares_of(stacks),
    )


def offcputime_answer(folder: Path) -> Answer:
    """Whom BCC's offcputime saw wait for futexes; idle waits are among them."""
    return _waits_answer(folded_stacks((folder / SAID).read_text(errors="replace")))


def libbpf_offcputime_answer(folder: Path) -> Answer:
    """The same, from libbpf-tools' offcputime."""
    text = (folder / SAID).read_text(errors="replace")
    return _waits_answer(folded_stacks("\n".join(folded_offcputime(text))))


def py_spy_answer(folder: Path) -> Answer:
    """What py-spy's picture shows: it leaves out what is less than a hundredth of a percent."""
    said = (folder / SAID).read_text(errors="replace") + (folder / COMPLAINED).read_text(errors="replace")
    counts = _PY_SPY_COUNTS.search(said)
    samples, lost = (int(counts[1]), int(counts[2])) if counts else (None, None)
    return Answer(samples, lost, shares=svg_shares((folder / PICTURE).read_text()))


def _waits_answer(stacks: Iterable[Stack]) -> Answer:
    return Answer(lock_paths=lock_callers(futex_waits(stacks)))


def _is_without_user(stack: Stack) -> bool:
    return stack.names[-1].endswith(KERNEL_MARK) or stack.names[-1] == MISSED


def _perf(call_graph: str) -> Callable[[int, Path], Sequence[str]]:
    def command(pid: int, folder: Path) -> Sequence[str]:
        # -N: else it copies binaries to ~/.debug, once, and leaves them there. The clock is that of our time stamps.
        options = ("-N", "-k", "CLOCK_MONOTONIC", "-F", str(FREQUENCY_HZ), "--call-graph", call_graph)
        return [str(find_program("perf")), "record", *options, "-p", str(pid), "-o", str(folder / PERF_DATA)]

    return command


def _profile(pid: int, _: Path) -> Sequence[str]:
    # -a marks the kernel's functions: else a stack without user frames looks like a user's.
    return [*_bcc(), str(find_program("profile-bpfcc")), "-F", str(FREQUENCY_HZ), "-f", "-a", "-p", str(pid)]


def _offcputime(pid: int, _: Path) -> Sequence[str]:
    if not KPROBES.exists():
        raise CannotTest(f"it needs a kprobe on finish_task_switch; this kernel has no kprobes ({KPROBES} is missing)")
    return [*_bcc(), str(find_program("offcputime-bpfcc")), "-f", "-p", str(pid)]


def _libbpf_offcputime(pid: int, _: Path) -> Sequence[str]:
    return [str(find_program("offcputime")), "-p", str(pid)]


def _py_spy(pid: int, folder: Path) -> Sequence[str]:
    program = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    if not program.startswith("python"):
        raise CannotTest(f"it reads Python programs only, not {program}")
    options = ("--native", "-r", str(FREQUENCY_HZ), "-p", str(pid), "-o", str(folder / PICTURE))
    return [_of_environment("py-spy"), "record", *options]


def _of_environment(program: str) -> str:
    """The path of a program that a package of PyPI put beside our Python."""
    path = Path(sysconfig.get_path("scripts"), program)
    if not path.is_file():
        raise CannotTest(f"{program} is not installed: make setup")
    return str(path)


def _bcc() -> list[str]:
    """In front of a tool's command line."""
    for modules in (MODULES / platform.release(), *sorted(MODULES.glob("*"), reverse=True)):
        build, source = modules / "build", modules / "source"
        if (source / "include/linux/kconfig.h").is_file() and build.is_dir():
            return ["unshare", "--mount", "sh", "-c", _BCC, "sh", str(build.resolve()), str(source.resolve())]
    raise CannotTest(f"BCC needs a kernel's headers below {MODULES}: apt-get install linux-headers-amd64")


def _drawn(*options: str) -> Callable[[Path], Sequence[Sequence[str]]]:
    draw = (sys.executable, "-m", "benchmarks.side_by_side.draw")
    return lambda folder: [[*draw, str(folder / SAID), str(folder / PICTURE), *options]]


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("perf fp", "linux-perf", _perf("fp"), perf_answer, perf_picture),
        Tool("perf dwarf", "linux-perf", _perf("dwarf"), perf_answer, perf_picture),
        Tool("profile", "bpfcc-tools", _profile, profile_answer, _drawn()),
        Tool("offcputime", "bpfcc-tools", _offcputime, offcputime_answer, _drawn()),
        Tool(
            "offcputime (libbpf)",
            "libbpf-tools",
            _libbpf_offcputime,
            libbpf_offcputime_answer,
            _drawn("offcputime"),
        ),
        *bpftrace_peers.TOOLS,
        Tool("py-spy", "py-spy", _py_spy, py_spy_answer),
    )
}


def _perf_first_sample_s(folder: Path) -> float | None:
    return perf_first_sample_s(folder / PERF_DATA)


BEGINNINGS = {
    "perf fp": Beginning(since=_perf_first_sample_s),
    "perf dwarf": Beginning(since=_perf_first_sample_s),
    "offcputime (libbpf)": Beginning(held=BPF_LINK),
    # It has no events: it stops its target and reads its memory.
    "py-spy": Beginning(said="Sampling process"),
    **bpftrace_peers.BEGINNINGS,
}
"""Of those that aren't seen by their first perf event."""
