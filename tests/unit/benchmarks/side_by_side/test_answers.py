"""The answers that are read from what tools leave behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.perf_output import lost_in_stats, stacks_in_script
from benchmarks.side_by_side import bpftrace_peers, ours, peers
from benchmarks.side_by_side.files import COMPLAINED, PICTURE, SAID
from benchmarks.side_by_side.folding import Histogram
from lockflame.profile import (
    CPU,
    SAMPLES,
    TRUNCATED_STACK,
    FrameKind,
    Function,
    Line,
    Location,
    Profile,
    RecordingInfo,
    Stacks,
    Thread,
    samples_of_no_lock,
)
from tests.support.needs import CannotTest

SCRIPT = """47283.132342: 
\tffffffff813a2413 finish_task_switch.isra.0
\t           8612b __GI___lll_lock_wait
\t            1891 THD::set_query
\t          1098eb clone3

47283.136162: 
\t            1891 THD::set_query
\t            1972 execute_statement

47283.136748: 
\tffffffff813a2413 finish_task_switch.isra.0

"""
STATS = """
Aggregated stats:
          SAMPLE events:          0
    LOST_SAMPLES events:          2  ( 3.8%)
cpu-clock:ppp stats:
          SAMPLE events:         80
    LOST_SAMPLES events:      13414
"""
PROFILE = """lock_progress;clone3;start_thread;work;do_syscall_64_[k] 5
lock_progress;[unknown];work 3
lock_progress;[Missed User Stack];do_syscall_64_[k] 1
lock_progress;ret_from_fork_[k];do_syscall_64_[k] 1
"""


def test_perf_whole_stacks_are_those_of_samples_with_user_frames() -> None:
    answer = peers.perf_answer_of(stacks_in_script(SCRIPT), 7)
    assert (answer.samples, answer.lost, answer.whole_percent) == (3, 7, 50)
    assert answer.shares["THD::set_query"] == pytest.approx(200 / 3)


def test_lost_samples_of_perf_are_not_the_records_that_tell_them() -> None:
    assert lost_in_stats(STATS) == 13414
    assert lost_in_stats("          SAMPLE events:         80\n") == 0


def test_profile_knows_user_stacks_from_the_kernels() -> None:
    answer = peers.profile_answer_of(PROFILE, "WARNING: 4 stack traces could not be displayed.\n")
    assert (answer.samples, answer.lost) == (10, 4)
    assert answer.whole_percent == 100 * 5 / 8
    assert answer.shares["work"] == 80
    assert answer.shares["do_syscall_64"] == 70


def test_bpftrace_answers_with_paths_by_estimated_time() -> None:
    found = [
        Histogram("lock_ns", ("slow()+1",), 2, 5e6),
        Histogram("lock_ns", ("often()+9",), 1000, 4e6),
        Histogram("lock_ns", ("often()+9",), 10, 2e6),
    ]
    answer = bpftrace_peers.answer_of(found)
    assert (answer.samples, answer.lost, answer.lock_paths) == (1012, None, ["often", "slow"])


def test_py_spy_tells_its_errors(tmp_path: Path) -> None:
    (tmp_path / SAID).write_text("py-spy> Wrote flamegraph data to 'spy.svg'. Samples: 629 Errors: 3\n")
    (tmp_path / COMPLAINED).write_text("")
    (tmp_path / PICTURE).write_text("<svg></svg>")
    answer = peers.py_spy_answer(tmp_path)
    assert (answer.samples, answer.lost) == (629, 3)


def test_a_tool_that_cannot_run_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "KPROBES", tmp_path / "kprobe")
    with pytest.raises(CannotTest, match="kprobe on finish_task_switch"):
        peers.TOOLS["offcputime"].command(1, tmp_path)


def test_ours_counts_whole_stacks_by_the_mark_of_the_others() -> None:
    names = ("leaf", "main", TRUNCATED_STACK)
    functions = tuple(Function(name, name) for name in names)
    kinds = (FrameKind.USER, FrameKind.USER, FrameKind.MARKER)
    profile = Profile(
        sample_types=(SAMPLES, CPU),
        mappings=(),
        functions=functions,
        locations=tuple(Location(at, -1, (Line(at),), kind) for at, kind in enumerate(kinds)),
        threads=(Thread(1, 1, "main"),),
        stacks=Stacks(np.array([0, 2, 4], np.int64), np.array([0, 1, 0, 2], np.int32)),
        samples=samples_of_no_lock(
            np.array([0, 1], np.int32), np.zeros(2, np.int32), np.array([[3, 30], [1, 10]], np.int64)
        ),
        recording=RecordingInfo(samples=4, lost=2, truncated=1),
    )
    answer = ours.answer_of(profile)
    assert (answer.samples, answer.lost, answer.whole_percent) == (4, 2, 75)
    assert answer.shares == {"leaf": 100, "main": 75}
    assert answer.lock_paths == []
