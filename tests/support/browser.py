"""Pictures opened in a real browser: Debian's Chromium, without a window and without a network."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Route, sync_playwright

from tests.support.needs import find_program, is_root


@dataclass(slots=True)
class Opened:
    """A page, and what it did that it shouldn't: messages on the console, errors, requests that aren't for files."""

    page: Page
    complaints: list[str] = field(default_factory=list[str])

    def text(self, selector: str) -> str:
        """The text of the first element that fits."""
        return self.page.locator(selector).first.text_content() or ""

    def run(self, script: str) -> Any:
        """What a JavaScript expression gives."""
        return self.page.evaluate(script)

    def screenshot(self, path: Path) -> None:
        """The whole picture as PNG. Playwright's own waits for what a document that is SVG doesn't have."""
        box = self.run("JSON.parse(JSON.stringify(document.documentElement.getBoundingClientRect()))")
        clip = {"x": 0, "y": 0, "width": box["width"], "height": box["height"], "scale": 1}
        session = self.page.context.new_cdp_session(self.page)
        shot = session.send("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for many pages. Raises `CannotTest` where there is none."""
    program = find_program("chromium")
    # Chromium's sandbox can't be had as root; what it opens are our own files.
    arguments = ["--no-sandbox"] if is_root() else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser: Browser, file: Path, address: str = "", **options: Any) -> Iterator[Opened]:
    """The file in a page of its own. `address` follows its name (`#…`); `options` are those of a browser's context."""
    context: BrowserContext = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    try:
        result = Opened(context.new_page())
        result.page.set_default_timeout(10_000)
        context.route("**/*", lambda route: _only_files(route, result.complaints))
        result.page.on("console", lambda message: result.complaints.append(message.text))
        result.page.on("pageerror", lambda error: result.complaints.append(str(error)))
        result.page.goto(f"{file.as_uri()}{address}")
        yield result
    finally:
        context.close()


def _only_files(route: Route, complaints: list[str]) -> None:
    if route.request.url.startswith("file://"):
        route.continue_()
    else:
        complaints.append(f"request: {route.request.url}")
        route.abort()
