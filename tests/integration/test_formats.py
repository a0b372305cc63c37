"""Files of other tools in and out: opened by those tools, and made by them."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import pty
import re
import resource
import subprocess
from pathlib import Path

import pytest

from lockflame.formats import read_profile
from lockflame.pprof import encode
from lockflame.profile import CPU, DELAY, SAMPLES, SampleType
from tests.support.browser import chromium, opened
from tests.support.cli import CliResult, lockflame_command, run_lockflame
from tests.support.needs import CannotTest, find_program
from tests.support.paths import BUILD
from tests.support.recording import function_names, weight_of
from tests.support.targets import build_target
from tests.unit.flame.lock_profiles import small_profile

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

SPEEDSCOPE = BUILD / "speedscope" / "index.html"
GO_LOOP = "main.hold"
MEMORY_MOST = 2 << 30


def needed(program: str) -> Path:
    try:
        return find_program(program)
    except CannotTest as missing:
        pytest.skip(str(missing))


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A profile with locks, as a file."""
    path = tmp_path / "p.pb.gz"
    path.write_bytes(encode(small_profile()))
    return path


def lines_of_pprof(*arguments: str | Path) -> str:
    command = [needed("go"), "tool", "pprof", "-symbolize=none", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout


def nanoseconds(text: str) -> float:
    """What pprof means by `1.50s`."""
    number, unit = re.fullmatch(r"([\d.]+)(ns|us|ms|s|mins)?", text).groups()  # type: ignore[union-attr]
    return float(number) * {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9, "mins": 60e9, None: 1}[unit]


def cumulative(top: str) -> dict[str, float]:
    """The `cum` column of `pprof -top` by function, in nanoseconds."""
    rows = [line.split(None, 5) for line in top.splitlines() if re.match(r"\s+[\d.]+\w* +[\d.]+%", line)]
    return {row[5].removesuffix(" (inline)"): nanoseconds(row[3]) for row in rows}


@pytest.mark.parametrize("kind", [CPU, DELAY], ids=lambda kind: kind.name)
def test_go_tool_pprof_has_the_same_sums(recorded: Path, kind: SampleType) -> None:
    profile = small_profile()
    top = cumulative(lines_of_pprof("-top", f"-sample_index={kind.name}", "-nodecount=100", recorded))
    assert len(top) > 3
    for function, value in top.items():
        assert value == pytest.approx(weight_of(profile, function, kind), rel=0.01), function


def test_go_tool_pprof_shows_labels_and_callers(recorded: Path) -> None:
    tags = lines_of_pprof("-tags", "-sample_index=delay", recorded)
    for lock in small_profile().locks:
        assert lock.name in tags
    assert "thread:" in tags
    peek = lines_of_pprof("-peek", "^pthread_mutex_lock$", "-sample_index=delay", recorded)
    assert "__lll_lock_wait" in peek


@pytest.fixture(scope="module")
def gos_profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a mutex and a block profile that Go has written."""
    folder = tmp_path_factory.mktemp("go")
    environment = {"GOCACHE": str(folder / "cache"), "PATH": "/usr/bin:/bin", "HOME": str(folder), "GO111MODULE": "off"}
    source = Path(__file__).parents[1] / "targets" / "mutex_profile.go"
    subprocess.run([needed("go"), "build", "-o", folder / "target", source], check=True, env=environment, timeout=300)
    subprocess.run([folder / "target", folder], check=True, timeout=60)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("name", "leaf"), [("mutex", "sync.(*Mutex).Unlock"), ("block", "sync.(*Mutex).Lock")])
def test_gos_profiles_of_waits_are_read(gos_profiles: Path, tmp_path: Path, name: str, leaf: str) -> None:
    path = gos_profiles / f"{name}.pprof"
    top = cumulative(lines_of_pprof("-top", path))
    profile = read_profile(str(path))
    assert profile.sample_types[0] == DELAY
    assert top[GO_LOOP] == pytest.approx(weight_of(profile, GO_LOOP, DELAY), rel=0.01)
    assert top[leaf] == pytest.approx(weight_of(profile, leaf, DELAY), rel=0.01)
    table = run_lockflame("locks", path, "--json")
    assert table.status == 0, table.stderr
    row = next(row for row in json.loads(table.stdout) if row["site"] == leaf)
    assert (row["caller"], row["total_ns"]) == (GO_LOOP, weight_of(profile, leaf, DELAY))
    (tmp_path / "raw").write_bytes(gzip.decompress(path.read_bytes()))
    assert run_lockflame("flame", tmp_path / "raw", "-o", tmp_path / "p.svg").status == 0


def test_speedscope_shows_the_functions_and_the_total(recorded: Path, tmp_path: Path) -> None:
    if not SPEEDSCOPE.exists():
        pytest.skip("speedscope is not in build/: make setup fetches it from npm")
    output = tmp_path / "p.speedscope.json"
    assert run_lockflame("flame", recorded, "-o", output).status == 0
    content = base64.b64encode(output.read_bytes()).decode()
    # As its own command line hands over a file.
    loader = tmp_path / "loader.js"
    loader.write_text(f"speedscope.loadFileFromBase64('p.speedscope.json', '{content}')")
    try:
        with chromium() as browser, opened(browser, SPEEDSCOPE, f"#localProfilePath={loader}") as page:
            page.page.get_by_text("Sandwich").click()
            page.page.get_by_text("Symbol Name").wait_for()
            shown = page.run("document.body.innerText")
    except CannotTest as missing:
        pytest.skip(str(missing))
    profile = small_profile()
    assert "CPU time (1/" in shown
    found = re.findall(r"([\d.]+m?s) \((\d+(?:\.\d+)?)%\)\s+\S+ \([^)]*%\)\s+(.+)", shown)
    names = function_names(profile)
    assert len(found) > 3
    for value, share, name in found:
        assert name in names
        assert nanoseconds(value) == pytest.approx(weight_of(profile, name), rel=0.01)
        assert float(share) == pytest.approx(100 * weight_of(profile, name) / profile.total(CPU), abs=1)


@pytest.mark.slow
def test_perf_data_and_perf_script_give_the_same(tmp_path: Path) -> None:
    perf, target = needed("perf"), build_target("split_70_30.c")
    data, text = tmp_path / "perf.data", tmp_path / "perf.txt"
    command = [perf, "record", "-q", "-e", "cpu-clock", "-F", "499", "-g", "-o", data, "timeout", "2", target]
    subprocess.run(command, check=False, capture_output=True, timeout=60)
    if not data.exists():
        pytest.skip("perf may not record here")
    script = subprocess.run([perf, "script", "-i", data], capture_output=True, check=True, timeout=120)
    text.write_bytes(script.stdout)
    first, second = read_profile(str(data)), read_profile(str(text))
    assert first.total(CPU) == second.total(CPU) == first.total(SAMPLES) * (10**9 // 499)
    share = weight_of(first, "work_seventy") / (weight_of(first, "work_seventy") + weight_of(first, "work_thirty"))
    assert share == pytest.approx(0.7, abs=0.08)
    assert weight_of(first, "work_seventy") == weight_of(second, "work_seventy")
    # Without its call chains each sample is a line.
    flat = subprocess.run([perf, "script", "-G", "-i", data], capture_output=True, check=True, timeout=120)
    text.write_bytes(flat.stdout)
    third = read_profile(str(text))
    assert third.total(CPU) == first.total(CPU)
    assert function_names(third) >= {"work_seventy", "work_thirty"}
    assert run_lockflame("locks", data).status == 0
    assert run_lockflame("locks", data, env={"PATH": str(tmp_path)}).stderr.count("Install perf") == 1


def test_merge_adds_up_and_says_what_it_wrote(recorded: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.pb.gz"
    (tmp_path / "x.folded").write_text("main;extra 7\n")
    result = run_lockflame("merge", recorded, recorded, tmp_path / "x.folded", "-o", output)
    assert (result.status, result.stdout) == (0, "")
    assert "merged 3 profiles" in result.stderr
    both, one = read_profile(str(output)), small_profile()
    assert both.total(CPU) == 2 * one.total(CPU)
    assert both.total(SAMPLES) == 2 * one.total(SAMPLES) + 7
    assert [lock.total_ns for lock in both.locks] == [2 * lock.total_ns for lock in one.locks]


def in_terminal(*command: str | Path, env: dict[str, str]) -> tuple[int, str]:
    """The exit status of a command in a terminal of its own, and all that it shows there."""
    outside, inside = pty.openpty()
    with subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside, env=os.environ | env) as process:
        os.close(inside)
        shown = b""
        # The last process to close a terminal makes reads of it fail.
        with open(outside, "rb", buffering=0) as terminal, contextlib.suppress(OSError):
            while piece := terminal.read(1 << 16):
                shown += piece
        return process.wait(timeout=60), shown.decode()


def test_view_hands_lock_paths_to_flameshow_or_says_how_to_install_it(recorded: Path, tmp_path: Path) -> None:
    missing = run_lockflame("view", recorded, env={"PATH": str(tmp_path)})
    assert missing.status == 1
    assert missing.stderr.count("\n") == 1
    assert "pipx install flameshow" in missing.stderr
    stand_in = tmp_path / "flameshow"
    stand_in.write_text('#!/bin/sh\nexec cat "$1"\n')
    stand_in.chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert "no terminal" in run_lockflame("view", recorded, env=path).stderr
    status, shown = in_terminal(*lockflame_command("view", recorded), env=path)
    assert status == 0, shown
    names = {frame["name"] for frame in json.loads(shown)["shared"]["frames"]}
    assert any(name.startswith("[") and name.endswith(" by]") for name in names)


def bounded(*arguments: str | Path) -> CliResult:
    """`lockflame` in bounded memory."""
    process = subprocess.run(
        lockflame_command(*arguments),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MOST, MEMORY_MOST)),
    )
    return CliResult(process.returncode, process.stdout, process.stderr)


@pytest.mark.slow
def test_bombs_are_refused_in_one_line_and_bounded_memory(tmp_path: Path) -> None:
    zeros = gzip.compress(bytes(1 << 20), 9)
    parts = gzip.compress(b"\x12\x00" * (1 << 19), 9)
    for name, content in (("zeros", zeros * 600), ("parts", gzip.compress(b"\x0a\x00") + parts * 10)):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("zeros", "parts", "endless"):
        result = bounded("locks", tmp_path / name)
        assert result.status == 1, result.stderr
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith("lockflame: error: cannot read")
