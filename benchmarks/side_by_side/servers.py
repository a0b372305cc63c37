"""Servers at work under their own load generators."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from benchmarks.loads import shared_mariadb
from benchmarks.side_by_side.at_work import at_work
from benchmarks.side_by_side.counters import MariaDbCounter, RedisCounter
from benchmarks.side_by_side.model import Running, Workload
from tests.support.redis import redis_running

POINT_SELECT_THREADS = 16
READ_WRITE_THREADS = 32
PROCESSLIST_THREADS = 4


def mariadb_workloads() -> list[Workload]:
    """Debian's MariaDB under sysbench: one server for all, until `benchmarks.loads.stop_servers`."""
    select = f"MariaDB under sysbench oltp_point_select with {POINT_SELECT_THREADS} threads"
    write = f"MariaDB under sysbench oltp_read_write with {READ_WRITE_THREADS} threads"
    busy = f", while {PROCESSLIST_THREADS} more clients run SHOW FULL PROCESSLIST without end"
    # SHOW counts as neither of these.
    selects = ("oltp_point_select", POINT_SELECT_THREADS, "Com_select")
    commits = ("oltp_read_write", READ_WRITE_THREADS, "Com_commit")
    return [
        Workload("MariaDB point select", "queries", select, _mariadb(*selects)),
        Workload(
            "MariaDB point select + processlist", "queries", select + busy, _mariadb(*selects, PROCESSLIST_THREADS)
        ),
        Workload("MariaDB read-write", "transactions", write, _mariadb(*commits)),
        Workload(
            "MariaDB read-write + processlist", "transactions", write + busy, _mariadb(*commits, PROCESSLIST_THREADS)
        ),
    ]


@contextlib.contextmanager
def redis() -> Iterator[Running]:
    """redis-server under redis-benchmark; counts commands."""
    with (
        redis_running() as server,
        server.benchmark() as load,
        RedisCounter(server.socket) as counter,
        at_work(server.pid, counter, [load.process.pid]) as workload,
    ):
        yield workload


def _mariadb(
    script: str, threads: int, variable: str, processlist_threads: int = 0
) -> Callable[[], AbstractContextManager[Running]]:
    @contextlib.contextmanager
    def start() -> Iterator[Running]:
        server = shared_mariadb()
        with contextlib.ExitStack() as stack:
            # Before the load, under which a new connection has to wait.
            counter = stack.enter_context(MariaDbCounter(server.socket, variable))
            loads = [stack.enter_context(server.sysbench(script, threads))]
            if processlist_threads:
                loads.append(stack.enter_context(server.processlist(processlist_threads)))
            yield stack.enter_context(at_work(server.pid, counter, [load.process.pid for load in loads]))

    return start
