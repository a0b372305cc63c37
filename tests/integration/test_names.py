"""Functions are named as the target's own sources and counts say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lockflame.profile import CPU, FrameKind, Profile
from tests.support.needs import CannotTest, find_program
from tests.support.paths import TARGETS
from tests.support.process import running
from tests.support.recording import (
    function_names,
    kinds_of,
    lockflame_session,
    record,
    recorded,
    weight_of,
    weight_where,
)
from tests.support.targets import build_dlopen_reuse, build_target

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

TRAMPOLINES_SINCE = (3, 12)
PYTHONS = [f"python3.{minor}" for minor in range(16, TRAMPOLINES_SINCE[1] - 1, -1)]
TRAMPOLINE_PROBE = "import sys; print(sys.is_stack_trampoline_active())"
MARKS_OF_OUR_MAPS = (b"hot_loop<jit>", b"py_work.py", b"<module>:<string>")
UNNAMED = re.compile(r"\[?cpp_names\+0x[0-9a-f]+\]?")
CPP_NAMES = (
    "shop::Basket<int, 3>::operator<(shop::Basket<int, 3> const&) const",
    "void shop::Basket<int, 3>::exchange<char*>(shop::Basket<char*, 3>&&)",
)


@pytest.fixture
def perf_maps_removed() -> Iterator[None]:
    """Removes the perf maps that the test's own targets leave in /tmp: others may be at work there."""
    before = set(Path("/tmp").glob("perf-*.map"))
    yield
    for path in set(Path("/tmp").glob("perf-*.map")) - before:
        if any(mark in path.read_bytes() for mark in MARKS_OF_OUR_MAPS):
            path.unlink()


@pytest.fixture
def python_with_trampolines(perf_maps_removed: None) -> str:
    """An interpreter that names its functions for perf."""
    candidates = [*PYTHONS, *map(str, Path.home().glob(".pyenv/versions/3.*/bin/python3"))]
    for candidate in candidates:
        try:
            done = subprocess.run(
                [candidate, "-X", "perf", "-c", TRAMPOLINE_PROBE], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            continue
        if done.stdout.strip() == "True":
            return candidate
    raise CannotTest("no Python here offers -X perf (3.12 or newer does, on x86-64)")


def text_of(svg: Path) -> str:
    return "".join(ElementTree.parse(svg).getroot().itertext())


@pytest.mark.parametrize("flags", [("-O2", "-g"), ("-O2", "-s", "-rdynamic")], ids=["symtab", "dynsym-only"])
def test_cpp_names_that_xml_gives_a_meaning_to(tmp_path: Path, flags: tuple[str, ...]) -> None:
    svg = tmp_path / "p.svg"
    program = build_target("cpp_names.cpp", flags=flags)
    profile = record(tmp_path / "p.pb.gz", "-o", svg, "-F", 999, "--", program, "--seconds", 1).profile
    text = text_of(svg)
    for name in CPP_NAMES:
        assert weight_of(profile, name) > 0.2 * profile.total(CPU)
        assert name in text
    assert sum(weight_of(profile, name) for name in CPP_NAMES) > 0.9 * profile.total(CPU)
    linkage_names = {function.linkage_name for function in profile.functions}
    assert "_ZNK4shop6BasketIiLi3EEltERKS1_" in linkage_names


def test_unnamed_functions_keep_module_and_offset(tmp_path: Path) -> None:
    program = build_target("cpp_names.cpp", flags=("-O2", "-s"))
    profile = record(tmp_path / "p.pb.gz", "-F", 999, "--", program, "--seconds", 1).profile
    unnamed = weight_where(profile, lambda stack: UNNAMED.fullmatch(stack[0]) is not None)
    assert unnamed > 0.9 * profile.total(CPU)
    assert profile.recording.unresolved > 0.9 * profile.recording.samples


@pytest.mark.parametrize("how", ["attached", "command"])
@pytest.mark.usefixtures("perf_maps_removed")
def test_a_jit_is_named_by_its_perf_map(tmp_path: Path, how: str) -> None:
    output, svg = tmp_path / "p.pb.gz", tmp_path / "p.svg"
    program = build_target("jit_loop.c")
    if how == "command":
        result = record(output, "-o", svg, "-F", 999, "--", program, "--seconds", 2)
    else:
        with running([program]) as target:
            result = record(output, "-o", svg, "-p", target.pid, "-d", 2, "-F", 999)
    name = "hot_loop<jit> & co"
    profile = result.profile
    assert weight_where(profile, lambda stack: stack[0] == name) > 0.7 * profile.total(CPU)
    assert weight_where(profile, lambda stack: stack[:2] == [name, "call_jit"]) > 0.7 * profile.total(CPU)
    assert kinds_of(profile, name) == {FrameKind.JIT}
    assert name in text_of(svg)
    assert any("3 lines of perf maps" in note for note in profile.recording.notes)
    assert "3 lines of perf maps" in result.stderr


def weight_of_python(profile: Profile, function: str) -> int:
    return weight_where(profile, lambda stack: any(name.startswith(f"py::{function}:") for name in stack))


def test_python_functions_are_named(tmp_path: Path, python_with_trampolines: str) -> None:
    command = [python_with_trampolines, "-X", "perf", str(TARGETS / "py_work.py"), "3"]
    result = record(tmp_path / "p.pb.gz", "-F", 999, "--", *command)
    assert json.loads(result.stdout.splitlines()[-1])["perf"] is True
    assert weight_of_python(result.profile, "py_spin") > 0.8 * result.profile.total(CPU)
    named = next(name for name in function_names(result.profile) if name.startswith("py::py_spin:"))
    assert kinds_of(result.profile, named) == {FrameKind.JIT}


def test_python_callers_are_found(tmp_path: Path, python_with_trampolines: str) -> None:
    command = [python_with_trampolines, "-X", "perf", str(TARGETS / "py_work.py"), "2"]
    result = record(tmp_path / "p.pb.gz", "-F", 999, "--", *command)
    truth = json.loads(result.stdout.splitlines()[-1])
    parse, render = (weight_of_python(result.profile, name) for name in ("py_parse", "py_render"))
    true_share = truth["py_parse"] / (truth["py_parse"] + truth["py_render"])
    assert parse + render > 0.8 * result.profile.total(CPU)
    assert parse / (parse + render) == pytest.approx(true_share, abs=0.05)
    assert weight_of_python(result.profile, "py_serve") == pytest.approx(parse + render, rel=0.05)


@pytest.mark.parametrize("how", ["attached", "command"])
def test_two_libraries_at_one_address(tmp_path: Path, how: str) -> None:
    output = tmp_path / "p.pb.gz"
    command = [*build_dlopen_reuse(), "--turn-ms", "30"]
    if how == "command":
        result = record(output, "-F", 999, "--", *command, "--seconds", 3)
        profile, truth = result.profile, json.loads(result.stdout.splitlines()[-1])
    else:
        with (
            running(command) as target,
            lockflame_session("record", "-p", target.pid, "-d", 60, "-F", 999, "-o", output) as session,
        ):
            session.wait_until_recording()
            time.sleep(3)
            truth = target.stop()
            profile = recorded(session.finish(), output).profile
    if not truth["reused_address"]:
        pytest.skip("the loader gave no address out twice")
    first, second = weight_of(profile, "first_leaf"), weight_of(profile, "second_leaf")
    true_share = truth["first_cpu_ns"] / (truth["first_cpu_ns"] + truth["second_cpu_ns"])
    assert first / (first + second) == pytest.approx(true_share, abs=0.05)
    assert first + second > 0.9 * profile.total(CPU)
    assert weight_where(profile, lambda stack: {"first_leaf", "second_leaf"} <= set(stack)) == 0
    assert weight_of(profile, "call_library") > 0.9 * profile.total(CPU)


def test_a_program_that_is_deleted_while_it_runs(tmp_path: Path) -> None:
    program = tmp_path / "split_70_30"
    program.write_bytes(build_target("split_70_30.c").read_bytes())
    program.chmod(0o755)
    with running([program]) as target:
        program.unlink()
        profile = record(tmp_path / "p.pb.gz", "-p", target.pid, "-d", 1, "-F", 999).profile
    assert weight_of(profile, "work_seventy") > 0.5 * profile.total(CPU)


def test_the_kernel_and_the_vdso_are_named(tmp_path: Path) -> None:
    """The targets ask the thread clock again and again: a call of the vdso that ends in the kernel."""
    if os.geteuid():
        pytest.skip("kernel frames and their names need root")
    command = [build_target("fork_storm.c"), "--rate", "300", "--seconds", "2", "--burn-us", "100"]
    profile = record(tmp_path / "p.pb.gz", "-F", 4999, "--", *command).profile
    kernel = {location for location in profile.locations if location.kind == FrameKind.KERNEL}
    assert kernel
    assert sum(bool(location.unresolved_reason) for location in kernel) < 0.02 * len(kernel)
    assert any("clock_gettime" in name for name in function_names(profile))


def test_stripped_program_is_listed(tmp_path: Path) -> None:
    """The mapping of an unnamed function says which file it is, by its build-id too."""
    program = build_target("cpp_names.cpp", flags=("-O2", "-s", "-Wl,--build-id"))
    notes = subprocess.run([find_program("readelf"), "-n", program], capture_output=True, text=True, check=True).stdout
    profile = record(tmp_path / "p.pb.gz", "-F", 999, "--", program, "--seconds", 0.5).profile
    mapping = next(mapping for mapping in profile.mappings if mapping.path == str(program))
    assert mapping.build_id
    assert mapping.build_id in notes
