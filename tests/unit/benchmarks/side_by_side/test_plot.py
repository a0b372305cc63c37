"""The plot is an SVG whose text is text, the same each time, and shows each tool that was tried."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.side_by_side.claims import BCC_PROFILE, NONE, OURS_FP, PMLOCK
from tests.unit.benchmarks.side_by_side.sessions import WORKLOADS, made_session

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")
from benchmarks.side_by_side.plot import draw, tools_shown


@pytest.fixture(scope="module", autouse=True)
def _fonts_open(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The library keeps its fonts' files open from its first plot on."""
    draw(replace(made_session(count=1), workloads=WORKLOADS[:1]), tmp_path_factory.mktemp("first") / "plot.svg")


TEXT = "{http://www.w3.org/2000/svg}text"


def texts_of(path: Path) -> Counter[str]:
    return Counter("".join(text.itertext()).strip() for text in ElementTree.parse(path).iter(TEXT))


def test_all_that_was_tried_is_named_and_all_that_ran_has_its_median(tmp_path: Path) -> None:
    draw(made_session(), path := tmp_path / "plot.svg")
    texts = texts_of(path)
    assert all(texts[workload.name] == 1 for workload in WORKLOADS)
    assert texts[OURS_FP] == texts[NONE] == len(WORKLOADS)
    assert texts[PMLOCK] == 5
    assert texts["failed"] == 1


def test_the_same_session_gives_the_same_file(tmp_path: Path) -> None:
    session = replace(made_session(count=2), workloads=WORKLOADS[:2])
    draw(session, tmp_path / "a.svg")
    draw(session, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_it_is_as_wide_as_a_page_and_white(tmp_path: Path) -> None:
    draw(replace(made_session(count=1), workloads=WORKLOADS[:1]), path := tmp_path / "plot.svg")
    root = ElementTree.parse(path).getroot()
    assert float(root.attrib["width"].removesuffix("pt")) * 96 / 72 == pytest.approx(900, abs=10)
    assert "fill: #ffffff" in path.read_text()


def test_losses_beyond_the_axis_and_a_target_that_stands_still_are_drawn(tmp_path: Path) -> None:
    session = made_session(count=2)
    wild = [replace(one, rate_during=one.rate_during * 40) for one in session.rounds[:30]]
    still = [replace(one, rate_before=0.0, rate_after=0.0) for one in session.rounds[30:60]]
    draw(replace(session, rounds=(*wild, *still), failures=()), path := tmp_path / "plot.svg")
    assert texts_of(path)["−100"] == len({one.workload for one in (*wild, *still)})


def test_an_empty_session_is_an_empty_plot(tmp_path: Path) -> None:
    draw(replace(made_session(count=1), rounds=(), failures=()), path := tmp_path / "plot.svg")
    assert texts_of(path)["failed"] == 0


def test_the_tool_of_comparison_is_at_the_top() -> None:
    session = made_session(count=1)
    shown = tools_shown(replace(session, tools=session.tools[::-1]), "Redis")
    assert shown[0] == NONE
    assert BCC_PROFILE in shown
    assert PMLOCK not in shown
