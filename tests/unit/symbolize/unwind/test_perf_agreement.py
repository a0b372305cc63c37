"""The frames that we and `perf script` find in equal stack copies."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from symbolize.unwind import StackEnd, unwind
from tests.unit.symbolize.unwind.code_map import MappedCode
from tests.unit.symbolize.unwind.perf_data import read_perf_data
from tests.unit.symbolize.unwind.perf_script import as_perf_prints, perf_script_stacks

PYTHON = """
import json
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
print(fib(24))
texts = [json.dumps({'a': list(range(100)), 'b': 'x' * n}) for n in range(3000)]
print(len(sorted((json.loads(text) for text in texts), key=lambda each: len(each['b']) % 7)))
"""
COMMANDS = {
    "python3": ["/usr/bin/python3", "-c", PYTHON],
    "sysbench": ["sysbench", "cpu", "run", "--time=1"],
    "openssl": ["openssl", "speed", "-seconds", "1", "-bytes", "1024", "sha256"],
}
AGREEMENT_LEAST = 0.99
COMPLETED_LEAST = 0.95


@pytest.mark.integration
@pytest.mark.requires_root
@pytest.mark.parametrize("command", list(COMMANDS.values()), ids=list(COMMANDS))
def test_agreement_with_perf(command: list[str], tmp_path: Path) -> None:
    if not shutil.which("perf") or not shutil.which(command[0]):
        pytest.skip("needs perf and the program")
    path = str(tmp_path / "perf.data")
    options = ["-q", "-e", "cpu-clock", "-F", "999", "--call-graph", "dwarf,16384", "-o", path]
    record = ["perf", "record", *options, "--"]
    subprocess.run([*record, *command], check=True, capture_output=True)
    data = read_perf_data(path)
    code = MappedCode(data.mappings())
    spaces = code.spaces(data.pids)
    ours = unwind(data.registers_array(), data.has_registers(), data.stacks(), spaces, code, code.cache())
    perf = list(perf_script_stacks(path))
    order = sorted(range(len(data.times)), key=data.times.__getitem__)
    assert len(perf) == len(order) > 30
    # A stripped program's `_start` has no name in perf's output: there we go by our own rules.
    completed = [
        (frames, sample)
        for (_, frames, is_named), sample in zip(perf, order, strict=True)
        if is_named or ours.end[sample] == StackEnd.COMPLETE
    ]
    agreeing = sum(as_perf_prints(ours, sample, code, int(spaces[sample])) == frames for frames, sample in completed)
    # A few samples of a short run fall into the start of the program, where perf gives up.
    assert len(completed) >= COMPLETED_LEAST * len(order)
    assert agreeing >= AGREEMENT_LEAST * len(completed)
