"""The SVG document around a picture: one file, with its style and its script within."""

from __future__ import annotations

import os.path
import re
from collections.abc import Sequence
from string import Template
from typing import NamedTuple

from flame.embedded import Geometry
from flame.furniture import MARGIN, WIDTH
from flame.text import escape

PLAIN_SCRIPTS = ("views.js", "flamegraph.js", "start.js")
PLAIN_STYLES = ("style.css",)

_EMPTY_HEIGHT = 120
_NEEDLESS_SPACE = re.compile(r"(?<=[=<>!?:,;{}()*&|]) | (?=[=<>!?:,;{}()*&|])")
_NEEDLESS_IN_CSS = re.compile(r"(?<=:) (?=[^:]*;$)| (?={$)")
_TEXT = re.compile(r"[\"'`]")


class Picture(NamedTuple):
    """The document's parts, which stand without the script too."""

    title: str
    header: list[str]
    frames: list[str]
    footer: list[str]
    geometry: Geometry
    is_empty: bool


def nothing(text: str, top: int) -> tuple[list[str], int]:
    """What stands in place of the frames of an empty profile, and its lower edge."""
    middle = f'x="{(WIDTH - 2 * MARGIN) / 2:g}" y="{top + _EMPTY_HEIGHT // 2}"'
    return [f'<text class="empty" {middle}>{text}</text>'], top + _EMPTY_HEIGHT


def document(
    picture: Picture, data: str, *, scripts: Sequence[str] = PLAIN_SCRIPTS, styles: Sequence[str] = PLAIN_STYLES
) -> str:
    """The whole file. `data` is what `embedded_data` makes, empty for a picture without a script. `scripts` and
    `styles` are paths in the folder of this package. Scripts share one scope, and run one after the other."""
    text = Template(_resource("document.svg")).substitute(
        width=WIDTH,
        height=picture.geometry.height,
        margin=MARGIN,
        title=escape(picture.title),
        label=escape(picture.title).replace('"', "&quot;"),
        style=escape("\n".join(_dense(_resource(name), is_script=False) for name in styles)),
        header="\n".join(picture.header),
        frames="\n".join(picture.frames),
        footer="\n".join(picture.footer),
        script="$script" if data else "",
    )
    if not data:
        return text
    head, _, tail = text.rpartition("$script")
    return f"{head}{_script(data, scripts)}{tail}"


def _script(data: str, scripts: Sequence[str]) -> str:
    """The script and its data. A parser of HTML finds the same in CDATA within SVG as one of XML does."""
    code = "\n".join(_dense(_resource(name), is_script=True) for name in scripts)
    return (
        f'<script type="application/json" class="data">{data}</script>\n'
        f"<script><![CDATA[(() => {{\n{code}\n}})();]]></script>"
    )


def _dense(code: str, *, is_script: bool) -> str:
    """JavaScript or CSS without indentation, comments of their own lines, and needless ends of lines and spaces.

    The code must be as the formatter of `make lint` leaves it (with semicolons); no text in it goes over lines.
    Spaces stay in lines of script that have texts, and where they may tell operators apart (`a - -b`).
    """
    lines: list[str] = []
    in_comment = False
    for line in code.splitlines():
        text = line.strip()
        in_comment = in_comment or text.startswith("/*")
        if text and not in_comment and not text.startswith("//"):
            needless = _NEEDLESS_SPACE if is_script else _NEEDLESS_IN_CSS
            dense = text if is_script and _TEXT.search(text) else needless.sub("", text)
            lines.append(dense if text[-1] in "{}[(,;" else f"{dense}\n")
        in_comment = in_comment and not text.endswith("*/")
    return "".join(lines)


def _resource(name: str) -> str:
    # By hand: importing importlib.resources takes longer than all of the reading.
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
        return file.read()
