"""Files merged, by as many processes as there are processors: reading them is most of the work."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from lockflame.formats.merging import Merged, merged
from lockflame.formats.reading import read_tables
from lockflame.pprof_tables import Tables

FILES_OF_A_PROCESS_LEAST = 8
"""Fewer are read sooner than a process has started and handed them back."""
PROCESSES_MOST = 4
"""Each takes memory for all that its files have."""


def merged_files(paths: Sequence[str]) -> Tables:
    """One profile of all files, as `merged` has it. Raises `LockflameError`."""
    processes = min(len(os.sched_getaffinity(0)), PROCESSES_MOST, len(paths) // FILES_OF_A_PROCESS_LEAST)
    if processes < 2:
        return _merged(paths).tables
    bounds = [len(paths) * number // processes for number in range(processes + 1)]
    groups = [paths[first:end] for first, end in itertools.pairwise(bounds)]
    with ProcessPoolExecutor(processes, get_context("fork")) as pool:
        return merged(pool.map(_merged, groups)).tables


def _merged(paths: Sequence[str]) -> Merged:
    return merged(map(read_tables, paths))
