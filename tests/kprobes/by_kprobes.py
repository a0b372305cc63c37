"""A pytest plugin (`-p tests.kprobes.by_kprobes`): tests of lock waits, as they are, on kprobes in an emulated machine.

Every recording must have seen futex calls by kprobes alone, which missed neither a call nor a return; every test must
leave no probe behind. Limits of time are longer. The tests of this folder choose their probes themselves.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockflame.pprof import read
from lockflame.profile import Profile, RecordingInfo
from tests.support import recording
from tests.support.cli import CliResult, lockflame_command
from tests.support.paths import BUILD
from tests.support.process import wait_until

KPROBE_EVENTS = Path("/sys/kernel/tracing/kprobe_events")
COMPILED = BUILD / "kprobes" / "cache"
"""Caches of Lockflame's that the tests may begin with."""
EXACT = 0.1
"""How near to the target's own time the totals must be: it counts the ways into the call and out of it as well, which
emulation makes as long as 0.1 to 0.5 ms for a wait of 9 to 20 ms, by kprobes and by tracepoints alike. On a busy host
they were 1 to 7 % of it."""
WRONG_HOLDER = 0.12
"""The ways in and out of a call are 3 to 5 % of what is waited. 0.1 to 2 % were charged wrongly in 12 recordings on a
busy host. If QEMU loses its CPU within such a way, for which the target's log has no holder, all who wait add to one
path: a pause of 0.15 s makes about 5 %. Charging by the number of holds would be wrong by 0.18 to 0.34."""
PATIENCE = 8
"""How much longer than usual the tests wait for something to happen."""

_finish_in_time = recording.Session.finish


@pytest.fixture(scope="session", autouse=True)
def _compiled_before(_own_cache_folder: None) -> None:
    if COMPILED.is_dir():
        shutil.copytree(COMPILED, os.environ["XDG_CACHE_HOME"], dirs_exist_ok=True)


@pytest.fixture(autouse=True)
def _by_kprobes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(recording.Session, "wait_until_recording", _wait_until_recording)
    monkeypatch.setattr(recording.Session, "finish", _finish)
    if request.path.parent != Path(__file__).parent:
        monkeypatch.setattr(recording, "lockflame_command", command_by_kprobes)
        monkeypatch.setattr(recording, "read", read_by_kprobes)
        monkeypatch.setattr(request.module, "EXACT", EXACT)
        monkeypatch.setattr(request.module, "WRONG_HOLDER", WRONG_HOLDER)
    yield
    assert our_probes() == []


def _wait_until_recording(session: recording.Session, timeout: float = 20) -> None:
    def is_settled() -> bool:
        return session.is_recording() or session.process.poll() is not None

    wait_until(is_settled, "lockflame records", timeout * PATIENCE, pause=0.1)
    assert session.process.poll() is None, session.process.communicate()


def _finish(session: recording.Session, send: str | None = None, timeout: float = 60) -> CliResult:
    return _finish_in_time(session, send, timeout * PATIENCE)


def command_by_kprobes(*arguments: str | Path) -> list[str]:
    """The command line of `lockflame`, by kprobes where it records lock waits."""
    chosen = ("--probe", "kprobe") if "--locks" in arguments else ()
    return lockflame_command(*arguments, *chosen)


def read_by_kprobes(path: str) -> Profile:
    """The profile in a file, which must be of kprobes that missed nothing."""
    profile = read(path)
    assert_by_kprobes(profile.recording)
    return profile


def assert_by_kprobes(info: RecordingInfo) -> None:
    """All futex calls were seen by kprobes, and none of these missed a call or a return."""
    places = probes_by_kind(info.probes)
    assert any(place.endswith("_sys_futex") for place in places["kprobes"])
    assert any(place.endswith("_sys_futex") for place in places["kretprobes"])
    assert not any("futex" in place for place in places["tracepoints"])
    assert info.waits_unseen == 0
    assert not any("kprobes" in note for note in info.notes), info.notes


def probes_by_kind(probes: str) -> dict[str, list[str]]:
    """What `RecordingInfo.probes` tells: "kprobes A, B; tracepoints C" as the places of each kind."""
    parts = (part.partition(" ") for part in probes.split("; "))
    return {kind: places.split(", ") for kind, _, places in parts}


def our_probes() -> list[str]:
    """The kprobes of any Lockflame that the kernel knows, whether or not somebody uses them."""
    return [line for line in KPROBE_EVENTS.read_text().splitlines() if "lockflame_" in line]
