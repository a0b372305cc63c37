"""Debian's kernel image and a few of its modules, unpacked below build/kprobes and not installed.

The image is the one that belongs to the installed headers (`linux-headers-amd64`), so that what is compiled in the
guest is compiled against that very kernel. The host's own /boot and /lib/modules stay as they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kprobes.problem import BootProblem
from tests.support.paths import BUILD

KERNEL_CACHE = BUILD / "kprobes"

HEADERS = "linux-headers-amd64"
RELEASE_PREFIX = "linux-headers-"

MODULES = (
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "net/9p/9pnet",
    "net/9p/9pnet_virtio",
    "fs/netfs/netfs",
    "fs/fscache/fscache",
    "fs/9p/9p",
)
"""What mounting a 9p share needs in Debian 12's kernel 6.1, each after those that it depends on."""

_APT_SECONDS = 240
_UNPACK_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel to boot. `modules` are in the order in which they have to be loaded."""

    release: str
    image: Path
    modules: tuple[Path, ...]


def debian_kernel() -> Kernel:
    """The kernel of the installed headers: from build/kprobes, else downloaded with apt.

    Raises BootProblem where this isn't Debian, the headers are missing, or apt can't get that version.
    """
    release, version = _headers_release()
    folder = KERNEL_CACHE / f"{release}_{version.replace(':', '_')}"
    if not folder.is_dir():
        KERNEL_CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=KERNEL_CACHE) as scratch:
            package = _download(f"linux-image-{release}={version}", Path(scratch))
            unpacked = Path(scratch) / "unpacked"
            unpacked.mkdir()
            _unpack(package, release, unpacked)
            _put_in_place(unpacked, folder)
    return Kernel(release, folder / _image_member(release), tuple(folder / name for name in _module_members(release)))


def _headers_release() -> tuple[str, str]:
    """The kernel release and the package version of the installed headers: ("6.1.0-56-amd64", "6.1.192-2")."""
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version} ${Depends}", HEADERS]
    fields = _output(query, 30, f"{HEADERS} is not installed: apt-get install {HEADERS}").replace(",", " ").split()
    releases = [field.removeprefix(RELEASE_PREFIX) for field in fields[2:] if field.startswith(RELEASE_PREFIX)]
    if fields[:1] != ["installed"] or len(releases) != 1:
        raise BootProblem(f"{HEADERS} is not installed: apt-get install {HEADERS}")
    return releases[0], fields[1]


def _download(package: str, folder: Path) -> Path:
    """The .deb file of `package`, in `folder`. Package lists that are missing or old are brought up to date once."""
    command = ["apt-get", "download", "-o", "APT::Sandbox::User=root", package]
    try:
        _output(command, _APT_SECONDS, "apt-get download failed", folder)
    except BootProblem:
        if os.geteuid() != 0:
            raise
        _output(["apt-get", "update"], _APT_SECONDS, "apt-get update failed")
        _output(command, _APT_SECONDS, f"no {package} (apt-get install {HEADERS} brings the current headers)", folder)
    return next(folder.glob("*.deb"))


def _unpack(package: Path, release: str, folder: Path) -> None:
    """Unpack the image and our modules, and nothing else of 400 MB."""
    archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
    members = [f"./{name}" for name in (_image_member(release), *_module_members(release))]
    try:
        extract = ["tar", "--extract", "--directory", str(folder), *members]
        _output(extract, _UNPACK_SECONDS, f"{package.name} doesn't hold what it should", stdin=archive)
    finally:
        archive.kill()
        archive.communicate()


def _put_in_place(unpacked: Path, folder: Path) -> None:
    """Two runs may unpack at once: who comes second leaves it to the first."""
    try:
        unpacked.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _image_member(release: str) -> str:
    return f"boot/vmlinuz-{release}"


def _module_members(release: str) -> list[str]:
    return [f"lib/modules/{release}/kernel/{name}.ko" for name in MODULES]


def _output(
    command: Sequence[str],
    seconds: float,
    problem: str,
    folder: Path | None = None,
    stdin: subprocess.Popen[bytes] | None = None,
) -> str:
    """What a command prints; BootProblem with `problem` and the command's last line of error where it fails."""
    if shutil.which(command[0]) is None:
        raise BootProblem(f"{command[0]} is missing: this needs a Debian system")
    try:
        done = subprocess.run(
            command,
            stdin=stdin.stdout if stdin else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BootProblem(f"{problem}: {command[0]} took more than {seconds:.0f} s") from None
    if done.returncode != 0:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise BootProblem(f"{problem}: {reason}")
    return done.stdout
