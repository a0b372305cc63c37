"""`trace signals` beside what those who send and receive signals write down themselves."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import lockflame_running, run_lockflame
from tests.support.needs import CannotTest
from tests.support.process import Target, running, wait_until
from tests.support.targets import build_target

pytestmark = [pytest.mark.integration, pytest.mark.requires_root]

SIGNALS = 1009
FLOOD = 120_000
SETTLE_S = 0.3
"""From the line that says that tracing begins until it does, and more."""
NOBODY = 2**22 + 1
"""More than any process can have (PID_MAX_LIMIT)."""
SENDER = """
import os, signal, sys
sleeper, nobody = map(int, sys.argv[1:])
open("/proc/self/comm", "w").write("sends a lot")
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
print("ready", flush=True)
signal.sigwait({signal.SIGUSR1})
os.kill(sleeper, 0)
os.kill(sleeper, signal.SIGWINCH)
if os.fork() == 0:
    os.kill(sleeper, signal.SIGCONT)
    os._exit(0)
os.wait()
try:
    os.kill(nobody, signal.SIGTERM)
except ProcessLookupError:
    pass
os.kill(sleeper, signal.SIGRTMIN + 3)
print("done", flush=True)
signal.pause()
"""
IN_NAMESPACE = """
sleep 60 & kill -USR1 $!
kill -0 77
wait
"""
OUT_OF_MEMORY = """
import os, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
held = []
while True:
    held.append(b"x" * (1 << 20))
"""
PIDFD = "pidfd_send_signal"
STARTS = "lockflame: tracing signals"

Seen = dict[str, Any]


class Trace:
    """A `lockflame trace signals --json` at work."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.err = ""

    def end(self, *, by: int | None = None, timeout: float = 30) -> list[Seen]:
        """What it has shown, once it is told to end by a signal, or has ended by itself."""
        if by is not None:
            self.process.send_signal(by)
        out, self.err = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, self.err
        return [json.loads(line) for line in out.splitlines()]


@contextmanager
def tracing(*arguments: object) -> Iterator[Trace]:
    """One, from when it sees signals."""
    with tracing_all({"one": arguments}) as traces:
        yield traces["one"]


@contextmanager
def tracing_all(arguments: Mapping[str, Sequence[object]]) -> Iterator[dict[str, Trace]]:
    """Several at once."""
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(lockflame_running("trace", "signals", "--json", *map(str, given)))
            for name, given in arguments.items()
        }
        for process in processes.values():
            wait_for_start(process)
        time.sleep(SETTLE_S)
        yield {name: Trace(process) for name, process in processes.items()}


def wait_for_start(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith(STARTS), line + process.stderr.read()


def between(seen: list[Seen], pids: set[int]) -> list[Seen]:
    """Those that these processes have sent."""
    return [one for one in seen if one["sender"] and one["sender"]["pid"] in pids]


def go(target: Target) -> None:
    """What the targets wait for."""
    os.kill(target.pid, signal.SIGUSR1)


def test_1009_signals_in_their_order() -> None:
    """Of processes and threads, by all calls, to processes and threads; and what became of each."""
    with running([build_target("signal_senders.c"), str(SIGNALS)]) as target:
        with tracing("-p", target.pid) as trace:
            go(target)
            target.wait()
            seen = trace.end()  # by itself, as the process and all its children have ended
        log: list[list[Any]] = target.last_json()["signals"]
    sent = between(seen, {entry[0] for entry in log})
    assert len(log) == SIGNALS
    assert [_logged(one) for one in sent] == [tuple(entry[:4]) for entry in log]
    for one, (_, _, call, number, pid, tid, error) in zip(sent, log, strict=True):
        # What a descriptor means can't be told any more when its owner has ended.
        may_be_unknown = call == PIDFD and (error or not number)
        assert one["target"]["pid"] == pid or (may_be_unknown and one["target"]["pid"] is None)
        assert (one["target"]["tid"] or 0) == tid
        assert one["failed"] == bool(error)
    assert [one["result"] for one in sent] == _results(log)
    assert len({entry[1] for entry in log}) > len({entry[0] for entry in log}) > 2, "threads and processes"
    assert {"ok", "exists", "ignored", "already pending", "EPERM", "ESRCH"} == {one["result"] for one in sent}


def _logged(seen: Seen) -> tuple[int, int, str, int]:
    return seen["sender"]["pid"], seen["sender"]["tid"], seen["call"], seen["number"]


def _results(log: list[list[Any]]) -> list[str]:
    """What becomes of each: a standard signal that is blocked is pending once, for a process or for a thread of it."""
    pending: set[tuple[int, int, int]] = set()
    results: list[str] = []
    for _, _, _, number, pid, tid, error in log:
        key = (number, pid, tid)
        if error:
            results.append(errno.errorcode[error])
        elif number == 0:
            results.append("exists")
        elif number == signal.SIGUSR2:
            results.append("ignored")
        else:
            is_queued = number >= signal.SIGRTMIN
            results.append("already pending" if key in pending and not is_queued else "ok")
            pending.add(key)
    return results


def test_kinds_causes_and_stacks() -> None:
    with running([build_target("signal_kinds.c")]) as target:
        with tracing("-p", target.pid, "--stack", "--all") as trace:
            go(target)
            target.wait()
            seen = trace.end()
        truth = target.last_json()
    own = [one for one in seen if one["sender"] is None or one["sender"]["pid"] != os.getpid()]
    child = truth["child"]
    assert [(one["signal"], one["result"], one.get("cause"), one["sender"] is None) for one in own] == [
        ("SIGCHLD", "ignored", f"signal_kinds {truth['nobody']} ended", True),
        ("SIGTERM", "ESRCH", None, False),
        ("SIGUSR2", "ignored", None, False),
        ("SIGRTMIN+3", "ok", None, False),
        ("SIGRTMIN+3", "ok", None, False),
        ("SIGALRM", "ok", "timer", True),
        ("SIGRTMIN+4", "ok", "timer", True),
        ("SIGPIPE", "ignored", "write to a pipe or socket that nobody reads", True),
        ("SIGABRT", "ok", None, False),
        ("SIGCHLD", "ignored", f"signal_kinds {child} was killed", True),
        ("SIGSEGV", "ok", "nothing mapped at the address", True),
    ]
    by_name = {one["signal"]: one for one in own}
    assert by_name["SIGTERM"]["target"]["pid"] == truth["nobody"]
    assert by_name["SIGABRT"]["sender"]["pid"] == by_name["SIGABRT"]["target"]["pid"] == child
    assert _functions(by_name["SIGTERM"])[1:3] == ["send_to_nobody", "main"]
    assert _functions(by_name["SIGUSR2"])[1:3] == ["send_to_itself", "main"]
    assert _functions(by_name["SIGSEGV"])[:2] == ["crash", "main"]
    pipe = by_name["SIGPIPE"]
    assert "vfs_write" in [frame["function"] for frame in pipe["stack"] if frame["kernel"]]
    assert _functions(pipe)[1:3] == ["write_for_nobody", "main"]
    # Whoever a timer interrupts has nothing to do with it.
    assert _functions(by_name["SIGALRM"]) == []
    assert by_name["SIGTERM"]["stack"][1]["place"].startswith("signal_kinds.c:")


def _functions(seen: Seen) -> list[str]:
    """The program's own."""
    return [frame["function"] for frame in seen["stack"] if not frame["kernel"]]


def test_filters() -> None:
    """All at once, over the same signals. Children have a part in -p, and who has a name in --comm."""
    with ExitStack() as stack:
        sleeper = stack.enter_context(running(["sleep", "60"], wait_ready=False))
        target = stack.enter_context(running([sys.executable, "-c", SENDER, str(sleeper.pid), str(NOBODY)]))
        asked: dict[str, Sequence[object]] = {
            "to it": ("-p", sleeper.pid, "--as", "target"),
            "from it": ("-p", target.pid, "--as", "sender"),
            "either": ("-p", target.pid),
            "from the name": ("--comm", "sends a lot", "--as", "sender"),
            "to the name": ("--comm", "sends a lot", "--as", "target"),
            "failed": ("--failed", "--signal", "TERM"),
            "numbers": ("-p", target.pid, "--signal", "0", "--signal", "rtmin+3"),
        }
        traces = stack.enter_context(tracing_all(asked))
        go(target)
        target.wait_for_line(lambda line: line == "done")
        os.kill(target.pid, 0)
        time.sleep(SETTLE_S)
        seen = {name: trace.end(by=signal.SIGINT) for name, trace in traces.items()}
    sent = ["0", "SIGWINCH", "SIGCONT", "SIGTERM", "SIGRTMIN+3"]
    names = {name: [one["signal"] for one in rows] for name, rows in seen.items()}
    failed = [one["signal"] for one in seen["failed"] if one["target"]["pid"] == NOBODY]
    assert names | {"failed": failed} == {
        "to it": ["0", "SIGWINCH", "SIGCONT", "SIGRTMIN+3"],
        "from it": sent,
        "either": ["SIGUSR1", *sent, "0"],
        "from the name": sent,
        "to the name": ["SIGUSR1", "0"],
        "failed": ["SIGTERM"],
        "numbers": ["0", "SIGRTMIN+3", "0"],
    }
    assert all(one["failed"] for one in seen["failed"])
    child = seen["to it"][2]["sender"]
    assert child["comm"] == "sends a lot"
    assert child["pid"] not in (target.pid, os.getpid())


def test_namespaces_and_cgroups() -> None:
    """A container's signals have the machine's numbers where these are known; cgroup.kill is the kernel's."""
    with ExitStack() as stack:
        folder = stack.enter_context(cgroup2_folder())
        shell = f"echo $$ > {folder}/cgroup.procs; exec sleep 60"
        inside = ("unshare", "--pid", "--fork", "--kill-child", "sh", "-c", IN_NAMESPACE)
        traces = stack.enter_context(tracing_all({"all": (), "cgroup": ("--cgroup", folder)}))
        process = stack.enter_context(running(inside, wait_ready=False, stderr=subprocess.DEVNULL))
        process.wait()
        victim = stack.enter_context(running(["sh", "-c", shell], wait_ready=False))
        wait_until(lambda: str(victim.pid) in (folder / "cgroup.procs").read_text().split(), "it is in its cgroup")
        (folder / "cgroup.kill").write_text("1")
        victim.wait()
        time.sleep(SETTLE_S)
        seen = {name: trace.end(by=signal.SIGTERM) for name, trace in traces.items()}
    inner = [one for one in seen["all"] if one["sender"] and one["sender"]["comm"] == "sh"]
    signals = {one["signal"]: one for one in inner}
    assert signals["SIGUSR1"]["target"]["pid"] > signals["SIGUSR1"]["sender"]["pid"] > 100
    assert not signals["SIGUSR1"]["target"]["in_senders_namespace"]
    assert (signals["0"]["target"]["pid"], signals["0"]["target"]["in_senders_namespace"]) == (77, True)
    kills = [one for one in seen["all"] if one["target"]["tid"] == victim.pid and one["signal"] == "SIGKILL"]
    assert [(one["sender"], one["running"]["pid"]) for one in kills] == [(None, os.getpid())]
    # What the victim sent itself: nothing. Its killer is in another cgroup.
    assert seen["cgroup"] == []


@contextmanager
def cgroup2_folder() -> Iterator[Path]:
    """A new cgroup of version 2."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    mount = next((Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"), None)
    if mount is None:
        raise CannotTest("no cgroup2 file system is mounted")
    folder = mount / f"lockflame-test-{os.getpid()}"
    with _new_folder(folder):
        if not (folder / "cgroup.kill").exists():
            raise CannotTest("the kernel has no cgroup.kill")
        yield folder


@contextmanager
def memory_cgroup(limit_bytes: int) -> Iterator[Path]:
    """A new cgroup whose memory is limited, of version 1."""
    own = next((line for line in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in line), None)
    mount = Path("/sys/fs/cgroup/memory")
    if own is None or not mount.is_dir():
        raise CannotTest("no memory cgroup of version 1 is mounted")
    folder = mount / own.split(":", 2)[2].lstrip("/") / f"lockflame-test-{os.getpid()}"
    with _new_folder(folder):
        (folder / "memory.limit_in_bytes").write_text(str(limit_bytes))
        yield folder


@contextmanager
def _new_folder(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir()
    except OSError as error:
        raise CannotTest(f"cgroups can't be made: {error}") from error
    try:
        yield
    finally:
        wait_until(lambda: _is_removed(folder), f"{folder} is gone", timeout=10)


def _is_removed(folder: Path) -> bool:
    with suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def test_out_of_memory() -> None:
    with memory_cgroup(20 << 20) as folder, tracing("--signal", "KILL") as trace:
        victim = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY, str(folder)], check=False)
        time.sleep(SETTLE_S)
        seen = trace.end(by=signal.SIGINT)
    assert victim.returncode == -signal.SIGKILL
    causes = [(one["cause"], one["sender"]) for one in seen if one.get("cause")]
    assert causes == [("out of memory", None)]


def test_a_flood_is_counted() -> None:
    """More than the ring holds: what can't be shown is counted."""
    arguments = ("trace", "signals", "--signal", "USR2", "--as", "sender", "-p")
    with (
        running([build_target("signal_flood.c"), str(FLOOD)]) as target,
        lockflame_running(*arguments, str(target.pid)) as process,
    ):
        wait_for_start(process)
        time.sleep(SETTLE_S)
        go(target)
        target.wait()  # nobody reads meanwhile
        out, err = process.communicate(timeout=60)
    shown = [line.split() for line in out.splitlines()[1:]]
    said = re.search(r"lockflame: ([\d,]+) signals shown(?:; ([\d,]+) lost)?", err)
    assert said is not None
    counts = [int(count.replace(",", "")) for count in said.groups("0")]
    assert counts[0] == len(shown)
    assert counts[1] > 0
    assert sum(counts) == FLOOD
    expected = ["signal_flood", str(target.pid), "SIGUSR2", "signal_flood", str(target.pid), "ignored"]
    assert all(line[1:] == expected for line in shown)


def test_lines_come_at_once_and_do_no_harm() -> None:
    """Through a pipe, whose end ends the trace without a word of complaint."""
    rename = "open('/proc/self/comm', 'wb').write(b'\\x1b[31mred\\x07')"
    send = f"import os, time; {rename}; os.kill(os.getpid(), 0)"
    with lockflame_running("trace", "signals", "--signal", "0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        wait_for_start(process)
        assert process.stdout.readline().split() == ["TIME", "FROM", "PID", "SIGNAL", "TO", "PID", "RESULT"]
        time.sleep(SETTLE_S)
        started_s = time.monotonic()
        sender = subprocess.run([sys.executable, "-c", send], check=True)
        line = next(line for line in process.stdout if "red" in line)
        assert time.monotonic() - started_s < 5
        assert line.rstrip("\n").isprintable()
        assert line.split()[1].endswith("[31mred\N{REPLACEMENT CHARACTER}")
        process.stdout.close()
        assert process.wait(10) == 0
        assert "error" not in process.stderr.read()
    assert sender.returncode == 0


def test_a_reader_that_does_not_read_holds_up_no_end() -> None:
    with (
        running([build_target("signal_flood.c"), "3000"]) as target,
        lockflame_running("trace", "signals", "--comm", "signal_flood") as process,
    ):
        assert process.stderr is not None
        wait_for_start(process)
        time.sleep(SETTLE_S)
        go(target)
        target.wait()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert "the last lines are missing" in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--signal", "TREM"), 2, "no signal is called 'TREM': did you mean SIGTERM"),
        (("--as", "target"), 2, "--as goes with -p or --comm"),
        (("-p", str(NOBODY)), 1, "There is no such process"),
        (("--cgroup", "/nowhere"), 1, "cgroup"),
    ],
    ids=["signal", "as", "pid", "cgroup"],
)
def test_wrong_usage(arguments: Sequence[str], status: int, said: str) -> None:
    result = run_lockflame("trace", "signals", *arguments)
    assert (result.status, result.stdout) == (status, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_privileges() -> None:
    result = run_lockflame("trace", "signals", "-d", "1", user="nobody")
    assert (result.status, result.stdout) == (1, "")
    assert result.stderr.startswith("lockflame: error: cannot trace signals.")
    assert result.stderr.rstrip().endswith("Run as root.")
    assert result.stderr.count("\n") == 1
