from __future__ import annotations

import os
import stat
from pathlib import Path

import click
import pytest

from lockflame.cli.output import Output, OutputType, check_writable, write_file
from lockflame.errors import LockflameError


def test_a_file_appears_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.svg"
    before = os.umask(0)
    try:
        write_file(str(path), b"content")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_and_not_written_over(tmp_path: Path) -> None:
    path, other_name = tmp_path / "x.svg", tmp_path / "same"
    path.write_bytes(b"before")
    path.chmod(0o644)
    os.link(path, other_name)
    write_file(str(path), b"after")
    assert (path.read_bytes(), other_name.read_bytes()) == (b"after", b"before")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "folder" / "target.svg", tmp_path / "link.svg"
    target.parent.mkdir()
    target.write_bytes(b"before")
    link.symlink_to(target)
    write_file(str(link), b"after")
    assert link.is_symlink()
    assert target.read_bytes() == b"after"
    assert list(target.parent.iterdir()) == [target]


def test_a_link_to_nothing_makes_its_target(tmp_path: Path) -> None:
    link = tmp_path / "link.svg"
    link.symlink_to("target.svg")
    write_file(str(link), b"content")
    assert (tmp_path / "target.svg").read_bytes() == b"content"


def test_a_device_is_written_to_and_stays_one() -> None:
    check_writable("/dev/null")
    write_file("/dev/null", b"content")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_pipe_gets_the_content(tmp_path: Path) -> None:
    fifo = tmp_path / "x.svg"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_file(str(fifo), b"content")
        assert os.read(reader, 100) == b"content"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def refused_paths(folder: Path) -> list[Path]:
    (folder / "directory.svg").mkdir()
    (folder / "file").write_bytes(b"")
    (folder / "loop.svg").symlink_to(folder / "loop.svg")
    return [
        folder / "missing" / "x.svg",
        folder / "directory.svg",
        folder / "file" / "x.svg",
        folder / "loop.svg",
        folder / f"{'x' * 300}.svg",
    ]


@pytest.mark.parametrize("number", range(5))
def test_what_cannot_be_written_is_one_error_and_leaves_nothing(tmp_path: Path, number: int) -> None:
    path = refused_paths(tmp_path)[number]
    before = sorted(tmp_path.rglob("*"))
    for attempt in (lambda: check_writable(str(path)), lambda: write_file(str(path), b"content")):
        with pytest.raises(LockflameError, match="cannot write"):
            attempt()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_device_is_one_error() -> None:
    with pytest.raises(LockflameError, match="No space left"):
        write_file("/dev/full", b"content")


def test_checking_leaves_nothing_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.svg"
    check_writable(str(path))
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"before")
    check_writable(str(path))
    assert path.read_bytes() == b"before"


def test_a_path_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_writable("x.svg")
    write_file("x.svg", b"content")
    assert (tmp_path / "x.svg").read_bytes() == b"content"


@pytest.mark.parametrize(("path", "suffix"), [("a.pb.gz", ".pb.gz"), ("a.b.svg", ".svg"), ("x/.folded", ".folded")])
def test_the_suffix_tells_the_format(path: str, suffix: str) -> None:
    assert OutputType().convert(path, None, None) == Output(path, suffix)


@pytest.mark.parametrize("path", ["a.txt", "a.gz", "svg", "", "a.svg/"])
def test_another_suffix_is_wrong_usage(path: str) -> None:
    with pytest.raises(click.UsageError, match="suffixes"):
        OutputType().convert(path, None, None)
