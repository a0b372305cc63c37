"""What couldn't be named is counted by where it is, with what would name it."""

from __future__ import annotations

import numpy as np

from lockflame.profile import FrameKind
from symbolize.binaries import Binary
from symbolize.code_map import Image
from symbolize.image_names import NO_SYMBOL_BUT_START
from symbolize.kernel import HIDDEN, KERNEL
from symbolize.name_tables import NamedFrame
from symbolize.naming import Name
from symbolize.unresolved import count_unresolved

IMAGES = [Image(Binary("", "", None), 0), Image(Binary("/usr/sbin/mysqld", "", None), 7)]
NAMES = [
    Name((NamedFrame("main", "main"),), FrameKind.USER, 1),
    Name((NamedFrame("mysqld+0x10", ""),), FrameKind.USER, 1, reason=NO_SYMBOL_BUT_START),
    Name((NamedFrame(KERNEL, ""),), FrameKind.KERNEL, 0, KERNEL, HIDDEN),
]


def stacks(*leaf_first: list[int]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *map(len, leaf_first)], dtype=np.int64)
    return offsets, np.array([frame for stack in leaf_first for frame in stack], dtype=np.int64)


def test_only_leaves_count() -> None:
    unresolved = count_unresolved(*stacks([0, 1], [1, 0], [2, 1], []), NAMES, IMAGES)
    assert unresolved.total == 2
    assert unresolved.samples == 4
    assert unresolved.counts == {("/usr/sbin/mysqld", NO_SYMBOL_BUT_START): 1, ("the kernel", HIDDEN): 1}


def test_notes_say_what_would_name_them() -> None:
    mysqld, kernel = count_unresolved(*stacks([1], [1], [2], [0]), NAMES, IMAGES).notes()
    assert mysqld.startswith("2 of 4 samples end in /usr/sbin/mysqld without a name")
    assert "-dbgsym" in mysqld
    assert "kptr_restrict" in kernel
    assert "-dbgsym" not in kernel


def test_a_few_are_not_worth_a_note() -> None:
    unresolved = count_unresolved(*stacks([1], *([[0]] * 99)), NAMES, IMAGES)
    assert unresolved.total == 1
    assert list(unresolved.notes()) == []
