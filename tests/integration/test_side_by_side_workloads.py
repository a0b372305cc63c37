"""The workloads of the side-by-side benchmark that are programs of ours count their work, and stop and go on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.side_by_side.model import Running
from benchmarks.side_by_side.workloads import WORKLOADS
from benchmarks.tools import process_tree
from tests.support.process import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

OF_OURS = ("contended C++", "one CPU-bound thread", "1,000 idle threads", "fork storm", "Python")
GROWS_WITHIN_S = 10.0
STANDS_STILL_S = 0.3


def grows(workload: Running) -> bool:
    before = workload.progress()
    while workload.progress().work <= before.work:
        if time.monotonic() > before.time_s + GROWS_WITHIN_S:
            return False
        time.sleep(0.01)
    return True


def wait_until_gone(pids: Sequence[int]) -> None:
    # Whoever adopts a killed parent's children has to reap them first.
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), f"{pids} are gone", timeout=10)


@pytest.mark.parametrize("name", OF_OURS)
def test_a_workload_counts_stops_and_goes_on(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with WORKLOADS[name].start() as workload:
        assert grows(workload)
        workload.pause()
        family = process_tree(workload.pid)
        stopped = workload.progress()
        time.sleep(STANDS_STILL_S)
        later = workload.progress()
        assert later.work == stopped.work
        assert later.time_s >= stopped.time_s + STANDS_STILL_S
        workload.resume()
        assert grows(workload)
    wait_until_gone(family)
    assert not list(tmp_path.iterdir())


def test_a_paused_workload_ends_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with WORKLOADS["fork storm"].start() as workload:
        workload.pause()
        family = process_tree(workload.pid)
    wait_until_gone(family)
    assert not list(tmp_path.iterdir())
