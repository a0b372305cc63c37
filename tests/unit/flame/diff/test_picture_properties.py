"""What is true of any two profiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.diff.changes import SHADES, STEPS, frame_changes, steps
from flame.diff.normalize import Mode, scales
from flame.diff.union import unite
from flame.locks.rule_file import load_rules
from flame.views import Merger
from lockflame.profile import CPU, Profile, RecordingInfo
from tests.unit.flame.conftest import profile_of

RULES = load_rules()
NAMES = ["a", "b", "c", "lock[k]", ("inner", "outer")]
STACKS = st.lists(st.tuples(st.lists(st.sampled_from(NAMES), max_size=4), st.integers(0, 500)), min_size=1, max_size=12)
SIDES = st.lists(st.tuples(STACKS, st.integers(1, 60)), min_size=1, max_size=3)


def side(recordings) -> list[Profile]:
    return [
        profile_of([(tuple(stack), count) for stack, count in stacks], RecordingInfo(duration_ns=seconds * 10**9))
        for stacks, seconds in recordings
    ]


def compared(before, after):
    both = scales(before, after, Mode.SECOND)
    union = unite(before, after, both, CPU, ("difference", "before", "after"), RULES)
    merger = Merger(union.profile, None, picture_width=1000, min_width=0)
    merged = merger.merged(union.types[0], from_leaf=False)
    return union, merged, both


def paths_of(tree) -> dict[int, tuple]:
    paths: dict[int, tuple] = {0: ()}
    for node in range(1, len(tree)):
        frame = int(tree.frame[node])
        own = (tree.frames.names[frame], int(tree.frames.kinds[frame]), bool(tree.frames.inlined[frame]))
        paths[node] = (*paths[int(tree.parent[node])], own)
    return paths


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES)
def test_totals_are_kept_and_every_path_is_there(first, second):
    before, after = side(first), side(second)
    union, merged, both = compared(before, after)
    tree = merged.tree
    weights = union.profile.samples.values
    for column, profiles, scale in ((1, before, both[0]), (2, after, both[1])):
        expected = sum(profile.total(CPU) for profile in profiles) * scale.factor
        assert weights[:, column].sum() / union.resolution == pytest.approx(expected, rel=1e-9)
    if not tree.total:
        return
    changes = frame_changes(union, merged)
    paths = paths_of(tree)
    assert len(set(paths.values())) == len(paths)
    for profiles, values, scale in ((before, changes.before, both[0]), (after, changes.after, both[1])):
        expected: dict[tuple, float] = {}
        for profile in profiles:
            own = Merger(profile, None, picture_width=1, min_width=0).merged(CPU, from_leaf=False).tree
            for node, path in paths_of(own).items():
                expected[path] = expected.get(path, 0.0) + int(own.total_weight[node]) * scale.factor
        found = {paths[int(node)]: value for node, value in zip(merged.layout.node, values, strict=True)}
        assert set(expected) <= set(found)
        for path, value in found.items():
            assert value == pytest.approx(expected.get(path, 0.0), rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES)
def test_children_fit_in_their_parent_and_no_side_is_wider_than_its_frame(first, second):
    union, merged, _ = compared(side(first), side(second))
    tree = merged.tree
    inside = np.zeros(len(tree), np.int64)
    np.add.at(inside, tree.parent[1:], tree.total_weight[1:])
    assert (inside <= tree.total_weight).all()
    changes = frame_changes(union, merged)
    width = tree.total_weight[merged.layout.node] / union.resolution
    assert (np.maximum(changes.before, changes.after) <= width * (1 + 1e-9)).all()


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES)
def test_swapped_sides_have_the_opposite_colours_at_the_same_places(first, second):
    before, after = side(first), side(second)
    union, merged, _ = compared(before, after)
    swapped_union, swapped, _ = compared(after, before)
    assert [*paths_of(merged.tree).values()] == [*paths_of(swapped.tree).values()]
    np.testing.assert_array_equal(merged.tree.total_weight, swapped.tree.total_weight)
    changes, others = frame_changes(union, merged), frame_changes(swapped_union, swapped)
    np.testing.assert_array_equal(changes.step, -others.step)


def test_steps():
    before = np.array([100.0, 100, 100, 100, 100, 100, 100, 0, 100])
    after = np.array([100.0, 99, 75, 74, 50, 1, 0, 100, 200])
    assert steps(before, after).tolist() == [0, -1, -2, -2, -3, -3, -STEPS, STEPS, 3]


# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(colours) -> np.ndarray:
    part = np.array(colours) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def lab(colours, blindness) -> np.ndarray:
    """CIE L*a*b* of colours as seen with this blindness: float64[colours, 3]."""
    seen = np.clip(linear(colours) @ np.array(BLINDNESS[blindness]).T, 0, 1)
    x, y, z = ((seen @ TO_XYZ.T) / TO_XYZ.sum(axis=1)).T
    f = [np.where(v > 0.008856, np.cbrt(v), 7.787 * v + 16 / 116) for v in (x, y, z)]
    return np.stack((116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])), axis=1)


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colours_differ_for_all_eyes(blindness):
    colours = lab(SHADES, blindness)
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    print(blindness, np.round(np.diag(distance, 1), 1))
    assert (np.diag(distance, 1) > 8).all()  # neighbours; 2.3 can just be told apart side by side
    assert (np.diag(distance, 1)[[0, -1]] > 14).all()  # what is gone or new
    opposite = distance[np.arange(STEPS), np.arange(len(SHADES) - 1, STEPS, -1)]
    assert (opposite > 18).all()
    assert (np.diff(colours[: STEPS + 1, 0]) > 0).all()
    assert (np.diff(colours[STEPS:, 0])[1:] < 0).all()


def test_black_text_is_readable_on_each():
    luminance = linear(SHADES) @ TO_XYZ[1]
    assert ((luminance + 0.05) / 0.05 > 4.5).all()
