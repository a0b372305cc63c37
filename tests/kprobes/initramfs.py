"""The guest's first root: busybox, the modules and a script that mounts the host's root, as a cpio archive.

The format is the kernel's "newc" (Documentation/driver-api/early-userspace/buffer-format.rst): a header of 13 numbers
of 8 hexadecimal digits, the name, the content, each padded to 4 bytes; the last entry is called TRAILER!!!.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.kprobes.kernel import Kernel

BUSYBOX = Path("/bin/busybox")
"""The static one: there is no libc in an initramfs."""

INIT_SCRIPT = Path(__file__).with_name("init.sh")
SESSION_SCRIPT = Path(__file__).with_name("session.sh")

_FOLDERS = ("bin", "modules", "newroot", "project", "proc")
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file (or, with a folder's mode, one folder) of the archive."""

    name: str
    mode: int
    content: bytes = b""


def initramfs(kernel: Kernel, project: Path) -> bytes:
    """The archive for `kernel`; the guest finds the project at the same path as the host, also below /tmp."""
    names = [module.name for module in kernel.modules]
    return archive(
        [
            *(Entry(name, stat.S_IFDIR | 0o755) for name in _FOLDERS),
            Entry("bin/busybox", stat.S_IFREG | 0o755, BUSYBOX.read_bytes()),
            Entry("init", stat.S_IFREG | 0o755, INIT_SCRIPT.read_bytes()),
            Entry("session.sh", stat.S_IFREG | 0o755, SESSION_SCRIPT.read_bytes()),
            Entry("modules/order", stat.S_IFREG | 0o644, "".join(f"{name}\n" for name in names).encode()),
            Entry("project-path", stat.S_IFREG | 0o644, str(project).encode()),
            *(Entry(f"modules/{m.name}", stat.S_IFREG | 0o644, m.read_bytes()) for m in kernel.modules),
        ]
    )


def archive(entries: Iterable[Entry]) -> bytes:
    """`entries` as a newc archive. A folder has to come before what is in it."""
    whole = [_record(number, entry) for number, entry in enumerate(entries, start=1)]
    return b"".join([*whole, _record(0, Entry(_TRAILER, 0))])


def _record(inode: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links, owner, time, device, checksum = 1, 0, 0, 0, 0
    numbers = (
        *(inode, entry.mode, owner, owner, links, time, len(entry.content)),
        *(device, device, device, device, len(name), checksum),
    )
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    return _padded(header + name) + _padded(entry.content)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 4)
