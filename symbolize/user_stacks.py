"""Completes the user part of each stack, and tells which ones are whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lockflame.samples import Callchains, SampleTable
from symbolize import ragged
from symbolize.code_map import ADDRESS_MASK, SHIFT, CodeMap
from symbolize.naming import Namer
from symbolize.stitching import stitch
from symbolize.unwind import RuleCache, RuleKind, StackEnd, unwind

# Where threads and processes begin, in libcs and runtimes whose unwind data doesn't say so.
START_FUNCTIONS = frozenset(
    {"_start", "_dl_start_user", "__libc_start_main", "__libc_start_call_main"}
    | {"start_thread", "clone", "__clone", "clone3", "__clone3"}
    | {"runtime.goexit", "runtime.mstart", "runtime.rt0_go"}
)


@dataclass(frozen=True, slots=True, eq=False)
class UserStacks:
    """User stacks as code keys, leaf first; `is_whole` bool[n]: it reaches a thread's or process's start.

    Stack `i` is `keys[offsets[i]:offsets[i + 1]]`. A sample without user code has an empty, whole one.
    """

    offsets: NDArray[np.int64]
    keys: NDArray[np.uint64]
    is_whole: NDArray[np.bool_]


def complete_stacks(
    samples: SampleTable, space: NDArray[np.int32], code_map: CodeMap, rules: RuleCache, namer: Namer
) -> UserStacks:
    """Unwinds the stacks of samples; what can't be is taken from the kernel's own callchains."""
    unwound = unwind(samples.registers, samples.has_registers, samples.stacks, space, code_map, rules)
    is_whole = unwound.end == StackEnd.COMPLETE
    has_none = unwound.end == StackEnd.NO_REGISTERS
    kernel = samples.user
    stitched = stitch(unwound.callchains, unwound.is_exact, kernel, np.flatnonzero(~is_whole & ~has_none))
    chains, is_exact = _fill_in(stitched.chains, stitched.is_exact, kernel, has_none)
    lengths = np.diff(chains.offsets)
    keys = code_map.keys(np.repeat(space, lengths), chains.addresses - (~is_exact).astype(np.uint64))
    open_rows = np.flatnonzero(~is_whole & (lengths > 0))
    roots = keys[chains.offsets[1:][open_rows] - 1]
    is_whole[open_rows] = _are_starts(roots, rules, namer)
    is_whole |= lengths == 0
    return _add_learned_roots(UserStacks(chains.offsets, keys, is_whole), unwound.end == StackEnd.COMPLETE)


def _fill_in(
    chains: Callchains, is_exact: NDArray[np.bool_], kernel: Callchains, rows: NDArray[np.bool_]
) -> tuple[Callchains, NDArray[np.bool_]]:
    """The kernel's chains for samples that couldn't be unwound at all, e.g. because no stack was copied."""
    if not rows.any():
        return chains, is_exact
    lengths = np.where(rows, np.diff(kernel.offsets), 0)
    offsets = ragged.offsets_of(lengths)
    taken = kernel.addresses[ragged.positions(kernel.offsets[:-1], lengths)]
    exact = np.zeros(len(taken), dtype=np.bool_)
    exact[offsets[:-1][lengths > 0]] = True
    joined, addresses = ragged.join([(chains.offsets, chains.addresses), (offsets, taken)])
    _, flags = ragged.join([(chains.offsets, is_exact.astype(np.uint64)), (offsets, exact.astype(np.uint64))])
    return Callchains(joined, addresses), flags.astype(np.bool_)


def _are_starts(keys: NDArray[np.uint64], rules: RuleCache, namer: Namer) -> NDArray[np.bool_]:
    """Which code keys lie in a function that nobody calls: its unwind rules say so, or its name does."""
    distinct, index = np.unique(keys, return_inverse=True)
    images = (distinct >> SHIFT).astype(np.int32)
    rows = rules.find(images, distinct & ADDRESS_MASK)
    is_end = rules.table.kind[rows] == RuleKind.END
    is_named = np.array([name in START_FUNCTIONS for name in namer.symbols(distinct)], dtype=np.bool_)
    return (is_end | is_named)[index]


def _add_learned_roots(stacks: UserStacks, is_unwound: NDArray[np.bool_]) -> UserStacks:
    """Completes stacks that end where others went on to a start.

    A walk by frame pointers ends before the outermost frame, which has none: in start_thread, mostly,
    which a stripped libc doesn't name. But the same return address has the same caller there.
    """
    lengths = np.diff(stacks.offsets)
    known = np.flatnonzero(is_unwound & (lengths >= 2))
    open_rows = np.flatnonzero(~stacks.is_whole)
    if not len(known) or not len(open_rows):
        return stacks
    ends = stacks.offsets[1:][known]
    callees, first = np.unique(stacks.keys[ends - 2], return_index=True)
    roots = stacks.keys[ends - 1][first]
    last = stacks.keys[stacks.offsets[1:][open_rows] - 1]
    at = np.minimum(np.searchsorted(callees, last), len(callees) - 1)
    is_known = callees[at] == last
    added = np.zeros(len(lengths), dtype=np.int64)
    added[open_rows[is_known]] = 1
    offsets, keys = ragged.join([(stacks.offsets, stacks.keys), (ragged.offsets_of(added), roots[at[is_known]])])
    return UserStacks(offsets, keys, stacks.is_whole | (added == 1))
