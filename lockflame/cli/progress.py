"""Progress on a terminal; in a pipe nothing is shown, nothing is computed and rich isn't imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO


@dataclass(frozen=True, slots=True)
class Progress:
    """`on_tick` goes to the recorder (None: no ticks wanted); `step` names what is done afterwards."""

    on_tick: Callable[[float, IO[bytes]], None] | None
    step: Callable[[str], None]


@contextmanager
def recording_progress(duration_s: float | None) -> Generator[Progress]:
    """Shows a bar with the samples so far while recording, then the step that is under way."""
    if not sys.stderr.isatty():
        yield Progress(None, lambda _: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    from sampler.spool import SampleCounter

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[taken]}"),
    )
    # Drawn at the recorder's ticks: a thread of its own would take CPU from the target.
    with Bar(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("recording", total=duration_s, taken="")
        counter: SampleCounter | None = None

        def on_tick(elapsed_s: float, spool: IO[bytes]) -> None:
            nonlocal counter
            counter = counter or SampleCounter(spool.fileno())
            bar.update(task, completed=elapsed_s, taken=f"{counter.count():,} samples")
            bar.refresh()

        def step(name: str) -> None:
            bar.update(task, description=name, completed=duration_s)
            bar.refresh()

        yield Progress(on_tick, step)
