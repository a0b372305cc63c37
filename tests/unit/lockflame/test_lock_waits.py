"""`lockflame locks` on profiles with waits, and what `record` says of them."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lockflame.cli import run
from lockflame.cli.lock_summary import print_wait_summary
from lockflame.pprof import encode
from lockflame.profile import Memory, Profile, WaitEnds
from tests.unit.flame.locks.lock_profiles import NOT_SAMPLED, Taken, histogram_of, lock_of, profile_with_locks

MS = 10**6
WAIT, RELEASE = "pthread_mutex_lock/__lll_lock_wait", "pthread_mutex_unlock/__lll_lock_wake"


def a_server() -> Profile:
    """A static mutex, one on the heap for each of two connections, and a pool's condition variable."""
    connection = {"ends": WaitEnds(woken=2), "histogram": histogram_of([5 * MS, 15 * MS])}
    locks = [
        lock_of(30 * MS, memory=Memory.STATIC, symbol="LOCK_open\x1b[31m", address=0x55500),
        lock_of(20 * MS, address=0x7F0000001000, **connection),
        lock_of(20 * MS, address=0x7F0000002000, **connection),
        lock_of(812 * 1000 * MS, address=0x7F0000003000, has_owner=False),
    ]
    rows = [
        Taken(f"main/Table::open(std::vector<int>)/{WAIT}", 0, 30 * MS),
        Taken(f"main/Table::open(std::vector<int>)/{WAIT}", cpu=4 * MS),
        Taken(f"main/close_all/{RELEASE}", 0, caused=30 * MS),
        Taken(f"main/run/\x07set_query/{WAIT}", 1, 20 * MS),
        Taken(f"main/run/\x07set_query/{WAIT}", 2, 19 * MS, thread=1),
        Taken(NOT_SAMPLED, 2, 1 * MS),
        Taken("main/worker/pthread_cond_wait", 3, 812 * 1000 * MS),
        Taken("main/submit/pthread_cond_signal", 3, caused=812 * 1000 * MS),
    ]
    return profile_with_locks(locks, rows, 1000 * MS)


class Locks:
    """The command, on a profile in a file."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._path = path
        self._capsys = capsys

    def __call__(self, profile: Profile, *options: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr."""
        self._path.write_bytes(encode(profile))
        status = run(["locks", str(self._path), *options])
        captured = self._capsys.readouterr()
        return status, captured.out, captured.err

    def table(self, *options: str) -> list[list[str]]:
        """The cells of the table of `a_server`."""
        status, out, _ = self(a_server(), *options)
        assert status == 0
        return [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]


@pytest.fixture
def locks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Locks:
    return Locks(tmp_path / "p.pb.gz", capsys)


def test_the_table_in_a_pipe(locks: Locks) -> None:
    heading, *rows = locks.table()
    assert heading == [
        *("total", "share", "waits", "mean", "p50", "p99", "longest", "threads", "CPU", "kind", "lock"),
        *("worst waiting path", "worst holding path"),
    ]
    assert [row[:3] + row[6:] for row in rows] == [
        [
            *("0.040 s", "4.0%", "4", "20 ms", "2", "-", "mutex"),
            *(
                "lock taken in \N{REPLACEMENT CHARACTER}set_query (2 addresses)",
                "\N{REPLACEMENT CHARACTER}set_query < run < main",
            ),
        ],
        [
            *("0.030 s", "3.0%", "1", "30 ms", "1", "4 ms", "mutex", "LOCK_open\N{REPLACEMENT CHARACTER}[31m"),
            *("Table::open < main", "close_all < main"),
        ],
    ]


def test_idle_waits_are_left_out_until_asked_for(locks: Locks) -> None:
    status, out, err = locks(a_server())
    assert status == 0
    assert "worker" not in out
    assert "lockflame: 70 ms waited for locks by all threads together in 1 s, 5 waits\n" in err
    assert "lockflame: idle waits: 812 s in 1 lock, shown with --idle\n" in err
    _, out, err = locks(a_server(), "--idle")
    assert "condition waited for in worker" in out
    assert "waker: submit < main" in out
    assert "idle waits" not in err
    assert len(json.loads(locks(a_server(), "--json")[1])) == 2
    assert len(json.loads(locks(a_server(), "--json", "--idle")[1])) == 3


def test_rows_in_order_and_not_too_many(locks: Locks) -> None:
    assert [row[0] for row in locks.table("--sort", "longest")[1:]] == ["0.030 s", "0.040 s"]
    assert [row[0] for row in locks.table("--sort", "contended", "--top", "1")[1:]] == ["0.030 s"]
    assert "; 1 of 2 locks shown" in locks(a_server(), "--top", "1")[2]
    (entry,) = json.loads(locks(a_server(), "--json", "--top", "1")[1])
    assert entry["total_ns"] == 40 * MS


@pytest.mark.parametrize("name", ["lock taken in \x07set_query", "SET_QUERY"])
def test_a_class_in_full(locks: Locks, name: str) -> None:
    status, out, _ = locks(a_server(), "--lock", name)
    lines = out.splitlines()
    assert status == 0
    assert lines[0] == "lock taken in \N{REPLACEMENT CHARACTER}set_query (2 addresses): mutex"
    assert "  40 ms waited (4.0% of the recording) by at least 2 threads" in lines
    assert "  4 woken" in lines
    assert [line.split()[0] for line in lines if line.startswith("  0x")] == ["0x7f0000001000", "0x7f0000002000"]
    histogram = [line for line in lines if line.startswith("  [")]
    assert [line.split("|")[0].split() for line in histogram] == [
        ["[4.19", "ms,", "8.39", "ms)", "2"],
        ["[8.39", "ms,", "16.8", "ms)", "2"],
    ]
    tree = lines[lines.index("waiters, from where the lock is taken to their callers:") + 1 :]
    assert [line.split() for line in tree[:4]] == [
        ["97.5", "%", "39", "ms", "\N{REPLACEMENT CHARACTER}set_query"],
        ["run"],
        ["main"],
        ["2.5", "%", "1", "ms", *NOT_SAMPLED.split()],
    ]
    assert "\x1b" not in out
    assert "\x07" not in out


def test_one_address_of_a_class(locks: Locks) -> None:
    (entry,) = json.loads(locks(a_server(), "--lock", "0x7f0000001000", "--json")[1])
    assert (entry["addresses"], entry["total_ns"], entry["threads"]) == (1, 20 * MS, 1)
    assert entry["lock"] == "lock taken in \x07set_query"


def test_an_idle_lock_is_shown_when_it_is_named(locks: Locks) -> None:
    _, out, _ = locks(a_server(), "--lock", "worker")
    assert out.startswith("condition waited for in worker: condition, idle\n")
    assert "wakers, from where waiters are woken to their callers:" in out


@pytest.mark.parametrize("name", ["nosuch", "0x1", "0xzz", "0x" + "f" * 99, "\x1b[31m\n"])
def test_a_lock_that_isnt_there(locks: Locks, name: str) -> None:
    status, out, err = locks(replace(a_server(), locks=(lock_of(),) * 4), "--lock", name)
    assert (status, out) == (1, "")
    assert err.startswith("lockflame: error: no lock of ")
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_what_was_lost_is_said(locks: Locks) -> None:
    profile = a_server()
    recording = replace(profile.recording, waits_left_out=3, waits_unseen=1)
    err = locks(replace(profile, recording=recording))[2]
    assert "note: 3 waits for locks beyond the kernel's table: " in err
    assert "note: 1 wait couldn't be followed" in err


def mostly_woken() -> Profile:
    """`a_server` without the CPU time for those who are woken for LOCK_open, and little for those of the class."""
    profile = a_server()
    first, second, *others = profile.locks
    late = (replace(first, woken_ns=24 * MS), replace(second, woken_ns=19 * MS))
    return replace(profile, locks=(*late, *others))


def test_a_lock_whose_woken_waiters_get_no_cpu_is_said(locks: Locks, capsys: pytest.CaptureFixture[str]) -> None:
    what = "after it was given back, before the thread that was woken for it ran"
    notes = [line for line in locks(mostly_woken())[2].splitlines() if what in line]
    assert notes == [
        f"lockflame: note: LOCK_open\N{REPLACEMENT CHARACTER}[31m: 80 % of the time was waited {what}",
    ]
    assert f"  19 ms of it (47.5 %) {what}" in locks(mostly_woken(), "--lock", "set_query")[1].splitlines()
    print_wait_summary(mostly_woken(), False)
    said = [line.strip() for line in capsys.readouterr().err.splitlines() if what in line]
    assert said == [f"woken  80 % of it was waited {what}"]


def test_a_recording_without_a_wait(locks: Locks) -> None:
    profile = profile_with_locks([], [Taken("main", cpu=5)])
    assert locks(profile)[::2] == (0, "lockflame: no thread waited for a lock that others hold\n")
    assert locks(profile, "--json")[1] == "[]\n"


def test_a_profile_of_cpu_time_alone(locks: Locks) -> None:
    cpu = profile_with_locks([], [Taken(f"main/f/{WAIT}", cpu=5)])
    cpu = replace(cpu, recording=replace(cpu.recording, probes=""))
    status, out, _ = locks(cpu)
    assert status == 0
    assert out.split()[:2] == ["contended", "locking"]
    status, _, err = locks(cpu, "--sort", "p99")
    assert (status, "has no lock waits. Sort by one of contended, " in err) == (1, True)
    status, _, err = locks(cpu, "--lock", "f")
    assert (status, "Record with --locks" in err) == (1, True)
    status, _, err = locks(a_server(), "--sort", "site")
    assert (status, "has lock waits. Sort by one of total, " in err) == (1, True)


def test_the_summary_of_a_recording(capsys: pytest.CaptureFixture[str]) -> None:
    print_wait_summary(a_server(), False)
    heading, first, waits, second, *others, idle, _ = capsys.readouterr().err.splitlines()
    assert heading.split()[:5] == ["waited", "share", "waits", "p99", "longest"]
    assert re.split(r"\s{2,}", first.strip())[:3] == ["40 ms", "4.0%", "4"]
    assert first.endswith("set_query (2 addresses) (mutex)")
    assert waits.split() == ["waits", "\N{REPLACEMENT CHARACTER}set_query", "<", "run", "<", "main"]
    assert second.endswith("LOCK_open\N{REPLACEMENT CHARACTER}[31m (mutex)")
    assert [line.strip() for line in others] == ["waits  Table::open < main", "holds  close_all < main"]
    assert idle == "lockflame: idle waits: 812 s in 1 lock"
    print_wait_summary(a_server(), True)
    assert "Table::open(std::vector<int>) < main" in capsys.readouterr().err


def test_the_summary_without_waits(capsys: pytest.CaptureFixture[str]) -> None:
    profile = profile_with_locks([], [Taken("main", cpu=5)])
    print_wait_summary(profile, False)
    assert "no thread waited for a lock that another held\nlockflame: idle waits: none\n" in capsys.readouterr().err
    print_wait_summary(replace(profile, recording=replace(profile.recording, probes="")), False)
    assert capsys.readouterr().err == ""


def test_many_locks_take_a_moment(locks: Locks) -> None:
    count = 20_000
    symbols = ["", *(f"v{index}" for index in range(1, count))]
    words = [lock_of(index + 1, address=64 * index, symbol=symbols[index * (index % 2)]) for index in range(count)]
    rows = [Taken(f"main/f{index % 50}/{WAIT}", index, 5) for index in range(2_000)]
    profile = profile_with_locks(words, rows)
    start = time.process_time()
    status, out, err = locks(profile)
    assert time.process_time() - start < 20
    assert status == 0
    assert len(out.splitlines()) == 21
    # Half of them have symbols; the others are 25 classes by their sites, and one of what wasn't sampled.
    assert "; 20 of 10,026 locks shown" in err
