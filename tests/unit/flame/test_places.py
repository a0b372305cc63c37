from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.places import place_texts, places_of
from flame.tree import build_tree
from lockflame.profile import SAMPLES, FrameKind, Function, Line, Location, Mapping, Stacks, samples_of_no_lock

FUNCTIONS = (Function("a", "", "/src/lock.cc", 7), Function("b", ""), Function("a", "", "/src/other.cc"))
MAPPINGS = (Mapping(0, 1, 0, "/usr/lib/libfoo.so.1", ""), Mapping(2, 3, 0, "/opt/app\n", ""))

lines_strategy = st.builds(Line, st.integers(0, 2), st.integers(0, 3))
location_strategy = st.builds(
    Location,
    address=st.just(0),
    mapping=st.integers(-1, 1),
    lines=st.lists(lines_strategy, min_size=1, max_size=2).map(tuple),
    kind=st.just(FrameKind.USER),
)


def located(base, stacks):
    """A profile of (locations leaf first, weight)."""
    locations = tuple({location: None for path, _ in stacks for location in path})
    flat = [locations.index(location) for path, _ in stacks for location in path]
    return replace(
        base,
        functions=FUNCTIONS,
        mappings=MAPPINGS,
        sample_types=(SAMPLES,),
        locations=locations,
        stacks=Stacks(np.cumsum([0, *(len(path) for path, _ in stacks)]), np.array(flat, np.int32)),
        samples=samples_of_no_lock(
            np.arange(len(stacks), dtype=np.int32),
            np.zeros(len(stacks), np.int32),
            np.array([[weight] for _, weight in stacks], np.int64).reshape(-1, 1),
        ),
    )


def at(line, function=0, mapping=0):
    return Location(0, mapping, (Line(function, line),), FrameKind.USER)


@settings(deadline=None)
@given(stacks=st.lists(st.tuples(st.lists(location_strategy, max_size=4), st.integers(0, 5)), max_size=8))
def test_places_equal_a_naive_count(profile_of, stacks):
    profile = located(profile_of([]), stacks)
    tree = build_tree(profile)
    expected = defaultdict(int)
    for path, weight in stacks:
        if weight:
            names = ()
            for location in reversed(path):
                for index, line in enumerate(reversed(location.lines)):
                    names = (*names, (FUNCTIONS[line.function].name, index > 0))
                    expected[names, (line.function, location.mapping, line.line)] += weight
    places = places_of(profile, tree, np.arange(len(tree), dtype=np.int32))
    found = {}
    paths = [()]
    for node in range(len(tree)):
        if node:
            frame = tree.frame[node]
            paths.append((*paths[tree.parent[node]], (tree.frames.names[frame], bool(tree.frames.inlined[frame]))))
        rows = range(places.starts[node], places.starts[node + 1])
        weights = [int(places.weight[row]) for row in rows]
        assert weights == sorted(weights, reverse=True)
        for row in rows:
            found[paths[node], (places.function[row], places.mapping[row], places.line[row])] = places.weight[row]
    assert found == expected


def test_only_the_wanted_nodes_have_places(profile_of):
    profile = located(profile_of([]), [([at(1), at(2)], 1)])
    places = places_of(profile, build_tree(profile), np.array([0, 2], np.int32))
    assert np.diff(places.starts).tolist() == [0, 1]
    assert places.line.tolist() == [1]


def texts(profile_of, stacks):
    profile = located(profile_of([]), stacks)
    return place_texts(profile, places_of(profile, build_tree(profile), np.array([1], np.int32)), 0)


def test_hottest_lines_with_their_shares(profile_of):
    stacks = [([at(123)], 80), ([at(130)], 15), ([at(9)], 3), ([at(0)], 1), ([at(5)], 1)]
    assert texts(profile_of, stacks) == (
        "libfoo.so.1",
        ["/src/lock.cc:7", "at lock.cc:123 (80 %), :130 (15 %), :9 (3 %), 1 more line"],
    )


def test_same_name_in_other_files(profile_of):
    stacks = [([at(1)], 6), ([at(1, function=2, mapping=1)], 4)]
    assert texts(profile_of, stacks) == (
        "libfoo.so.1, app\ufffd",
        ["/src/lock.cc:7", "at lock.cc:1 (60 %), other.cc:1 (40 %)"],
    )


def test_nothing_known(profile_of):
    assert texts(profile_of, [([at(0, function=1, mapping=-1)], 1)]) == ("", [])
