"""The wheel holds exactly our four packages, whole, and nothing of the tests."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import REPO

PACKAGES = {"lockflame", "sampler", "symbolize", "flame"}
SHIPPED = {".py", ".pyi", ".typed", ".proto", ".css", ".js", ".svg", ".toml", ".c", ".h"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(REPO)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("lockflame-*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_holds_exactly_the_four_packages(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES


def test_every_file_of_a_package_is_in_it(wheel: zipfile.ZipFile) -> None:
    sources = {
        str(path.relative_to(REPO))
        for package in PACKAGES
        for path in (REPO / package).rglob("*")
        if path.suffix in SHIPPED or path.name == "py.typed"
    }
    assert sources <= set(wheel.namelist())


def test_metadata_names_the_command_and_the_license(wheel: zipfile.ZipFile) -> None:
    folder = next(name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
    metadata = wheel.read(f"{folder}/METADATA").decode()
    assert "Name: lockflame\n" in metadata
    assert "License-Expression: Apache-2.0\n" in metadata
    assert "lockflame = lockflame.__main__:main" in wheel.read(f"{folder}/entry_points.txt").decode()
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    assert not [name for name in wheel.namelist() if Path(name).suffix in {".so", ".pyc"}]
