"""The flame graph as one SVG file that needs nothing beside it."""

from __future__ import annotations

from typing import NamedTuple

from flame.captions import Fact, completeness, heading, measured
from flame.contention import Contention, find_contention
from flame.document import Picture, document, nothing
from flame.drawing import FRAMES_HEIGHT, MIN_ROW_HEIGHT, ROW_HEIGHT, draw_frames, is_inlined, palettes_in, plain_look
from flame.embedded import Geometry, embedded_data
from flame.frames import choose_sample_type, frame_stacks
from flame.furniture import CHAIN_HINT, HINT, MARGIN, WIDTH, Legend, footer, header, plain_swatches
from flame.layout import MIN_WIDTH
from flame.listing import Listing, contention_listing
from flame.lock_marks import ViewName
from flame.locks.rule_file import load_rules
from flame.locks.rules import LockRules
from flame.palette import PALETTES, ROOT_PALETTE
from flame.text import isolated
from flame.views import Merged, Merger, all_views
from lockflame.profile import FrameKind, Profile, SampleType


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
    known = {(chosen, inverted): merger.view(first, entries)}
    del first
    if picture.is_empty:
        return document(picture, "")
    pairs = all_views(profile, merger, chosen, known, entries)
    data = embedded_data(
        profile, merger.stacks, pairs, picture.geometry, starts_inverted=inverted, full_names=full_names
    )
    return document(picture, data)


class _Words(NamedTuple):
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
    # Late: a picture of CPU time does without.
    from flame.lock_captions import lock_completeness, lock_heading, lock_listing, lock_measured, lock_notes

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


def _draw(profile: Profile, words: _Words, merged: Merged, title: str | None, full_names: bool) -> Picture:
    layout = merged.layout
    shown_title = isolated(title) if title else words.heading
    # The palettes that the legend explains: those of the frames in the picture, without the root's.
    palettes = sorted(set(palettes_in(merged).tolist()) - {ROOT_PALETTE})
    head, top = header(
        shown_title,
        commands=[profile.recording.command],
        measured=[words.measured],
        warnings=[fact for fact in words.completeness if fact.warns],
        listing=words.listing,
        legend=Legend(
            plain_swatches(
                [(index, words.label(index)) for index in palettes],
                has_inlined=bool(is_inlined(merged).any()),
                has_contended=words.has_contended,
            ),
            words.hint,
        ),
    )
    if len(layout):
        frames, bottom = draw_frames(profile, merged, plain_look(merged), top, full_names=full_names, notes=words.notes)
    else:
        frames, bottom = nothing(words.nothing, top)
    foot, height = footer([words.completeness], profile.recording.notes, bottom)
    geometry = Geometry(WIDTH, MARGIN, top, bottom, height, ROW_HEIGHT, MIN_ROW_HEIGHT, FRAMES_HEIGHT, layout.min_width)
    return Picture(shown_title, head, frames, foot, geometry, len(layout) == 0)
