"""Signals by name, as lines of text and of JSON, and the causes of the kernel's."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockflame.cli.trace.signal_causes import KERNEL, TIMER, USER, cause_of, is_timer
from lockflame.cli.trace.signal_lines import HEADING, Frame, SeenSignal, has_failed, json_line, text_line
from lockflame.cli.trace.signal_names import close_names, signal_name, signal_number
from lockflame.cli.trace.signal_stacks import shown
from sampler.trace.signal_layout import Call, Kind, Result, SignalEvent
from sampler.trace.signal_targets import Scope, SignalTarget

EVENT = SignalEvent(
    time_ns=5,
    kind=Kind.GENERATED,
    signal=15,
    code=USER,
    result=Result.DELIVERED,
    sender_pid=4711,
    sender_tid=4712,
    target=99,
    target_pid=99,
    machine_tid=4712,
    call=Call.KILL,
    is_group=1,
    flags=0,
    sender_comm="bash",
    target_comm="mariadbd",
)
TARGET = SignalTarget(Scope.PROCESS, "mariadbd", 99)
NOON_NS = 1_700_000_000_123_456_789


def line_of(
    event: SignalEvent = EVENT, target: SignalTarget = TARGET, cause: str = "", is_kernels: bool = False
) -> str:
    """The text without the time."""
    line = text_line(SeenSignal(event, NOON_NS, target, is_kernels, cause))
    assert line.endswith("\n")
    return " ".join(line.split()[1:])


def test_names_are_those_of_the_shell() -> None:
    listed = subprocess.run(["bash", "-c", "kill -l"], capture_output=True, text=True, check=True).stdout.split()
    truth = dict(zip((int(number.rstrip(")")) for number in listed[::2]), listed[1::2], strict=True))
    assert {number: signal_name(number) for number in truth} == truth
    assert {name: signal_number(name) for name in truth.values()} == {name: number for number, name in truth.items()}


@given(st.integers(min_value=0, max_value=64))
def test_each_signal_is_found_by_its_name(number: int) -> None:
    name = signal_name(number)
    forms = (name, name.lower(), name.removeprefix("SIG"), str(number))
    assert [signal_number(form) for form in forms] == [number] * len(forms)


def test_other_ways_to_name_one() -> None:
    assert signal_number("SIGRTMIN+20") == signal_number("RTMAX-10") == 54
    assert signal_number("IOT") == signal.SIGABRT
    assert signal_number("SIGRTMIN+0") == signal_number("rtmin") == signal.SIGRTMIN
    assert [signal_number(name) for name in ("65", "-1", "", "SIG", "RTMIN+31", "٣", "1e1")] == [None] * 7
    assert "SIGTERM" in close_names("TREM")
    assert signal_name(999) == "999"


@given(st.text(max_size=30))
def test_no_text_is_too_odd(text: str) -> None:
    number = signal_number(text)
    assert number is None or 0 <= number <= 64
    assert isinstance(close_names(text), list)


def test_columns_stand_below_their_heading() -> None:
    line = text_line(SeenSignal(EVENT, NOON_NS, TARGET, False, ""))
    for heading, word in (("FROM", "bash"), ("SIGNAL", "SIGTERM"), ("TO", "mariadbd"), ("RESULT", "ok")):
        assert line.index(word) == HEADING.index(heading)
    assert [line.index(" 4711") + 5, line.index(" 99") + 3] == [HEADING.index("PID") + 3, HEADING.rindex("PID") + 3]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (Result.DELIVERED, "ok"),
        (Result.IGNORED, "ignored"),
        (Result.ALREADY_PENDING, "already pending"),
        (Result.OVERFLOW, "EAGAIN (queue full)"),
        (Result.LOST_INFO, "ok (queue full: without its details)"),
        (77, "result 77"),
    ],
)
def test_results_of_signals(result: int, text: str) -> None:
    assert line_of(EVENT._replace(result=result)) == f"bash 4711 SIGTERM mariadbd 99 {text}"


@pytest.mark.parametrize(
    ("number", "result", "text"),
    [(0, 0, "exists"), (0, -3, "ESRCH"), (15, -1, "EPERM"), (15, 0, "ended meanwhile"), (9, -9999, "error 9999")],
)
def test_results_of_calls_that_sent_none(number: int, result: int, text: str) -> None:
    event = EVENT._replace(kind=Kind.CALL_ENDED, signal=number, result=result)
    assert line_of(event).endswith(f" 99 {text}")
    assert has_failed(event) == (result < 0)


def test_whom_it_was_for() -> None:
    called = EVENT._replace(kind=Kind.CALL_ENDED, result=-3)
    targets = {
        "mariadbd 99 ok (thread 101)": (EVENT, SignalTarget(Scope.THREAD, "mariadbd", 99, 101)),
        "mariadbd 101 ok (thread 101)": (EVENT, SignalTarget(Scope.THREAD, "mariadbd", None, 101)),
        "all processes - ESRCH": (called, SignalTarget(Scope.ALL, "", None)),
        "own group - ESRCH": (called, SignalTarget(Scope.GROUP, "", None)),
        "process group 7 ESRCH": (called, SignalTarget(Scope.GROUP, "", 7)),
        "- 7 ESRCH (number of the sender's pid namespace)": (called, SignalTarget(Scope.PROCESS, "", 7, is_inner=True)),
        "- - ESRCH (pidfd 5)": (called, SignalTarget(Scope.PROCESS, "", None, descriptor=5)),
    }
    for text, (event, target) in targets.items():
        assert line_of(event, target) == f"bash 4711 SIGTERM {text}"


def test_of_the_kernel() -> None:
    event = EVENT._replace(signal=signal.SIGSEGV, code=1, call=Call.NONE)
    assert line_of(event, cause="why", is_kernels=True) == "kernel - SIGSEGV mariadbd 99 ok (why)"
    content = json.loads(json_line(SeenSignal(event, NOON_NS, TARGET, True, "why")))
    assert (content["sender"], content["cause"], content["call"]) == (None, "why", None)
    assert content["running"] == {"comm": "bash", "pid": 4711, "tid": 4712}


@given(st.text(max_size=16), st.text(max_size=16))
def test_names_do_no_harm(sender: str, target: str) -> None:
    """Neither to a terminal nor to who reads JSON."""
    event = EVENT._replace(sender_comm=sender)
    seen = SeenSignal(event, NOON_NS, SignalTarget(Scope.PROCESS, target, 99), True, sender, (Frame(target, sender),))
    for line in text_line(seen).splitlines(keepends=True):
        assert line.endswith("\n")
        assert line[:-1].isprintable()
    assert len(text_line(seen).splitlines()) == 2
    line = json_line(seen)
    assert line.isascii()
    assert line.index("\n") == len(line) - 1
    assert json.loads(line)["target"]["comm"] == (target or None)


def test_json() -> None:
    content = json.loads(json_line(SeenSignal(EVENT, NOON_NS, TARGET, False, "", (Frame("kill", "libc.so.6"),))))
    assert content == {
        "time": "2023-11-14T22:13:20.123456Z",
        "monotonic_ns": 5,
        "signal": "SIGTERM",
        "number": 15,
        "sender": {"comm": "bash", "pid": 4711, "tid": 4712},
        "target": {
            "comm": "mariadbd",
            "pid": 99,
            "tid": None,
            "scope": "process",
            "in_senders_namespace": False,
        },
        "result": "ok",
        "failed": False,
        "call": "kill",
        "code": 0,
        "stack": [{"function": "kill", "place": "libc.so.6", "kernel": False}],
    }


@pytest.mark.parametrize(
    ("number", "code", "is_own", "cause"),
    [
        (signal.SIGSEGV, 1, True, "nothing mapped at the address"),
        (signal.SIGPIPE, USER, True, "write to a pipe or socket that nobody reads"),
        (signal.SIGCHLD, 2, False, "sh 5 was killed"),
        (signal.SIGKILL, USER, False, "caused by sh 5"),
        (signal.SIGUSR1, TIMER, False, "timer"),
        (signal.SIGALRM, KERNEL, False, "timer"),
        (signal.SIGKILL, KERNEL, False, ""),
        (signal.SIGSEGV, 4242, True, ""),
    ],
)
def test_causes(number: int, code: int, is_own: bool, cause: str) -> None:
    assert cause_of(number, code, "sh 5", is_own=is_own) == cause
    assert is_timer(number, code) == (cause == "timer")


def test_what_is_shown_of_a_stack() -> None:
    kernel = [Frame(name, is_kernel=True) for name in ("__send_signal_locked", "send_sig", "pipe_write", "vfs_write")]
    user = [Frame("write"), Frame("main")]
    stack = (*kernel, *user)
    assert shown(stack, is_kernels=False, is_by_timer=False) == tuple(user)
    assert shown(stack, is_kernels=True, is_by_timer=False) == (*kernel[2:], *user)
    assert shown(stack, is_kernels=True, is_by_timer=True) == tuple(kernel[2:])
    assert shown((), is_kernels=True, is_by_timer=False) == ()
