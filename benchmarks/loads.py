"""Stock programs at work: what to profile, by name."""

from __future__ import annotations

import contextlib
import functools
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from tests.support.cli import SYSTEM_PYTHON
from tests.support.mariadb import MariaDb, mariadb_running
from tests.support.needs import find_program
from tests.support.postgres import postgres_running
from tests.support.process import kill_group
from tests.support.redis import redis_running

COMPUTATION = """
def count_ways(steps):
    return 1 if steps < 2 else count_ways(steps - 1) + count_ways(steps - 2)
while True:
    count_ways(18)
    sorted({str(number): number * number % 7919 for number in range(5000)}.items(), key=lambda pair: pair[1])
"""


_servers = contextlib.ExitStack()


@functools.cache
def shared_mariadb() -> MariaDb:
    """One MariaDB for all benchmarks; each starts its own load. `stop_servers` stops it."""
    return _servers.enter_context(mariadb_running())


def stop_servers() -> None:
    """Stop what benchmarks share."""
    _servers.close()
    shared_mariadb.cache_clear()


@contextlib.contextmanager
def mariadb() -> Iterator[int]:
    """MariaDB under sysbench oltp_read_write with 32 threads."""
    server = shared_mariadb()
    with server.sysbench("oltp_read_write", 32):
        yield server.pid


@contextlib.contextmanager
def redis() -> Iterator[int]:
    """redis-server under redis-benchmark."""
    with redis_running() as server, server.benchmark():
        yield server.pid


@contextlib.contextmanager
def postgresql() -> Iterator[int]:
    """PostgreSQL under pgbench; the postmaster, whose children serve the clients."""
    with postgres_running() as server, server.pgbench():
        yield server.pid


@contextlib.contextmanager
def python3() -> Iterator[int]:
    """Debian's Python on a computation."""
    with _running([SYSTEM_PYTHON, "-c", COMPUTATION]) as pid:
        yield pid


@contextlib.contextmanager
def sysbench_cpu() -> Iterator[int]:
    """`sysbench cpu` with two threads."""
    with _running([str(find_program("sysbench")), "cpu", "--threads=2", "--time=3600", "run"]) as pid:
        yield pid


LOADS: dict[str, Callable[[], AbstractContextManager[int]]] = {
    "mariadb": mariadb,
    "redis": redis,
    "postgresql": postgresql,
    "python3": python3,
    "sysbench cpu": sysbench_cpu,
}
"""Each gives the PID to profile while the load is on."""


@contextlib.contextmanager
def _running(command: Sequence[str]) -> Iterator[int]:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        yield process.pid
    finally:
        kill_group(process)
