"""Debian's MariaDB under sysbench, in a folder of its own, on a Unix socket."""

from __future__ import annotations

import contextlib
import getpass
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.load import Load
from tests.support.needs import find_program, is_root
from tests.support.process import kill_group, wait_until
from tests.support.workdir import ServerFailed, end_of, run_tool, server_folder

USER = "mysql"
TABLES = 4
TABLE_SIZE = 50_000
TABLE_OPTIONS = (f"--tables={TABLES}", f"--table-size={TABLE_SIZE}")
PROCESSLIST_SCRIPT = """
function thread_init() connection = sysbench.sql.driver():connect() end
function event() connection:query("SHOW FULL PROCESSLIST") end
function thread_done() connection:disconnect() end
"""


@dataclass(frozen=True, slots=True)
class MariaDb:
    """A running server with sysbench's tables."""

    pid: int
    socket: Path
    folder: Path

    @contextlib.contextmanager
    def sysbench(self, script: str = "oltp_read_write", threads: int = 32, seconds: int = 3600) -> Iterator[Load]:
        """sysbench in the background, one report a second; ended with the context.

        `load.wait()` waits for its end and returns transactions per second.
        """
        with self._load([*self._sysbench(script), *TABLE_OPTIONS], threads, seconds) as load:
            yield load

    @contextlib.contextmanager
    def processlist(self, threads: int = 4, seconds: int = 3600) -> Iterator[Load]:
        """Clients that run SHOW FULL PROCESSLIST without end; ended with the context. It takes each session's locks."""
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(PROCESSLIST_SCRIPT)
            script.flush()
            with self._load(self._sysbench(script.name), threads, seconds) as load:
                yield load

    def prepare(self) -> None:
        """Create the database and fill sysbench's tables."""
        client = [find_program("mariadb"), "--no-defaults", f"--socket={self.socket}", "--user=root"]
        run_tool([*client, "-e", "CREATE DATABASE sbtest"], self.folder)
        run_tool([*self._sysbench("oltp_read_write"), *TABLE_OPTIONS, "--threads=2", "prepare"], self.folder)

    @contextlib.contextmanager
    def _load(self, command: Sequence[str], threads: int, seconds: int) -> Iterator[Load]:
        command = [*command, f"--threads={threads}", f"--time={seconds}", "--report-interval=1", "run"]
        load = Load(command, r"\btps: ([\d.]+)", r"transactions: +\d+ +\(([\d.]+) per sec", self.folder)
        try:
            load.wait_for_report()
            yield load
        finally:
            load.stop()

    def _sysbench(self, script: str) -> list[str]:
        return [
            str(find_program("sysbench")),
            script,
            "--db-driver=mysql",
            f"--mysql-socket={self.socket}",
            "--mysql-user=root",
            "--mysql-db=sbtest",
        ]


@contextlib.contextmanager
def mariadb_running() -> Iterator[MariaDb]:
    """A MariaDB server with sysbench's tables, alone in a temporary folder; stopped and removed at the end.

    Commits don't wait for the disk: the CPU sets the pace, as a profile of it should see.
    """
    server = find_program("mariadbd")
    find_program("sysbench")
    user = USER if is_root() else getpass.getuser()
    with server_folder("mariadb", user) as folder:
        data = folder / "data"
        socket = folder / "sock"
        log = folder / "log"
        options = ["--no-defaults", f"--user={user}", f"--datadir={data}"]
        install = [*options, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
        run_tool([find_program("mariadb-install-db"), *install], folder)
        options += [f"--socket={socket}", "--skip-networking", "--innodb-flush-log-at-trx-commit=2"]
        with log.open("wb") as log_file:
            process = subprocess.Popen(
                [str(server), *options, f"--pid-file={folder / 'pid'}"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
            )
        try:
            _wait_for_server(process, socket, log)
            database = MariaDb(process.pid, socket, folder)
            database.prepare()
            yield database
        finally:
            kill_group(process)


def _wait_for_server(process: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    ping = [find_program("mariadb-admin"), "--no-defaults", f"--socket={socket}", "--user=root", "--silent", "ping"]

    def answers() -> bool:
        if process.poll() is not None:
            raise ServerFailed(f"mariadbd ended with status {process.returncode}:\n{end_of(log)}")
        return subprocess.run([str(part) for part in ping], capture_output=True, check=False).returncode == 0

    wait_until(answers, "mariadbd answers", timeout=60, pause=0.1)
