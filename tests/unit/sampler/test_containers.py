from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockflame.events import CommEvent, Event, ExitEvent, ForkEvent, ProcessSnapshot
from sampler.containers import NAME_CHARACTERS_MOST, container_of, containers_of, read_container

ID = "0123456789ab" + "cdef" * 13
OTHER_ID = "ba9876543210" + "fedc" * 13
SHORT = "0123456789ab"
POD = "kubepods-burstable-pod0f3c5a4e_9a53_4c6f_8d0b_7f1f4b1f9a11.slice"
NO_SUCH_PID = 2**22 + 1


@pytest.mark.parametrize(
    ("path", "container"),
    [
        (f"/docker/{ID}", SHORT),
        (f"/system.slice/docker-{ID}.scope", SHORT),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope/init", SHORT),
        (f"/kubepods.slice/kubepods-burstable.slice/{POD}/cri-containerd-{ID}.scope", SHORT),
        (f"/kubepods/besteffort/pod0f3c5a4e-9a53-4c6f-8d0b-7f1f4b1f9a11/{ID}", SHORT),
        (f"/kubepods.slice/{POD}/crio-{ID}.scope", SHORT),
        (f"/system.slice/containerd.service/{POD}:cri-containerd:{ID}", SHORT),
        (f"/machine.slice/libpod-{ID}.scope", SHORT),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container", SHORT),
        (f"/machine.slice/libpod-conmon-{ID}.scope", ""),
        (f"/docker/{OTHER_ID}/docker/{ID}", SHORT),
        (f"/../{ID}", SHORT),
        ("/lxc/web", "web"),
        ("/lxc/web/system.slice/nginx.service", "web"),
        ("/lxc.payload/web/init.scope", "web"),
        ("/lxc.payload.web-1/system.slice/nginx.service", "web-1"),
        ("/lxc.monitor.web-1", ""),
        (f"/lxc.payload.web/system.slice/docker-{ID}.scope", SHORT),
        ("/machine.slice/machine-debian\\x2dtest.scope/payload/init.scope", "debian-test"),
        ("/machine.slice/systemd-nspawn@debian.service/payload", "debian"),
        ("/machine.slice/machine-n\\xc3\\xa4he.scope", "nähe"),
        ("/machine.slice/machine-qemu\\x2d1\\x2dserver.scope/libvirt/emulator", ""),
        ("/", ""),
        ("/user.slice/user-1000.slice/session-1.scope", ""),
        ("/system.slice/docker.service", ""),
        (f"/{ID[:32]}", ""),
        (f"/docker/{ID}0", ""),
        (f"/docker/{ID.upper()}", ""),
        ("/lxc", ""),
        ("/lxc/", ""),
    ],
)
def test_container_of_a_path(path: str, container: str) -> None:
    assert container_of(f"0::{path}\n") == container
    assert container_of(f"12:pids:{path}\n0::/\n") == container


def test_the_first_line_that_tells_one_counts() -> None:
    text = f"9:name=systemd:/docker/{ID}\n8:memory:/docker/{ID}\n4:cpu,cpuacct:/\n0::/system.slice/docker.service\n"
    assert container_of(text) == SHORT


def test_a_path_may_hold_colons() -> None:
    assert container_of("0::/lxc/a:b\n") == "a:b"


def test_names_are_short_and_can_be_printed() -> None:
    name = container_of("0::/lxc/a\x1b[31m\u202e" + "x" * 1000)
    assert name.startswith("a?[31m?x")
    assert len(name) == NAME_CHARACTERS_MOST


@given(st.text())
def test_any_text_gives_a_short_name(text: str) -> None:
    for container in (container_of(text), container_of(f"0::/lxc/{text}"), container_of(f"0::/machine-{text}.scope")):
        assert len(container) <= NAME_CHARACTERS_MOST
        assert container.isprintable()


def test_a_process_that_is_gone_is_in_none() -> None:
    assert read_container(NO_SUCH_PID) == ""


def test_children_are_in_their_parents_container() -> None:
    events: list[Event] = [
        ForkEvent(1, 20, 20, 10, 10),
        ForkEvent(2, 30, 30, 20, 20),
        ForkEvent(3, 10, 11, 10, 10),
        ExitEvent(4, 20, 21),
        ExitEvent(5, 30, 30),
        ForkEvent(6, NO_SUCH_PID, NO_SUCH_PID, 20, 20),
        ForkEvent(7, 50, 50, 40, 40),
        ExitEvent(8, 50, 50),
        CommEvent(9, 60, 60, "unknown", True),
        ExitEvent(10, 20, 20),
    ]
    snapshots = [ProcessSnapshot(10, {}, (), SHORT), ProcessSnapshot(40, {}, ())]
    assert containers_of(snapshots, events) == {10: SHORT, 20: SHORT, 30: SHORT, NO_SUCH_PID: SHORT}


def test_a_child_that_lives_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sampler.containers.read_container", lambda pid: "moved" if pid == os.getpid() else "")
    events = [ForkEvent(1, os.getpid(), os.getpid(), 10, 10)]
    assert containers_of([ProcessSnapshot(10, {}, (), SHORT)], events) == {10: SHORT, os.getpid(): "moved"}
