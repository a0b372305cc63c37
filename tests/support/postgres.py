"""Debian's PostgreSQL under pgbench, in a folder of its own, on a Unix socket."""

from __future__ import annotations

import contextlib
import getpass
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.load import Load
from tests.support.needs import find_postgresql_program, is_root
from tests.support.process import kill_group, wait_until
from tests.support.workdir import ServerFailed, as_user, end_of, run_tool, server_folder

USER = "postgres"
SCALE = 4


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server (`pid` is the postmaster's; each client has a child of it) with pgbench's tables."""

    pid: int
    folder: Path
    user: str

    @contextlib.contextmanager
    def pgbench(self, clients: int = 16, seconds: int = 3600, *, select_only: bool = False) -> Iterator[Load]:
        """pgbench in the background, one report a second; ended with the context."""
        options = ["--client", str(clients), "--jobs", "2", "--time", str(seconds), "--progress", "1", "--no-vacuum"]
        if select_only:
            options.append("--select-only")
        command = as_user(self.user, [*self._pgbench(), *options, "postgres"])
        load = Load(command, r"progress: .* ([\d.]+) tps", r"tps = ([\d.]+)", self.folder)
        try:
            load.wait_for_report()
            yield load
        finally:
            load.stop()

    def prepare(self) -> None:
        """Fill pgbench's tables."""
        fill = [*self._pgbench(), "--initialize", "--scale", str(SCALE), "--quiet", "postgres"]
        run_tool(as_user(self.user, fill), self.folder)

    def _pgbench(self) -> list[str | Path]:
        return [find_postgresql_program("pgbench"), "--host", str(self.folder), "--username", USER]


@contextlib.contextmanager
def postgres_running() -> Iterator[Postgres]:
    """A PostgreSQL server with pgbench's tables, alone in a temporary folder; stopped and removed at the end.

    Commits don't wait for the disk: the CPU sets the pace, as a profile of it should see.
    """
    initdb = find_postgresql_program("initdb")
    server = find_postgresql_program("postgres")
    user = USER if is_root() else getpass.getuser()
    with server_folder("postgres", user) as folder:
        data = folder / "data"
        log = folder / "log"
        create = [initdb, "--pgdata", data, "--auth", "trust", "--username", USER, "--no-sync"]
        run_tool(as_user(user, create), folder)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "synchronous_commit": "off",
            "max_connections": "100",
        }
        command: list[str | Path] = [server, "-D", data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with log.open("wb") as log_file:
            process = subprocess.Popen(
                as_user(user, command),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
            )
        try:
            _wait_for_server(process, folder, log)
            database = Postgres(process.pid, folder, user)
            database.prepare()
            yield database
        finally:
            _stop(process)


def _wait_for_server(process: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
    probe = [str(find_postgresql_program("pg_isready")), "--host", str(folder), "--quiet"]

    def answers() -> bool:
        if process.poll() is not None:
            raise ServerFailed(f"postgres ended with status {process.returncode}:\n{end_of(log)}")
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0

    wait_until(answers, "postgres answers", timeout=60, pause=0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """An immediate shutdown, in which the server frees its shared memory; its children have groups of their own."""
    process.send_signal(signal.SIGQUIT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        kill_group(process)
