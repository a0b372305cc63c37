from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lockflame.errors import LockflameError
from sampler.bpf.compile import whole
from sampler.trace import filters
from sampler.trace.filters import Filters, checked


def refused(pids: tuple[int, ...] = (), comm: str | None = None, cgroup: str | None = None) -> str:
    with pytest.raises(LockflameError) as raised:
        checked(pids, comm, cgroup, "cannot trace")
    return str(raised.value)


def test_of_a_name_as_much_counts_as_the_kernel_keeps() -> None:
    assert checked((), "0123456789abcdefgh", None, "cannot").comm == "0123456789abcde"
    # A name that is cut within a character is cut by the kernel too.
    assert os.fsencode(checked((), "0123456789abcd\u00e4", None, "cannot").comm or "") == b"0123456789abcd\xc3"


def test_processes_are_taken_once_each() -> None:
    pid = os.getpid()
    found = checked((pid, 1, pid), None, None, "cannot")
    assert found.pids == (pid, 1)
    assert found.described() == f"processes {pid}, 1 and children"
    assert Filters().described() == "all processes"
    assert not Filters().are_any


def test_what_is_no_process_is_refused() -> None:
    assert "There is no such process" in refused((2**31 - 2,))
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert "it has ended" in refused((child.pid,)).lower()
    child.wait()


def test_a_cgroup_may_be_given_by_its_path_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "system.slice/a.service").mkdir(parents=True)
    monkeypatch.setattr(filters, "_cgroup2_mounts", lambda: [str(tmp_path)])
    inner = str(tmp_path / "system.slice/a.service")
    for path in (inner, "/system.slice/a.service", "system.slice/a.service/"):
        assert checked((), None, path, "cannot").cgroup == inner
    assert "There is no such folder" in refused(cgroup="/system.slice/b.service")
    assert "There is no such folder" in refused(cgroup="/proc")


def test_without_cgroups_of_version_2_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "_cgroup2_mounts", list[str])
    assert "no cgroup2 file system is mounted" in refused(cgroup="/x").lower()


def test_headers_of_ours_are_put_in_place_once_each() -> None:
    source = '#include "filter.bpf.h"\nint a;\n#include "filter.bpf.h"\n#include <other.h>\n#include "../x.bpf.h"\n'
    text = whole(source, set())
    assert text.count("BPF_ARRAY(filters, struct filter, 1);") == 1
    assert text.endswith('int a;\n\n#include <other.h>\n#include "../x.bpf.h"\n')
