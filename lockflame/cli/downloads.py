"""Debug info from debuginfod servers as a user meets it: asked for, shown, and ended by Ctrl-C."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from lockflame.cli.progress import NAMING, Progress
from sampler.signals import StopSignals

if TYPE_CHECKING:
    from symbolize.debuginfod import Debuginfod, Settings
    from symbolize.download import KeepGoing


def asked_settings(is_asked: bool) -> Settings | None:
    """The environment's servers when --debuginfod is given. Raises `click.UsageError` when it names none."""
    if not is_asked:
        return None
    from symbolize.debuginfod import settings_of

    settings = settings_of(os.environ)
    if not settings.urls:
        raise click.UsageError(
            "--debuginfod has no server to ask: set DEBUGINFOD_URLS to addresses with http:// or https://, "
            "as in: export DEBUGINFOD_URLS=https://debuginfod.debian.net",
            click.get_current_context(),
        )
    return settings


@contextmanager
def debuginfod_client(
    settings: Settings | None, progress: Progress, on_signal: Callable[[int], object]
) -> Generator[Debuginfod | None]:
    """A client that shows its downloads and ends them all at the first stop signal; None without settings.

    The signal ends nothing else: what was recorded is named without them. `on_signal` gets its number.
    """
    if settings is None:
        yield None
        return
    from symbolize.debuginfod import Debuginfod

    with Debuginfod(settings, _Watch(progress, on_signal)) as client:
        yield client


class _Watch:
    def __init__(self, progress: Progress, on_signal: Callable[[int], object]) -> None:
        self._progress = progress
        self._on_signal = on_signal
        self._was_stopped = False

    @contextmanager
    def __call__(self, name: str, url: str) -> Generator[KeepGoing]:
        show = self._progress.download(name, url)
        with StopSignals() as stop:

            def keep_going(received: int, total: int | None) -> bool:
                show(received, total)
                self._take(stop)
                return not self._was_stopped

            try:
                yield keep_going
            finally:
                self._take(stop)
                self._progress.step(NAMING)

    def _take(self, stop: StopSignals) -> None:
        for number in stop.take():
            self._was_stopped = True
            self._on_signal(number)
