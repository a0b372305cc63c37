from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sampler.trace.descriptors import AT_FDCWD, DescriptorNames, parse_address


def name_of(number: int, pid: int | None = None) -> str:
    names = DescriptorNames()
    names.look({(pid or os.getpid(), number)})
    return names.name(pid or os.getpid(), number)


def test_files_have_their_paths(tmp_path: Path) -> None:
    with open(tmp_path / "with space", "w") as file:
        assert name_of(file.fileno()) == str(tmp_path / "with space")


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_sockets_have_both_ends(family: socket.AddressFamily, address: str) -> None:
    shown = f"[{address}]" if ":" in address else address
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]
        protocol = "tcp6" if family is socket.AF_INET6 else "tcp"
        assert name_of(listener.fileno()) == f"socket {protocol} {shown}:{port} listening"
        with socket.create_connection((address, port)) as connected:
            here = connected.getsockname()[1]
            assert name_of(connected.fileno()) == f"socket {protocol} {shown}:{here}->{shown}:{port}"


def test_unix_sockets_have_their_paths(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "a socket"))
        listener.listen()
        assert name_of(listener.fileno()) == f"socket unix {tmp_path / 'a socket'}"


def test_a_name_stays_what_it_was_when_it_was_first_looked_at(tmp_path: Path) -> None:
    names = DescriptorNames()
    with open(tmp_path / "first", "w") as file:
        number = file.fileno()
        names.look({(os.getpid(), number)})
    names.look({(os.getpid(), number)})
    assert names.name(os.getpid(), number) == str(tmp_path / "first")


def test_what_is_not_known_is_said() -> None:
    with open(os.devnull) as file:
        number = file.fileno()
    assert name_of(number) == "not known: closed by now"
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert name_of(0, child) == "not known: the process has ended"
    assert name_of(-1) == "no descriptor"
    assert name_of(AT_FDCWD) == "AT_FDCWD, the working directory"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (b"0100007F:0CEA", "127.0.0.1:3306"),
        (b"00000000000000000000000001000000:0050", "[::1]:80"),
        (b"0000000000000000FFFF00000100007F:0050", "127.0.0.1:80"),
    ],
)
def test_addresses_are_read_as_the_kernel_writes_them(text: bytes, address: str) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", [b"", b"x", b"01:zz", b"0100007F", b"010000:0050"])
def test_what_is_no_address_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_address(text)
