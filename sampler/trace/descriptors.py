"""What file descriptors of processes are: files by their paths, sockets by their addresses."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress

AT_FDCWD = -100
NAMES_MOST = 65536
LINE_BYTES_MOST = 1024

_SOCKET = re.compile(r"socket:\[(\d+)\]")
_INTERNET = ("tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6")
_LISTENING = b"0A"
"""TCP_LISTEN (net/tcp_states.h), as /proc/net/tcp has states."""

Descriptor = tuple[int, int]
"""A process and its descriptor's number."""


class DescriptorNames:
    """Names of descriptors as they were when they were first looked at."""

    def __init__(self) -> None:
        self._names: dict[Descriptor, str] = {}

    def look(self, descriptors: Iterable[Descriptor]) -> None:
        """Looks at those that have no name yet: they may be closed, and their processes ended, before long."""
        sockets: dict[int, list[tuple[Descriptor, int]]] = {}
        for pid, number in set(descriptors):
            if (pid, number) in self._names or len(self._names) >= NAMES_MOST:
                continue
            link = _link(pid, number)
            if link is None:
                continue
            socket = _SOCKET.fullmatch(link)
            if socket:
                sockets.setdefault(pid, []).append(((pid, number), int(socket[1])))
            self._names[pid, number] = link
        for pid, found in sockets.items():
            addresses = dict(_addresses(pid, {inode for _, inode in found}))
            for descriptor, inode in found:
                self._names[descriptor] = addresses.get(inode, self._names[descriptor])

    def name(self, pid: int, number: int) -> str:
        """A file's path, `socket tcp 127.0.0.1:3306->127.0.0.1:50210`, or why it isn't known."""
        if number == AT_FDCWD:
            return "AT_FDCWD, the working directory"
        if number < 0:
            return "no descriptor"
        found = self._names.get((pid, number))
        if found is not None:
            return found
        return "not known: closed by now" if os.path.exists(f"/proc/{pid}") else "not known: the process has ended"


def _link(pid: int, number: int) -> str | None:
    if number < 0:
        return None
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}")
    except OSError:
        return None


def _addresses(pid: int, inodes: set[int]) -> Iterator[tuple[int, str]]:
    """The sockets of these inodes, as the tables in /proc/PID/net of the process's network namespace have them."""
    for protocol in _INTERNET:
        for fields in _rows(pid, protocol):
            # sl local_address rem_address st ... inode is the tenth (proc_pid_net(5))
            if len(fields) > 9 and fields[9].isdigit() and int(fields[9]) in inodes:
                with suppress(ValueError):
                    yield int(fields[9]), f"socket {protocol} {_ends(fields)}"
    for fields in _rows(pid, "unix"):
        # Num RefCount Protocol Flags Type St Inode Path
        if len(fields) > 6 and fields[6].isdigit() and int(fields[6]) in inodes:
            path = os.fsdecode(b" ".join(fields[7:]))
            yield int(fields[6]), f"socket unix {path}" if path else f"socket unix [{int(fields[6])}]"


def _rows(pid: int, table: str) -> Iterator[list[bytes]]:
    with suppress(OSError), open(f"/proc/{pid}/net/{table}", "rb") as file:
        while line := file.readline(LINE_BYTES_MOST):
            yield line.split()


def _ends(fields: list[bytes]) -> str:
    local, remote = parse_address(fields[1]), parse_address(fields[2])
    if fields[3] == _LISTENING:
        return f"{local} listening"
    return local if remote.endswith(":0") else f"{local}->{remote}"


def parse_address(text: bytes) -> str:
    """`0100007F:0CEA` as 127.0.0.1:3306: words of 4 bytes in the machine's order, here little-endian.

    Raises `ValueError`.
    """
    address, _, port = text.decode().partition(":")
    raw = bytes.fromhex(address)
    packed = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    shown = ipaddress.ip_address(packed)
    if isinstance(shown, ipaddress.IPv6Address):
        return f"{shown.ipv4_mapped}:{int(port, 16)}" if shown.ipv4_mapped else f"[{shown}]:{int(port, 16)}"
    return f"{shown}:{int(port, 16)}"
