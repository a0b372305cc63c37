"""The difference picture in a real browser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from lockflame.pprof import encode
from tests.integration.test_picture import click_frame, labels, settle, zoomed
from tests.support.browser import Opened, chromium, opened
from tests.support.cli import run_lockflame
from tests.support.needs import CannotTest
from tests.unit.flame.diff import test_picture as unit

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

CHOSEN = "document.querySelectorAll('select')[1].value"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(chromium())
        except CannotTest as missing:
            pytest.skip(str(missing))
        yield found


@contextlib.contextmanager
def shown(browser: Browser, tmp_path: Path, svg: str, **options: Any) -> Iterator[Opened]:
    file = tmp_path / "diff.svg"
    file.write_text(svg, encoding="utf-8")
    with opened(browser, file, **options) as picture:
        settle(picture)
        yield picture
        assert picture.complaints == []


def tip(picture: Opened) -> str:
    """What the frame with the focus says, name first."""
    return "\n".join(picture.page.locator(".tip.shown > *").all_text_contents())


def fills(picture: Opened) -> set[str]:
    return set(picture.run("[...document.querySelectorAll('.layer > path')].map((path) => path.getAttribute('fill'))"))


def test_it_looks_and_speaks_as_without_a_script(browser: Browser, tmp_path: Path) -> None:
    svg = unit.small()
    still = {unit.title(frame).split("\n")[0]: unit.title(frame) for frame in unit.frames(svg).values()}
    with shown(browser, tmp_path, svg) as picture:
        colours = {"#{:02x}{:02x}{:02x}".format(*unit.shade(unit.step(frame))) for frame in unit.frames(svg).values()}
        assert fills(picture) - {"none"} == colours
        assert {"− JOIN::old_way", "log", "all: 1.4 s/s → 1.16 s/s CPU time"} <= set(labels(picture))
        assert picture.page.locator("path.edge").count() == 1
        picture.run("document.querySelector('.cursor').focus()")
        seen = {}
        for key in (*["ArrowUp"] * 3, *["ArrowLeft"] * 3, "ArrowUp", *["ArrowDown"] * 2, "ArrowRight"):
            picture.page.keyboard.press(key)
            said = tip(picture)
            seen[said.split("\n")[0]] = said
        assert len(seen) >= 6
        assert all(still[name] == said for name, said in seen.items())


def test_the_plain_pictures_of_both_sides(browser: Browser, tmp_path: Path) -> None:
    with shown(browser, tmp_path, unit.small()) as picture:
        menu = picture.page.get_by_label("Sample type")
        assert "within the noise" in (picture.page.locator("g.legend:visible").text_content() or "")
        menu.select_option("CPU time after")
        settle(picture)
        assert {"all: 1.16 s/s CPU time after", "cost"} <= set(labels(picture))
        assert not any(label.startswith(("JOIN::old", "+", "−")) for label in labels(picture))
        assert "contended locks: 5 % to all" in (picture.page.locator("g.legend:visible").text_content() or "")
        click_frame(picture, "log")
        assert "420 ms/s (36.2 %)" in picture.run("document.activeElement.getAttribute('aria-label')")
        picture.page.reload()
        assert (zoomed(picture), picture.run(CHOSEN)) == ("log", "2")
        picture.page.locator("g.path").first.click()
        settle(picture)
        assert (zoomed(picture), picture.run(CHOSEN)) == ("THD::set_query", "0")


def test_search_the_inverted_view_and_callers(browser: Browser, tmp_path: Path) -> None:
    with shown(browser, tmp_path, unit.small()) as picture:
        picture.page.get_by_label("Search functions").fill("JOIN")
        assert picture.text("output").startswith("3 frames")
        picture.page.keyboard.press("Escape")
        picture.page.get_by_label("View", exact=True).select_option("inverted")
        settle(picture)
        click_frame(picture, "cost")
        said = picture.run("document.activeElement.getAttribute('aria-label')")
        assert "before 180 ms/s (12.9 %) → after 60 ms/s (5.2 %), −67 %" in said
        assert "noise" not in said
        picture.page.get_by_role("button", name="Merge callers").click()
        settle(picture)
        assert {"all: 180 ms/s → 60 ms/s CPU time", "− JOIN::old_way"} <= set(labels(picture))


HEADINGS = {
    "": "CPU time before and after: mariadbd",
    "cpu": "CPU time before and after: mariadbd",
    "wait": "Time waited for locks, before and after: mariadbd",
    "holder": "Time that others waited, by who released the lock, before and after: mariadbd",
}


@pytest.mark.parametrize("view", HEADINGS)
def test_the_views_by_the_command_line(view: str, tmp_path: Path) -> None:
    (tmp_path / "before").write_bytes(encode(unit.waits(8)))
    (tmp_path / "after").write_bytes(encode(unit.waits(1, host="db2")))
    options = ("--view", view) if view else ()
    result = run_lockflame("diff", "before", "after", "-o", "diff.svg", *options, cwd=tmp_path)
    assert result.status == 0, result.stderr
    assert ("--view wait draws who waits" in result.stderr) is (view == "")
    svg = (tmp_path / "diff.svg").read_text(encoding="utf-8")
    assert unit.words(svg, "heading") == HEADINGS[view]
    assert "Note: other machines (db1 before, db2 after)" in unit.words(svg, "notes")


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--view", "wait"), 2, "give -o diff.svg too"),
        (("--view", "wait", "-o", "diff.svg"), 1, "Not all files have them"),
    ],
)
def test_a_view_that_cannot_be_drawn(options: tuple[str, ...], status: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "before").write_bytes(encode(unit.waits(8)))
    (tmp_path / "after").write_bytes(encode(unit.recorded(unit.AFTER)))
    result = run_lockflame("diff", "before", "after", *options, cwd=tmp_path)
    assert result.status == status, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "diff.svg").exists()


def test_waits(browser: Browser, tmp_path: Path) -> None:
    svg = unit.drawn_waits(unit.waits(8), unit.waits(1))
    with shown(browser, tmp_path, svg, color_scheme="dark") as picture:
        picture.page.locator("g.path").first.click()
        settle(picture)
        assert zoomed(picture) == "open_table"
        assert "[LOCK_open (mutex)]" in labels(picture)
        assert picture.page.locator("path.edge").count() == 1
