"""Which container a process is in, by the control group that its container's manager has put it into.

The kernel knows no containers. Their managers name groups after them, and /proc/PID/cgroup tells a process's groups,
`NUMBER:CONTROLLERS:PATH` a line (cgroups(7)); version 2 has the one line `0::PATH`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lockflame.events import Event, ExitEvent, ForkEvent, ProcessSnapshot

SHORT_ID_DIGITS = 12
"""As many digits of an id as `docker ps`, `podman ps` and `crictl ps` show, or nearly."""
NAME_CHARACTERS_MOST = 64
FILE_BYTES_MOST = 1 << 16

# docker-ID.scope, libpod-ID.scope, cri-containerd-ID.scope, crio-ID, SLICE:cri-containerd:ID; or the id alone.
_ID = re.compile(r"(?:|.*[-:])([0-9a-f]{64})(?:\.scope)?")
# LXC 4 and later: lxc.payload.NAME; systemd-nspawn: machine-NAME.scope, or its service.
_NAME = re.compile(r"lxc\.payload\.(.+)|machine-(.+)\.scope|systemd-nspawn@(.+)\.service")
_NAME_PARENTS = ("lxc", "lxc.payload")
# conmon watches over a container from outside; libvirt's machines are virtual.
_OUTSIDE = re.compile(r".*conmon-|machine-qemu\\x2d")
_ESCAPED = re.compile(r"(?:\\x[0-9a-f]{2})+")


def container_of(cgroup_file_text: str) -> str:
    """The container that the text of a /proc/PID/cgroup tells: the first 12 hex digits of its id, or its name.

    Empty where it tells none. Knows Docker, containerd and CRI-O under Kubernetes, Podman, LXC and systemd-nspawn. Of
    containers within one another it is the innermost.
    """
    for line in cgroup_file_text.splitlines():
        found = _container_of_path(line.split(":", 2)[-1].split("/"))
        if found:
            return found
    return ""


def _container_of_path(parts: list[str]) -> str:
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index]
        if _OUTSIDE.match(part):
            continue
        if found := _ID.fullmatch(part):
            return found[1][:SHORT_ID_DIGITS]
        if found := _NAME.fullmatch(part):
            return _printable(next(group for group in found.groups() if group))
        if index and part and parts[index - 1] in _NAME_PARENTS:
            return _printable(part)
    return ""


def _printable(name: str) -> str:
    """A name as people write it: systemd escapes bytes as `\\x2d` (systemd-escape(1))."""
    name = _ESCAPED.sub(lambda found: bytes.fromhex(found[0].replace("\\x", "")).decode("utf-8", "replace"), name)
    return "".join(character if character.isprintable() else "?" for character in name[:NAME_CHARACTERS_MOST])


def read_container(pid: int) -> str:
    """The container of a process now; empty where it is in none, has ended or may not be looked at."""
    try:
        with open(f"/proc/{pid}/cgroup", "rb") as file:
            return container_of(file.read(FILE_BYTES_MOST).decode("utf-8", "replace"))
    except OSError:
        return ""


def containers_of(snapshots: Iterable[ProcessSnapshot], events: Iterable[Event]) -> dict[int, str]:
    """The container of each process of a recording that was in one, by pid.

    `events` are in the order of time. A process that came into being meanwhile is in its parent's container, unless
    it still lives: then it is asked, for it may have been put into another one since (as runtimes do).
    """
    containers = {process.pid: process.container for process in snapshots}
    born: set[int] = set()
    for event in events:
        if isinstance(event, ForkEvent) and event.pid != event.parent_pid:
            containers[event.pid] = containers.get(event.parent_pid, "")
            born.add(event.pid)
        elif isinstance(event, ExitEvent) and event.pid == event.tid:
            born.discard(event.pid)
    for pid in born:
        containers[pid] = read_container(pid) or containers[pid]
    return {pid: container for pid, container in containers.items() if container}
