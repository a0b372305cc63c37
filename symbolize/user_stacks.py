"""Completes the user part of each stack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lockflame.samples import SampleTable
from symbolize.code_map import CodeMap


@dataclass(frozen=True, slots=True, eq=False)
class UserStacks:
    """User stacks as code keys, leaf first; `is_whole` bool[n]: it reaches a thread's or process's start.

    Stack `i` is `keys[offsets[i]:offsets[i + 1]]`. A sample without user code has an empty, whole one.
    """

    offsets: NDArray[np.int64]
    keys: NDArray[np.uint64]
    is_whole: NDArray[np.bool_]


def complete_stacks(samples: SampleTable, space: NDArray[np.int32], code_map: CodeMap) -> UserStacks:
    """The kernel's own callchains."""
    chains = samples.user
    addresses = chains.addresses - np.uint64(1)
    leaves = chains.offsets[:-1][np.diff(chains.offsets) > 0]
    addresses[leaves] = chains.addresses[leaves]
    keys = code_map.keys(np.repeat(space, np.diff(chains.offsets)), addresses)
    return UserStacks(chains.offsets, keys, np.ones(len(chains), dtype=np.bool_))
