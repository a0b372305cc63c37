"""Where code comes from: the binaries behind all address spaces of a recording, and one key for each address.

An address in a process means little by itself: the same function lies elsewhere in each process. So
every address becomes a *code key*: the number of the image that it is in (a binary, a process's JIT
code, …) above 48 bits of address within that image (as linked, for a binary). Equal code has equal
keys in all processes. Kernel addresses, whose top bit is set, are their own keys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lockflame.events import FileMapping, HeldFiles
from symbolize.address_space import ADDRESS_BITS, AddressSpace
from symbolize.binaries import Binary, open_binary
from symbolize.unwind import UNMAPPED, UnwindData
from symbolize.unwind.reading import USER_ADDRESS_END

SHIFT = np.uint64(ADDRESS_BITS)
ADDRESS_MASK = np.uint64((1 << ADDRESS_BITS) - 1)
KERNEL_BIT = np.uint64(1 << 63)
PAGE_SHIFT = 12
SPACE_SHIFT = np.uint64(44)
"""Mappings begin and end at pages: a page of 56-bit addresses (LA57) has 44 bits; a space's number goes above."""
IMAGES_MOST = 1 << 15
SPACES_MOST = (1 << 20) - 1

_NOT_OPENED = -1


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """Something that has code. `pid` is a process that maps it.

    Addresses in it are those as linked, offsets in a file that couldn't be opened, or, for generated
    code, addresses of the process. `earlier` is the image that this one is another generation of, if it is one.
    """

    binary: Binary
    pid: int
    earlier: int | None = None


class CodeMap:
    """Finds the image of addresses in bulk; a binary is opened when the first address falls into it."""

    def __init__(self, spaces: tuple[AddressSpace, ...], held_files: HeldFiles) -> None:
        """What lies in spaces beyond `SPACES_MOST` counts as mapped by nobody."""
        self._held_files = held_files
        known = enumerate(spaces[:SPACES_MOST])
        rows = [(index, mapping) for index, space in known for mapping in space.mappings]
        self._rows = [mapping for _, mapping in rows]
        self._row_pids = [mapping.pid or spaces[index].pid for index, mapping in rows]
        space = np.array([index for index, _ in rows], dtype=np.uint64) << SPACE_SHIFT
        self._row_starts = space | _pages([mapping.start for mapping in self._rows])
        self._row_ends = space | _pages([mapping.end for mapping in self._rows])
        self._row_images = np.full(len(rows) + 1, _NOT_OPENED, dtype=np.int32)
        self._row_biases = np.zeros(len(rows) + 1, dtype=np.uint64)
        # Index -1 is the row of all that lies in no mapping.
        self._row_images[-1] = UNMAPPED
        self.images: list[Image] = [Image(Binary("", "", None, "no executable mapping is known at this address"), 0)]
        self._image_of_file: dict[object, int] = {}
        self._image_of_binary: dict[object, int] = {}
        self._unwind_data: dict[int, UnwindData | None] = {}

    def find(
        self, space: NDArray[np.int32], address: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
        """The images (indices of `images`) of user addresses, and the addresses within those images."""
        number = np.minimum(space, SPACES_MOST).astype(np.uint64)
        key = (number << SPACE_SHIFT) | ((address & ADDRESS_MASK) >> PAGE_SHIFT)
        row = np.searchsorted(self._row_starts, key, side="right") - 1
        if len(self._row_ends):
            row[(row < 0) | (key >= self._row_ends[row]) | (address > ADDRESS_MASK)] = -1
        image = self._row_images[row]
        unopened = np.flatnonzero(image == _NOT_OPENED)
        if len(unopened):
            for index in sorted(set(row[unopened].tolist())):
                self._open_row(index)
            image = self._row_images[row]
        # What can't be a user address at all has no bits left for itself in a key.
        within = np.where(address >= USER_ADDRESS_END, np.uint64(0), address + self._row_biases[row])
        return image, within & ADDRESS_MASK

    def rules_key(self, image: int) -> str:
        """What the unwind rules of an image are stored under; empty where it has no build-id."""
        data = self.unwind_data(image)
        build_id = self.images[image].binary.build_id
        return f"{build_id}-{data.fingerprint()}" if data is not None and build_id else ""

    def unwind_data(self, image: int) -> UnwindData | None:
        """The unwind data of an image; None where it isn't an ELF file that could be opened."""
        if image not in self._unwind_data:
            elf = self.images[image].binary.image
            self._unwind_data[image] = UnwindData(elf) if elf is not None else None
        return self._unwind_data[image]

    def keys(self, space: NDArray[np.int32], address: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The code keys of user addresses."""
        image, within = self.find(space, address)
        return (image.astype(np.uint64) << SHIFT) | within

    def add_generation(self, image: int) -> int:
        """A new image for other code that was at the same addresses of generated code at other times."""
        if len(self.images) >= IMAGES_MOST:
            return UNMAPPED
        self.images.append(replace(self.images[image], earlier=image))
        return len(self.images) - 1

    def _open_row(self, row: int) -> None:
        mapping, pid = self._rows[row], self._row_pids[row]
        image = self._image_of(mapping, pid)
        self._row_images[row] = image
        binary = self.images[image].binary
        if image != UNMAPPED and not binary.is_generated:
            # Of a file that can't be opened, the offset is all that is the same in every process.
            first = binary.image.segment_address(mapping.file_offset) if binary.image else mapping.file_offset
            self._row_biases[row] = np.uint64((first - mapping.start) % 2**64)

    def _image_of(self, mapping: FileMapping, pid: int) -> int:
        is_anonymous = mapping.path.startswith("//") or not mapping.path.startswith(("/", "[vdso]"))
        file = (mapping.path, mapping.device, mapping.inode, mapping.build_id, pid if is_anonymous else 0)
        index = self._image_of_file.get(file)
        if index is None:
            binary = open_binary(mapping, pid, self._held_files.get((mapping.device, mapping.inode)))
            index = self._image_of_file[file] = self._index_of(binary, pid)
        return index

    def _index_of(self, binary: Binary, pid: int) -> int:
        same: object = len(self.images)
        if binary.is_generated:
            # It is the process's own code, wherever in it that may lie.
            same = ("generated", pid)
        elif binary.image and binary.build_id:
            # A file that is known by inode from one process and by build-id from another is one image.
            same = (binary.path, binary.build_id)
        index = self._image_of_binary.get(same)
        if index is None:
            if len(self.images) >= IMAGES_MOST:
                return UNMAPPED
            index = self._image_of_binary[same] = len(self.images)
            self.images.append(Image(binary, pid))
        return index


def _pages(addresses: list[int]) -> NDArray[np.uint64]:
    limit = 1 << ADDRESS_BITS
    return np.array([min(address, limit) >> PAGE_SHIFT for address in addresses], dtype=np.uint64)
