"""Debian's Redis under redis-benchmark, on a Unix socket."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.load import Load
from tests.support.needs import find_program
from tests.support.process import kill_group, wait_until
from tests.support.workdir import ServerFailed, end_of, server_folder


@dataclass(frozen=True, slots=True)
class Redis:
    """A running server."""

    pid: int
    socket: Path
    folder: Path

    @contextlib.contextmanager
    def benchmark(self, clients: int = 20) -> Iterator[Load]:
        """redis-benchmark (SET and GET without end) in the background; ended with the context."""
        command = [
            *(find_program("stdbuf"), "-o0", find_program("redis-benchmark")),
            *("-s", str(self.socket), "-c", str(clients), "-t", "set,get", "-n", "10000", "-r", "10000", "-l", "--csv"),
        ]
        # One line for each round of 10,000 requests: "SET","12345.67",…
        load = Load(command, r'^"(?:SET|GET)","([\d.]+)"', r'^"GET","([\d.]+)"', self.folder)
        try:
            load.wait_for_report()
            yield load
        finally:
            load.stop()


@contextlib.contextmanager
def redis_running() -> Iterator[Redis]:
    """A Redis server that stores nothing on disk, stopped at the end."""
    server = find_program("redis-server")
    find_program("redis-benchmark")
    with server_folder("redis", "root") as folder:
        socket = folder / "sock"
        log = folder / "log"
        options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", "--daemonize", "no"]
        with log.open("wb") as log_file:
            process = subprocess.Popen(
                [str(server), *options],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
            )
        try:
            _wait_for_server(process, socket, log)
            yield Redis(process.pid, socket, folder)
        finally:
            kill_group(process)


def _wait_for_server(process: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    def listens() -> bool:
        if process.poll() is not None:
            raise ServerFailed(f"redis-server ended with status {process.returncode}:\n{end_of(log)}")
        return socket.exists()

    wait_until(listens, "redis-server listens", timeout=20)
