from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.tree import build_tree
from lockflame.profile import (
    CPU,
    SAMPLES,
    FrameKind,
    Function,
    Line,
    Location,
    Profile,
    SampleType,
    Stacks,
    Thread,
    samples_of_no_lock,
)

names = st.sampled_from(["a", "b", "c", "a[k]", "b[j]"])
frames = st.one_of(names, st.tuples(st.sampled_from("abc"), names))
stacks_strategy = st.lists(st.tuples(st.lists(frames, max_size=6), st.integers(0, 5)), max_size=12)


def paths_of(tree):
    """Each node's (path of names, kinds and whether inlined) -> (self, total), following parents one by one."""
    paths = [()]
    for node in range(1, len(tree)):
        name = tree.frames.names[tree.frame[node]]
        inlined = bool(tree.frames.inlined[tree.frame[node]])
        paths.append((*paths[tree.parent[node]], (name, FrameKind(tree.kind[node]), inlined)))
    return paths


def naive(stacks):
    """The same from the stacks, a sample at a time."""
    own, total = defaultdict(int), defaultdict(int)
    for path, count in stacks:
        if count == 0:
            continue
        kinds = {"[k]": FrameKind.KERNEL, "[j]": FrameKind.JIT}
        flat = []
        for frame in path:
            group = frame if isinstance(frame, tuple) else (frame,)
            kind = kinds.get(group[-1][-3:], FrameKind.USER)
            flat += [
                (name.removesuffix("[k]").removesuffix("[j]"), kind, index > 0)
                for index, name in enumerate(reversed(group))
            ]
        weight = count * 10_000_000
        for end in range(len(flat) + 1):
            total[tuple(flat[:end])] += weight
        own[tuple(flat)] += weight
    return own, total


@settings(deadline=None)
@given(stacks=stacks_strategy)
def test_tree_equals_a_naive_one(profile_of, stacks):
    tree = build_tree(profile_of(stacks))
    own, total = naive(stacks)
    paths = paths_of(tree)
    assert len(set(paths)) == len(paths)
    assert set(paths) == set(total) | {()}
    for path, self_weight, total_weight, depth in zip(
        paths, tree.self_weight, tree.total_weight, tree.depth, strict=True
    ):
        assert (self_weight, total_weight, depth) == (own.get(path, 0), total.get(path, 0), len(path))


@settings(deadline=None)
@given(stacks=stacks_strategy)
def test_children_are_neighbours_in_the_order_of_their_names(profile_of, stacks):
    tree = build_tree(profile_of(stacks))
    paths = paths_of(tree)
    assert paths == sorted(paths, key=lambda path: (len(path), path))
    assert (np.diff(tree.parent) >= 0).all()


def test_columns_have_the_documented_types(profile_of):
    tree = build_tree(profile_of([(["main", "write[k]"], 3)]))
    types = [tree.parent.dtype, tree.frame.dtype, tree.kind.dtype, tree.self_weight.dtype, tree.total_weight.dtype]
    assert types == [np.int32, np.int32, np.uint8, np.int64, np.int64]
    assert tree.kind.tolist() == [FrameKind.MARKER, FrameKind.USER, FrameKind.KERNEL]


def test_same_name_of_another_kind_is_another_frame(profile_of):
    tree = build_tree(profile_of([(["main", "memcpy"], 1), (["main", "memcpy[k]"], 2)]))
    assert len(tree) == 4
    assert tree.total_weight.tolist() == [30_000_000, 30_000_000, 10_000_000, 20_000_000]


def test_same_function_inlined_and_not_are_two_frames(profile_of):
    tree = build_tree(profile_of([(["main", "work"], 1), ([("work", "main")], 2)]))
    assert [path[-1] for path in paths_of(tree)[2:]] == [
        ("work", FrameKind.USER, False),
        ("work", FrameKind.USER, True),
    ]
    assert tree.total_weight.tolist() == [30_000_000, 30_000_000, 10_000_000, 20_000_000]


@settings(deadline=None)
@given(stacks=stacks_strategy)
def test_each_stack_ends_at_its_node(profile_of, stacks):
    tree = build_tree(profile_of(stacks))
    weights = np.zeros(len(tree), np.int64)
    for stack, node in enumerate(tree.end_node):
        path = tree.stacks.frames[tree.stacks.offsets[stack] : tree.stacks.offsets[stack + 1]].tolist()
        assert (node == -1) == (stacks[stack][1] == 0)
        for frame in path if node != -1 else []:
            assert tree.frame[node] == frame
            node = tree.parent[node]
        assert node in (-1, 0)
        if tree.end_node[stack] >= 0:
            weights[tree.end_node[stack]] += tree.stack_weight[stack]
    assert (weights == tree.self_weight).all()


def test_threads_and_addresses_of_one_function_are_merged(profile_of):
    base = profile_of([(["main", "work"], 1), (["main", "rest"], 1)])
    work = base.locations.index(
        next(item for item in base.locations if base.functions[item.lines[0].function].name == "work")
    )
    doubled = replace(
        base,
        locations=(*base.locations, replace(base.locations[work], address=0x9999)),
        threads=(*base.threads, Thread(7, 8, "other")),
        stacks=Stacks(np.array([0, 2, 4]), np.array([work, 1, len(base.locations), 1], np.int32)),
        samples=samples_of_no_lock(
            np.array([0, 0, 1], np.int32), np.array([0, 1, 0], np.int32), np.array([[1, 5], [1, 7], [1, 11]])
        ),
    )
    tree = build_tree(doubled)
    assert tree.total_weight.tolist() == [23, 23, 23]


@pytest.mark.parametrize(
    ("wanted", "has", "expected"),
    [
        (None, (SAMPLES, CPU), CPU),
        (SAMPLES, (SAMPLES, CPU), SAMPLES),
        (SampleType("delay", "nanoseconds"), (SAMPLES, CPU), CPU),
        (None, (SAMPLES, SampleType("alloc", "bytes")), SAMPLES),
        (None, (), CPU),
    ],
)
def test_choice_of_sample_type(profile_of, wanted, has, expected):
    base = profile_of([(["main"], 2)])
    values = base.samples.values[:, : len(has)]
    profile = replace(base, sample_types=has, samples=replace(base.samples, values=values))
    tree = build_tree(profile, wanted)
    assert tree.sample_type == expected
    assert tree.total == {SAMPLES: 2, CPU: 20_000_000 if has else 0}[expected]


def test_empty_profile_is_a_root_alone(profile_of):
    tree = build_tree(profile_of([]))
    assert (len(tree), tree.total, tree.parent.tolist()) == (1, 0, [-1])


def test_stack_2000_deep(profile_of):
    tree = build_tree(profile_of([([f"f{index % 3}" for index in range(2000)], 1), (["f0"], 1)]))
    assert len(tree) == 2001
    assert tree.depth[-1] == 2000
    assert tree.total_weight[1] == 2 * tree.total_weight[2]


def random_profile(stacks: int, depth: int) -> Profile:
    random = np.random.default_rng(1)
    functions = 2000
    flat = (random.random((stacks, depth)) ** 3 * functions).astype(np.int32)
    return Profile(
        sample_types=(CPU,),
        mappings=(),
        functions=tuple(Function(f"f{index}", "") for index in range(functions)),
        locations=tuple(Location(index, -1, (Line(index),), FrameKind.USER) for index in range(functions)),
        threads=(Thread(1, 1, "main"),),
        stacks=Stacks(np.arange(stacks + 1) * depth, flat.ravel()),
        samples=samples_of_no_lock(
            np.arange(stacks, dtype=np.int32), np.zeros(stacks, np.int32), np.ones((stacks, 1), np.int64)
        ),
    )


def test_a_large_tree_is_quick():
    profile = random_profile(15_000, 20)
    best = min(_seconds(profile) for _ in range(3))
    # Measured 0.05 s; a loop over samples in Python takes more than a second.
    assert best < 0.4


def _seconds(profile: Profile) -> float:
    start = time.perf_counter()
    build_tree(profile)
    return time.perf_counter() - start
