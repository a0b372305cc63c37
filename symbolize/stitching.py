"""Goes on where an unwound stack was cut short, along the kernel's own frame-pointer callchain.

The unwinder visits every frame within the copied part of a stack. So an address of the kernel's chain
that comes after the last one both have belongs to a frame beyond the copy, nearer to the root.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lockflame.samples import Callchains
from symbolize import ragged


@dataclass(frozen=True, slots=True, eq=False)
class Stitched:
    """The chains after stitching: `chains` and, beside its addresses, whether each is exact (bool)."""

    chains: Callchains
    is_exact: NDArray[np.bool_]


def stitch(unwound: Callchains, is_exact: NDArray[np.bool_], kernel: Callchains, rows: NDArray[np.int64]) -> Stitched:
    """Appends to the unwound chains in `rows` what the kernel's chains know beyond them."""
    lengths = np.diff(kernel.offsets)
    begin = kernel.offsets[1:].copy()
    for row in rows.tolist():
        begin[row] -= lengths[row] - first_beyond(unwound[row].tolist(), kernel[row].tolist())
    beyond = kernel.offsets[1:] - begin
    if not beyond.any():
        return Stitched(unwound, is_exact)
    added = kernel.addresses[ragged.positions(begin, beyond)]
    added_offsets = ragged.offsets_of(beyond)
    offsets, addresses = ragged.join([(unwound.offsets, unwound.addresses), (added_offsets, added)])
    _, exact = ragged.join([(unwound.offsets, is_exact.astype(np.uint64)), (added_offsets, np.zeros_like(added))])
    return Stitched(Callchains(offsets, addresses), exact.astype(np.bool_))


def first_beyond(unwound: list[int], kernel: list[int]) -> int:
    """The index of the first address of the kernel's chain beyond an unwound one; its length if there is none.

    The chains must share a frame besides the leaf: without one, the kernel's chain may have gone
    astray from the very start (a leaf without frame pointer).
    """
    place: dict[int, list[int]] = {}
    for at, address in enumerate(unwound):
        place.setdefault(address, []).append(at)
    last_shared, last_place = 0, 0
    for at, address in enumerate(kernel[1:], 1):
        # In a recursion one address stands many times: take them in order.
        later = next((found for found in place.get(address, ()) if found > last_place), None)
        if later is not None:
            last_shared, last_place = at, later
    if not last_shared and len(unwound) > 1:
        return len(kernel)
    # A process that execs or exits has user registers still, and no user chain any more.
    return min(last_shared + 1, len(kernel))
