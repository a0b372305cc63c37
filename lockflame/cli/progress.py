"""Progress on a terminal; in a pipe only downloads are told of, nothing is computed and rich isn't imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from lockflame.cli.terminal import printable, say

ATTACHING = "attaching lock probes"
RECORDING = "recording"
NAMING = "naming frames"
ShowDownload = Callable[[int, int | None], None]
"""Called again and again with the bytes that have come and, where it is known, how many there are."""


@dataclass(frozen=True, slots=True)
class Progress:
    """`on_tick` goes to the recorder (None: no ticks wanted); `step` names what is done afterwards.

    `download` begins to show the download of a program's debug info: called with its name and the server's URL.
    """

    on_tick: Callable[[float, IO[bytes]], None] | None
    step: Callable[[str], None]
    download: Callable[[str, str], ShowDownload]


@contextmanager
def recording_progress(duration_s: float | None) -> Generator[Progress]:
    """Shows a bar with the samples so far while recording, then the step that is under way."""
    if not sys.stderr.isatty():
        yield Progress(None, lambda _: None, _say_download)
        return
    from rich.console import Console
    from rich.markup import escape
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
        task = bar.add_task(RECORDING, total=duration_s, taken="")
        counter: SampleCounter | None = None
        taken = ""

        def on_tick(elapsed_s: float, spool: IO[bytes]) -> None:
            nonlocal counter, taken
            counter = counter or SampleCounter(spool.fileno())
            taken = f"{counter.count():,} samples"
            bar.update(task, description=RECORDING, completed=elapsed_s, taken=taken)
            bar.refresh()

        def step(name: str) -> None:
            done = 0 if name == ATTACHING else duration_s
            bar.update(task, description=name, total=duration_s, completed=done, taken=taken)
            bar.refresh()

        def download(name: str, url: str) -> ShowDownload:
            description = escape(printable(f"debug info of {name} from {url}"))

            def show(received: int, total: int | None) -> None:
                so_far = _so_far(received, total) if received else "asked for"
                bar.update(task, description=description, completed=received, total=total, taken=so_far)
                bar.refresh()

            return show

        yield Progress(on_tick, step, download)


def _say_download(name: str, url: str) -> ShowDownload:
    """One line for each download, once it has begun and its size is known."""
    was_said = False

    def show(received: int, total: int | None) -> None:
        nonlocal was_said
        if received and not was_said:
            was_said = True
            size = "of unknown size" if total is None else _megabytes(total)
            say(f"lockflame: downloading debug info of {printable(name)} from {printable(url)}: {size}")

    return show


def _so_far(received: int, total: int | None) -> str:
    return f"{received / 1e6:,.1f} MB" if total is None else f"{received / 1e6:,.1f} of {_megabytes(total)}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
