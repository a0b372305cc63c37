"""A child may end as badly as it likes: what it wrote is kept, and nothing of it is left."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from symbolize.isolated import Isolated, Limits
from tests.support.paths import REPO
from tests.unit.symbolize.deadline import seconds_at_most

LIMITS = Limits(memory_bytes=256 << 20, cpu_seconds=1, answer_bytes=1 << 20)
DEADLINE_S = 30


def answer_of(work, limits: Limits = LIMITS) -> tuple[bytes, bool]:
    with seconds_at_most(DEADLINE_S):
        return Isolated(work, limits).answer()


def written(file: IO[bytes]) -> None:
    file.write(b"written")
    file.flush()


def abort(file: IO[bytes]) -> None:
    written(file)
    faulthandler.disable()  # pytest's would print the stack
    os.abort()


def loop(file: IO[bytes]) -> None:
    written(file)
    while True:
        pass


def wait(file: IO[bytes]) -> None:
    written(file)
    signal.pause()


def allocate(file: IO[bytes]) -> None:
    written(file)
    blocks: list[bytearray] = []
    while True:
        blocks.append(bytearray(b"x" * (16 << 20)))


def raise_an_error(file: IO[bytes]) -> None:
    written(file)
    raise ValueError("no traceback of this is shown")


def leave(file: IO[bytes]) -> None:
    written(file)
    raise SystemExit(0)


def exit_early(file: IO[bytes]) -> None:
    written(file)
    os._exit(7)


def test_the_answer_of_one_that_comes_to_its_end() -> None:
    assert answer_of(lambda file: file.write(b"all" * 100_000)) == (b"all" * 100_000, True)
    assert answer_of(lambda _: None) == (b"", True)


@pytest.mark.parametrize("work", [abort, loop, wait, allocate, raise_an_error, leave, exit_early])
def test_what_was_written_before_a_bad_end_is_kept(work, capfd: pytest.CaptureFixture[str]) -> None:
    assert answer_of(work) == (b"written", False)
    assert capfd.readouterr() == ("", "")


def test_too_much_memory_is_an_error_that_the_child_may_handle() -> None:
    def work(file: IO[bytes]) -> None:
        try:
            bytearray(2 * LIMITS.memory_bytes)
        except MemoryError:
            file.write(b"handled")

    assert answer_of(work) == (b"handled", True)


def test_an_answer_is_cut_off_where_it_is_too_long() -> None:
    def work(file: IO[bytes]) -> None:
        while True:
            file.write(b"x" * 65536)

    assert answer_of(work) == (b"x" * LIMITS.answer_bytes, False)


def test_an_answer_that_just_fits_is_whole() -> None:
    content, is_whole = answer_of(lambda file: file.write(b"x" * (LIMITS.answer_bytes - 1)))
    assert (len(content), is_whole) == (LIMITS.answer_bytes - 1, True)


def test_several_work_at_once() -> None:
    """One that waits for its answer to be read holds up no other."""
    size = 500_000
    with seconds_at_most(DEADLINE_S):
        children = [Isolated(lambda file, byte=byte: file.write(bytes([byte]) * size), LIMITS) for byte in range(5)]
        for byte, child in reversed(list(enumerate(children))):
            assert child.answer() == (bytes([byte]) * size, True)


def test_its_time_is_limited_by_the_cpu_and_leaves_no_core() -> None:
    def work(file: IO[bytes]) -> None:
        file.write(repr([resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_CPU, resource.RLIMIT_CORE)]).encode())

    assert answer_of(work) == (b"[1, 0]", True)


def test_its_limits_are_not_ours() -> None:
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_CORE)
    before = [resource.getrlimit(kind) for kind in kinds], signal.getsignal(signal.SIGINT)
    answer_of(lambda _: None)
    assert ([resource.getrlimit(kind) for kind in kinds], signal.getsignal(signal.SIGINT)) == before


def test_it_does_not_heed_ctrl_c() -> None:
    def work(file: IO[bytes]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        written(file)

    assert answer_of(work) == (b"written", True)


def test_no_process_to_be_had_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "refused")

    before = sorted(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(OSError, match="refused"):
        Isolated(written, LIMITS)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_no_child_outlives_its_parent() -> None:
    script = (
        "import os, time\n"
        "from symbolize.isolated import Isolated, Limits\n"
        "def work(file):\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(600)\n"
        "Isolated(work, Limits(1 << 28, 600, 1)).answer()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=REPO, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        with seconds_at_most(DEADLINE_S):
            assert parent.stdout.read() == ""  # the child had the other end, too
    assert not Path(f"/proc/{child}/exe").exists()


def test_ctrl_c_while_waiting_ends_the_child(tmp_path: Path) -> None:
    def work(_: IO[bytes]) -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        while True:
            time.sleep(1)

    def interrupt() -> None:
        while not (tmp_path / "pid").exists():
            time.sleep(0.01)
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    before = set(os.listdir("/proc/self/fd"))
    child = Isolated(work, Limits(256 << 20, 600, 1 << 20))
    thread = threading.Thread(target=interrupt)
    thread.start()
    with seconds_at_most(DEADLINE_S), pytest.raises(KeyboardInterrupt):
        child.answer()
    thread.join()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()
    assert set(os.listdir("/proc/self/fd")) <= before
