"""Stacks that go on along the kernel's own callchain."""

from __future__ import annotations

import numpy as np
import pytest

from lockflame.samples import Callchains
from symbolize.stitching import first_beyond, stitch


def chains(*lists: list[int]) -> Callchains:
    """The lists as callchains."""
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    return Callchains(offsets, np.array([address for one in lists for address in one], dtype=np.uint64))


@pytest.mark.parametrize(
    ("unwound", "kernel", "index"),
    [
        ([1, 2, 3], [1, 2, 3, 4, 5], 3),
        ([1, 2, 3], [1, 9, 3, 4], 3),
        ([1, 2, 2, 2], [1, 2, 2, 2, 2, 7], 4),
        ([1, 2, 3], [1, 8, 9], 3),
        ([1], [1, 8, 9], 1),
        ([1, 2], [], 0),
        ([1], [], 0),
    ],
)
def test_where_the_kernels_chain_goes_beyond(unwound: list[int], kernel: list[int], index: int) -> None:
    assert first_beyond(unwound, kernel) == index


def test_chains_of_a_process_that_has_no_memory_any_more() -> None:
    unwound = chains([1, 2], [5])
    stitched = stitch(unwound, np.array([True, False, True]), chains([1, 2, 3], []), np.array([0, 1]))
    assert [stitched.chains[row].tolist() for row in (0, 1)] == [[1, 2, 3], [5]]
    assert stitched.is_exact.tolist() == [True, False, False, True]
