"""Files merged, by as many processes as there are processors: reading them is most of the work."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from lockflame.formats.merging import Merged, merged
from lockflame.formats.noted import Noted
from lockflame.formats.reading import read_tables
from lockflame.pprof_tables import Tables

FILES_OF_A_PROCESS_LEAST = 8
"""Fewer are read sooner than a process has started and handed them back."""
PROCESSES_MOST = 4
"""Each takes memory for all that its files have."""

_Content = TypeVar("_Content")


def merged_files(paths: Sequence[str]) -> Noted[Tables]:
    """One profile of all files, as `merged` has it, and what reading and merging have to tell: `PATH: A sentence.`.

    Raises `LockflameError`.
    """
    processes = min(len(os.sched_getaffinity(0)), PROCESSES_MOST, len(paths) // FILES_OF_A_PROCESS_LEAST)
    if processes < 2:
        found = _merged(paths)
        return Noted(found.content.tables, (*found.content.notes, *found.notes))
    bounds = [len(paths) * number // processes for number in range(processes + 1)]
    groups = [paths[first:end] for first, end in itertools.pairwise(bounds)]
    notes: list[str] = []
    with ProcessPoolExecutor(processes, get_context("fork")) as pool:
        whole = merged(_contents(pool.map(_merged, groups), notes))
    return Noted(whole.tables, (*whole.notes, *notes))


def _merged(paths: Sequence[str]) -> Noted[Merged]:
    notes: list[str] = []
    return Noted(merged(_contents(map(_read, paths), notes)), tuple(notes))


def _read(path: str) -> Noted[Tables]:
    found = read_tables(path)
    return Noted(found.content, tuple(f"{path}: {note}" for note in found.notes))


def _contents(parts: Iterable[Noted[_Content]], notes: list[str]) -> Iterator[_Content]:
    """What was noted, in turn, with the notes put into a list."""
    for part in parts:
        notes.extend(part.notes)
        yield part.content
