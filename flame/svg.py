"""The flame graph as one SVG file that needs nothing beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template
from xml.sax.saxutils import escape

from flame.captions import Fact, completeness, heading, measured
from flame.contention import Contention, find_contention
from flame.drawing import FRAMES_HEIGHT, MIN_ROW_HEIGHT, ROW_HEIGHT, draw_frames, is_inlined, palettes_in
from flame.embedded import Geometry, embedded_data
from flame.frames import choose_sample_type, frame_stacks, stack_weights
from flame.furniture import CHAIN_HINT, HINT, MARGIN, WIDTH, Legend, footer, header
from flame.layout import MIN_WIDTH
from flame.listing import Entry, Listing, contention_listing
from flame.lock_captions import lock_completeness, lock_heading, lock_listing, lock_measured, lock_notes
from flame.lock_marks import ViewName
from flame.locks.rule_file import load_rules
from flame.locks.rules import LockRules
from flame.palette import PALETTES, ROOT_PALETTE
from flame.text import isolated
from flame.views import Merged, Merger, View, in_other_type
from lockflame.profile import FrameKind, Profile, SampleType

_EMPTY_HEIGHT = 120
_NEEDLESS_SPACE = re.compile(r" ?([=<>!?:,;{}()*&|]+) ?")
_NEEDLESS_IN_CSS = re.compile(r"(?:(?<=:) (?=[^:]*;$)| (?={$))()")
_TEXT = re.compile(r"[\"'`]")
_SCRIPTS = ("views.js", "flamegraph.js")


def render_svg(
    profile: Profile,
    *,
    rules: LockRules | None = None,
    title: str | None = None,
    sample_type: SampleType | None = None,
    min_width: float = MIN_WIDTH,
    full_names: bool = False,
    inverted: bool = False,
    view: ViewName = ViewName.CPU,
    idle_ns: int = 0,
) -> str:
    """A whole SVG document, to be written as UTF-8; the same profile gives the same text.

    `rules` say what a lock is; without, ours do. `sample_type` is chosen as `choose_sample_type` does; a reader can
    switch to the others. Frames narrower than `min_width` pixels (of 1,200) are left out and counted. The names in
    the frames are those of `short_name` unless `full_names`; tooltips have them whole. `inverted` begins with the
    stacks merged from the leaf. `view` is which picture the profile is, as `view_of` makes it, with so much time in
    idle waits left out. A profile without samples gives a picture that says so.
    """
    chosen = choose_sample_type(profile, sample_type)
    contention = find_contention(profile, rules or load_rules())
    merger = Merger(profile, contention, picture_width=WIDTH - 2 * MARGIN, min_width=min_width)
    first = merger.merged(chosen, from_leaf=inverted)
    words = (
        _cpu_words(profile, contention, first) if view is ViewName.CPU else _lock_words(profile, first, view, idle_ns)
    )
    picture = _draw(profile, words, first, title, full_names)
    entries = words.listing.entries if words.listing else ()
    views = {(chosen, inverted): merger.view(first, entries)}
    del first
    document = Template(_resource("document.svg")).substitute(
        width=WIDTH,
        height=picture.geometry.height,
        margin=MARGIN,
        title=escape(picture.title),
        label=escape(picture.title, {'"': "&quot;"}),
        style=escape(_dense(_resource("style.css"), is_script=False)),
        header="\n".join(picture.header),
        frames="\n".join(picture.frames),
        footer="\n".join(picture.footer),
        script="" if picture.is_empty else "$script",
    )
    if picture.is_empty:
        return document
    pairs = _views(profile, merger, chosen, views, entries)
    data = embedded_data(
        profile, merger.stacks, pairs, picture.geometry, starts_inverted=inverted, full_names=full_names
    )
    head, _, tail = document.rpartition("$script")
    return f"{head}{_script(data)}{tail}"


@dataclass(frozen=True, slots=True)
class _Picture:
    """The document's parts, which stand without the script too."""

    title: str
    header: list[str]
    frames: list[str]
    footer: list[str]
    geometry: Geometry
    is_empty: bool


@dataclass(frozen=True, slots=True)
class _Words:
    """What a picture says beside its frames. `markers` is what the legend calls frames that are no code; `notes` are
    what tooltips of these say besides, by name."""

    heading: str
    measured: list[Fact]
    completeness: list[Fact]
    listing: Listing | None
    has_contended: bool
    hint: str
    nothing: str
    markers: str
    notes: dict[str, str]

    def label(self, palette: int) -> str:
        """What the legend calls a palette."""
        return self.markers if palette == FrameKind.MARKER else PALETTES[palette].label


def _cpu_words(profile: Profile, contention: Contention | None, merged: Merged) -> _Words:
    return _Words(
        heading=heading(profile, merged.tree),
        measured=measured(profile.recording, profile.container),
        completeness=completeness(profile, merged.layout),
        listing=contention_listing(contention) if contention else None,
        has_contended=contention is not None and contention.is_notable,
        hint=HINT,
        nothing="No samples: there is nothing to show.",
        markers=PALETTES[FrameKind.MARKER].label,
        notes={},
    )


def _lock_words(profile: Profile, merged: Merged, view: ViewName, idle_ns: int) -> _Words:
    return _Words(
        heading=lock_heading(profile, view),
        measured=lock_measured(profile, idle_ns),
        completeness=lock_completeness(profile, merged.layout, view),
        listing=lock_listing(profile, frame_stacks(profile), view),
        has_contended=False,
        hint=CHAIN_HINT if view is ViewName.CHAIN else HINT,
        nothing="No waits: there is nothing to show.",
        markers="not known",
        notes=lock_notes(profile, view),
    )


def _draw(profile: Profile, words: _Words, merged: Merged, title: str | None, full_names: bool) -> _Picture:
    layout = merged.layout
    shown_title = isolated(title) if title else words.heading
    # The palettes that the legend explains: those of the frames in the picture, without the root's.
    palettes = sorted(set(palettes_in(merged).tolist()) - {ROOT_PALETTE})
    head, top = header(
        shown_title,
        command=profile.recording.command,
        measured=words.measured,
        warnings=[fact for fact in words.completeness if fact.warns],
        listing=words.listing,
        legend=Legend(
            [(index, words.label(index)) for index in palettes],
            bool(is_inlined(merged).any()),
            words.has_contended,
            words.hint,
        ),
    )
    if len(layout):
        frames, bottom = draw_frames(profile, merged, top, full_names=full_names, notes=words.notes)
    else:
        frames, bottom = _nothing(words.nothing, top)
    foot, height = footer(words.completeness, profile.recording.notes, bottom)
    geometry = Geometry(WIDTH, MARGIN, top, bottom, height, ROW_HEIGHT, MIN_ROW_HEIGHT, FRAMES_HEIGHT, layout.min_width)
    return _Picture(shown_title, head, frames, foot, geometry, len(layout) == 0)


def _views(
    profile: Profile,
    merger: Merger,
    chosen: SampleType,
    known: dict[tuple[SampleType, bool], View],
    entries: Sequence[Entry],
) -> list[tuple[View, View]]:
    """From the root and from the leaf, for the chosen sample type and for the others that have any weight."""
    others = [kind for kind in profile.sample_types if kind != chosen and stack_weights(profile, kind).any()]
    pairs: list[tuple[View, View]] = []
    for kind in (chosen, *others):
        pair: list[View] = []
        for from_leaf in (False, True):
            view = known.get((kind, from_leaf))
            if view is None and kind != chosen:
                view = in_other_type(known[chosen, from_leaf], profile, kind)
            if view is None:
                view = merger.view(merger.merged(kind, from_leaf=from_leaf, is_pruned=from_leaf), entries)
            known[kind, from_leaf] = view
            pair.append(view)
        pairs.append((pair[0], pair[1]))
    return pairs


def _nothing(text: str, top: int) -> tuple[list[str], int]:
    """What stands in place of the frames of an empty profile, and its lower edge."""
    middle = f'x="{(WIDTH - 2 * MARGIN) / 2:g}" y="{top + _EMPTY_HEIGHT // 2}"'
    return [f'<text class="empty" {middle}>{text}</text>'], top + _EMPTY_HEIGHT


def _script(data: str) -> str:
    """The script and its data. A parser of HTML finds the same in CDATA within SVG as one of XML does."""
    code = "\n".join(_dense(_resource(name), is_script=True) for name in _SCRIPTS)
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
            dense = text if is_script and _TEXT.search(text) else needless.sub(r"\1", text)
            lines.append(dense if text[-1] in "{}[(,;" else f"{dense}\n")
        in_comment = in_comment and not text.endswith("*/")
    return "".join(lines)


def _resource(name: str) -> str:
    return resources.files("flame").joinpath(name).read_text(encoding="utf-8")
