"""Lock waits where something goes on beside: other tools, ends, forks, execs, namespaces, full buffers, bad calls."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lockflame.profile import Lock, Memory, Profile, WaitEnds
from sampler import procfs
from tests.support.lock_truth import LOG, Truth, Watched, monotonic, watch
from tests.support.needs import CannotTest, find_program
from tests.support.process import Target, running, wait_until
from tests.support.recording import Recorded, Session, lockflame_session, record, recorded
from tests.support.targets import BuildFailed, build_target
from tests.support.tracefs import WITH_TRACEFS

pytestmark = [pytest.mark.integration, pytest.mark.requires_root]

EXACT = 0.02
IN_PID_NAMESPACE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# Waits of one process by bpftrace: 202 is futex(2), and FUTEX_WAIT is 0.
COUNT_WAITS = """
tracepoint:syscalls:sys_enter_futex /pid == {pid} && (args->op & 127) == 0/ {{ @begun = count(); @at[tid] = 1; }}
tracepoint:syscalls:sys_exit_futex /pid == {pid} && @at[tid]/ {{ @ended = count(); @at[tid] = 0; }}
interval:ms:200 /@said == 0/ {{ @said = 1; printf("ready\\n"); }}
"""
WAIT_TILL_EXEC = """
import os, signal, sys, threading, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
lock = threading.Lock()
lock.acquire()
for _ in range(2):
    threading.Thread(target=lock.acquire, daemon=True).start()
time.sleep(0.2)
print("ready", flush=True)
signal.sigwait([signal.SIGUSR1])
open(sys.argv[1], "w").write(str(time.monotonic_ns()))
os.execv(sys.argv[2], sys.argv[2:])
"""
INSIDE = """
"$0" --kind mutex --threads 6 --log "$1" > "$SAID" & target=$!; shift
until grep -q ready "$SAID"; do sleep 0.05; done
"$@" -p $target; status=$?; kill $target; wait; exit $status
"""


def million(waits: int) -> list[str]:
    """`lock_million`, which makes so many short waits when SIGUSR1 comes."""
    options = f"--mode changed --waits {waits} --long-ms 50 --go signal"
    return [str(build_target("lock_million.c")), *options.split()]


def go_till_end(target: Target, session: Session, output: Path) -> Profile:
    """Has a target that waits for SIGUSR1 do its work and end; returns the profile of that."""
    session.wait_until_recording()
    target.process.send_signal(signal.SIGUSR1)
    target.wait()
    return recorded(session.finish(), output).profile


def the_lock(profile: Profile, name: str) -> Lock:
    """The one lock of that name."""
    (found,) = [lock for lock in profile.locks if lock.name == name]
    return found


@contextlib.contextmanager
def bpftrace(pid: int, counts: dict[str, int]) -> Iterator[None]:
    """Has bpftrace count a process's waits meanwhile: `begun` and `ended`."""
    command = [*WITH_TRACEFS, find_program("bpftrace"), "-B", "line", "-e", COUNT_WAITS.format(pid=pid)]
    with running(command, stderr=subprocess.STDOUT) as tracer:
        yield
        tracer.interrupt()
        for line in tracer.lines:
            name, _, value = line.partition(": ")
            if name in ("@begun", "@ended"):
                counts[name[1:]] = int(value)


@pytest.mark.parametrize("is_first", [True, False], ids=["bpftrace-first", "bpftrace-second"])
def test_beside_bpftrace(tmp_path: Path, is_first: bool) -> None:
    """Both count each wait once."""
    output, counts = tmp_path / "p.pb.gz", dict[str, int]()
    with running(million(20_000)) as target:
        with contextlib.ExitStack() as stack:
            if is_first:
                stack.enter_context(bpftrace(target.pid, counts))
            recording = lockflame_session("record", "-o", output, "-p", target.pid, "-d", 60, "--locks")
            session = stack.enter_context(recording)
            session.wait_until_recording()
            if not is_first:
                stack.enter_context(bpftrace(target.pid, counts))
            profile = go_till_end(target, session, output)
        waits = target.last_json()["LOCK_million"]["waits"]
    assert counts == {"begun": waits, "ended": waits}
    assert the_lock(profile, "LOCK_million").ends.total == waits


def test_beside_perf_stat(tmp_path: Path) -> None:
    """Our programs let the event pass to who counts it otherwise."""
    output = tmp_path / "p.pb.gz"
    command = [*WITH_TRACEFS, find_program("perf"), "stat", "-x,", "-e", "syscalls:sys_enter_futex", "-o"]
    with running(million(20_000)) as target:
        with lockflame_session("record", "-o", output, "-p", target.pid, "-d", 60, "--locks") as session:
            session.wait_until_recording()
            counter = subprocess.Popen([*command, tmp_path / "count", "-p", str(target.pid)])
            wait_until(lambda: "perf_event" in links(counter.pid), "perf counts")
            time.sleep(0.2)
            profile = go_till_end(target, session, output)
            counter.wait(20)
        waits = target.last_json()["LOCK_million"]["waits"]
    counted = (tmp_path / "count").read_text().splitlines()[-1].partition(",")[0]
    assert int(counted) == pytest.approx(waits, abs=10)
    assert the_lock(profile, "LOCK_million").ends.total == waits


def links(pid: int) -> str:
    """What a process has open."""
    found = ""
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found += os.readlink(entry.path) + "\n"
    return found


def test_a_target_that_is_killed_while_its_threads_wait(tmp_path: Path) -> None:
    script = (
        "import threading, time\n"
        "lock = threading.Lock(); lock.acquire()\n"
        "for _ in range(3): threading.Thread(target=lock.acquire, daemon=True).start()\n"
        "time.sleep(0.2); print('ready', flush=True); time.sleep(60)\n"
    )
    output = tmp_path / "p.pb.gz"
    with (
        running([sys.executable, "-c", script]) as target,
        lockflame_session("record", "-o", output, "-p", target.pid, "-d", 60, "--locks") as session,
    ):
        session.wait_until_recording()
        time.sleep(0.8)
        target.process.kill()
        profile = recorded(session.finish(), output).profile
    (lock,) = [lock for lock in profile.locks if lock.total_ns > 0.1e9]
    assert (lock.ends.interrupted, lock.ends.total, lock.threads) == (3, 3, 3)
    # The recording ends when the process has; its threads may have ended a little before.
    assert lock.total_ns == pytest.approx(3 * profile.recording.duration_ns, rel=0.05)


def test_a_wait_that_a_stop_has_interrupted_before_the_recording(tmp_path: Path) -> None:
    """Then the thread is in restart_syscall(2), no more in futex(2)."""
    script = (
        "import threading, time\n"
        "lock = threading.Lock(); lock.acquire()\n"
        "threading.Thread(target=lock.acquire, args=(True, 60), daemon=True).start()\n"
        "time.sleep(0.2); print('ready', flush=True); time.sleep(60)\n"
    )
    with running([sys.executable, "-c", script]) as target:
        target.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: " T " in Path(f"/proc/{target.pid}/stat").read_text(), "the target stands")
        target.process.send_signal(signal.SIGCONT)
        time.sleep(0.1)
        profile = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 0.3, "--locks").profile
    (lock,) = profile.locks
    assert lock.ends == WaitEnds(still_open=1)
    assert lock.total_ns == profile.recording.duration_ns


def assert_exact(watched: Watched, *locks: Lock) -> None:
    """The locks' counted time is the one that the target logged."""
    rows = watched.waits()
    expected = watched.truth.time_ns(rows, *set(watched.truth.result["categories"]) - {"ending"})
    assert expected > 100_000_000, "the target hardly waited"
    assert sum(lock.total_ns for lock in locks) == pytest.approx(expected, rel=EXACT, abs=2_000 * len(rows))


def seen_by(done: Recorded, log: Path, result: dict[str, object]) -> Watched:
    """A recording beside what its target logged."""
    return Watched(done, Truth(np.fromfile(log, dtype=LOG), result), *monotonic(done.profile.recording))


def test_processes_that_share_a_lock(tmp_path: Path) -> None:
    file = tmp_path / "shared"
    watched = watch(tmp_path, build_target("lock_shared.c"), "--file", file)
    (lock,) = [lock for lock in watched.profile.locks if not lock.is_idle]
    assert lock.memory is Memory.SHARED
    assert lock.name == f"{file}+{watched.truth.result['offset']:#x}"
    assert lock.threads == 4
    assert_exact(watched, lock)


def test_processes_that_begin_during_the_recording(tmp_path: Path) -> None:
    """A shell starts a program that forks: all three generations are followed."""
    log, output, gate = tmp_path / "waits.log", tmp_path / "p.pb.gz", tmp_path / "gate"
    os.mkfifo(gate)
    script = 'echo ready; read line < "$1"; shift; "$@"; :'
    program = [build_target("lock_shared.c"), "--file", tmp_path / "shared", "--log", log, "--seconds", "1"]
    with running(["sh", "-c", script, "sh", gate, *program]) as target:
        with lockflame_session("record", "-o", output, "-p", target.pid, "-d", 60, "--locks") as session:
            session.wait_until_recording()
            gate.write_text("go\n")
            target.wait()
            done = recorded(session.finish(), output)
        watched = seen_by(done, log, target.last_json())
    (lock,) = [lock for lock in done.profile.locks if lock.threads == 4]
    assert_exact(watched, lock)


def test_a_target_that_becomes_another_program(tmp_path: Path) -> None:
    """The words of one are not the other's."""
    log, output, moment = tmp_path / "waits.log", tmp_path / "p.pb.gz", tmp_path / "moment"
    program = [build_target("lock_kinds.cpp"), "--kind", "mutex", "--threads", "4", "--log", log]
    with running([sys.executable, "-c", WAIT_TILL_EXEC, moment, *program]) as target:
        with lockflame_session("record", "-o", output, "-p", target.pid, "-d", 2.5, "--locks") as session:
            session.wait_until_recording()
            time.sleep(0.5)
            target.process.send_signal(signal.SIGUSR1)
            done = recorded(session.finish(), output)
        watched = seen_by(done, log, target.stop())
    assert_exact(watched, watched.lock("LOCK_kinds"))
    (before,) = [lock for lock in done.profile.locks if lock.ends.interrupted == 2]
    assert before.total_ns == pytest.approx(2 * (int(moment.read_text()) - watched.start_ns), rel=EXACT)
    assert "LOCK_kinds" not in before.name


def test_a_target_in_a_pid_namespace(tmp_path: Path) -> None:
    """Owners are threads by their numbers there."""
    log, output = tmp_path / "waits.log", tmp_path / "p.pb.gz"
    program = [build_target("lock_kinds.cpp"), "--kind", "mutex", "--threads", "6", "--log", log]
    with running([*IN_PID_NAMESPACE, *program]) as outer:
        _, inner = procfs.family(outer.pid)
        done = record(output, "-p", inner, "-d", 1, "--locks")
        os.kill(inner, signal.SIGTERM)
        outer.wait()
        watched = seen_by(done, log, outer.last_json())
    lock = watched.lock("LOCK_kinds")
    assert lock.has_owner
    assert_exact(watched, lock)


def test_lockflame_in_a_pid_namespace(tmp_path: Path) -> None:
    log, output, said = tmp_path / "waits.log", tmp_path / "p.pb.gz", tmp_path / "said"
    launcher = [*IN_PID_NAMESPACE, "sh", "-c", INSIDE, build_target("lock_kinds.cpp"), log]
    done = record(output, "-d", 1, "--locks", launcher=launcher, env={"SAID": str(said)})
    watched = seen_by(done, log, json.loads(said.read_text().splitlines()[-1]))
    lock = watched.lock("LOCK_kinds")
    assert (lock.has_owner, lock.threads) == (True, 6)
    assert_exact(watched, lock)
    assert any("pid namespace" in note for note in done.profile.recording.notes)


def test_samples_lost_while_stopped(tmp_path: Path) -> None:
    """What the kernel counts doesn't go through the buffer."""
    log, output = tmp_path / "waits.log", tmp_path / "p.pb.gz"
    program = [build_target("lock_kinds.cpp"), "--kind", "mutex", "--threads", "6", "--log", log]
    with running(program) as target:
        arguments = ("-p", target.pid, "-d", 2.5, "-F", 4000, "--stack-size", 65528, "--locks")
        with lockflame_session("record", "-o", output, *arguments) as session:
            session.wait_until_recording()
            session.process.send_signal(signal.SIGSTOP)
            time.sleep(2)
            session.process.send_signal(signal.SIGCONT)
            done = recorded(session.finish(), output)
        watched = seen_by(done, log, target.stop())
    assert done.profile.recording.lost > 0
    assert f"{done.profile.recording.lost:,} lost" in done.stderr
    assert_exact(watched, watched.lock("LOCK_kinds"))


def test_a_32_bit_target(tmp_path: Path) -> None:
    """Its waits can't be seen, and the recording says so."""
    try:
        program = build_target("lock_32_bit.c", flags=("-O1", "-m32", "-static", "-nostdlib", "-fno-stack-protector"))
    except BuildFailed as error:
        raise CannotTest("this compiler makes no 32-bit programs") from error
    with running([program]) as target:
        done = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 0.3, "--locks")
    assert done.profile.locks == ()
    assert f"Process {target.pid}: lock waits of 32-bit programs are not seen" in done.stderr


def test_strange_calls(tmp_path: Path) -> None:
    """Bad pointers, words that go away, a wait that is stopped and goes on, and more threads than the table has."""
    output = tmp_path / "p.pb.gz"
    with running([build_target("lock_strange.c"), "--threads", "17000", "--go", "signal"]) as target:
        with lockflame_session("record", "-o", output, "-p", target.pid, "-d", 60, "--locks") as session:
            profile = go_till_end(target, session, output)
        truth = target.last_json()
    by_address = {lock.address: lock for lock in profile.locks}
    # Half of the bad lists name this address; the others have none that could be read.
    assert by_address[4096].ends.failed == by_address[4096].ends.total == truth["bad_address"]["failed"] + 250
    assert truth["bad_list"] == 500
    several = the_lock(profile, "LOCK_first")
    assert several.ends.timed_out == truth["several"]["timed_out"] == 20
    assert several.total_ns == pytest.approx(truth["several"]["total_ns"], rel=0.05)
    unmapped = by_address[truth["unmapped_address"]]
    assert (unmapped.ends.timed_out, unmapped.ends.total) == (1, 1)
    assert unmapped.total_ns == pytest.approx(truth["unmapped"]["total_ns"], rel=EXACT)
    # 200 ms till it was stopped, 200 ms in which it could not have gone on, and the rest of its 600 ms.
    stopped = the_lock(profile, "LOCK_stopped")
    assert (stopped.ends.interrupted, stopped.ends.timed_out, stopped.ends.total) == (1, 1, 2)
    assert stopped.total_ns == pytest.approx(truth["stopped"]["total_ns"] - truth["stopped_ns"], rel=0.05)
    brief = the_lock(profile, "LOCK_brief")
    assert brief.ends.value_changed == brief.ends.total == brief.threads == 17_000
    assert profile.recording.waits_unseen == 0
