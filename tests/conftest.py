"""Fixtures for all tests: Lockflame's command, real servers, and a check that each test leaves nothing behind."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

from tests.support.cli import CliResult, run_lockflame
from tests.support.mariadb import MariaDb, mariadb_running
from tests.support.needs import CannotTest, find_program, is_root
from tests.support.postgres import Postgres, postgres_running
from tests.support.redis import Redis, redis_running

Server = TypeVar("Server")
Left = TypeVar("Left")


# A machine under load is no reason to fail.
settings.register_profile("lockflame", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lockflame")


@pytest.fixture(scope="session", autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests neither use nor fill the user's cache of unwind rules."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs root where this isn't root."""
    if item.get_closest_marker("requires_root") and not is_root():
        pytest.skip("needs root: run the tests as root to include it")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """What isn't there (a program, a user's right) skips the test that needs it, and says why."""
    try:
        return (yield)
    except CannotTest as missing:
        pytest.skip(str(missing))


@pytest.fixture
def lockflame() -> Callable[..., CliResult]:
    """Runs `lockflame` with the given arguments: `lockflame("record", "-p", pid)`. See `run_lockflame`."""
    return run_lockflame


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """MariaDB with sysbench's tables, one server for all tests; each starts its own load."""
    yield from _or_skip(mariadb_running)


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """A Redis server for all tests."""
    yield from _or_skip(redis_running)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """PostgreSQL with pgbench's tables, one server for all tests."""
    yield from _or_skip(postgres_running)


@pytest.fixture(scope="session")
def go_pprof(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """The command line of `go tool pprof`, and the environment that keeps it off the network and out of $HOME."""
    with _skipping():
        go = find_program("go")
    folder = tmp_path_factory.mktemp("go")
    env = {**os.environ, "PPROF_TMPDIR": str(folder), "GOCACHE": str(folder / "cache"), "GOFLAGS": "-mod=mod"}
    env |= {"GOPROXY": "off", "PPROF_BINARY_PATH": str(folder)}
    return [str(go), "tool", "pprof"], env


@pytest.fixture(autouse=True)
def leaves_nothing_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test after which a file is still open here, or a process that it started still runs.

    What its fixtures of the session keep open was there before it, as those are set up first.
    """
    if request.node.get_closest_marker("leaky"):
        yield
        return
    files, children = _open_files(), _children()
    yield
    new_children = _settled(lambda: _children() - children)
    new_files = _settled(lambda: _open_files() - files)
    for child in new_children:
        os.kill(child, signal.SIGKILL)  # or it would hold up whoever waits for the end of our output
    assert not new_children, f"processes left behind: {sorted(new_children)}"
    assert not new_files, f"files left open: {sorted(new_files)}"


def _open_files() -> set[tuple[int, str]]:
    found: set[tuple[int, str]] = set()
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add((int(entry), os.readlink(f"/proc/self/fd/{entry}")))
    return {(number, path) for number, path in found if not path.startswith(("/proc/", "/dev/"))}


def _children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found.update(map(int, (task / "children").read_text().split()))
    return found


def _settled(left: Callable[[], set[Left]]) -> set[Left]:
    """What is left, once garbage is collected and killed processes have had a moment to go."""
    if left():
        gc.collect()
        time.sleep(0.1)
    return left()


@contextlib.contextmanager
def _skipping() -> Iterator[None]:
    try:
        yield
    except CannotTest as missing:
        pytest.skip(str(missing))


def _or_skip(start: Callable[[], AbstractContextManager[Server]]) -> Iterator[Server]:
    with contextlib.ExitStack() as stack:
        with _skipping():
            server = stack.enter_context(start())
        yield server
