"""What a frame says on hover: its whole name, what was measured, where its code is."""

from __future__ import annotations

from collections.abc import Mapping

from flame.lock_marks import is_lock_mark
from flame.places import Places, place_texts
from flame.text import amount, isolated, percent, showable
from flame.tree import ROOT, Tree
from lockflame.profile import FrameKind, Profile

_KIND_WORDS = {FrameKind.USER: "user", FrameKind.KERNEL: "kernel", FrameKind.JIT: "JIT", FrameKind.MARKER: "marker"}


def tooltip(
    profile: Profile, tree: Tree, places: Places, index: int, node: int, measured: str, notes: Mapping[str, str]
) -> str:
    """Lines of text, showable but not escaped: the whole name first. The node is at `index` in `places`.
    `measured` is what the second line begins with. `notes` are known of marker frames, by name.

    The name has a line of its own, so that it can't reorder what was measured.
    """
    if node == ROOT:
        return f"all\n{measured}"
    frame = int(tree.frame[node])
    name = tree.frames.names[frame]
    heading = f"{isolated(name)} (inlined)" if tree.frames.inlined[frame] else showable(name)
    modules, source = place_texts(profile, places, index)
    facts = [measured, _kind_word(name, FrameKind(tree.kind[node]))]
    if modules:
        facts.append(f"in {isolated(modules)}")
    if name in notes and tree.kind[node] == FrameKind.MARKER:
        source.append(showable(notes[name]))
    return "\n".join((heading, ", ".join(facts), *source))


def weight_text(tree: Tree, node: int, contended: int) -> str:
    """What was measured of a node. `contended` is the part of its weight that went into contended locks."""
    unit = tree.sample_type.unit
    total, own = int(tree.total_weight[node]), int(tree.self_weight[node])
    text = f"{amount(total, unit)} ({percent(total, tree.total)})"
    if own and own != total:
        text += f", self {amount(own, unit)} ({percent(own, tree.total)})"
    return f"{text}, contended {percent(contended, total)} of it" if contended else text


def _kind_word(name: str, kind: FrameKind) -> str:
    return "lock" if kind is FrameKind.MARKER and is_lock_mark(name) else _KIND_WORDS[kind]
