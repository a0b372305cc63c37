"""Versions are found where there are any, and what isn't found is said."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest

from benchmarks.side_by_side.versions import UNKNOWN, commit, machine, package_version, said_by, version_in, versions


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("perf version 6.1.192", "6.1.192"),
        ("bpftrace v0.17.0", "0.17.0"),
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", "7.0.15"),
        ("mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu", "10.11.19-MariaDB-0+deb12u1"),
        ("sysbench 1.0.20", "1.0.20"),
        ("", UNKNOWN),
        ("command failed", UNKNOWN),
    ],
)
def test_a_version_is_found_in_what_a_program_says(said: str, version: str) -> None:
    assert version_in(said) == version


def test_what_is_not_there_is_unknown() -> None:
    assert said_by(("no-such-program-of-any-kind", "--version")) == ""
    assert said_by(("false",)) == ""
    assert package_version("no-such-package-of-any-kind") == UNKNOWN


def test_all_versions_are_named() -> None:
    found = versions()
    named = ("perf", "bpftrace", "bcc", "libbpf-tools", "py-spy", "python", "numpy", "mariadb", "redis", "sysbench")
    assert all(found[name] for name in named)
    assert (found["python"], found["numpy"]) == (platform.python_version(), np.__version__)


def test_the_machine_is_described() -> None:
    found = machine()
    assert platform.release() in found["kernel"]
    assert all(found.values())


def test_a_folder_without_commits_has_none(tmp_path: Path) -> None:
    assert commit(tmp_path) == UNKNOWN
