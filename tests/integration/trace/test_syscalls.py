"""`lockflame trace syscalls` on programs that count their own calls, and beside bpftrace."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cgroups import remove_cgroup
from tests.support.cli import CliResult, lockflame_command, lockflame_running, run_lockflame
from tests.support.mariadb import MariaDb
from tests.support.needs import CannotTest, find_program
from tests.support.process import Target, running
from tests.support.targets import build_target
from tests.support.tracefs import WITH_TRACEFS

pytestmark = [pytest.mark.integration, pytest.mark.requires_root]

SETTLED_S = 0.2
CHILDREN, CALLS = 3, 40
FORKER = f"""
import ctypes, os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("ready", flush=True)
signal.sigwait([signal.SIGUSR1])
def call(name):
    ctypes.CDLL(None).prctl(15, name)
    for _ in range({CALLS}):
        os.getpgid(0)
for number in range({CHILDREN}):
    if os.fork() == 0:
        call(b"child %d" % number)
        os._exit(0)
call(b"parent")
for _ in range({CHILDREN}):
    os.wait()
"""
SEEKER = """
import os, signal, tempfile
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
file = tempfile.TemporaryFile()
print("ready", flush=True)
signal.sigwait([signal.SIGUSR1])
for place in range(90000):
    os.lseek(file.fileno(), place, 0)
"""


class Trace:
    """A `trace syscalls` that counts."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self.process = process
        self.said = process.stderr.readline()
        assert "tracing" in self.said, self.said + process.stderr.read()
        time.sleep(SETTLED_S)

    def ended(self, number: int | None = signal.SIGINT) -> CliResult:
        """How it ends by a signal, or by itself."""
        if number is not None:
            self.process.send_signal(number)
        stdout, stderr = self.process.communicate(timeout=60)
        return CliResult(self.process.returncode, stdout, stderr)

    def objects(self, number: int | None = signal.SIGINT) -> list[dict[str, Any]]:
        """What it prints as JSON."""
        result = self.ended(number)
        assert result.status == 0, result
        found: list[dict[str, Any]] = json.loads(result.stdout)
        return found


@contextlib.contextmanager
def tracing(*arguments: str | int | Path) -> Iterator[Trace]:
    with lockflame_running("trace", "syscalls", *map(str, arguments)) as process:
        yield Trace(process)


@contextlib.contextmanager
def sizes(*arguments: str) -> Iterator[Target]:
    with running([build_target("syscall_sizes.c"), *arguments]) as target:
        yield target


def begin(target: Target) -> dict[str, Any]:
    """Lets the target do its calls; returns its own counts."""
    target.process.send_signal(signal.SIGUSR1)
    counts: dict[str, Any] = json.loads(target.wait_for_line(lambda line: line.startswith("{")))
    return counts


def by_bucket(histogram: dict[str, Any], unit: str = "bytes") -> dict[int, int]:
    """Counts by the number of bits of a bucket's values, without empty ones."""
    return {bucket[f"from_{unit}"].bit_length(): bucket["calls"] for bucket in histogram["buckets"] if bucket["calls"]}


def filled(counts: list[int]) -> dict[int, int]:
    return {bucket: count for bucket, count in enumerate(counts) if count}


def test_sizes_asked_and_returned_are_exactly_the_targets() -> None:
    with sizes() as target, tracing("recvfrom", "--hist", "size", "--hist", "ret", "--json", "-p", target.pid) as trace:
        truth = begin(target)
        asked, returned = trace.objects()
    assert re.search(r"recvfrom of process \d+ and children by 2 tracepoints.* takes [\d,]+ ns more", trace.said)
    assert by_bucket(asked) == filled(truth["asked"])
    assert (asked["measure"], asked["calls"], asked["total_bytes"]) == ("size", truth["calls"], truth["asked_bytes"])
    assert by_bucket(returned) == filled(truth["returned"])
    assert returned["others"] == {"EBADF": truth["bad_descriptor"], "EAGAIN": truth["would_block"]}
    assert (returned["calls"], returned["total_bytes"]) == (truth["calls"], truth["returned_bytes"])


def test_stacks_without_frame_pointers_are_whole_and_counted_exactly() -> None:
    with sizes() as target, tracing("recvfrom", "--by", "ustack", "--json", "-p", target.pid) as trace:
        truth = begin(target)
        rows = trace.objects()
    assert sum(row["calls"] for row in rows) == truth["calls"]
    calls: dict[str, int] = {}
    for row in rows:
        names = [line.split(" ")[0] for line in row["ustack"]]
        assert "main" in names, names
        caller = names[names.index("receive") + 1]
        calls[caller] = calls.get(caller, 0) + row["calls"]
    assert calls == {
        "receive_small": truth["rounds"],
        "receive_large": truth["rounds"],
        "main": truth["calls"] - 2 * truth["rounds"],
    }


def test_descriptors_are_resolved_and_negative_ones_told() -> None:
    with sizes() as target:
        calls = ("recvfrom", "close", "openat", "lseek")
        with tracing(*calls, "--by", "fd", "--json", "-p", target.pid) as trace:
            truth = begin(target)
            rows = trace.objects(signal.SIGTERM)
    found = {(row["call"], row["fd"]): row for row in rows}
    assert found["close", -1]["errors"]["EBADF"]["calls"] == 20
    assert found["openat", -100]["file"] == "AT_FDCWD, the working directory"
    assert [row["calls"] for row in rows if row.get("file") == "/dev/zero"] == [20]
    tcp = found["recvfrom", truth["tcp"]]["file"]
    assert re.fullmatch(rf"socket tcp 127\.0\.0\.1:{truth['port']}->127\.0\.0\.1:\d+", tcp)
    assert found["recvfrom", -1]["calls"] == truth["bad_descriptor"]


def test_arguments_are_signed_and_linear_buckets_bounded() -> None:
    with sizes("--end", "1") as target:
        arguments = ("--hist", "offset", "--linear", "-6:0:2", "-p", target.pid)
        with tracing("lseek", *arguments) as trace:
            begin(target)
            result = trace.ended(None)  # as its target does
    assert result.status == 0, result
    assert result.stdout.splitlines()[0] == "lseek offset: 20 calls, mean -5, max -5"
    assert result.stdout.splitlines()[1].startswith("[-6, -4) 20 |@@@")


def test_latency_buckets_are_bpftraces() -> None:
    event = "tracepoint:syscalls:sys_{}_clock_nanosleep"
    with sizes() as target:
        script = (
            f'BEGIN {{ printf("go\\n"); }} {event.format("enter")} /pid == {target.pid}/ {{ @s[tid] = nsecs; }} '
            f"{event.format('exit')} /@s[tid]/ {{ @ns = hist(nsecs - @s[tid]); delete(@s[tid]); }}"
        )
        with (
            tracing("clock_nanosleep", "--hist", "latency", "--json", "-p", target.pid) as trace,
            running([*WITH_TRACEFS, find_program("bpftrace"), "-e", script], wait_ready=False) as bpftrace,
        ):
            bpftrace.wait_for_line(lambda line: line == "go", 60)
            time.sleep(SETTLED_S)
            truth = begin(target)
            (histogram,) = trace.objects()
            bpftrace.interrupt()
    scale = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    lines = [re.match(r"\[(\d+)([KMG]?), .*\) +(\d+) \|", line) for line in bpftrace.lines]
    theirs = {(int(line[1]) * scale[line[2]]).bit_length(): int(line[3]) for line in lines if line and line[3] != "0"}
    ours = by_bucket(histogram, "ns")
    assert sum(theirs.values()) == histogram["calls"] == truth["sleeps"]
    # Both ask for the time one after the other: a call that is this near to a bound may fall on either side of it.
    assert sum(abs(ours.get(bucket, 0) - theirs.get(bucket, 0)) for bucket in {*ours, *theirs}) <= 2


def test_all_of_a_million_calls_a_second_are_counted() -> None:
    with sizes("--hot", "300000") as target, tracing("getppid", "--json", "-p", target.pid) as trace:
        truth = begin(target)
        (row,) = trace.objects(None)
    assert row["calls"] == truth["calls"]
    assert row["failed_calls"] == 0


def test_children_that_come_later_are_followed() -> None:
    with (
        running([sys.executable, "-c", FORKER]) as target,
        tracing("getpgid", "--by", "comm", "--json", "-p", target.pid) as trace,
    ):
        target.process.send_signal(signal.SIGUSR1)
        rows = trace.objects(None)
    assert [row["calls"] for row in rows] == [CALLS] * (CHILDREN + 1)
    assert {row["comm"] for row in rows} == {"parent", *(f"child {number}" for number in range(CHILDREN))}


def test_only_threads_of_the_name_are_counted() -> None:
    with running([sys.executable, "-c", FORKER]) as target, tracing("getpgid", "--json", "--comm", "child 1") as trace:
        target.process.send_signal(signal.SIGUSR1)
        target.wait()
        (row,) = trace.objects()
    assert row["calls"] == CALLS


def test_only_processes_of_the_cgroup_are_counted() -> None:
    with (
        own_cgroup() as folder,
        running([sys.executable, "-c", FORKER]) as target,
        running([sys.executable, "-c", FORKER]) as other,
        tracing("getpgid", "--json", "--cgroup", folder.parent) as trace,
    ):
        (folder / "cgroup.procs").write_text(str(target.pid))
        for each in (target, other):
            each.process.send_signal(signal.SIGUSR1)
            each.wait()
        (row,) = trace.objects()
    assert row["calls"] == CALLS * (CHILDREN + 1)


@contextlib.contextmanager
def own_cgroup() -> Iterator[Path]:
    """A cgroup of version 2 within one of ours."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    found = [Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"]
    if not found:
        raise CannotTest("no cgroup2 file system is mounted")
    outer = found[0] / f"lockflame-test-{os.getpid()}"
    inner = outer / "inner"
    try:
        inner.mkdir(parents=True)
    except OSError as error:
        raise CannotTest(f"no cgroup can be made: {error}") from error
    try:
        yield inner
    finally:
        for folder in (inner, outer):
            remove_cgroup(folder)


def test_what_a_full_table_leaves_out_is_counted() -> None:
    with (
        running([sys.executable, "-c", SEEKER]) as target,
        tracing("lseek", "--hist", "ret", "--by", "ret", "--top", "1", "-p", target.pid) as trace,
    ):
        target.process.send_signal(signal.SIGUSR1)
        target.wait()
        result = trace.ended(None)
    lost = re.search(r"note: ([\d,]+) times a call couldn't be counted", result.stderr)
    rest = re.search(r"^[\d,]+ more, with ([\d,]+) calls, are not shown", result.stdout, re.MULTILINE)
    assert lost, result
    assert rest, result
    counted = int(rest[1].replace(",", "")) + 1
    assert abs(counted + int(lost[1].replace(",", "")) - 90000) <= 20  # the interpreter's own


def test_calls_that_never_return_are_told() -> None:
    with running([sys.executable, "-c", FORKER]) as target, tracing("exit_group", "-p", target.pid) as trace:
        target.process.send_signal(signal.SIGUSR1)
        result = trace.ended(None)
    assert re.search(r"^exit_group +0 ", result.stdout, re.MULTILINE)
    assert f"not counted: {CHILDREN + 1} calls that never returned" in result.stderr


def test_nobody_reading_is_no_error() -> None:
    command = [*lockflame_command("trace", "syscalls", "read", "-d", "0.1"), "--hist", "ret"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait(60) == 0, said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("recvform",), "recvfrom"),
        (("recvfrom", "--hist", "sise"), "names like it: size"),
        (("recvfrom", "--hist", "ubuf"), "address"),
        (("recvfrom", "--hist", "size", "--linear", "0:10:3"), "whole number of steps"),
        (("getppid", "--by", "fd"), "file descriptor"),
        (("read", "--by", "ustack"), "needs -p"),
        (("read", "-p", "2147483646"), "no such process"),
        (("read", "--cgroup", "no/such/group"), "cgroup"),
        (("read", "-o", "x.svg"), "goes with --hist"),
    ],
)
def test_bad_input_is_refused_in_a_line(arguments: tuple[str, ...], part: str) -> None:
    result = run_lockflame("trace", "syscalls", *arguments)
    assert result.status in (1, 2), result
    assert result.stderr.startswith("lockflame: error: ")
    assert part in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_without_privileges_it_says_so() -> None:
    result = run_lockflame("trace", "syscalls", "read", user="nobody")
    assert result.status == 1
    assert "run as root" in result.stderr.lower()
    assert result.stderr.count("\n") == 1


def test_mariadb_gets_what_it_asks_for(mariadb: MariaDb, tmp_path: Path) -> None:
    picture = tmp_path / "recvfrom.svg"
    arguments = ("--hist", "size", "--hist", "ret", "--json", "-o", picture, "-p", mariadb.pid, "-d", "1")
    with mariadb.sysbench(threads=4), tracing("recvfrom", *arguments) as trace:
        asked, returned = trace.objects(None)
    assert asked["calls"] == returned["calls"] > 100
    # It asks for a packet's head of 4 bytes, which may not have come yet, and then for as much as that says.
    assert set(returned["others"]) == {"EAGAIN"}
    not_yet = returned["others"]["EAGAIN"]
    assert asked["total_bytes"] == returned["total_bytes"] + 4 * not_yet
    assert by_bucket(asked) == by_bucket(returned) | {3: by_bucket(returned)[3] + not_yet}
    assert "recvfrom ret" in picture.read_text()
