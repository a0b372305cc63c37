"""The rules known so far, of all images in one table; what isn't known yet is decoded when asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from symbolize.unwind.cfi import UnwindData
from symbolize.unwind.reading import USER_ADDRESS_END
from symbolize.unwind.rules import GeneralRule, RuleTable, gap_table, merge_tables

_IMAGE_SHIFT = 48
MOST_IMAGES = 1 << 15
_NO_ROW = np.zeros(1, np.int64)


class RuleCache:
    """Unwind rules by image number and ELF address; counts hits and misses.

    `table` holds the rows of all images, image `i` at `i << 48`. Image 0 stands for what is in no image,
    and is one row without rules. The table is replaced, never changed, when rules are added.
    """

    def __init__(
        self,
        unwind_data: Callable[[int], UnwindData | None],
        stored: Callable[[int], RuleTable | None] = lambda _: None,
    ) -> None:
        """Both are asked by the number of an image when its first address is looked up.

        `unwind_data` gives its unwind data, None when there is none to read; `stored` the rules by ELF
        address that are known from elsewhere and were checked, None when there are none.
        """
        self._unwind_data = unwind_data
        self._stored = stored
        self._asked: set[int] = set()
        self.learned: set[int] = set()
        """The images of which something was decoded."""
        self._general: dict[int, GeneralRule] = {}
        self.table = gap_table(0, 1 << _IMAGE_SHIFT)
        self.hits = 0
        """Look-ups that a known row answered."""
        self.misses = 0
        """Look-ups that had an FDE decoded, or found that there is none; later ones for the same code are hits."""

    def find(self, image: NDArray[np.int32], elf_address: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The row of `table` for each address; row 0, without rules, where `image` is 0.

        Indices hold until the next call: misses are decoded, which replaces `table`.
        """
        keys = _keys(image, elf_address)
        rows = self._rows(keys)
        missing = keys >= self.table.end[rows]
        if missing.any() and self._take_stored(sorted(set(image[missing].tolist()))):
            rows = self._rows(keys)
            missing = keys >= self.table.end[rows]
        missed = int(np.count_nonzero(missing))
        self.hits += len(keys) - missed
        self.misses += missed
        if missed:
            self._learn(image[missing], elf_address[missing])
            rows = self._rows(keys)
            rows = np.where(keys < self.table.end[rows], rows, _NO_ROW)
        return rows

    def add(self, image: int, table: RuleTable) -> None:
        """Takes the rules of an image from elsewhere, such as a file; before any of its are decoded.

        `table` is by ELF address and has been checked (`RuleTable.from_arrays`). Raises `ValueError` when
        it reaches outside of user space, or the image has rules already.
        """
        if len(self.of_image(image)) or (len(table) and int(table.end[-1]) > USER_ADDRESS_END):
            raise ValueError("rules that can't be added")
        self._merge([table.shift(_base(image))])

    def of_image(self, image: int) -> RuleTable:
        """The rules of one image by ELF address, for a file."""
        base = _base(image)
        bounds = np.array([base, base + (1 << _IMAGE_SHIFT)], np.uint64)
        first, last = np.searchsorted(self.table.start, bounds)
        rows = self.table.select(np.arange(first, last, dtype=np.int64))
        return rows.drop_unused_rules().shift(-base)

    def general_rule(self, number: int) -> GeneralRule:
        """One of `table.general_rules`, decoded."""
        rule = self._general.get(number)
        if rule is None:
            rule = self._general[number] = GeneralRule.decode(self.table.general_rules[number])
        return rule

    def code_before(self, image: int, elf_address: int, size: int) -> bytes:
        """Up to `size` bytes of an image's code that end at an address."""
        data = self._unwind_data(image) if image > 0 else None
        return data.code_before(elf_address, size) if data is not None else b""

    def _rows(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        return np.searchsorted(self.table.start, keys, side="right") - 1

    def _take_stored(self, images: list[int]) -> bool:
        """Adds what is stored of images that are new here; whether there was anything."""
        new = [number for number in images if number not in self._asked]
        self._asked.update(new)
        found = [(number, table) for number in new if (table := self._stored(number)) is not None and len(table)]
        for number, table in found:
            self.add(number, table)
        return bool(found)

    def _learn(self, image: NDArray[np.int32], elf_address: NDArray[np.uint64]) -> None:
        learned: list[RuleTable] = []
        for number in sorted(set(image.tolist())):
            data = self._unwind_data(number)
            table = data.decode(elf_address[image == number]) if data is not None else gap_table(0, 1 << _IMAGE_SHIFT)
            learned.append(table.shift(_base(number)))
            self.learned.add(number)
        self._merge(learned)

    def _merge(self, tables: list[RuleTable]) -> None:
        # The numbers of general rules stay: merging numbers them in the order of the tables.
        self.table = merge_tables([self.table, *tables])


def _base(image: int) -> int:
    if not 0 < image < MOST_IMAGES:
        raise ValueError(f"image number {image}")
    return image << _IMAGE_SHIFT


def _keys(image: NDArray[np.int32], elf_address: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return (image.astype(np.uint64) << np.uint64(_IMAGE_SHIFT)) | (elf_address & np.uint64((1 << _IMAGE_SHIFT) - 1))
