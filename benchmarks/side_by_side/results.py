"""Writes benchmarks/RESULTS.md and its plot: `python -m benchmarks.side_by_side.results [JSON]`.

What falls short is first, the claims next. Nothing is compared but by a figure of both from the same round.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click

from benchmarks.registry import Figure, Report
from benchmarks.side_by_side.claims import (
    MUST_SHOW,
    NONE,
    OURS,
    Claim,
    FigureName,
    Outcome,
    Paired,
    Verdict,
    badness,
    by_claim,
    by_round,
    error_points,
    judge_all,
    limit_text,
    lost_text,
    whole_percent,
)
from benchmarks.side_by_side.intervals import (
    NO_BREAK,
    Interval,
    compare_losses,
    interval_text,
    kind_text,
    measured_text,
    median_interval,
    paired_ratio,
    short_text,
    tenths_text,
    with_unit,
)
from benchmarks.side_by_side.model import Round
from benchmarks.side_by_side.rounds_file import Failure, RoundsFileError, Session, load
from tests.support.paths import BUILD, REPO

ROUNDS_PATH = BUILD / "bench" / "side_by_side.json"
RESULTS_PATH = REPO / "benchmarks" / "RESULTS.md"
PLOT_NAME = "results.svg"
NO_VALUE = "–"
LONGEST_TEXT = 300
MARKUP = re.compile(r"([\\`*_\[\]<>|~#])")
MARKS = {Outcome.MET: "✓", Outcome.MISSED: "✗ missed", Outcome.NOT_MEASURED: "? not measured"}

USAGE_COLUMNS = (
    ("CPU recording, s", FigureName.CPU_RECORDING),
    ("CPU until picture, s", FigureName.CPU_TOTAL),
    ("peak, MB", FigureName.PEAK_TOTAL),
    ("written, MB", FigureName.WRITTEN),
    ("first sample, s", FigureName.FIRST_SAMPLE),
    ("to picture, s", FigureName.TO_PICTURE),
)
HOW_MEASURED = (
    "**Loss**: how much less of its own work the target did in a second while it was watched, in percent of the mean "
    "of just before and just after. “none” is the same with no tool: what it “loses” is noise.",
    "**CPU** and **peak memory**: of the tool and of all that it starts; while recording, and until the picture is "
    "there. MB are 10⁶ bytes.",
    "**First sample**: from the command to the first perf event or probe that counts. **To picture**: from SIGINT to "
    "the picture; for a tool that draws none (\\*), to its end.",
    "**Lost**: samples over all rounds that the tool says it lost. **Whole**: samples with user frames whose stack "
    "reaches where a thread or process begins. **Error**: the largest difference to the CPU share that the workload "
    "knows of a function, callees included.",
    "A ratio is the median of the rounds' ratios, not the ratio of medians. Where the peer's loss isn't clearly above "
    "that of “none”, a ratio would divide noise: the difference in points is given, and the limit is met where its "
    "interval reaches 0 or below. Else a limit is met where the median is within it; where the interval has the limit "
    "within it, that is said.",
)


def write_report(session: Session, path: Path) -> None:
    """Write the report, and its plot beside it."""
    path.write_text(render(session, draw_plot(session, path.with_name(PLOT_NAME))))


def draw_plot(session: Session, path: Path) -> str:
    """Draw the plot; returns the line of the report that shows it, or says why there is none."""
    try:
        from benchmarks.side_by_side.plot import draw
    except ModuleNotFoundError as missing:
        return f"No plot: {missing.name} is not installed."
    draw(session, path)
    return f"![The target's loss under each tool, on each workload]({path.name})"


def render(session: Session, plot_line: str, claims: Sequence[Claim] = MUST_SHOW) -> str:
    """The report as Markdown."""
    failed = [(failure.workload, failure.tool) for failure in session.failures]
    verdicts = judge_all(claims, session.rounds, session.paired, failed)
    parts = (
        ["# Side by side with the peers", *headline(session)],
        ["## What falls short", *falls_short(verdicts, session)],
        ["## What must show", *claims_section(verdicts)],
        ["## What the target loses", plot_line],
        ["## Each workload", how_to_read(session.rounds), *workload_sections(session)],
        ["## The other benchmarks", *reports_section(session.reports)] if session.reports else [],
        ["## Machine and versions", *machine_section(session)],
        ["## Method", "\n".join(f"- {line}" for line in (*map(escaped, session.method), *HOW_MEASURED))],
        ["## What did not run", *failures_section(session.failures)],
    )
    return "\n\n".join(text for part in parts for text in part) + "\n"


def headline(session: Session) -> list[str]:
    """What this is, when and where it was measured."""
    peers = sum(tool.name != NONE and not tool.name.startswith(OURS) for tool in session.tools)
    facts = [session.machine.get(name, "") for name in ("processor", "CPUs", "distribution")]
    where = ", ".join(escaped(fact) for fact in facts if fact)
    return [
        f"What Lockflame and {peers} other tools cost the program that they watch, and what they need themselves, "
        f"on {len(session.workloads)} workloads, in the same run. "
        f"Measured {escaped(session.started)} in {session.duration_s / 60:.0f} minutes at commit "
        f"{escaped(session.commit)}" + (f" on {where}." if where else "."),
    ]


def falls_short(verdicts: Sequence[Verdict], session: Session) -> list[str]:
    """A line for each claim that is missed or not measured anywhere, and each limit of other benchmarks missed."""
    groups = by_claim(verdicts)
    lines = [
        f"- **{escaped(claim.title)}** ({claim.limit_text}) {outcome.value}{_places(of_claim, outcome)}"
        for outcome in (Outcome.MISSED, Outcome.NOT_MEASURED)
        for claim, of_claim in groups
        if any(verdict.outcome is outcome for verdict in of_claim)
    ]
    for report in session.reports:
        for figure in report.figures:
            if figure.is_met is False:
                shown = _ratio_text(figure) if figure.limit_is_ratio else _figure_text(figure.ours_median, figure)
                what = f"**{escaped(figure.what)}** ({_figure_limit(figure)})"
                lines.append(f"- {what} missed: {shown or 'not measured'}; {escaped(report.title)}")
    met = sum(all(verdict.outcome is Outcome.MET for verdict in of_claim) for _, of_claim in groups)
    in_noise = sum(verdict.is_in_noise and verdict.outcome is Outcome.MET for verdict in verdicts)
    noise = f"; in {in_noise} of {len(verdicts)} cases only as the loss is lost in noise" if in_noise else ""
    summary = f"**{met} of {len(groups)} claims are met** on all their workloads{noise}."
    return [summary, *(["\n".join(lines)] if lines else []), *map(escaped, session.notes)]


def _places(verdicts: Sequence[Verdict], outcome: Outcome) -> str:
    concerned = [verdict for verdict in verdicts if verdict.outcome is outcome]
    shown = "; ".join(
        (f"{escaped(one.workload)}: " if one.workload else "")
        + (one.measured_text if one.interval else escaped(one.why))
        for one in concerned
    )
    on = f" on {len(concerned)} of {len(verdicts)} workloads" if len(verdicts) > 1 else ""
    return f"{on}: {shown}"


def claims_section(verdicts: Sequence[Verdict]) -> list[str]:
    """A line for each claim with its worst workload, and folded, each claim on each workload."""
    short = table(
        ("claim", "limit", "worst", "on", "met"),
        [_claim_row(claim, of_claim) for claim, of_claim in by_claim(verdicts)],
        left=(0, 3),
    )
    every = table(
        ("claim", "workload", "limit", "measured", "", "remark"),
        [
            (
                escaped(one.claim.title),
                escaped(one.workload),
                one.claim.limit_text,
                one.measured_text,
                MARKS[one.outcome],
                escaped(one.why),
            )
            for one in verdicts
        ],
        left=(0, 1, 5),
    )
    return [
        "“a / b” is a's figure divided by b's in the same round: the median, with its interval in brackets. “In "
        "noise”: b's loss can't be told from that of no tool, so the difference is judged; “up to” is where "
        "its intervals end.",
        short,
        f"<details><summary>Each claim on each workload</summary>\n\n{every}\n\n</details>",
    ]


def _claim_row(claim: Claim | Paired, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    measured = [verdict for verdict in verdicts if verdict.interval]
    worst = max(measured, key=badness) if measured else None
    return (
        escaped(claim.title),
        claim.limit_text,
        worst.measured_text if worst else NO_VALUE,
        escaped(worst.workload) if worst else "",
        _met_text(verdicts),
    )


def _met_text(verdicts: Sequence[Verdict]) -> str:
    met = [verdict for verdict in verdicts if verdict.outcome is Outcome.MET]
    narrow = sum(one.is_narrow for one in met)
    in_noise = [one.interval.high for one in met if one.is_in_noise and one.interval]
    remarks = [f"{narrow} narrowly"] if narrow else []
    if in_noise:
        remarks.append(f"{len(in_noise)} in noise, up to {with_unit(tenths_text(max(in_noise)), 'points')}")
    if len(verdicts) == 1:
        mark = MARKS[verdicts[0].outcome]
    else:
        is_missed = any(verdict.outcome is Outcome.MISSED for verdict in verdicts)
        sign = "✗" if is_missed else "✓" if len(met) == len(verdicts) else "?"
        mark = f"{sign} {len(met)} of {len(verdicts)}"
    return mark + (f" ({', '.join(remarks)})" if remarks else "")


def how_to_read(rounds: Sequence[Round]) -> str:
    """What the tables show, and which intervals these rounds allow."""
    counts = set(Counter((one.workload, one.tool) for one in rounds).values())
    described = "; ".join(kind_text(count) for count in sorted(counts, reverse=True))
    return (
        f"Medians; in brackets their interval ({described}). Small: `{OURS}`'s figure divided by this tool's, round by "
        "round (below 1: ours is less), and where a loss isn't clearly above that of no tool, ours minus this tool's "
        f"in points. “{NO_VALUE}”: the tool doesn't say, or the workload doesn't know."
    )


def workload_sections(session: Session) -> Iterable[str]:
    """For each workload what it is, its table, and which tools gave nothing."""
    for workload in session.workloads:
        of_workload = [one for one in session.rounds if one.workload == workload.name]
        yield f"### {escaped(workload.name)}"
        yield escaped(f"{workload.what[:1].upper()}{workload.what[1:]}. Its work is counted in {workload.unit}.")
        yield workload_table(session, workload.name, workload.truth, of_workload)
        ran = {one.tool for one in of_workload}
        absent = dict.fromkeys(
            one.tool for one in session.failures if one.workload == workload.name and one.tool not in ran
        )
        if absent:
            yield f"Did not run: {', '.join(map(escaped, absent))}."


def workload_table(session: Session, workload: str, truth: Mapping[str, float], rounds: Sequence[Round]) -> str:
    """The tools' figures on a workload."""
    most = max(Counter(one.tool for one in rounds).values(), default=0)
    rows: list[tuple[str, ...]] = []
    for tool in session.tools:
        of_tool = [one for one in rounds if one.tool == tool.name]
        if not of_tool:
            continue
        name = f"**{escaped(tool.name)}**" if tool.name.startswith(OURS) else escaped(tool.name)
        fewer = f"<br><sub>{len(of_tool)} rounds</sub>" if len(of_tool) != most else ""
        usage = [_usage_cell(rounds, workload, tool.name, figure) for _, figure in USAGE_COLUMNS]
        star = "" if tool.has_picture or usage[-1] == NO_VALUE else "\\*"
        usage[-1] = usage[-1].replace("<br>", f"{star}<br>") if "<br>" in usage[-1] else usage[-1] + star
        answers = (lost_text(of_tool), _percent(whole_percent(of_tool)), _percent(error_points(of_tool, truth)))
        rows.append((name + fewer, _loss_cell(rounds, workload, tool.name), *usage, *answers))
    headings = ("tool", "loss, %", *(heading for heading, _ in USAGE_COLUMNS), "lost", "whole, %", "error, points")
    return table(headings, rows, left=(0,))


def _loss_cell(rounds: Sequence[Round], workload: str, tool: str) -> str:
    values = {name: by_round(rounds, workload, name, FigureName.LOSS) for name in (tool, OURS, NONE)}
    loss = median_interval(list(values[tool].values()))
    if loss is None:
        return NO_VALUE
    compared = None if tool == OURS else compare_losses(values[OURS], values[tool], values[NONE])
    small = _small(compared.interval, "×" if compared.is_ratio else "points") if compared else ""
    return f"{tenths_text(loss.median)} [{tenths_text(loss.low)},{NO_BREAK}{tenths_text(loss.high)}]{small}"


def _usage_cell(rounds: Sequence[Round], workload: str, tool: str, figure: FigureName) -> str:
    values = by_round(rounds, workload, tool, figure)
    if not values:
        return NO_VALUE
    ratio = None if tool == OURS else paired_ratio(by_round(rounds, workload, OURS, figure), values)
    return short_text(statistics.median(values.values())) + (_small(ratio, "×") if ratio else "")


def _small(interval: Interval, unit: str) -> str:
    return f"<br><sub>{interval_text(interval, unit, short_text)}</sub>"


def _percent(value: float | None) -> str:
    return NO_VALUE if value is None else tenths_text(value)


def reports_section(reports: Sequence[Report]) -> list[str]:
    """All figures of the other benchmarks in one table, and folded, what they remarked."""
    rows: list[tuple[str, ...]] = []
    for report in reports:
        rows.append((f"**{escaped(report.title)}**", "", f"*{escaped(report.peer_name)}*", "", "", ""))
        rows.extend(_figure_row(figure) for figure in report.figures)
    remarks = [f"- {escaped(remark)}" for report in reports for remark in report.remarks]
    folded = [f"<details><summary>Remarks</summary>\n\n{chr(10).join(remarks)}\n\n</details>"] if remarks else []
    return [table(("figure", "ours", "peer", "ratio", "limit", "met"), rows, left=(0,)), *folded]


def _figure_row(figure: Figure) -> tuple[str, ...]:
    return (
        f"{escaped(figure.what)}, {escaped(figure.unit)}",
        _figure_text(figure.ours_median, figure),
        _figure_text(figure.peer_median, figure),
        _ratio_text(figure),
        _figure_limit(figure),
        {True: "✓", False: "✗ missed", None: ""}[figure.is_met],
    )


def _figure_text(value: float | None, figure: Figure) -> str:
    return "" if value is None else with_unit(measured_text(value), escaped(figure.unit))


def _ratio_text(figure: Figure) -> str:
    return "" if figure.ratio is None else f"{measured_text(figure.ratio)}×"


def _figure_limit(figure: Figure) -> str:
    if figure.limit is None:
        return ""
    return limit_text(figure.limit, "×" if figure.limit_is_ratio else figure.unit, figure.limit_is_least)


def machine_section(session: Session) -> list[str]:
    """What it ran on, and with which versions."""
    facts = [*session.machine.items(), *session.versions.items()]
    packages = [(tool.name, tool.package) for tool in session.tools if tool.package]
    return [
        table(("what", ""), [(escaped(name), escaped(text)) for name, text in facts], left=(0, 1)),
        table(("tool", "from"), [(escaped(name), escaped(text)) for name, text in packages], left=(0, 1)),
    ]


def failures_section(failures: Sequence[Failure]) -> list[str]:
    """Each reason once, with all that it stopped."""
    places: dict[tuple[str, str], dict[str, int]] = {}
    for failure in failures:
        workloads = places.setdefault((failure.tool, failure.reason), {})
        workloads[failure.workload] = workloads.get(failure.workload, 0) + (failure.number is not None)
    if not failures:
        return ["Each tool ran on each workload, in each round."]
    lines = [
        f"- **{escaped(tool)}**: {escaped(reason)} ({_stopped(where)})" for (tool, reason), where in places.items()
    ]
    return ["\n".join(lines)]


def _stopped(workloads: Mapping[str, int]) -> str:
    return ", ".join(
        escaped(name) + (f", {count} round{'s' if count > 1 else ''}" if count else "")
        for name, count in workloads.items()
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = ()) -> str:
    """A Markdown table whose columns are aligned in the text, too: to the right but for those in `left`."""
    widths = [max(3, *(len(row[column]) for row in (headings, *rows))) for column in range(len(headings))]
    rule = ["-" * width if column in left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    padded = [
        [
            text.ljust(widths[column]) if column in left else text.rjust(widths[column])
            for column, text in enumerate(row)
        ]
        for row in (headings, rule, *rows)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)


def escaped(text: str) -> str:
    """Text as Markdown that shows just that, in one line, cut where it is too long."""
    line = " ".join(text.split())
    return MARKUP.sub(r"\\\1", line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…")


@click.command()
@click.argument("rounds", type=click.Path(path_type=Path, dir_okay=False), default=ROUNDS_PATH, metavar="[JSON]")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default=RESULTS_PATH)
def main(rounds: Path, output: Path) -> None:
    """Make the report again from the rounds of an earlier run.

    Example: python -m benchmarks.side_by_side.results
    """
    try:
        write_report(load(rounds), output)
    except RoundsFileError as problem:
        click.echo(f"results: {problem}", err=True)
        sys.exit(1)
    click.echo(f"{output} and {output.with_name(PLOT_NAME)} written")


if __name__ == "__main__":
    main()
