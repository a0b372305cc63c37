from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockflame.errors import LockflameError
from sampler.bpf.tracefs import TraceFs
from sampler.trace.syscall_names import SystemCall, find_calls, parse_arguments

RECVFROM = """name: sys_enter_recvfrom
ID: 1000
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;
\tfield:int fd;\toffset:16;\tsize:8;\tsigned:0;
\tfield:void * ubuf;\toffset:24;\tsize:8;\tsigned:0;
\tfield:size_t size;\toffset:32;\tsize:8;\tsigned:0;
\tfield:unsigned int flags;\toffset:40;\tsize:8;\tsigned:0;
\tfield:struct sockaddr * addr;\toffset:48;\tsize:8;\tsigned:0;
\tfield:int * addr_len;\toffset:56;\tsize:8;\tsigned:0;
"""


class FakeTraceFs(TraceFs):
    """Has one system call."""

    def __init__(self) -> None:
        pass

    def close(self) -> None:
        pass

    def names(self, folder: str) -> list[str]:
        return ["sys_enter_recvfrom", "sys_exit_recvfrom", "sys_enter_recvmsg", "enable", "filter"]

    def read(self, path: str) -> bytes:
        assert path == "events/syscalls/sys_enter_recvfrom/format"
        return RECVFROM.encode()


def one_argument(declared: str, name: str) -> tuple[int, bool]:
    (argument,) = parse_arguments(f"\tfield:{declared} {name};\toffset:16;\tsize:8;\tsigned:0;\n")
    assert argument.name == name
    return argument.bits, argument.is_signed


def test_arguments_have_the_places_and_types_of_the_format_file() -> None:
    found = parse_arguments(RECVFROM)
    assert [(argument.name, argument.place, argument.is_pointer) for argument in found] == [
        ("fd", 0, False),
        ("ubuf", 1, True),
        ("size", 2, False),
        ("flags", 3, False),
        ("addr", 4, True),
        ("addr_len", 5, True),
    ]
    assert found[2].is_size
    assert not found[3].is_size
    assert SystemCall("recvfrom", found).descriptor == found[0]


@pytest.mark.parametrize(
    ("declared", "name", "expected"),
    [
        ("int", "flags", (32, True)),
        ("unsigned int", "flags", (32, False)),
        ("unsigned", "flags", (32, False)),
        ("unsigned int", "fd", (32, True)),  # -1 is passed as one
        ("unsigned long", "fd", (32, True)),
        ("int", "dfd", (32, True)),
        ("unsigned int", "max_fd", (32, False)),
        ("unsigned int", "nfds", (32, False)),
        ("loff_t", "pos", (64, True)),
        ("size_t", "count", (64, False)),
        ("umode_t", "mode", (16, False)),
        ("const clockid_t", "which_clock", (32, True)),
        ("const char *", "filename", (0, False)),
        ("cap_user_header_t", "header", (0, False)),
        ("struct new_thing", "arg", (0, False)),
    ],
)
def test_what_counts_of_an_argument_is_its_types(declared: str, name: str, expected: tuple[int, bool]) -> None:
    assert one_argument(declared, name) == expected


@given(st.text(max_size=300))
def test_any_text_is_taken(text: str) -> None:
    for argument in parse_arguments(text):
        assert 0 <= argument.place < 6


@pytest.mark.parametrize("offset", [8, 17, 64, 10**30])
def test_fields_elsewhere_are_no_arguments(offset: int) -> None:
    assert parse_arguments(f"\tfield:int x;\toffset:{offset};\tsize:8;\tsigned:0;\n") == ()


def test_calls_are_found_once_each() -> None:
    (call,) = find_calls(FakeTraceFs(), ("recvfrom", "recvfrom"), "cannot")
    assert call.name == "recvfrom"
    assert call.returns_bytes


@pytest.mark.parametrize("name", ["recvform", "recv", "", "sys_enter_recvfrom", "../recvfrom", "recv\0from"])
def test_unknown_calls_are_refused(name: str) -> None:
    with pytest.raises(LockflameError) as raised:
        find_calls(FakeTraceFs(), (name,), "cannot")
    if name in ("recvform", "recv"):
        assert "recvfrom" in raised.value.what_to_do


@pytest.mark.parametrize(
    ("name", "part"),
    [("sise", "names like it: size"), ("ubuf", "is an address (void *)"), ("len", "it has fd, size, flags")],
)
def test_arguments_that_cannot_be_measured_are_refused(name: str, part: str) -> None:
    call = SystemCall("recvfrom", parse_arguments(RECVFROM))
    with pytest.raises(LockflameError) as raised:
        call.argument(name, "cannot")
    assert part in f"{raised.value.why} {raised.value.what_to_do}"
