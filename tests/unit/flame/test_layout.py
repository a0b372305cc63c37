from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.layout import lay_out
from flame.tree import build_tree

stacks_strategy = st.lists(
    st.tuples(st.lists(st.sampled_from("abcd"), max_size=5), st.integers(1, 50)), min_size=1, max_size=15
)


def rectangles(tree, layout):
    return {
        tree.frames.names[tree.frame[node]] if node else "all": (level, x, width)
        for node, level, x, width in zip(layout.node, layout.level, layout.x, layout.width, strict=True)
    }


def test_widths_are_shares_and_children_start_at_their_parent(profile_of):
    tree = build_tree(profile_of([(["a", "x"], 1), (["a", "y"], 2), (["a"], 1), (["b"], 4)]))
    assert rectangles(tree, lay_out(tree, picture_width=800)) == {
        "all": (0, 0, 800),
        "a": (1, 0, 400),
        "b": (1, 400, 400),
        "x": (2, 0, 100),
        "y": (2, 100, 200),
    }


def test_narrow_frames_are_left_out_and_counted(profile_of):
    tree = build_tree(profile_of([(["a", "x"], 1), (["a", "x", "y"], 1), (["b"], 998)]))
    layout = lay_out(tree, picture_width=1000, min_width=2)
    assert set(rectangles(tree, layout)) == {"all", "a", "x", "b"}
    assert layout.left_out == 1
    narrower = lay_out(tree, picture_width=1000, min_width=2.001)
    assert set(rectangles(tree, narrower)) == {"all", "b"}
    assert narrower.left_out == 3


def test_levels_are_those_that_are_left(profile_of):
    tree = build_tree(profile_of([(["a", "x", "y", "z"], 1), (["a", "x"], 9999)]))
    assert lay_out(tree).levels == 3
    assert lay_out(tree, min_width=0).levels == 5


@pytest.mark.parametrize("stacks", [[], [(["a"], 0)]])
def test_no_weight_no_rectangles(profile_of, stacks):
    layout = lay_out(build_tree(profile_of(stacks)))
    assert (len(layout), layout.levels, layout.left_out) == (0, 0, 0)


@settings(deadline=None)
@given(stacks=stacks_strategy)
def test_frames_lie_on_their_parents_and_never_on_each_other(profile_of, stacks):
    tree = build_tree(profile_of(stacks))
    layout = lay_out(tree, min_width=0)
    assert len(layout) == len(tree)
    right = layout.x + layout.width
    parent = tree.parent[1:]
    assert (layout.x[1:] >= layout.x[parent] - 1e-6).all()
    assert (right[1:] <= right[parent] + 1e-6).all()
    same_level = layout.level[1:] == layout.level[:-1]
    assert (layout.x[1:][same_level] >= right[:-1][same_level] - 1e-6).all()
    assert np.allclose(layout.width, tree.total_weight / tree.total * 1200)
