"""A tool that is watched, with a shell script in its place."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import pytest

from benchmarks.side_by_side import runs, watching
from benchmarks.side_by_side.beginnings import Beginning
from benchmarks.side_by_side.files import PICTURE
from benchmarks.side_by_side.model import Answer, Progress, Tool
from benchmarks.tools import ToolFailed

WINDOW_S = 0.3
TOOL = """
trap 'echo done; head -c 2000000 /dev/zero > "$0/data"; exit 130' INT
sleep 0.2; echo counts; while true; do sleep 0.01; done
"""
PICTURE_OF = 'echo >&2 drawing; head -c 1000000 "$0/data" | cat > "$0/picture.svg"'


@dataclasses.dataclass
class Clock:
    """A workload that does a unit of work in a second, and keeps what was done to it."""

    pid: int = 1
    calls: list[str] = dataclasses.field(default_factory=list[str])

    def progress(self) -> Progress:
        now = time.monotonic()
        return Progress(now, now)

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")


def shell_tool(script: str, picture: str = PICTURE_OF) -> Tool:
    return Tool(
        "a shell",
        "dash",
        lambda _, folder: ["sh", "-c", script, str(folder)],
        lambda folder: Answer(samples=(folder / PICTURE).stat().st_size),
        lambda folder: [["sh", "-c", picture, str(folder)]],
    )


@pytest.fixture(autouse=True)
def _says_when_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(watching.BEGINNINGS, "a shell", Beginning(said="counts"))


def test_what_a_tool_uses_until_its_picture_is_there(tmp_path: Path) -> None:
    workload = Clock()
    watched = watching.watch(shell_tool(TOOL), workload, WINDOW_S, tmp_path)
    usage = watched.usage
    assert 0.2 <= usage.first_sample_s < 3
    assert watched.rate == pytest.approx(1)
    assert watched.answer.samples == 1_000_000
    # What `head` sends to `cat` is not in it.
    assert usage.written_mb == pytest.approx(3, abs=0.01)
    assert 0 < usage.to_picture_s < 5
    assert 0 < usage.cpu_recording_s <= usage.cpu_total_s
    assert 0 < usage.peak_recording_mb <= usage.peak_total_mb
    assert workload.calls == ["pause", "resume"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("script", "picture", "says"),
    [
        ("echo oops >&2; exit 3", PICTURE_OF, "a shell ended by itself: oops"),
        ("echo counts; echo oops; exec sleep 0.1", PICTURE_OF, "a shell ended by itself: counts oops"),
        (
            "trap 'echo bad; exit 3' INT; echo counts; while true; do sleep 0.01; done",
            PICTURE_OF,
            "status 3: counts bad",
        ),
        (TOOL, "echo no ink; exit 4", "sh ended with status 4: counts done no ink"),
        (TOOL, "true", "a shell has drawn nothing"),
    ],
)
def test_a_tool_that_fails_is_told_with_what_it_said(tmp_path: Path, script: str, picture: str, says: str) -> None:
    workload = Clock()
    with pytest.raises(ToolFailed, match=says):
        watching.watch(shell_tool(script, picture), workload, WINDOW_S, tmp_path)
    assert workload.calls in ([], ["pause", "resume"])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("limit", "script", "says"),
    [
        ("START_LIMIT_S", "sleep 60", "recorded nothing within 0.2 s"),
        ("END_LIMIT_S", "trap '' INT; echo counts; while true; do sleep 0.01; done", "was not done within 0.2 s"),
    ],
)
def test_a_tool_that_hangs_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, script: str, says: str
) -> None:
    monkeypatch.setattr(runs, limit, 0.2)
    start = time.monotonic()
    with pytest.raises(runs.TookTooLong, match=says):
        watching.watch(shell_tool(script), Clock(), WINDOW_S, tmp_path)
    assert time.monotonic() - start < 20
