"""The interactive picture in a real browser."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser

from flame.svg import render_svg
from lockflame.pprof import encode
from lockflame.profile import Profile, RecordingInfo
from tests.support.browser import Opened, chromium, opened
from tests.support.cli import run_lockflame
from tests.support.needs import CannotTest
from tests.unit.flame.conftest import profile_of

pytestmark = pytest.mark.integration

STACKS = [
    (["start", "handle", "THD::set_query(char*)", "pthread_mutex_lock", "__lll_lock_wait", "futex_wait[k]"], 300),
    (["start", "handle", "THD::set_query(char*)"], 20),
    (["start", "handle", "THD::reset_query()", "pthread_mutex_lock", "__lll_lock_wait"], 100),
    (["start", "handle", "JOIN::exec()", "evaluate"], 380),
    (["start", "log", "evaluate"], 200),
]
ZOOM_MS_MOST = 500

Open = Callable[..., AbstractContextManager[Opened]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(chromium())
        except CannotTest as missing:
            pytest.skip(str(missing))
        yield found


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Open:
    """Opens a picture of these stacks (or of a profile); at the end nothing may have been complained about."""

    @contextlib.contextmanager
    def open_it(stacks: Any = STACKS, address: str = "", look: Any = None, **options: Any) -> Iterator[Opened]:
        profile = stacks if isinstance(stacks, Profile) else profile_of(stacks)
        file = tmp_path / "picture.svg"
        file.write_text(render_svg(profile, **(look or {})), encoding="utf-8")
        with opened(browser, file, address, **options) as picture:
            yield picture
            assert picture.complaints == []

    return open_it


def zoomed(picture: Opened) -> str:
    return picture.text(".crumbs [aria-current]")


def cursor(picture: Opened) -> str:
    """The name of the frame that has the focus."""
    label = picture.run("document.activeElement.getAttribute('aria-label')") or ""
    return label.split(",")[0]


def labels(picture: Opened) -> list[str]:
    return picture.page.locator(".labels text").all_text_contents()


def settle(picture: Opened) -> None:
    """Wait for the end of the animation, which the labels follow."""
    picture.page.wait_for_selector(".labels text", state="attached")


def click_frame(picture: Opened, label: str) -> None:
    settle(picture)
    box = picture.page.locator(".labels text").filter(has_text=re.compile(f"^{re.escape(label)}")).first.bounding_box()
    assert box is not None
    picture.page.mouse.click(box["x"] + 3, box["y"] + box["height"] / 2)
    settle(picture)


def test_without_scripts_it_is_a_picture(show: Open) -> None:
    with show(java_script_enabled=False) as picture:
        assert picture.page.locator("svg.func_g").count() == 14
        assert picture.page.locator("foreignObject").count() == 0


def test_search(show: Open) -> None:
    with show() as picture:
        box = picture.page.get_by_label("Search functions")
        picture.page.keyboard.press("/")
        picture.page.keyboard.type("lll_lock")
        assert picture.text("output") == "2 frames, 40 %"
        assert picture.page.locator("path.match").count() == 1
        box.fill("evaluate")
        assert picture.text("output") == "2 frames, 58 %"
        box.fill("handle|pthread")
        assert picture.text("output") == "0 frames, 0 %"
        picture.page.locator("[type=checkbox]").check()
        assert picture.text("output") == "3 frames, 80 %"  # what is on `handle` isn't counted twice
        box.fill("(")
        assert picture.text("output") == "no valid expression"
        assert box.get_attribute("aria-invalid") == "true"
        picture.page.keyboard.press("Escape")
        assert picture.text("output") == picture.run("document.querySelector('input').value") == ""
        picture.page.keyboard.press("Control+f")
        assert picture.run("document.activeElement.type") == "search"


def test_whole_names_are_searched(show: Open) -> None:
    with show([(["std::map<int, Secret>::find(int const&) const"], 10)]) as picture:
        assert "std::map<…>::find" in labels(picture)
        picture.page.get_by_label("Search functions").fill("Secret>")
        assert picture.text("output") == "1 frame, 100 %"


def test_zoom_by_mouse_and_way_back(show: Open) -> None:
    with show() as picture:
        click_frame(picture, "JOIN::exec")
        assert zoomed(picture) == "JOIN::exec"
        assert picture.page.locator(".crumbs button").all_text_contents() == ["all", "start", "handle", "JOIN::exec"]
        assert {"all: 10 s CPU time", "start", "handle", "JOIN::exec", "evaluate"} == set(labels(picture))
        picture.page.get_by_role("button", name="start").click()
        assert zoomed(picture) == "start"
        picture.page.keyboard.press("Escape")
        settle(picture)
        assert zoomed(picture) == "all"
        assert "THD::set_query" in labels(picture)
        click_frame(picture, "handle")
        picture.page.get_by_role("button", name="Reset", exact=True).click()
        assert zoomed(picture) == "all"


def test_keyboard(show: Open) -> None:
    with show() as picture:
        picture.run("document.querySelector('.cursor').focus()")
        walked = [cursor(picture)]
        for key in ("ArrowUp", "ArrowUp", "ArrowUp", "ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowDown"):
            picture.page.keyboard.press(key)
            walked.append(cursor(picture))
        sites = ["JOIN::exec()", "THD::reset_query()", "JOIN::exec()", "JOIN::exec()", "handle"]
        assert walked == ["all", "start", "handle", *sites]
        assert picture.page.locator("[tabindex='0'].cursor").count() == 1
        picture.page.keyboard.press("ArrowUp")
        assert "3.8 s (38 %)" in picture.text(".tip.shown")
        assert picture.run("getComputedStyle(document.querySelector('.cursor')).stroke") != "none"
        picture.page.keyboard.press("Enter")
        assert zoomed(picture) == cursor(picture).removesuffix("()") == "JOIN::exec"
        picture.page.keyboard.press("Escape")
        assert zoomed(picture) == "all"


def test_details_on_hover(show: Open) -> None:
    with show() as picture:
        box = picture.page.locator(".labels text").filter(has_text="THD::set_query").bounding_box()
        assert box is not None
        picture.page.mouse.move(box["x"], box["y"] + 2)
        tip = picture.page.locator(".tip.shown div").all_text_contents()
        assert picture.text(".tip.shown b") == "THD::set_query(char*)"
        assert tip == ["3.2 s (32 %), self 200 ms (2 %), contended 93.8 % of it, user"]
        picture.page.mouse.move(5, 5)
        assert picture.page.locator(".tip.shown").count() == 0


def test_the_address_keeps_zoom_and_search(show: Open) -> None:
    with show() as picture:
        click_frame(picture, "handle")
        click_frame(picture, "JOIN::exec")
        picture.page.get_by_label("Search functions").fill("eval")
        assert "search=eval" in picture.run("location.hash")
        picture.page.reload()
        assert (zoomed(picture), picture.text("output")) == ("JOIN::exec", "2 frames, 58 %")
        picture.page.go_back()
        picture.page.wait_for_function("document.querySelector('.crumbs [aria-current]').textContent === 'handle'")
        assert picture.text("output") == ""
        picture.page.go_forward()
        picture.page.wait_for_function("document.querySelector('output').textContent !== ''")
        assert zoomed(picture) == "JOIN::exec"


@pytest.mark.parametrize(
    "address", ["#zoom=99999", "#zoom=-1&fn=x&type=7&view=none", "#view=callers", "#search=%28&regex=true", "#%%%&&=="]
)
def test_any_address_shows_a_picture(show: Open, address: str) -> None:
    with show(address=address) as picture:
        assert zoomed(picture) == "all"
        assert "handle" in labels(picture)


def test_inverted(show: Open) -> None:
    for options in ({"address": "#view=inverted"}, {"look": {"inverted": True}}):
        with show(**options) as picture:
            tops = {
                text: float(picture.page.locator(".labels text").filter(has_text=text).first.get_attribute("y") or 0)
                for text in ("all", "evaluate", "JOIN::exec")
            }
            assert tops["all"] < tops["evaluate"] < tops["JOIN::exec"]
            click_frame(picture, "evaluate")
            assert "58 %" in picture.run("document.activeElement.getAttribute('aria-label')")
            assert picture.run("document.querySelector('select').value") == "inverted"


def test_callers_of_one_function(show: Open) -> None:
    with show() as picture:
        click_frame(picture, "evaluate")
        picture.page.get_by_role("button", name="Merge callers").click()
        assert "callers of evaluate" in picture.text(".note")
        assert set(labels(picture)) >= {"all: 5.8 s CPU time", "evaluate", "JOIN::exec", "log"}
        assert "THD::set_query" not in labels(picture)
        picture.page.reload()
        assert "callers of evaluate" in picture.text(".note")
        picture.page.get_by_label("View", exact=True).select_option("callees")
        assert "THD::set_query" in labels(picture)


def test_sample_types(show: Open) -> None:
    base = profile_of(STACKS)
    values = base.samples.values.copy()
    values[:, 1] = values[::-1, 1]
    for profile, share in ((base, "38 %"), (replace(base, samples=replace(base.samples, values=values)), "38 %")):
        with show(profile) as picture:
            picture.page.get_by_label("Sample type").select_option("samples")
            assert "all: 1,000 samples" in labels(picture)
            click_frame(picture, "JOIN::exec")
            assert share in picture.run("document.activeElement.getAttribute('aria-label')")
            picture.page.get_by_label("View", exact=True).select_option("inverted")
            assert "all: 1,000 samples" in labels(picture)


def test_copy_of_the_stack(show: Open) -> None:
    stack = "JOIN::exec()\nhandle\nstart"
    with show(permissions=["clipboard-read", "clipboard-write"]) as picture:
        click_frame(picture, "JOIN::exec")
        copy = picture.page.get_by_role("button", name="Copy stack")
        copy.click()
        picture.page.wait_for_function("document.querySelector('output').textContent === '3 frames copied'")
        assert picture.run("navigator.clipboard.readText()") == stack
        picture.run("navigator.clipboard.writeText = () => Promise.reject(new Error('no')); 0")
        copy.click()
        picture.page.wait_for_selector("textarea")
        assert picture.run("getSelection().toString() || document.activeElement.value") == stack
        picture.page.keyboard.press("Tab")
        assert zoomed(picture) == "JOIN::exec"


def test_a_worst_path_leads_to_its_frame(show: Open) -> None:
    with show(address="#view=inverted") as picture:
        picture.page.locator("g.path").nth(1).click()
        settle(picture)
        assert zoomed(picture) == "THD::reset_query"
        assert cursor(picture) == "THD::reset_query()"
        picture.run("document.querySelector('g.path').focus()")
        picture.page.keyboard.press("Enter")
        assert zoomed(picture) == "THD::set_query"


def test_dark_light_and_print(show: Open) -> None:
    page_fill = "getComputedStyle(document.querySelector('.page')).fill"
    with show(color_scheme="dark") as picture:
        assert picture.run(page_fill) == "rgb(23, 23, 27)"
        picture.page.emulate_media(color_scheme="light")
        assert picture.run(page_fill) == "rgb(255, 255, 255)"
        picture.page.emulate_media(media="print", color_scheme="dark")
        assert picture.run(page_fill) == "rgb(255, 255, 255)"
        assert picture.run("getComputedStyle(document.querySelector('.tools')).display") == "none"


@pytest.mark.parametrize(("preference", "animations"), [("no-preference", 1), ("reduce", 0)])
def test_animation_by_preference(show: Open, preference: Any, animations: int) -> None:
    with show(reduced_motion=preference) as picture:
        picture.run("document.querySelector('.cursor').focus()")
        picture.page.keyboard.press("ArrowUp")
        started = picture.run(
            "(document.querySelector('.cursor').dispatchEvent("
            "new KeyboardEvent('keydown', {key: 'Enter', bubbles: true})), document.getAnimations().length)"
        )
        assert started == animations


@pytest.mark.parametrize("how", ["inline", "object", "iframe"])
def test_embedded_in_a_page(browser: Browser, tmp_path: Path, how: str) -> None:
    svg = render_svg(profile_of(STACKS))
    (tmp_path / "p.svg").write_text(svg, encoding="utf-8")
    inline = svg.partition("?>")[2]
    body = {
        "inline": f"<h1>One</h1>{inline}<h1>Two</h1>{inline}",
        "object": '<object data="p.svg" type="image/svg+xml" width="1200" height="600"></object>',
        "iframe": '<iframe src="p.svg" width="1200" height="600"></iframe>',
    }[how]
    page_file = tmp_path / "page.html"
    page_file.write_text(f"<!doctype html><meta charset=utf-8><body>{body}", encoding="utf-8")
    with opened(browser, page_file) as picture:
        frame = picture.page.frames[-1] if how != "inline" else picture.page.main_frame
        frame.get_by_label("Search functions").first.fill("lll_lock")
        assert frame.locator("output").first.text_content() == "2 frames, 40 %"
        frame.locator("g.path").first.click()
        assert frame.locator(".crumbs [aria-current]").first.text_content() == "THD::set_query"
        if how == "inline":
            assert frame.locator(".crumbs [aria-current]").nth(1).text_content() == "all"
            assert "#" not in picture.page.url  # the address is the page's
        assert picture.complaints == []


HOSTILE = [
    "<script>alert(1)</script>&amp;\"'",
    "]]></script><b onload=x>",
    "bell\x07nul\x00esc\x1b[31m\nline",
    "x" * 10_000,
    "שלום(\u202eint)",
    "__proto__",
    "${name} \\u003c \\",
]


def test_hostile_names(show: Open) -> None:
    with show([(["start", name], 10) for name in HOSTILE]) as picture:
        for index, name in enumerate(HOSTILE):
            expected = re.sub("[\x00-\x1f\u202e]", "\ufffd", name)
            picture.page.get_by_label("Search functions").fill(expected[:2000])
            assert picture.text("output") == "1 frame, 14.3 %", index
        assert picture.page.locator("b[onload]").count() == 0
        picture.page.keyboard.press("Escape")
        for _ in HOSTILE:
            picture.page.keyboard.press("ArrowUp")
            picture.page.keyboard.press("ArrowRight")
            height = picture.run("document.querySelector('.tip').offsetHeight")
            assert 0 < height < 200


def test_the_command_and_its_options(tmp_path: Path) -> None:
    profile, svg = tmp_path / "p.pb.gz", tmp_path / "p.svg"
    profile.write_bytes(encode(profile_of(STACKS)))
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nnames = ["JOIN::*"]\nkind = "join"\nmeans = "contended"\n')
    options = ("--inverted", "--thread", "main", "--focus", "^JOIN", "--lock-rules", rules, "--title", "T")
    result = run_lockflame("flame", profile, "-o", svg, *options)
    assert (result.status, result.stderr) == (0, "")
    text = svg.read_text()
    for expected in (
        "handle → join",
        "Only stacks with ^JOIN: 38 % of all samples.",
        "Only threads main: 100 %",
        ">T</text>",
    ):
        assert expected in text
    assert "THD::set_query" not in text
    for wrong in (("--thread", "nobody"), ("--focus", "("), ("--lock-rules", tmp_path / "none")):
        result = run_lockflame("flame", profile, "-o", tmp_path / "none.svg", *wrong)
        assert (result.status, result.stderr.count("\n")) == (1, 1)
    assert not (tmp_path / "none.svg").exists()


def test_a_narrow_window_scrolls(show: Open) -> None:
    with show(viewport={"width": 600, "height": 900}) as picture:
        assert picture.run("document.documentElement.getBoundingClientRect().width") >= 900
        picture.run("scrollTo(300, 0)")
        assert picture.run("scrollX") > 200


def test_an_empty_profile(show: Open) -> None:
    with show([]) as picture:
        assert "No samples" in picture.text(".empty")
        assert picture.page.locator("foreignObject").count() == 0


def test_stacks_2000_deep(show: Open) -> None:
    with show([([f"level_{index}" for index in range(2000)], 100)]) as picture:
        assert len(labels(picture)) >= 250
        picture.run("document.querySelector('.cursor').focus()")
        for _ in range(20):
            picture.page.keyboard.press("ArrowUp")
        picture.page.keyboard.press("Enter")
        assert zoomed(picture) == "level_19"
        assert picture.page.locator(".crumbs button").count() == 8


def wide_profile(frames: int) -> Profile:
    """Of about so many frames that are drawn, in rows of 500."""
    stacks = [([f"f{(leaf * 7 + level) % 300}" for level in range(frames // 500)], 1) for leaf in range(500)]
    unique = [([f"leaf_{index}", *stack], count) for index, (stack, count) in enumerate(stacks)]
    base = profile_of(unique)
    return replace(base, recording=RecordingInfo(samples=int(np.sum(base.samples.values[:, 0]))))


ZOOM_TIME = """async () => {
  const press = (key) => {
    const cursor = document.querySelector('.cursor');
    cursor.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  };
  const times = [];
  for (let round = 0; round < 5; round++) {
    for (const key of ['ArrowUp', 'Enter', 'Escape']) {
      await new Promise((done) => setTimeout(done, 400));
      const start = performance.now();
      press(key);
      document.querySelector('.layer').getBBox();
      if (key !== 'ArrowUp') times.push(performance.now() - start);
    }
  }
  return times;
}"""


def test_zoom_is_quick(show: Open) -> None:
    with show(wide_profile(10_000)) as picture:
        times = picture.run(ZOOM_TIME)
    print(f"zoom: {min(times):.0f} to {max(times):.0f} ms")
    assert min(times[1::2]) < ZOOM_MS_MOST
