"""What the comparison ran on: the machine, and the versions of all that takes part. What isn't found out is said."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lockflame import __version__

UNKNOWN = "unknown"
TIMEOUT_S = 20
SEARCHED = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
PROGRAMS = {
    "perf": ("perf", "--version"),
    "bpftrace": ("bpftrace", "--version"),
    "py-spy": ("py-spy", "--version"),
    "mariadb": ("mariadbd", "--version"),
    "redis": ("redis-server", "--version"),
    "sysbench": ("sysbench", "--version"),
}
DEBIAN_PACKAGES = {"bcc": "python3-bpfcc", "libbpf-tools": "libbpf-tools"}
"""These don't tell their version."""
NUMBER = re.compile(r"\d+(?:\.\d+)+(?:[-+~:][\w.+~:-]*)?")


def machine() -> dict[str, str]:
    """Kernel, distribution, processor, CPUs that may be used, memory, and whether it is a virtual machine."""
    cpu_text = _read("/proc/cpuinfo")
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    model = re.search(r"^model name\s*:\s*(.+)$", cpu_text, re.MULTILINE)
    return {
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "distribution": _distribution(),
        "processor": model[1].strip() if model else UNKNOWN,
        "CPUs": f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} CPUs",
        "memory": f"{int(memory[1]) * 1024 / 1e9:.1f} GB" if memory else UNKNOWN,
        "virtual machine": "yes" if re.search(r"^flags\s*:.*\bhypervisor\b", cpu_text, re.MULTILINE) else "not said",
    }


def versions() -> dict[str, str]:
    """The version of each tool, workload and library, or "unknown"."""
    by_program = {name: version_in(said_by(command)) for name, command in PROGRAMS.items()}
    return {
        "lockflame": __version__,
        "python": platform.python_version(),
        "numpy": _distribution_version("numpy"),
        "libc": " ".join(platform.libc_ver()).strip() or UNKNOWN,
        **by_program,
        **{name: package_version(package) for name, package in DEBIAN_PACKAGES.items()},
    }


def commit(repo: Path) -> str:
    """The commit of the tree, "with changes" where files differ from it."""
    revision = said_by(("git", "-C", str(repo), "rev-parse", "--short=10", "HEAD"))
    if not revision:
        return UNKNOWN
    changes = said_by(("git", "-C", str(repo), "status", "--porcelain", "--untracked-files=no"))
    return f"{revision} with changes" if changes else revision


def said_by(command: Sequence[str]) -> str:
    """What a program prints, without its ends' white space; empty where it isn't there or fails."""
    program = shutil.which(command[0], path=SEARCHED)
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def version_in(text: str) -> str:
    """The first thing in a text that looks like a version, or "unknown"."""
    found = NUMBER.search(text)
    return found[0] if found else UNKNOWN


def package_version(package: str) -> str:
    """The version of an installed Debian package, or "unknown"."""
    said = said_by(("dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Version}", package))
    return said.removeprefix("ii").strip() if said.startswith("ii") else UNKNOWN


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", UNKNOWN)
    except OSError:
        return UNKNOWN


def _distribution_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
