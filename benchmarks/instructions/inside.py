"""What callgrind runs: one part, once to warm up and once to count."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
from pathlib import Path

from benchmarks.instructions.parts import part_named

SEED, WARM_UP_SEED = 1, 2


def main(name: str, switch: str, folder: str) -> None:
    """Counts the part `name` with the compiled switch.c at `switch`; the input's files go into `folder`."""
    library = ctypes.CDLL(switch)
    if not library.is_under_valgrind():
        sys.exit("this is for valgrind to run: python -m benchmarks.instructions")
    part = part_named(name)
    # Other names and numbers: what a process keeps of these between its calls isn't there when a user calls once.
    part.make(Path(folder), part.size // 10, WARM_UP_SEED).work()
    made = part.make(Path(folder), part.size, SEED)
    os.register_at_fork(after_in_child=library.count_anew)
    gc.collect()
    # When the collector runs depends on all that was allocated before, imports too.
    gc.disable()
    library.start_counting()
    made.work()
    library.stop_counting()
    print(json.dumps({"words": part.words, "each": part.each, "count": made.count}))


if __name__ == "__main__":
    main(*sys.argv[1:])
