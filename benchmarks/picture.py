"""How long a picture takes to render and to zoom, and how large it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.loads import mariadb
from benchmarks.registry import Figure, Report, Settings, benchmark
from benchmarks.tools import ToolFailed
from flame.folded import folded_lines
from flame.svg import render_svg
from lockflame.profile import (
    CPU,
    SAMPLES,
    FrameKind,
    Function,
    Line,
    Location,
    Profile,
    RecordingInfo,
    Stacks,
    Thread,
    samples_of_no_lock,
)
from tests.support.browser import chromium, opened
from tests.support.paths import REPO
from tests.support.recording import record

STACKS = 100_000
DEPTH = 20
FUNCTIONS = 3000
ZOOM_FRAMES = 10_000
ZOOM_ROW = 500
RECORD_SECONDS = 30
NS_PER_SAMPLE = 10_101_010

RENDER_SECONDS_MOST = 2.0
RENDER_MB_MOST = 300.0
SVG_KB_MOST = 1000.0
ZOOM_MS_MOST = 50.0

# Each in a process of its own, which tells the CPU seconds of the rendering and its peak memory in MB: VmHWM, as
# ru_maxrss begins with that of the process that forked.
PEAK = """
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
print(json.dumps([seconds, peak]))
"""
RENDER = f"""
import json, sys, time
from benchmarks.picture import large_profile
profile = large_profile()
start = time.process_time()
from flame.svg import render_svg
svg = render_svg(profile)
seconds = time.process_time() - start
open(sys.argv[1], "w").write(svg)
{PEAK}"""
INFERNO = f"""
import json, sys, time
import pyinferno
start = time.process_time()
svg = pyinferno.flamegraph_from_lines(open(sys.argv[1]).read().splitlines())
open(sys.argv[2], "w").write(svg)
seconds = time.process_time() - start
{PEAK}"""
ZOOM = """async () => {
  const cursor = () => document.querySelector('.cursor');
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const pause = () => new Promise((done) => setTimeout(done, 500));
  const press = async (key) => {
    const start = performance.now();
    cursor().dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    document.querySelector('.layer').getBBox();
    const handled = performance.now() - start;
    await frame();
    return [handled, performance.now() - start];
  };
  const zooms = [];
  for (let round = 0; round < 6; round++) {
    await press('ArrowUp');
    await pause();
    const zoomed = await press('Enter');
    await pause();
    const back = await press('Escape');
    await pause();
    zooms.push([...zoomed, ...back]);
  }
  return [document.querySelectorAll('.layer path').length, zooms];
}"""


@benchmark("picture")
def picture(settings: Settings) -> Report:
    """Rendering beside inferno (or flamegraph.pl where it is on the PATH), size on MariaDB, zoom in Chromium."""
    with tempfile.TemporaryDirectory(prefix="lf-bench-") as name:
        folder = Path(name)
        folded = folder / "large.folded"
        folded.write_text("".join(f"{line}\n" for line in folded_lines(large_profile())), encoding="utf-8")
        ours = [_measured([sys.executable, "-c", RENDER, str(folder / "ours.svg")]) for _ in range(settings.rounds)]
        peer_name, command = _peer(folded, folder / "peer.svg")
        peer = [_measured(command) for _ in range(settings.rounds)] if command else []
        kilobytes, remark = _size_of_mariadb(folder, RECORD_SECONDS if settings.rounds > 2 else settings.seconds)
        into, back, next_frame = _zoom_times(folder)
    figures = [
        Figure("render, CPU time", "s", [it[0] for it in ours], [it[0] for it in peer], RENDER_SECONDS_MOST),
        Figure("render, peak memory", "MB", [it[1] for it in ours], [it[1] for it in peer], RENDER_MB_MOST),
        Figure("SVG of MariaDB", "kB", [kilobytes], (), SVG_KB_MOST),
        Figure("zoom in, handler with layout", "ms", into, (), ZOOM_MS_MOST),
        Figure("zoom out, handler with layout", "ms", back, (), ZOOM_MS_MOST),
        Figure("zoom out, to the next frame", "ms", next_frame),
    ]
    title = f"{STACKS:,} stacks of {DEPTH} frames to SVG; zoom among {ZOOM_FRAMES:,} drawn frames"
    return Report(title, peer_name, figures, [remark, "inferno: pip install pyinferno"] if not command else [remark])


def large_profile() -> Profile:
    """Distinct stacks that share their callers as a program's do: ever more functions from the root on."""
    random = np.random.default_rng(1)
    functions = tuple(Function(f"space{i % 50}::Class{i % 170}::call_{i}(int)", f"f{i}") for i in range(FUNCTIONS))
    columns: list[np.ndarray] = []
    for level in range(DEPTH - 2):
        reach = min(FUNCTIONS, 1 + int(1.9**level))
        columns.append(((random.random(STACKS) ** 3 * reach).astype(np.int64) * 7919 + level * 31) % FUNCTIONS)
    index = np.arange(STACKS)
    stacks = np.stack([index % FUNCTIONS, index // FUNCTIONS, *reversed(columns)], axis=1).astype(np.int32)
    counts = random.integers(1, 20, STACKS)
    return _profile(functions, stacks, counts)


def wide_profile() -> Profile:
    """A profile of which so many frames are drawn: rows of equal frames, each the caller of one."""
    rows = ZOOM_FRAMES // ZOOM_ROW
    functions = tuple(Function(f"call_{index}", "") for index in range(ZOOM_ROW * 2))
    level, column = np.arange(rows)[::-1], np.arange(ZOOM_ROW)[:, None]
    stacks = ((column * 7 + level * 3) % len(functions)).astype(np.int32)
    stacks[:, -1] = column[:, 0]
    return _profile(functions, stacks, np.ones(ZOOM_ROW, np.int64))


def _profile(functions: tuple[Function, ...], stacks: np.ndarray, counts: np.ndarray) -> Profile:
    """Of stacks of equal depth, leaf first, as rows of functions."""
    locations = tuple(
        Location(index, -1, (Line(index),), FrameKind.KERNEL if index % 9 == 0 else FrameKind.USER)
        for index in range(len(functions))
    )
    return Profile(
        sample_types=(SAMPLES, CPU),
        mappings=(),
        functions=functions,
        locations=locations,
        threads=(Thread(1, 1, "main"),),
        stacks=Stacks(np.arange(len(stacks) + 1, dtype=np.int64) * stacks.shape[1], stacks.reshape(-1)),
        samples=samples_of_no_lock(
            stack=np.arange(len(stacks), dtype=np.int32),
            thread=np.zeros(len(stacks), np.int32),
            values=np.stack((counts, counts * NS_PER_SAMPLE), axis=1),
        ),
        recording=RecordingInfo(samples=int(counts.sum())),
    )


def _peer(folded: Path, svg: Path) -> tuple[str, list[str]]:
    """Whom there is to compare with, and its command line; none is empty."""
    script = shutil.which("flamegraph.pl")
    if script:
        timed = "import json, resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=open(%r, 'w'))"
        use = "u = resource.getrusage(resource.RUSAGE_CHILDREN)"
        tell = "print(json.dumps([u.ru_utime + u.ru_stime, u.ru_maxrss / 1024]))"
        return "flamegraph.pl", [sys.executable, "-c", f"{timed % str(svg)}; {use}; {tell}", script, str(folded)]
    if find_spec("pyinferno"):
        return "inferno", [sys.executable, "-c", INFERNO, str(folded), str(svg)]
    return "", []


def _measured(command: Sequence[str]) -> tuple[float, float]:
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolFailed(f"{command[2]}: {done.stderr[-1000:]}")
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes


def _size_of_mariadb(folder: Path, seconds: int) -> tuple[float, str]:
    with mariadb() as pid:
        start = time.monotonic()
        profile = record(folder / "m.pb.gz", "-p", pid, "-d", seconds).profile
    size = len(render_svg(profile).encode())
    samples = profile.recording.samples
    return size / 1000, f"MariaDB: {samples:,} samples in {seconds} s; {time.monotonic() - start:.0f} s in all"


def _zoom_times(folder: Path) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds to zoom in and out, and out with the drawing; the first round warms up."""
    file = folder / "wide.svg"
    file.write_text(render_svg(wide_profile()), encoding="utf-8")
    with chromium() as browser, opened(browser, file) as page:
        _, rounds = page.run(ZOOM)
    return [it[0] for it in rounds[1:]], [it[2] for it in rounds[1:]], [it[3] for it in rounds[1:]]
