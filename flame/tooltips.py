"""What a frame says on hover: its whole name, what was measured, where its code is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from flame.lock_marks import is_lock_mark
from flame.places import place_texts, places_of
from flame.text import amount, isolated, percent, showable
from flame.tree import Tree
from lockflame.profile import FrameKind, Profile

_KIND_WORDS = {FrameKind.USER: "user", FrameKind.KERNEL: "kernel", FrameKind.JIT: "JIT", FrameKind.MARKER: "marker"}


def tooltips(
    profile: Profile, tree: Tree, nodes: NDArray[np.int32], measured: Sequence[str], notes: Mapping[str, str]
) -> list[str]:
    """One for each of the nodes. Each is lines of text, showable but not escaped: the whole name first. `measured` is
    what each one's second line begins with. `notes` are known of marker frames, by name.

    The name has a line of its own, so that it can't reorder what was measured.
    """
    places = places_of(profile, tree, nodes)
    frames: list[int] = tree.frame[nodes].tolist()
    known = {frame: (_heading(tree, frame), _kind_word(tree, frame)) for frame in set(frames) if frame >= 0}
    texts: list[str] = []
    for index, (frame, weight) in enumerate(zip(frames, measured, strict=True)):
        if frame < 0:
            texts.append(f"all\n{weight}")
            continue
        heading, kind = known[frame]
        modules, source = place_texts(profile, places, index)
        where = f", in {isolated(modules)}" if modules else ""
        note = _note(tree, frame, notes) if notes else []
        texts.append("\n".join((heading, f"{weight}, {kind}{where}", *source, *note)))
    return texts


def weight_texts(tree: Tree, nodes: NDArray[np.int32], contended: NDArray[np.int64]) -> list[str]:
    """What was measured of each of the nodes. `contended` are the parts of their weight that went into contended
    locks."""
    columns = (tree.total_weight[nodes].tolist(), tree.self_weight[nodes].tolist(), contended.tolist())
    rows = list(zip(*columns, strict=True))
    texts = {row: _weight_text(tree, *row) for row in set(rows)}  # many narrow frames weigh the same
    return [texts[row] for row in rows]


def _weight_text(tree: Tree, total: int, own: int, contended: int) -> str:
    unit = tree.sample_type.unit
    text = f"{amount(total, unit)} ({percent(total, tree.total)})"
    if own and own != total:
        text += f", self {amount(own, unit)} ({percent(own, tree.total)})"
    return f"{text}, contended {percent(contended, total)} of it" if contended else text


def _heading(tree: Tree, frame: int) -> str:
    name = tree.frames.names[frame]
    return f"{isolated(name)} (inlined)" if tree.frames.inlined[frame] else showable(name)


def _kind_word(tree: Tree, frame: int) -> str:
    kind = FrameKind(tree.frames.kinds[frame])
    return "lock" if kind is FrameKind.MARKER and is_lock_mark(tree.frames.names[frame]) else _KIND_WORDS[kind]


def _note(tree: Tree, frame: int, notes: Mapping[str, str]) -> list[str]:
    name = tree.frames.names[frame]
    return [showable(notes[name])] if name in notes and tree.frames.kinds[frame] == FrameKind.MARKER else []
