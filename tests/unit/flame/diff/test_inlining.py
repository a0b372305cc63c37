"""Functions that are inlined in one build and not in the other."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from flame.diff.inlining import with_one_sort_of_frame
from flame.frames import frame_stacks
from lockflame.profile import Profile
from tests.unit.flame.conftest import profile_of

NAMES = ("f", "g", "h", "f[k]")
FRAMES = st.one_of(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES[:3]), min_size=2, max_size=3).map(tuple))
STACKS = st.lists(st.lists(FRAMES, max_size=4), min_size=1, max_size=6)


def frames_of(profile: Profile) -> list[list[tuple[str, int, bool]]]:
    stacks = frame_stacks(profile)
    table = stacks.table
    frames = [(table.names[frame], int(table.kinds[frame]), bool(table.inlined[frame])) for frame in stacks.frames]
    return [frames[start:end] for start, end in zip(stacks.offsets[:-1], stacks.offsets[1:], strict=True)]


def test_what_is_inlined_somewhere_only_is_a_plain_frame_everywhere() -> None:
    profile = profile_of([(["main", ("leaf", "burn", "rebuild")], 1), (["main", "rebuild", "burn", ("leaf", "x")], 1)])
    first, second = frames_of(with_one_sort_of_frame(profile))
    assert [(name, inlined) for name, _, inlined in first] == [
        ("leaf", True),
        ("burn", False),
        ("rebuild", False),
        ("main", False),
    ]
    assert [(name, inlined) for name, _, inlined in second] == [
        ("leaf", True),
        ("x", False),
        ("burn", False),
        ("rebuild", False),
        ("main", False),
    ]


@settings(deadline=None, max_examples=80)
@given(STACKS)
def test_names_and_order_are_kept_and_each_function_is_of_one_sort(stacks) -> None:
    profile = profile_of([(stack, 1) for stack in stacks])
    before, after = frames_of(profile), frames_of(with_one_sort_of_frame(profile))
    assert [[frame[:2] for frame in stack] for stack in before] == [[frame[:2] for frame in stack] for stack in after]
    seen = {frame for stack in after for frame in stack}
    assert len({frame[:2] for frame in seen}) == len(seen)
