"""The report: what falls short is first, nothing is hidden, nothing breaks a table."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt
from markdown_it.token import Token

from benchmarks.side_by_side import results
from benchmarks.side_by_side.claims import (
    BCC_PROFILE,
    MUST_SHOW,
    MUST_SHOW_PAIRED,
    NONE,
    OURS,
    PERF_DWARF,
    PERF_FP,
    lost_text,
)
from benchmarks.side_by_side.results import escaped, render, table, write_report
from benchmarks.side_by_side.rounds_file import Failure, Session, WorkloadFacts, save
from tests.support.paths import REPO
from tests.unit.benchmarks.side_by_side.sessions import WORKLOADS, made_round, made_session

PLOT = "![plot](results.svg)"
CLAIMS = len(MUST_SHOW) + len(MUST_SHOW_PAIRED)
SHORT = 4
"""Of a made session: with inlined frames, and three where `profile` gave nothing."""


def parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def rows_of(text: str) -> list[list[str]]:
    """The cells of all tables, row by row, as they are shown."""
    rows: list[list[str]] = []
    for token in parsed(text):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows and token.level >= 4 and token.children is not None:
            rows[-1].append(
                "".join(child.content for child in token.children if child.type in ("text", "text_special"))
            )
    return rows


def section(text: str, heading: str) -> str:
    """What is under a heading, up to the next of its rank or higher."""
    return text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]


def row(text: str, first: str) -> list[str]:
    return next(cells for cells in rows_of(text) if cells[0] == first)


def test_what_falls_short_is_first_with_figure_and_limit() -> None:
    text = render(made_session(), PLOT)
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings[:4] == ["## What falls short", "## What must show", "## What the target loses", "## Each workload"]
    short = section(text, "What falls short")
    assert f"**{CLAIMS - SHORT} of {CLAIMS} claims are met**" in short
    missed, *_ = [line for line in short.splitlines() if "missed" in line]
    assert "inlined frames" in missed
    assert "≤\xa00.05×" in missed
    assert "0.067× [0.064,\xa00.073]" in missed
    assert (
        sum("not measured" in line and f"Redis: nothing from {BCC_PROFILE}" in line for line in short.splitlines()) == 3
    )
    assert "**time to draw** (≤\xa01.5\xa0s) missed: 2.05\xa0s; Unwinding 15,000 stacks" in short


def test_what_noise_may_hide_is_said() -> None:
    session = made_session()
    assert re.search(r"; in 10 of \d+ cases only as the loss is lost in noise\.", render(session, PLOT))
    loss = next(
        cells for cells in rows_of(render(session, PLOT)) if cells[0].startswith("loss of the target, lockflame fp")
    )
    assert loss[4].startswith("✓ 10 of 10 (10 in noise, up to ")
    assert loss[4].endswith("\xa0points)")


def test_without_any_round_nothing_is_met() -> None:
    text = render(replace(made_session(), rounds=(), paired=(), reports=()), PLOT)
    short = section(text, "What falls short")
    assert f"**0 of {CLAIMS} claims are met**" in short
    assert short.count("not measured") == CLAIMS
    assert "✓" not in text


def test_the_answer_is_in_the_first_screen() -> None:
    lines = render(made_session(), PLOT).splitlines()
    assert "2026-11-23" in lines[2]
    assert "7568bae919" in lines[2]
    assert f"{CLAIMS - SHORT} of {CLAIMS}" in "\n".join(lines[:8])


def test_each_table_has_as_many_cells_in_each_row() -> None:
    text = render(made_session(), PLOT)
    widths: list[int] = []
    tables = 0
    for token in parsed(text):
        if token.type == "table_open":
            widths, tables = [], tables + 1
        elif token.type == "tr_open":
            widths.append(0)
        elif token.type in ("td_open", "th_open"):
            widths[-1] += 1
        elif token.type == "table_close":
            assert len(set(widths)) == 1
            assert len(widths) > 1
    # Claims, each claim, each workload, the other benchmarks, machine, tools.
    assert tables == 2 + len(WORKLOADS) + 3
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert all(len({len(line) for line in block}) == 1 for block in blocks)


def test_a_workload_shows_the_tools_with_ratios_of_the_same_rounds() -> None:
    session = made_session()
    text = render(session, PLOT).split("### single thread, C++\n", 1)[1].split("\n### ", 1)[0]
    ours, peer, nothing = row(text, OURS), row(text, PERF_DWARF), row(text, NONE)
    assert len(ours) == len(peer) == len(nothing) == 11
    assert not any("×" in cell for cell in ours)
    assert all("×" in cell and "[" in cell for cell in peer[1:8])
    assert nothing[2:] == ["–"] * 9
    assert "points" in row(text, PERF_FP)[1]
    assert peer[8] == "21 (0.1\xa0%)"
    assert float(peer[10]) < 10


def test_a_tool_with_fewer_rounds_and_one_without_any_are_named() -> None:
    text = render(made_session(), PLOT)
    assert f"{PERF_DWARF}<br><sub>6 rounds</sub>" in text
    redis = text.split("### Redis\n", 1)[1].split("\n### ", 1)[0]
    assert f"Did not run: {BCC_PROFILE}." in redis
    missing = section(text, "What did not run")
    assert r"HINT: Missing \`struct\` \<member\> of task\|group (Redis)" in missing
    assert "ended with status 255 (fork storm, 1 round)" in missing


def test_nothing_is_compared_where_ours_did_not_run() -> None:
    session = made_session()
    rounds = tuple(one for one in session.rounds if not one.tool.startswith(OURS))
    text = render(replace(session, rounds=rounds), PLOT)
    assert "×" not in text.split("## Each workload")[1].split("### ", 1)[1].split("## The other benchmarks")[0]


@pytest.mark.parametrize(
    "nasty", ["a|b", "<script>x</script>", "a\n\n# b", "`a`", "*a* _b_", "[x](y)", "a\\|b", "~~a~~"]
)
def test_what_comes_from_outside_is_shown_as_it_is(nasty: str) -> None:
    text = table(("one", "two"), [(escaped(nasty), "end")])
    assert rows_of(text)[1] == [" ".join(nasty.split()), "end"]


def test_a_long_reason_is_cut() -> None:
    session = replace(made_session(count=1), failures=(Failure("fork storm", PERF_FP, "no " * 10_000),))
    assert len(section(render(session, PLOT), "What did not run")) < 500


def test_lost_samples_are_of_all_rounds() -> None:
    one = made_round(WORKLOADS[0], PERF_DWARF, 0, random.Random(1))
    rounds = [replace(one, answer=replace(one.answer, samples=99, lost=lost)) for lost in (0, 0, 2)]
    assert lost_text(rounds) == "2 (0.7\xa0%)"
    assert lost_text([replace(one, answer=replace(one.answer, lost=None))]) == "–"
    assert lost_text([replace(one, answer=replace(one.answer, samples=None, lost=5))]) == "5"


def test_a_target_that_stands_still_breaks_nothing() -> None:
    session = made_session(count=1)
    rounds = tuple(replace(one, rate_before=0.0, rate_after=0.0) for one in session.rounds)
    assert "### fork storm" in render(replace(session, rounds=rounds), PLOT)


def test_an_empty_session_can_be_shown() -> None:
    empty = Session("now", 0, "unknown", (WorkloadFacts("x", "", ""),), (), ())
    assert f"**0 of {CLAIMS} claims are met**" in render(empty, PLOT)


def test_the_report_is_made_again_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "draw_plot", lambda session, path: PLOT)
    save(made_session(count=2), tmp_path / "rounds.json")
    done = CliRunner().invoke(results.main, [str(tmp_path / "rounds.json"), "-o", str(tmp_path / "RESULTS.md")])
    assert done.exit_code == 0
    assert (tmp_path / "RESULTS.md").read_text() == render(made_session(count=2), PLOT)


def test_a_missing_file_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    done = CliRunner().invoke(results.main, [str(tmp_path / "none.json"), "-o", str(tmp_path / "RESULTS.md")])
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)


def test_without_the_plotting_library_there_is_a_report_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "benchmarks.side_by_side.plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write_report(made_session(count=1), tmp_path / "RESULTS.md")
    assert "No plot: matplotlib is not installed." in (tmp_path / "RESULTS.md").read_text()


def test_the_plotting_library_is_only_imported_to_plot() -> None:
    script = "import sys, benchmarks.side_by_side.results; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=REPO, check=False).returncode == 0
