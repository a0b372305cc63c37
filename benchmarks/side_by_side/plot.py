"""Draws what the target loses under each tool, one panel for each workload, as an SVG whose text stays text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.typing import RcKeyType

from benchmarks.side_by_side.claims import NONE, OURS, FigureName, by_round
from benchmarks.side_by_side.intervals import Interval, median_interval, tenths_text
from benchmarks.side_by_side.rounds_file import Session

WIDTH_IN = 9.4
"""As an SVG's inch is 96 pixels, GitHub shows it in its full size."""
ROW_IN = 0.19
PANEL_EXTRA_IN = 0.66
TITLE_OF_PANEL_IN = 0.25
TITLE_IN = 0.85
LABELS_IN, VALUES_IN = 1.45, 0.55
"""Left of a panel, and right of it."""
COLUMNS = 2
LINEAR_TO_PERCENT = 1.0
"""Noise is below: there the axis is linear, from here on logarithmic."""
TICKS = (-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100)
FEWER_TICKS = (-100, -10, -1, 0, 1, 10, 100)
"""Where there is no room for more."""
LEAST_ENDS = (-3, -10, -30, -100)
"""Where the axis may begin: at the first that shows all; what is beyond the last is drawn at it."""
# Okabe and Ito's blue and vermilion can be told apart by all; ours are also filled and bold.
OURS_COLOUR, PEER_COLOUR, MUTED, BAND = "#0072B2", "#D55E00", "#666666", "#E4E4E4"
STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lockflame",
    "font.family": "sans-serif",
    # The first is what widths are measured with; the others are no wider.
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Helvetica", "Arial", "sans-serif"],
    "font.size": 8,
}

Losses = Mapping[str, Interval | None]
"""By tool; None where it gave none."""


def draw(session: Session, path: Path) -> None:
    """Write the plot of the session's losses. The same session gives the same file."""
    # Not pyplot, which keeps figures and asks for a screen.
    with mpl.rc_context(STYLE):
        _figure(session).savefig(path, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white")


def tools_shown(session: Session, workload: str) -> list[str]:
    """The tools that ran on the workload or should have, in their order, that with none at the top."""
    tried = {one.tool for one in (*session.rounds, *session.failures) if one.workload == workload}
    names = [tool.name for tool in session.tools if tool.name in tried]
    return sorted(names, key=lambda name: name != NONE)


def _figure(session: Session) -> Figure:
    by_workload = {workload.name: _losses(session, workload.name) for workload in session.workloads}
    shown = [(workload, losses) for workload, losses in by_workload.items() if losses]
    least = _least_end([loss.low for _, losses in shown for loss in losses.values() if loss])
    # All rows of all panels are as high: a line of panels is as high as its longest needs.
    lines = [shown[start : start + COLUMNS] for start in range(0, len(shown), COLUMNS)]
    heights = [PANEL_EXTRA_IN + ROW_IN * max(len(losses) for _, losses in line) for line in lines]
    height = TITLE_IN + sum(heights)
    figure = Figure(figsize=(WIDTH_IN, height), facecolor="white")
    top = TITLE_IN
    for line, line_height in zip(lines, heights, strict=True):
        for column, (workload, losses) in enumerate(line):
            rows_in = ROW_IN * len(losses)
            left = column * WIDTH_IN / COLUMNS + LABELS_IN
            width = WIDTH_IN / COLUMNS - LABELS_IN - VALUES_IN
            bottom = height - top - TITLE_OF_PANEL_IN - rows_in
            box = (left / WIDTH_IN, bottom / height, width / WIDTH_IN, rows_in / height)
            _draw_panel(figure.add_axes(box), workload, losses, least)
        top += line_height
    _write_title(figure, height, len({one.number for one in session.rounds}))
    return figure


def _write_title(figure: Figure, height: float, rounds: int) -> None:
    figure.text(
        0.02,
        1 - 0.12 / height,
        "How much less work a program does while it is profiled",
        va="top",
        size=13,
        weight="bold",
    )
    figure.text(
        0.02,
        1 - 0.40 / height,
        f"Loss in percent: median of {rounds} rounds and its interval; further left is better. Linear up to 1 %, "
        "logarithmic beyond.",
        va="top",
        color=MUTED,
    )
    handles = [
        Line2D([], [], color=OURS_COLOUR, marker="o", markersize=6, label="Lockflame"),
        Line2D([], [], color=PEER_COLOUR, marker="D", markersize=4.5, markerfacecolor="white", label="other tools"),
        Patch(color=BAND, label="noise: what no tool “costs”"),
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.01, 1 - 0.53 / height),
        ncols=3,
        frameon=False,
        borderpad=0.3,
    )


def _draw_panel(panel: Axes, workload: str, losses: Losses, least: float) -> None:
    tools = list(losses)
    _set_axes(panel, workload, tools, least)
    noise = losses.get(NONE)
    if noise is not None:
        panel.axvspan(_shown(noise.low, least), _shown(noise.high, least), color=BAND, linewidth=0, zorder=0)
    for row, tool in enumerate(tools):
        _draw_tool(panel, row, tool, losses[tool], least)


def _draw_tool(panel: Axes, row: int, tool: str, loss: Interval | None, least: float) -> None:
    is_ours = tool.startswith(OURS)
    colour = OURS_COLOUR if is_ours else MUTED if tool == NONE else PEER_COLOUR
    label = "failed"
    if loss is not None:
        label = tenths_text(loss.median)
        face = colour if is_ours else "white"
        panel.plot(
            [_shown(loss.low, least), _shown(loss.high, least)], [row, row], color=colour, linewidth=2.2, zorder=2
        )
        marker, size = ("o", 6.0) if is_ours else ("D", 4.5)
        panel.plot(
            _shown(loss.median, least), row, marker, color=colour, markersize=size, markerfacecolor=face, zorder=3
        )
    panel.annotate(
        label,
        (1, row),
        xycoords=("axes fraction", "data"),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        color=colour if loss is not None else "#999999",
        weight="bold" if is_ours else "normal",
        annotation_clip=False,
    )


def _set_axes(panel: Axes, workload: str, tools: Sequence[str], least: float) -> None:
    panel.set_title(workload, loc="left", size=9, weight="bold", pad=4)
    panel.set_xscale("symlog", linthresh=LINEAR_TO_PERCENT, linscale=0.6)
    panel.set_xlim(least, 100)
    ticks = TICKS if least > LEAST_ENDS[-1] else FEWER_TICKS
    panel.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if tick >= least]))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}".replace("-", "−")))
    panel.set_ylim(len(tools) - 0.5, -0.5)
    panel.set_yticks(range(len(tools)), tools)
    for label, tool in zip(panel.get_yticklabels(), tools, strict=True):
        if tool.startswith(OURS):
            label.set(weight="bold", color=OURS_COLOUR)
    panel.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    panel.grid(axis="y", color="#EEEEEE", linewidth=0.6)
    panel.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    panel.set_axisbelow(True)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)


def _losses(session: Session, workload: str) -> Losses:
    return {
        tool: median_interval(list(by_round(session.rounds, workload, tool, FigureName.LOSS).values()))
        for tool in tools_shown(session, workload)
    }


def _least_end(lows: Sequence[float]) -> float:
    return next((end for end in LEAST_ENDS if end <= min(lows, default=0)), LEAST_ENDS[-1])


def _shown(percent: float, least: float) -> float:
    """Where it is drawn: what is off the axis is drawn at its end."""
    return min(max(percent, least), 100.0)
