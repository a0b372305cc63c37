"""Programs of other packages that a test or benchmark needs, and what to say when they are missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

PACKAGES = {
    "bpftrace": "bpftrace",
    "addr2line": "binutils",
    "c++": "g++",
    "cc": "gcc",
    "chromium": "chromium",
    "clang++": "clang",
    "findmnt": "util-linux",
    "go": "golang-go",
    "initdb": "postgresql",
    "mariadb-install-db": "mariadb-server",
    "mariadbd": "mariadb-server",
    "nm": "binutils",
    "node": "nodejs",
    "objcopy": "binutils",
    "objdump": "binutils",
    "offcputime": "libbpf-tools",
    "offcputime-bpfcc": "bpfcc-tools",
    "perf": "linux-perf",
    "pgbench": "postgresql-contrib",
    "profile-bpfcc": "bpfcc-tools",
    "readelf": "binutils",
    "redis-benchmark": "redis-tools",
    "redis-server": "redis-server",
    "rustc": "rustc",
    "setpriv": "util-linux",
    "sysbench": "sysbench",
    "unshare": "util-linux",
}
SYSTEM_FOLDERS = ("/usr/sbin", "/sbin")
POSTGRESQL = Path("/usr/lib/postgresql")


class CannotTest(Exception):
    """Something that a test needs isn't there; the message says what and why. The test is skipped with it."""


class MissingProgram(CannotTest):
    """A program isn't installed; the message names its Debian package."""

    def __init__(self, program: str) -> None:
        package = PACKAGES.get(program, program)
        super().__init__(f"{program} is not installed: apt-get install --no-install-recommends {package}")


def find_program(program: str, folders: Iterable[str | Path] = ()) -> Path:
    """The path of a program on PATH, in the system's folders, or in `folders`."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS, *map(str, folders)])
    found = shutil.which(program, path=search)
    if found is None:
        raise MissingProgram(program)
    return Path(found)


def find_postgresql_program(program: str) -> Path:
    """Debian keeps PostgreSQL's servers apart by version, off the PATH; the newest is taken."""
    versions = sorted(POSTGRESQL.glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    return find_program(program, versions)


def is_root() -> bool:
    """Whether this process may do everything."""
    return os.geteuid() == 0
