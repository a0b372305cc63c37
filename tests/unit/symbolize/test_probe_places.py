"""Where in a function a uprobe goes: by the instructions of functions as compilers make them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbolize.probe_places import STRAIGHT_BYTES_MOST, is_emulated, probe_places

ARGUMENT = ("rdi", "edi")
ENDBR = bytes.fromhex("f30f1efa")
RET = bytes.fromhex("c3")


@pytest.mark.parametrize(
    ("code", "call", "returns"),
    [
        # push %rbx; mov %rdi,%rbx; pop %rbx; ret
        ("53 4889fb 5b c3", 0, (5,)),
        # glibc's pthread_mutex_unlock: mov $1,%esi; jmp
        ("be01000000 e9f6feffff", 5, ()),
        # glibc's pthread_mutex_lock: mov 0x10(%rdi),%eax; mov %eax,%edx; and $0x17f,%edx; and $0x7c,%eax; jne
        ("8b4710 89c2 81e27f010000 83e07c 0f85ac000000 c3", 14, (20,)),
        # endbr64; push %r12
        ("f30f1efa 4154 415c c3", 4, (8,)),
        # sub $8,%rsp moves the return address away: the first instruction then
        ("4883ec08 e800000000 4883c408 c3", 0, (13,)),
        # mov %rsi,%rdi spoils the argument
        ("4889f7 e900000000", 0, ()),
        # mov (%rdi),%eax; lock decl (%rdi); ret: nothing that the kernel would do itself
        ("8b07 f0ff0f c3", 0, (5,)),
        # 1: pause; 3: jne 1; a loop would pass the place again and again
        ("90f390 75fc c3", 0, (5,)),
        ("8b07 f390 75fc 75fa c3", 0, (8,)),
        ("", 0, ()),
        ("0f", 0, ()),
    ],
)
def test_places(code: str, call: int, returns: tuple[int, ...]) -> None:
    places = probe_places(bytes.fromhex(code), ARGUMENT)
    assert (places.call, places.returns) == (call, returns)


def test_the_second_argument_is_another_register() -> None:
    code = bytes.fromhex("be01000000 e9f6feffff")
    assert probe_places(code, ARGUMENT).call == 5
    assert probe_places(code, ("rsi", "esi")).call == 0


def test_a_place_is_near_the_beginning() -> None:
    long = bytes.fromhex("8b07") * (STRAIGHT_BYTES_MOST // 2 + 1) + bytes.fromhex("7500c3")
    assert probe_places(long, ARGUMENT).call == 0


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("55", True),  # push %rbp
        ("4157", True),  # push %r15
        ("6655", False),  # push %bp
        ("90", True),
        ("6690", False),
        ("e800000000", True),
        ("eb00", True),
        ("0f8400000000", True),  # je
        ("0f1f00", False),  # nopl, which new kernels do themselves, others not
        ("f30f1efa", False),  # endbr64
        ("c3", False),
        ("4889e5", False),
    ],
)
def test_what_the_kernel_does_itself(code: str, expected: bool) -> None:
    assert is_emulated(bytes.fromhex(code)) is expected


@given(st.binary(max_size=200))
def test_any_bytes_give_places_within(code: bytes) -> None:
    places = probe_places(ENDBR + code + RET, ARGUMENT)
    assert 0 <= places.call <= STRAIGHT_BYTES_MOST
    assert all(0 <= place < len(code) + 5 for place in places.returns)
