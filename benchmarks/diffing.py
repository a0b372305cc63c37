"""How long `lockflame diff` takes for two large profiles, from the start of the command to its end."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.picture import STACKS, large_profile
from benchmarks.registry import Figure, Report, Settings, benchmark
from benchmarks.tools import ToolFailed
from lockflame.pprof import encode
from tests.support.paths import REPO

SECONDS_MOST = 3.0
MB_MOST = 500.0

# The command in a process of its own, which tells CPU seconds from its start, imports included, and peak memory in MB.
DIFF = """
import json, sys, time
from lockflame.cli import run
status = run(["diff", *sys.argv[1:]])
seconds = time.process_time()
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
print(json.dumps([status, seconds, peak]))
"""


@benchmark("diffing")
def diffing(settings: Settings) -> Report:
    """Two files of many stacks, read, compared and printed."""
    with tempfile.TemporaryDirectory(prefix="lf-bench-") as name:
        paths = [Path(name) / "before.pb.gz", Path(name) / "after.pb.gz"]
        for path in paths:
            path.write_bytes(encode(large_profile()))
        rounds = [_measured(paths) for _ in range(settings.rounds)]
    figures = [
        Figure("diff, CPU time", "s", [seconds for seconds, _ in rounds], (), SECONDS_MOST),
        Figure("diff, peak memory", "MB", [megabytes for _, megabytes in rounds], (), MB_MOST),
    ]
    return Report(f"two files of {STACKS:,} stacks each, compared in text", "", figures)


def _measured(paths: list[Path]) -> tuple[float, float]:
    command = [sys.executable, "-c", DIFF, *map(str, paths), "--normalize", "total"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolFailed(f"lockflame diff: {done.stderr[-1000:]}")
    status, seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    if status != 0:
        raise ToolFailed(f"lockflame diff: {done.stderr[-1000:]}")
    return seconds, megabytes
