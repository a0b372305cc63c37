"""Recordings with debug files from a debuginfod server of the test's own: only when asked, shown, interruptible."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cli import run_lockflame
from tests.support.debug_server import DebugServer, debug_server
from tests.support.needs import find_program
from tests.support.process import running, wait_until
from tests.support.recording import function_names, lockflame_session, record, recorded
from tests.support.targets import build_target

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True)
class Stripped:
    """A program without names; they are in `debug_file` alone, which lies nowhere on this machine but in memory."""

    program: Path
    build_id: str
    debug_file: bytes


@pytest.fixture(scope="module")
def stripped(tmp_path_factory: pytest.TempPathFactory) -> Stripped:
    whole = build_target("split_70_30.c", flags=("-O2", "-g", "-Wl,--build-id"))
    folder = tmp_path_factory.mktemp("stripped")
    program, debug_file = folder / "server", folder / "debug"
    objcopy = find_program("objcopy")
    subprocess.run([objcopy, "--only-keep-debug", whole, debug_file], check=True)
    subprocess.run([objcopy, "--strip-all", whole, program], check=True)
    content = debug_file.read_bytes()
    debug_file.unlink()
    notes = subprocess.run([find_program("readelf"), "-n", program], capture_output=True, text=True, check=True).stdout
    found = re.search(r"Build ID: ([0-9a-f]+)", notes)
    assert found
    return Stripped(program, found[1], content)


@pytest.fixture
def server() -> Iterator[DebugServer]:
    with debug_server() as started:
        yield started


@pytest.fixture
def env(server: DebugServer, tmp_path: Path) -> dict[str, str]:
    """The first of two servers is of no use."""
    with debug_server() as gone:
        pass
    return {"DEBUGINFOD_URLS": f"{gone.url} {server.url}", "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_names_come_from_the_server_and_then_from_the_cache(
    stripped: Stripped, server: DebugServer, env: dict[str, str], tmp_path: Path
) -> None:
    server.serves(stripped.build_id, stripped.debug_file)
    output = tmp_path / "p.pb.gz"
    with running([stripped.program]) as target:
        arguments = ("-p", target.pid, "-d", 1, "-F", 499)
        without = record(output, *arguments, env=env)
        assert server.asked == []
        first = record(output, *arguments, "--debuginfod", env=env)
        asked = list(server.asked)
        second = record(output, *arguments, "--debuginfod", env=env)
    assert not {"work_seventy", "work_thirty"} & function_names(without.profile)
    assert f"/buildid/{stripped.build_id}/debuginfo" in asked
    assert {"work_seventy", "work_thirty"} <= function_names(first.profile)
    said = f"lockflame: downloading debug info of server from {server.url}: "
    assert said in first.stderr
    assert re.search(rf"note: debuginfod {server.url}: 1 file of .* MB downloaded\.", first.stderr)
    assert re.search(
        r"note: debuginfod http:.*couldn't be fetched \(Connection refused; it was given up\)", first.stderr
    )
    assert {"work_seventy", "work_thirty"} <= function_names(second.profile)
    assert f"/buildid/{stripped.build_id}/debuginfo" not in server.asked[len(asked) :]
    assert said not in second.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("is_command", [False, True], ids=["process", "command"])
def test_a_signal_while_a_download_hangs_ends_the_downloads_only(
    stripped: Stripped,
    server: DebugServer,
    env: dict[str, str],
    tmp_path: Path,
    number: signal.Signals,
    is_command: bool,
) -> None:
    server.answer = server.hang_after(stripped.debug_file[:1000], len(stripped.debug_file))
    output = tmp_path / "p.pb.gz"
    with running([stripped.program]) as target:
        what = ("--", stripped.program) if is_command else ("-p", target.pid)
        arguments = ("record", "--debuginfod", "-o", output, "-F", 499, "-d", 1, *what)
        with lockflame_session(*arguments, env=env) as session:
            wait_until(lambda: bool(server.asked), "a download begins")
            session.process.send_signal(number)
            result = recorded(session.finish(timeout=20), output)
    # A command gets the signal too: this one ends by it, with its counts and status 0.
    assert ('{"work_seventy"' in result.stdout) == is_command
    assert "note: The downloads were interrupted: " in result.stderr
    assert len(server.asked) == 1
    assert result.profile.recording.samples > 100
    assert list((tmp_path / "cache").glob("lockflame/debuginfod-*/*")) == []


def test_no_server_is_a_matter_of_usage() -> None:
    for urls in ("", "ftp://elsewhere"):
        result = run_lockflame("record", "--debuginfod", "-d", "1", "--", "true", env={"DEBUGINFOD_URLS": urls})
        assert result.status == 2
        assert re.fullmatch(r"lockflame: error: .*set DEBUGINFOD_URLS to .*\n", result.stderr)
    result = run_lockflame(
        *("record", "--debuginfod", "--", "true"), env={"DEBUGINFOD_URLS": "http://x", "DEBUGINFOD_TIMEOUT": "soon"}
    )
    assert (result.status, result.stderr.count("\n")) == (1, 1)
    assert "DEBUGINFOD_TIMEOUT" in result.stderr
