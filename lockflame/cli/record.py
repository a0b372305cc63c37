"""`lockflame record`: sample a process, name its frames, write the files, say what was found."""

from __future__ import annotations

import gc
import math
import os
import re
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import click

from lockflame.cli.downloads import asked_settings, debuginfod_client
from lockflame.cli.output import SUFFIXES, Output, OutputType, check_writable, write_profiles
from lockflame.cli.progress import ATTACHING, NAMING, Progress, recording_progress
from lockflame.cli.target import Target, running_target
from sampler import launch
from sampler.launch import Child
from sampler.recorder import MakeProbes, RawRecording, Recorder
from sampler.signals import StopSignals

DEFAULT_DURATION_S = 10.0
DEFAULT_FREQUENCY_HZ = 99
DEFAULT_STACK_BYTES = 32768
STACK_BYTES_MOST = 65528
CHILD_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class SampleChoice:
    """What to record: how often, how much of each stack, and by which `--probe` lock waits, if at all."""

    frequency_hz: int
    stack_bytes: int
    probe: str | None


@click.command("record")
@click.option("-p", "--pid", type=click.IntRange(min=1), help="The process to profile, with all threads and children.")
@click.option(
    "-d",
    "--duration",
    type=click.FloatRange(min=0, min_open=True, max=10**7),
    metavar="SECONDS",
    help=f"How long to record. [default: {DEFAULT_DURATION_S:g} with -p, else until the command ends]",
)
@click.option(
    "-F",
    "--frequency",
    type=click.IntRange(min=1),
    default=DEFAULT_FREQUENCY_HZ,
    show_default=True,
    metavar="HZ",
    help="Samples a second of CPU time.",
)
@click.option(
    "--call-graph",
    type=click.Choice(["dwarf", "fp"]),
    default="dwarf",
    show_default=True,
    help="How stacks are taken: dwarf copies the top of each and unwinds it afterwards, which needs no frame "
    "pointers; fp leaves it to the kernel, which finds only frames that have them.",
)
@click.option(
    "--stack-size",
    type=click.IntRange(min=1024, max=STACK_BYTES_MOST),
    default=DEFAULT_STACK_BYTES,
    show_default=True,
    metavar="BYTES",
    help="How much of each stack is copied, in whole words of 8 bytes.",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    type=OutputType(),
    multiple=True,
    help=f"File to write; the suffix tells the format: {', '.join(SUFFIXES)}. Repeatable. "
    "[default: lockflame-COMM-PID-TIME.pb.gz and .svg]",
)
@click.option(
    "--locks/--no-locks",
    "with_locks",
    default=False,
    show_default=True,
    help="Follow lock waits too, by probes on futex calls: who waits, for which lock, who held it. Needs root and BCC.",
)
@click.option(
    "--probe",
    type=click.Choice(["auto", "kprobe", "tracepoint"]),
    default="auto",
    show_default=True,
    help="With --locks: kprobes on the futex functions, which cost other system calls nothing, or tracepoints.",
)
@click.option(
    "--debug-dir",
    "debug_folders",
    type=click.Path(exists=True, file_okay=False),
    multiple=True,
    help="Look for separate debug files here before /usr/lib/debug: DIR/.build-id/12/3456.debug. Repeatable.",
)
@click.option(
    "--debuginfod",
    is_flag=True,
    help="Fetch debug info that is missing here from the servers in DEBUGINFOD_URLS, and keep it. Each download is "
    "shown; Ctrl-C ends them all and names what can be named without.",
)
@click.option("--full-names", is_flag=True, help="Whole function names in pictures and in the summary.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def record_command(
    pid: int | None,
    duration: float | None,
    frequency: int,
    call_graph: str,
    stack_size: int,
    outputs: tuple[Output, ...],
    with_locks: bool,
    probe: str,
    debug_folders: tuple[str, ...],
    debuginfod: bool,
    full_names: bool,
    command: tuple[str, ...],
) -> int:
    """Profile a running process (-p) or a command (after --).

    Takes the stacks of all its threads at a bounded rate while they use CPU, at next to no cost.
    Ctrl-C ends the recording and keeps what was taken. With a command, the exit status is the command's.

    \b
    Examples:
      lockflame record -p $(pidof mariadbd) -d 10 -o before.pb.gz -o before.svg
      lockflame record -- ./my-server --threads 8
    """
    if duration is not None and not math.isfinite(duration):
        raise click.UsageError("-d/--duration is not a number of seconds", click.get_current_context())
    if command and not command[0]:
        raise click.UsageError("the command after -- is empty", click.get_current_context())
    if probe != "auto" and not with_locks:
        raise click.UsageError("--probe goes with --locks", click.get_current_context())
    if (pid is None) == (not command):
        raise click.UsageError("give either -p PID or a command after --", click.get_current_context())
    for output in outputs:
        check_writable(output.path)
    servers = asked_settings(debuginfod)
    with StopSignals() as stop, _target(pid, command, stop) as target:
        outputs = outputs or _default_outputs(target)
        duration = DEFAULT_DURATION_S if duration is None and target.child is None else duration
        stack_bytes = 0 if call_graph == "fp" else stack_size // 8 * 8
        with recording_progress(duration) as progress:
            choice = SampleChoice(frequency, stack_bytes, probe if with_locks else None)
            raw = _record(target, choice, duration, stop, progress)
            if target.child is None:
                stop.release()
            progress.step(NAMING)
            _prepare_for_numbers()
            # Only now: numpy and all that computes would take memory and time from the recording.
            from lockflame.cli.profiling import profile_of
            from lockflame.cli.summary import print_summary

            try:
                with debuginfod_client(servers, progress, _SignalPolicy(target.child)) as client:
                    profile = profile_of(
                        raw, target.pid, target.command_line, debug_folders=debug_folders, debuginfod=client
                    )
            finally:
                raw.close()
            progress.step("writing files")
            write_profiles(profile, outputs, full_names=full_names)
        print_summary(profile, target.name, [output.path for output in outputs], full_names=full_names)
    return target.child.wait() if target.child else 0


@contextmanager
def _target(pid: int | None, command: tuple[str, ...], stop: StopSignals) -> Generator[Target]:
    """The process to profile; a command is started, stopped before its first instruction.

    At the end, come what may, a command that runs is waited for; signals still reach it meanwhile.
    """
    if pid is not None:
        yield running_target(pid, f"cannot profile process {pid}")
        return
    child = launch.start(command)
    try:
        yield Target(child.pid, os.path.basename(command[0]), " ".join(command), child)
    finally:
        policy = _SignalPolicy(child)
        while child.was_let_go and not child.has_ended():
            for number in stop.take():
                policy(number)
            time.sleep(CHILD_POLL_S)
        child.close()


def _prepare_for_numbers() -> None:
    """Spares what the way from samples to files has no use for."""
    # Most of what is made on it lasts until the end: looking for what doesn't finds next to nothing.
    gc.disable()
    # numpy's library for matrices starts a thread for each CPU, which spins for a tenth of a second. Not earlier: a
    # command of the user's would inherit it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _default_outputs(target: Target) -> tuple[Output, ...]:
    comm = re.sub(r"[^A-Za-z0-9._-]", "_", target.name)
    stem = f"lockflame-{comm}-{target.pid}-{time.strftime('%Y%m%d-%H%M%S')}"
    outputs = (Output(f"{stem}.pb.gz", ".pb.gz"), Output(f"{stem}.svg", ".svg"))
    check_writable(outputs[0].path)
    return outputs


def _record(
    target: Target, choice: SampleChoice, duration: float | None, stop: StopSignals, progress: Progress
) -> RawRecording:
    child = target.child
    if choice.probe is not None:
        progress.step(ATTACHING)
    recorder = Recorder(
        target.pid,
        choice.frequency_hz,
        choice.stack_bytes,
        enable_on_exec=child is not None,
        make_probes=_futex_probes(choice.probe) if choice.probe is not None else None,
    )
    try:
        stop.act_on_early()  # while the probes were compiled: there is nothing yet to be kept
        recorder.start()
        if child is not None:
            child.go()
        recorder.run(duration, stop, _SignalPolicy(child), progress.on_tick)
        return recorder.finish()
    finally:
        recorder.close()


def _futex_probes(probe: str) -> MakeProbes:
    # Late: a recording without probes does without all of it.
    from sampler.futex.attachment import ProbeKind
    from sampler.futex.probes import FutexProbes

    return lambda pid, choice, rings: FutexProbes(pid, ProbeKind(probe), choice.frequency_hz, choice.attr(), rings)


class _SignalPolicy:
    """What a stop signal does: it ends the recording; a command of ours gets it first, and ends by it or not.

    The second one ends a command that took no notice of the first.
    """

    def __init__(self, child: Child | None) -> None:
        self._child = child
        self._is_first = True

    def __call__(self, number: int) -> bool:
        if self._child is None:
            return True
        if self._is_first:
            self._is_first = False
            # A Ctrl-C on the terminal has reached the command already, which is in our process group.
            if number != signal.SIGINT or not _is_foreground():
                self._child.send(number)
            return False
        self._child.send(signal.SIGKILL)
        return True


def _is_foreground() -> bool:
    try:
        with open("/dev/tty") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
