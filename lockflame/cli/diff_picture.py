"""The picture of `lockflame diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockflame.cli.output import Output, write_file

if TYPE_CHECKING:
    from flame.diff.normalize import Mode, Scale
    from flame.diff.shown import Shown
    from flame.diff.sides import Sides
    from flame.locks.rules import LockRules

VIEWS = ("cpu", "wait", "holder")
VIEWS_HINT = "the recordings have lock waits: --view wait draws who waits, --view holder who holds them up"


def picture_of(sides: Sides, view: str | None, rules: LockRules, *, with_idle: bool) -> Shown:
    """What the picture shows: this view, or what fits best. Raises `LockflameError` where the sides don't have it."""
    from flame.diff.shown import default_view, shown_of
    from flame.lock_marks import ViewName

    return shown_of(sides, ViewName(view) if view else default_view(sides), rules, with_idle=with_idle)


def draw(
    shown: Shown,
    sides: Sides,
    mode: Mode,
    scales: tuple[Scale, Scale],
    output: Output,
    *,
    rules: LockRules,
    title: str | None,
) -> None:
    """Writes the picture. `scales` are those of the tables. Raises `LockflameError` where it can't be written."""
    from flame.diff.normalize import Mode
    from flame.diff.normalize import scales as scales_of
    from flame.diff.picture import render_diff

    if mode is Mode.TOTAL:  # of all that is in the picture
        scales = scales_of(shown.before, shown.after, mode, sample_type=shown.sample_type)
    svg = render_diff(shown, scales, rules=rules, title=title, notes=sides.notes)
    write_file(output.path, svg.encode("utf-8"))
