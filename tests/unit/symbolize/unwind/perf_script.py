"""The user frames that `perf script` finds in a `perf.data` file, to compare ours with."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import numpy as np

from symbolize.unwind import UnwoundStacks
from tests.unit.symbolize.unwind.code_map import MappedCode

OUTERMOST = ("_start", "clone3", "__clone3", "clone", "__clone", "_dl_start_user", "thread_start")


def perf_script_stacks(path: str) -> Iterator[tuple[str, list[int], bool]]:
    """Of each sample the addresses of user frames, leaf first, and whether they reach a thread's start."""
    command = ["perf", "script", "--no-inline", "-F", "tid,time,ip,sym", "-i", path]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for block in text.split("\n\n"):
        if not block.strip():
            continue
        header, *lines = block.strip("\n").splitlines()
        frames = [(int(address, 16), symbol) for address, symbol in (line.split(maxsplit=1) for line in lines)]
        user = [frame for frame in frames if frame[0] < 1 << 63]
        yield header.split()[1].rstrip(":"), [address for address, _ in user], bool(user) and user[-1][1] in OUTERMOST


def as_perf_prints(stacks: UnwoundStacks, sample: int, code: MappedCode, space: int) -> list[int]:
    """One of our stacks as perf prints it: the places in the files of the addresses to look up."""
    part = slice(stacks.callchains.offsets[sample], stacks.callchains.offsets[sample + 1])
    addresses = stacks.callchains.addresses[part] - (~stacks.is_exact[part]).astype(np.uint64)
    return code.file_offsets(space, addresses).tolist()
