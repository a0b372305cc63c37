"""The data that the picture's script draws other views from, as JSON that may stand in XML and in HTML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flame.captions import measure_name
from flame.drawing import flameprof
from flame.frames import FrameStacks
from flame.lines import lines_of
from flame.names import short_name
from flame.palette import CONTENDED, PALETTES, Rgb, palettes_of
from flame.places import module_name
from flame.text import showable
from flame.views import Pair, View
from lockflame.profile import Profile, SampleType

_LABEL_CHARACTERS = 200


class Geometry(NamedTuple):
    """Where things are in the picture, in its pixels: the frames reach from `top` to `bottom`."""

    width: int
    margin: int
    top: int
    bottom: int
    height: int
    row_height: int
    min_row_height: int
    frames_height: int
    min_width: float


def embedded_data(
    profile: Profile,
    stacks: FrameStacks,
    views: Sequence[Pair],
    geometry: Geometry,
    *,
    starts_inverted: bool,
    full_names: bool,
    more: Mapping[str, object] | None = None,
) -> str:
    """JSON of all views: for each sample type the one from the root and the one from the leaf.

    It has neither `<` nor `>` nor `&`. Weights are multiples of a view's `scale`; parents are differences from the
    row before. A view that has all numbers of an earlier one says only which one it is `like`. `more` are further
    entries beside `views`.
    """
    is_used = np.zeros(len(stacks.table) + 1, np.bool_)  # one more for the root's, -1
    for view in chain.from_iterable(views):
        is_used[view.frame] = True
    used = np.flatnonzero(is_used[:-1])
    number = np.full(len(stacks.table) + 1, -1, np.int64)
    number[used] = np.arange(len(used))
    encoded: list[dict[str, object]] = []
    for pair in views:
        for view in pair:
            encoded.append(_view(view, number, used, encoded))
    data = {
        "geometry": {_camel(name): value for name, value in geometry._asdict().items()},
        "inverted": starts_inverted,
        "palettes": [[_css(shade) for shade in palette.shades] for palette in PALETTES],
        "contended": [_css(shade) for shade in CONTENDED],
        "types": [_type(pair[0].sample_type) for pair in views],
        "frames": _frames(profile, stacks, used, full_names),
        "views": encoded,
        **(more or {}),
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _type(sample_type: SampleType) -> dict[str, str]:
    return {"name": measure_name(sample_type), "unit": showable(sample_type.unit)}


def _view(
    view: View, number: NDArray[np.int64], used: NDArray[np.int64], before: Sequence[dict[str, object]]
) -> dict[str, object]:
    columns = (view.total, view.own, view.contended, view.hidden[used], *view.more.values())
    divisor = int(np.gcd.reduce(np.concatenate(columns), initial=0)) or 1
    total, own, contended, hidden, *more = (column // divisor for column in columns)
    scale = divisor * view.weight
    numbers: dict[str, object] = {
        "parent": np.diff(view.parent, prepend=np.int32(-1)).tolist(),
        "frame": number[view.frame].tolist(),
        "total": total.tolist(),
        "own": own.tolist(),
        "contended": contended.tolist() if contended.any() else [],
        "hidden": hidden.tolist() if hidden.any() else [],
        "leftOut": view.left_out,
        "paths": view.paths,
        **{name: column.tolist() for name, column in zip(view.more, more, strict=True)},
    }
    for index, other in enumerate(before):
        if all(other.get(key) == value for key, value in numbers.items()):
            return {"like": index, "scale": scale}
    return {**numbers, "scale": scale}


def _frames(
    profile: Profile, stacks: FrameStacks, used: NDArray[np.int64], full_names: bool
) -> dict[str, Sequence[object] | str]:
    """The functions, by number: whole names, labels where they differ (else 0), colours, and where the code is."""
    table = stacks.table
    ids: list[int] = used.tolist()
    names = [showable(table.names[frame]) for frame in ids]
    labels = [showable(table.names[frame] if full_names else short_name(table.names[frame])) for frame in ids]
    name_hash = flameprof().name_hash
    kinds: list[int] = palettes_of(table.names, table.kinds)[used].tolist()
    shades = [int(len(PALETTES[kind].shades) * name_hash(name)) for kind, name in zip(kinds, names, strict=True)]
    functions, modules = _code_of(profile, stacks, used)
    sources = [profile.functions[function] for function in functions]
    files, file = _numbered(showable(source.path) for source in sources)
    module_names, module = _numbered(modules)
    return {
        "name": names,
        "label": [0 if label == name else label[:_LABEL_CHARACTERS] for label, name in zip(labels, names, strict=True)],
        "kind": "".join(map(str, kinds)),
        "shade": "".join(map(str, shades)),
        "inlined": np.flatnonzero(table.inlined[used]).tolist(),
        "modules": module_names,
        "module": module,
        "files": files,
        "file": file,
        "line": [source.line if source.path else 0 for source in sources],
    }


def _code_of(profile: Profile, stacks: FrameStacks, used: NDArray[np.int64]) -> tuple[list[int], list[str]]:
    """A function of the profile for each frame, and the name of the file with its code: those of one of its places."""
    row = np.zeros(len(stacks.table), np.int64)
    row[stacks.frames] = stacks.rows
    lines = lines_of(profile)
    names = (*(module_name(mapping.path) for mapping in profile.mappings), "")  # the last is that of no mapping
    mappings: list[int] = lines.mapping[row[used]].tolist()
    return lines.function[row[used]].tolist(), [names[mapping] for mapping in mappings]


def _numbered(texts: Iterable[str]) -> tuple[list[str], list[int]]:
    """The distinct texts, and for each text its index among them."""
    index: dict[str, int] = {}
    numbers = [index.setdefault(text, len(index)) for text in texts]
    return list(index), numbers


def _css(shade: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*shade)


def _camel(name: str) -> str:
    """`row_height` as JavaScript writes it."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
