"""The difference flame graph: what was and what is, in one SVG file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flame.captions import Fact, left_out, measure_name
from flame.contention import Contention
from flame.diff.captions import (
    HINT,
    diff_heading,
    lock_notes,
    of_side,
    side_completeness,
    side_facts,
    side_notes,
    swatches,
    together,
)
from flame.diff.changes import (
    SHADES,
    STEPS,
    Changes,
    Measure,
    frame_changes,
    in_words,
    judged_as,
    measure_of,
)
from flame.diff.inclusive import Functions, functions_of
from flame.diff.normalize import Scale
from flame.diff.shown import Shown
from flame.diff.union import Union, joined, unite
from flame.diff.worst import worst_changes
from flame.document import PLAIN_SCRIPTS, PLAIN_STYLES, Picture, document, nothing
from flame.drawing import FRAMES_HEIGHT, MIN_ROW_HEIGHT, ROW_HEIGHT, Look, draw_frames, is_inlined, palettes_in
from flame.embedded import Geometry, embedded_data
from flame.furniture import HINT as PLAIN_HINT
from flame.furniture import LINE, MARGIN, WIDTH, Legend, draw_legend, footer, header, plain_swatches
from flame.layout import MIN_WIDTH
from flame.listing import Listing
from flame.lock_marks import ViewName
from flame.locks.attribution import Verdict
from flame.locks.rule_file import load_rules
from flame.locks.rules import LockRules
from flame.locks.sites import NEGLIGIBLE_SHARE
from flame.palette import LOCK_PALETTE, PALETTES, ROOT_PALETTE
from flame.text import isolated
from flame.views import Merged, Merger, View, all_views
from lockflame.profile import CPU, SAMPLES

_SCRIPTS = (*PLAIN_SCRIPTS[:-1], "diff/diff.js", PLAIN_SCRIPTS[-1])
_STYLES = (*PLAIN_STYLES, "diff/diff.css")
CONTENDED_LEAST = 0.5
"""A frame with a smaller part of its weight in contended locks isn't marked."""
_EDGE = 5
_GRAINS = 10_000_000
"""Of how many parts of the whole weights in the script's data are: a thousand for the narrowest frame."""
_SIGNS = {-STEPS: "− ", STEPS: "+ "}


def render_diff(
    shown: Shown,
    scales: tuple[Scale, Scale],
    *,
    rules: LockRules | None = None,
    title: str | None = None,
    notes: Sequence[str] = (),
) -> str:
    """A whole SVG document, to be written as UTF-8; the same profiles give the same text.

    `scales` make the values of its sides comparable. `rules` say what a lock is. `notes` are whole sentences that the
    reader has to know of the comparison.
    """
    chosen = shown.sample_type
    name = measure_name(chosen)
    names = ("difference", f"{name} before", f"{name} after")
    union = unite(shown.before, shown.after, scales, chosen, names, rules or load_rules())
    contention = _contention(union) if chosen in (CPU, SAMPLES) else None
    merger = Merger(union.profile, contention, picture_width=WIDTH - 2 * MARGIN, min_width=MIN_WIDTH)
    measure = measure_of(chosen.unit, scales)
    attribution = contention.attribution if contention else None
    merged = merger.merged(union.types[0], from_leaf=False)
    functions = functions_of(union, merger.stacks)
    changes = _frame_changes(union, merged, functions)
    listing = worst_changes(union, merger.stacks, attribution, functions, measure, name)
    words = _words(shown, merged, title, listing, notes)
    picture = _draw(union, merged, changes, measure, words)
    if picture.is_empty:
        return document(picture, "", styles=_STYLES)
    first = _with_changes(merger.view(merged, listing.entries), changes, union)
    inverted = merger.merged(union.types[0], from_leaf=True, is_pruned=True)
    second = _with_changes(merger.view(inverted, ()), _frame_changes(union, inverted, functions), union)
    known = {(union.types[0], False): first, (union.types[0], True): second}
    pairs = all_views(union.profile, merger, union.types[0], known, listing.entries)
    data = embedded_data(
        union.profile,
        merger.stacks,
        [(_coarse(one, union), _coarse(other, union)) for one, other in pairs],
        picture.geometry,
        starts_inverted=False,
        full_names=False,
        more={
            "changes": {
                "shades": ["#{:02x}{:02x}{:02x}".format(*shade) for shade in SHADES],
                "suffix": measure.suffix,
                "isShare": measure.is_share,
                "measure": name,
                "contendedLeast": CONTENDED_LEAST,
            }
        },
    )
    return document(picture, data, scripts=_SCRIPTS, styles=_STYLES)


@dataclass(frozen=True, slots=True)
class _Words:
    """What the picture says beside its frames. `measured` and `completeness` begin a line with each sequence.
    `of_locks` is what tooltips of locks' frames say besides, by name."""

    title: str
    name: str
    commands: list[str]
    measured: list[list[Fact]]
    completeness: list[list[Fact]]
    warnings: list[Fact]
    notes: list[str]
    nothing: str
    of_locks: dict[str, str]
    listing: Listing


def _frame_changes(union: Union, merged: Merged, functions: Functions) -> Changes:
    """The changes of the picture's frames; one that is nearly all there is of its function is judged as that."""
    frame = merged.tree.frame[merged.layout.node].astype(np.int64)
    return judged_as(frame_changes(union, merged), functions.changes, frame)


def _contention(union: Union) -> Contention | None:
    """The contention of both sides; its share is that of the side with more."""
    if union.attribution is None:
        return None
    values = union.profile.samples.values[:, 1:]
    contended = values[union.attribution.verdict == Verdict.CONTENDED].sum(axis=0)
    share = float((contended / np.maximum(values.sum(axis=0), 1)).max())
    return Contention(union.attribution, share, (), ()) if share >= NEGLIGIBLE_SHARE else None


def _words(shown: Shown, merged: Merged, title: str | None, listing: Listing, notes: Sequence[str]) -> _Words:
    view, sample_type = shown.view, shown.sample_type
    sides = {"before": shown.before, "after": shown.after}
    recordings = {side: together([profile.recording for profile in profiles]) for side, profiles in sides.items()}
    completeness = {
        side: side_completeness(replace(joined(profiles, sample_type), recording=recordings[side]), merged.layout, view)
        for side, profiles in sides.items()
    }
    return _Words(
        title=isolated(title) if title else diff_heading(shown.before, shown.after, sample_type, view),
        name=measure_name(sample_type),
        commands=list(dict.fromkeys(recording.command for recording in recordings.values())),
        measured=[
            of_side(side, side_facts(profiles, view, idle_ns))
            for (side, profiles), idle_ns in zip(sides.items(), shown.idle_ns, strict=True)
        ],
        completeness=[
            *(of_side(side, facts) for side, facts in completeness.items()),
            [left_out(merged.layout)],
        ],
        warnings=[Fact(f"{side}: {fact.text}") for side, facts in completeness.items() for fact in facts if fact.warns],
        notes=[*notes, *side_notes(recordings["before"].notes, recordings["after"].notes)],
        nothing="No samples on either side" if view is ViewName.CPU else "No waits on either side",
        of_locks={} if view is ViewName.CPU else lock_notes(shown.before, shown.after, view),
        listing=listing,
    )


def _draw(union: Union, merged: Merged, changes: Changes, measure: Measure, words: _Words) -> Picture:
    layout = merged.layout
    palettes = palettes_in(merged)
    has_inlined = bool(is_inlined(merged).any())
    is_lock = palettes == LOCK_PALETTE
    is_contended = merged.contended[layout.node] >= CONTENDED_LEAST * merged.tree.total_weight[layout.node]
    head, top = header(
        words.title,
        commands=words.commands,
        measured=words.measured,
        warnings=words.warnings,
        listing=words.listing,
        legend=Legend(
            swatches(
                has_inlined=has_inlined,
                has_contended=bool(is_contended.any()),
                has_locks=bool(is_lock.any()),
            )
            if len(layout)
            else (),
            HINT,
        ),
    )
    if len(layout):
        # That of the plain pictures, which the script shows with them, in the place of the other one's two lines.
        numbers: set[int] = set(palettes.tolist())
        labels = [(number, PALETTES[number].label) for number in sorted(numbers - {ROOT_PALETTE})]
        swatch = plain_swatches(labels, has_inlined=has_inlined, has_contended=bool(merged.contended.any()))
        head.append(draw_legend(Legend(swatch, PLAIN_HINT), top - 12 - LINE, is_hidden=True)[0])
        look = Look(
            palettes=[(shade,) for shade in SHADES],
            colours=changes.step + STEPS,
            edges=np.where(is_lock | is_contended, _EDGE, 0),
            labels=[_SIGNS.get(step, "") for step in changes.step.tolist()],
            measured=in_words(measure, changes),
            whole=f"{measure.both(float(changes.before[0]), float(changes.after[0]))} {words.name}",
        )
        frames, bottom = draw_frames(union.profile, merged, look, top, full_names=False, notes=words.of_locks)
    else:
        frames, bottom = nothing(f"{words.nothing}: there is nothing to show.", top)
    foot, height = footer(words.completeness, words.notes, bottom)
    geometry = Geometry(WIDTH, MARGIN, top, bottom, height, ROW_HEIGHT, MIN_ROW_HEIGHT, FRAMES_HEIGHT, layout.min_width)
    return Picture(words.title, head, frames, foot, geometry, len(layout) == 0)


def _with_changes(view: View, changes: Changes, union: Union) -> View:
    """The view with what the script knows of its frames' changes."""
    columns = {"before": changes.before, "after": changes.after, "noise": changes.noise}
    more = {name: np.rint(column * union.resolution).astype(np.int64) for name, column in columns.items()}
    return replace(view, more=more)


def _coarse(view: View, union: Union) -> View:
    """The view with weights of fewer digits. Children still fit on their parents: all are rounded down."""
    grain = max(1, int(view.total[0]) // _GRAINS) if len(view) else 1
    columns = {name: getattr(view, name) // grain for name in ("total", "own", "contended", "hidden")}
    more = {name: column // grain for name, column in view.more.items()}
    return replace(view, more=more, weight=grain / union.resolution, **columns)
