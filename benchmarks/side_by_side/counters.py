"""How far a workload is, read from outside while it runs: from a file that it counts in, or by asking a server."""

from __future__ import annotations

import contextlib
import math
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from benchmarks.side_by_side.model import Progress
from tests.support.needs import is_root

ANSWER_MOST_S = 60.0
"""A server that is silent for longer is taken for dead."""
FAST_S = 0.002
READINGS_MOST = 5
FIRST_OF_ALL = -20
LINE_MOST_BYTES = 1 << 20
ROW_WORDS = 8

# MariaDB's protocol: https://mariadb.com/kb/en/connection/ and https://mariadb.com/kb/en/com_query/
PROTOCOL_41 = 0x200
SECURE_CONNECTION = 0x8000
UTF8 = 33
MAX_PACKET_BYTES = 1 << 24
COM_QUERY = b"\x03"
OWN_THREAD = "SELECT TID FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()"
ERROR, END_OF_ROWS = 0xFF, 0xFE


class NoAnswer(Exception):
    """A server didn't say how far it is; the message is what it said instead."""


class Counter(Protocol):
    """Tells how far a workload is."""

    def read(self) -> Progress:
        """Its count now; its time is the middle of that which the reading took."""
        ...


class FileCounter:
    """The sum of a counters file's rows, as tests/targets/target.h has them: 64 bytes, the first 8 a u64."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Progress:
        """As `Counter`."""
        return _fastest(self._count)

    def _count(self) -> int:
        return int(np.frombuffer(self._path.read_bytes(), "<u8")[::ROW_WORDS].sum())


class RedisCounter:
    """The commands that a Redis server has processed, by INFO on a connection that stays open."""

    def __init__(self, path: Path) -> None:
        self._connection = _connected(path)
        self._stream = self._connection.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._connection.close()

    def read(self) -> Progress:
        """As `Counter`; raises NoAnswer."""
        return _fastest(self._count)

    def _count(self) -> int:
        self._connection.sendall(b"INFO stats\r\n")
        size = self._stream.readline(LINE_MOST_BYTES)
        if not re.fullmatch(rb"\$\d{1,5}\r\n", size):
            raise NoAnswer(f"redis-server: {size!r}")
        answer = self._stream.read(int(size[1:]) + len(b"\r\n"))
        found = re.search(rb"^total_commands_processed:(\d+)\r$", answer, re.MULTILINE)
        if found is None:
            raise NoAnswer(f"redis-server: {answer!r}")
        return int(found[1])


class MariaDbCounter:
    """One of a MariaDB server's status variables, on a connection that stays open.

    The server's thread for it goes before the others where this is root: else the answer waits for their turns, 30 ms
    with 32 of them at work on two CPUs, and 0.8 ms so.
    """

    def __init__(self, path: Path, variable: str) -> None:
        self._question = f"SHOW GLOBAL STATUS LIKE '{variable}'"
        self._thread = 0
        self._connection = _connected(path)
        self._stream = self._connection.makefile("rb")

    def __enter__(self) -> Self:
        try:
            self._log_in()
            self._thread = int(self._ask(OWN_THREAD)[0])
            self._set_niceness(FIRST_OF_ALL)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # The server keeps its threads, for whoever connects next.
        self._set_niceness(0)
        self._close()

    def read(self) -> Progress:
        """As `Counter`; raises NoAnswer."""
        return _fastest(lambda: int(self._ask(self._question)[1]))

    def _close(self) -> None:
        self._stream.close()
        self._connection.close()

    def _set_niceness(self, niceness: int) -> None:
        if is_root() and self._thread:
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, self._thread, niceness)

    def _log_in(self) -> None:
        self._packet()
        capabilities = (PROTOCOL_41 | SECURE_CONNECTION).to_bytes(4, "little")
        no_password = b"\0"
        options = capabilities + MAX_PACKET_BYTES.to_bytes(4, "little") + bytes([UTF8]) + bytes(23)
        self._send(1, options + b"root\0" + no_password)
        answer = self._packet()
        if answer[0] != 0:
            raise NoAnswer(f"mariadbd: {answer!r}")

    def _ask(self, question: str) -> list[str]:
        """The columns of the answer's only row, none of which is longer than 250 bytes."""
        self._send(0, COM_QUERY + question.encode())
        columns = self._packet()[0]
        while self._packet()[0] != END_OF_ROWS:  # one packet for each column
            pass
        row = self._packet()
        if row[0] == END_OF_ROWS or self._packet()[0] != END_OF_ROWS:
            raise NoAnswer(f"mariadbd: no row or more than one: {question}")
        values: list[str] = []
        for _ in range(columns):
            length = row[0]
            values.append(row[1 : 1 + length].decode())
            row = row[1 + length :]
        return values

    def _send(self, number: int, payload: bytes) -> None:
        self._connection.sendall(len(payload).to_bytes(3, "little") + bytes([number]) + payload)

    def _packet(self) -> bytes:
        header = self._stream.read(4)
        payload = self._stream.read(int.from_bytes(header[:3], "little"))
        if not payload or payload[0] == ERROR:
            raise NoAnswer(f"mariadbd: {payload!r}")
        return payload


def _fastest(count: Callable[[], int]) -> Progress:
    """A count by a reading that nothing held up, or, where all were held up, by the shortest of a few."""
    shortest_s, found = math.inf, Progress(0.0, 0.0)
    for _ in range(READINGS_MOST):
        before = time.monotonic()
        work = count()
        took_s = time.monotonic() - before
        if took_s < shortest_s:
            shortest_s, found = took_s, Progress(before + took_s / 2, float(work))
        if took_s < FAST_S:
            break
    return found


def _connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(ANSWER_MOST_S)
    connection.connect(str(path))
    return connection
