from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from lockflame.cache_folder import user_cache
from lockflame.errors import LockflameError
from sampler.bpf import compile as bpf_compile
from sampler.bpf import program
from sampler.bpf.compile import header_flags, kernel_headers
from sampler.bpf.tracefs import TraceFs

FOLDER = Path(program.__file__).parent
CONTENT = json.dumps(
    {"maps": {"counts": [2, 4, 8, 1, 0]}, "programs": {"on_event": {"code": "twAAAAAAAAA=", "maps": [[0, "counts"]]}}}
).encode()


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root folder in which the kernel's headers are looked for."""

    def below(*parts: str) -> Path:
        path = Path(*parts)
        return tmp_path / path.relative_to("/") if path.is_absolute() else path

    monkeypatch.setattr(bpf_compile, "Path", below)
    return tmp_path


def put(folder: Path, *files: str) -> None:
    """Makes empty files below a folder."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


GENERATED, COMMON = "include/generated/autoconf.h", "include/linux/kconfig.h"


def test_no_headers(system: Path) -> None:
    assert kernel_headers() is None
    put(system / "usr/src/linux-headers-6.1.0-1-amd64", GENERATED)  # without the folder that has the rest
    assert kernel_headers() is None


def test_headers_of_the_running_kernel_come_first(system: Path) -> None:
    build = system / "lib/modules" / platform.release() / "build"
    put(build, GENERATED, COMMON)
    put(system / "usr/src/linux-headers-99.1", GENERATED, COMMON)
    assert kernel_headers() == (build, build)
    assert header_flags(build, build) == []


def test_split_headers_of_the_newest_version(system: Path) -> None:
    """By number: 6.10 is newer than 6.9."""
    for version in ("6.9.0-1", "6.10.0-2", "6.1.0-40"):
        put(system / f"usr/src/linux-headers-{version}-amd64", GENERATED)
        put(system / f"usr/src/linux-headers-{version}-common", COMMON)
    build, common = (system / f"usr/src/linux-headers-6.10.0-2-{kind}" for kind in ("amd64", "common"))
    assert kernel_headers() == (build, common)
    assert f"-I{build}/include" in header_flags(build, common)


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Instead of BCC: notes what it is asked for."""
    calls: list[str] = []

    def compile_(source: Path, flags: list[str], what: str) -> bytes:
        calls.append(" ".join([source.name, *flags]))
        return CONTENT

    monkeypatch.setattr(program, "_compile", compile_)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return calls


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file that could be compiled."""
    path = tmp_path / "source.c"
    path.write_text("int on_event(void *ctx) { return 1; }")
    return path


def test_a_source_is_compiled_once(compiler: list[str], source: Path) -> None:
    first = program.compiled(source, {"B": 2, "A": 1}, "cannot test")
    assert program.compiled(source, {"A": 1, "B": 2}, "cannot test") == first
    assert compiler == [f"source.c -I{FOLDER} -DA=1 -DB=2"]
    assert first.maps == {"counts": (2, 4, 8, 1, 0)}
    assert first.programs["on_event"].maps == ((0, "counts"),)


def test_other_macros_or_another_source_are_compiled(compiler: list[str], source: Path) -> None:
    program.compiled(source, {"A": 1}, "cannot test")
    program.compiled(source, {"A": 2}, "cannot test")
    source.write_text(source.read_text() + "\n")
    program.compiled(source, {"A": 1}, "cannot test")
    assert len(compiler) == 3


def cut(content: bytes) -> bytes:
    return content[:-1]


def changed(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def empty(_: bytes) -> bytes:
    return b""


def foreign(_: bytes) -> bytes:
    return os.urandom(100)


@pytest.mark.parametrize("damage", [cut, changed, empty, foreign])
def test_a_damaged_file_is_compiled_again(compiler: list[str], source: Path, damage: Callable[[bytes], bytes]) -> None:
    program.compiled(source, {}, "cannot test")
    (file,) = user_cache("bpf").iterdir()
    assert file.read_bytes() == hashlib.sha256(CONTENT).digest() + CONTENT
    file.write_bytes(damage(file.read_bytes()))
    program.compiled(source, {}, "cannot test")
    assert len(compiler) == 2
    assert file.read_bytes()[32:] == CONTENT


def test_a_cache_that_cannot_be_written_changes_nothing(
    compiler: list[str], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert program.compiled(source, {}, "cannot test").programs.keys() == {"on_event"}
    assert len(compiler) == 1


def test_a_folder_without_bcc_in_it_is_no_bcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    (tmp_path / "bcc").mkdir()
    monkeypatch.setattr(bpf_compile, "BCC_FOLDERS", (tmp_path,))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(LockflameError, match="BCC is not installed"):
        program.compiled(source, {}, "cannot test")


FORMAT = b"""name: task_newtask
ID: 118
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:pid_t pid;\toffset:8;\tsize:4;\tsigned:1;
\tfield:char comm[16];\toffset:12;\tsize:16;\tsigned:0;
\tfield:__data_loc char[] filename;\toffset:28;\tsize:4;\tsigned:0;
\tfield:unsigned long clone_flags;\toffset:32;\tsize:8;\tsigned:0;

print fmt: "pid=%d comm=%s", REC->pid, REC->comm
"""


@pytest.fixture
def tracefs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for tracefs."""
    (tmp_path / "events").mkdir()
    monkeypatch.setattr("sampler.bpf.tracefs.MOUNTED", (tmp_path,))
    return tmp_path


def test_the_format_of_a_tracepoint(tracefs: Path) -> None:
    folder = tracefs / "events/task/task_newtask"
    folder.mkdir(parents=True)
    (folder / "format").write_bytes(FORMAT)
    (folder / "id").write_bytes(b"118\n")
    with TraceFs() as opened:
        found = opened.tracepoint("task:task_newtask")
        assert opened.tracepoint("task:none") is None
        assert opened.has("events/task")
        assert not opened.has("kprobe_events")
    assert found is not None
    assert found.number == 118
    assert found.fields["pid"] == (8, 4)
    assert found.fields["comm"] == (12, 16)
    assert found.fields["filename"] == (28, 4)
    assert found.fields["clone_flags"] == (32, 8)
