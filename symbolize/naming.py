"""Names for code keys: each distinct one is resolved once, by whichever source knows its image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lockflame.events import Event
from lockflame.profile import TRUNCATED_STACK, FrameKind
from symbolize.code_map import ADDRESS_MASK, KERNEL_BIT, SHIFT, CodeMap, Image
from symbolize.demangle import demangle
from symbolize.generated_names import GeneratedNames
from symbolize.image_names import UNKNOWN, ImageNamer, module_offset
from symbolize.kernel import KERNEL, KernelName, KernelSymbols, names_of, passing_symbols, read_kallsyms, readable_name
from symbolize.kernel_store import KernelStore
from symbolize.name_tables import ImageName, NamedFrame
from symbolize.unwind import UNMAPPED

MARKER_KEY = np.uint64(ADDRESS_MASK)
"""The code key of the `[truncated stack]` frame: the last address of no image."""
NO_JIT_SYMBOL = "generated code without a name"


@dataclass(frozen=True, slots=True)
class Name:
    """What a code key is called: inlined functions innermost first, then the one that has the code.

    `image` is an index of `CodeMap.images`, `module` a kernel module. `reason` says why the key couldn't be
    named; then the name is made of module and offset.
    """

    frames: tuple[NamedFrame, ...]
    kind: FrameKind
    image: int
    module: str = ""
    reason: str = ""


class Namer:
    """Resolves code keys. Tables are read when the first key needs them."""

    def __init__(
        self,
        code_map: CodeMap,
        images: ImageNamer,
        events: Iterable[Event] = (),
        kernel_store: KernelStore | None = None,
    ) -> None:
        """`images` names what lies in ELF files; `events` tell of kernel code that came and went.

        Without `kernel_store` the kernel is asked for all its symbols.
        """
        self._code_map = code_map
        self._images = images
        self._passing = passing_symbols(events)
        self._kernel_store = kernel_store
        self._kernel_text: KernelSymbols | None = None
        self._kernel: KernelSymbols | None = None
        self._known_in_kernel: dict[KernelName, Name] = {}
        self.generated = GeneratedNames(np.empty(0, np.uint64))
        """The names of generated code, once they are known."""

    def names(self, keys: NDArray[np.uint64]) -> list[Name]:
        """A name for each of the keys (uint64, distinct)."""
        is_kernel = (keys != MARKER_KEY) & (keys & KERNEL_BIT != 0)
        known = {**self._names_in_files(keys), **self._kernel_names(keys[is_kernel])}
        names = [known.get(key) or self._name(key) for key in keys.tolist()]
        readable = demangle(name.frames[0].linkage_name for name in names if name.kind == FrameKind.JIT)
        return [_readable_name(name, readable) if name.kind == FrameKind.JIT else name for name in names]

    def symbols(self, keys: NDArray[np.uint64]) -> list[str]:
        """The linkage names of the functions at user addresses; empty for those without a symbol."""
        names: list[str] = []
        for key in map(int, keys):
            index, address = key >> int(SHIFT), key & int(ADDRESS_MASK)
            has_file = self._code_map.images[index].binary.image is not None
            symbol = self._images.symbol(index, address) if has_file else None
            names.append(symbol.linkage_name if symbol else "")
        return names

    def _names_in_files(self, keys: NDArray[np.uint64]) -> dict[int, Name]:
        """The names of those keys that lie in ELF files."""
        addresses_of: defaultdict[int, list[int]] = defaultdict(list)
        is_user = (keys != MARKER_KEY) & (keys & KERNEL_BIT == 0)
        shift, mask = int(SHIFT), int(ADDRESS_MASK)
        for key in keys[is_user].tolist():
            addresses_of[key >> shift].append(key & mask)
        for index in [*addresses_of]:
            if self._code_map.images[index].binary.image is None:
                del addresses_of[index]
        for index, addresses in addresses_of.items():
            self._images.begin(index, addresses)
        found = _readable({index: self._images.finish(index) for index in addresses_of})
        names: dict[int, Name] = {}
        for index, addresses in addresses_of.items():
            known = self._images.keep(index, found[index])
            # By identity, since comparing them takes longer: most names are those of many addresses.
            distinct = {id(name): name for name in known.values()}
            name_of = {
                number: Name(name.frames, FrameKind.USER, index, "", name.reason) for number, name in distinct.items()
            }
            for address in addresses:
                names[index << shift | address] = name_of[id(known[address])]
        return names

    def _name(self, key: int) -> Name:
        if key == int(MARKER_KEY):
            return _one_frame(TRUNCATED_STACK, "", FrameKind.MARKER, UNMAPPED)
        index, address = key >> int(SHIFT), key & int(ADDRESS_MASK)
        image = self._code_map.images[index]
        if index == UNMAPPED:
            return _one_frame(UNKNOWN, "", FrameKind.USER, index, "", image.binary.reason)
        if image.binary.is_generated:
            return self._jit_name(key, index, image)
        return _one_frame(module_offset(image, address), "", FrameKind.USER, index, "", image.binary.reason)

    def _kernel_names(self, addresses: NDArray[np.uint64]) -> dict[int, Name]:
        """The same object for all addresses of a function."""
        names: dict[int, Name] = {}
        for part, symbols in self._kernel_symbols(addresses):
            for address, found in zip(part.tolist(), names_of(part, self._passing, symbols), strict=True):
                if found not in self._known_in_kernel:
                    function = KERNEL if found.reason else readable_name(found.function)
                    self._known_in_kernel[found] = _one_frame(
                        function, found.function, FrameKind.KERNEL, UNMAPPED, found.module, found.reason
                    )
                names[address] = self._known_in_kernel[found]
        return names

    def _kernel_symbols(self, addresses: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.uint64], KernelSymbols]]:
        """The addresses by what knows them: symbols kept from an earlier recording, or all that the kernel tells."""
        if len(addresses) and self._kernel is None and self._kernel_store is not None:
            self._kernel_text = self._kernel_text or self._kernel_store.load()
        if self._kernel_text is not None:
            is_covered = self._kernel_text.covers(addresses)
            yield addresses[is_covered], self._kernel_text
            addresses = addresses[~is_covered]
        if not len(addresses):
            return
        if self._kernel is None:
            self._kernel = read_kallsyms()
            if self._kernel_text is None and self._kernel_store is not None:
                self._kernel_store.save(self._kernel)
        yield addresses, self._kernel

    def _jit_name(self, key: int, index: int, image: Image) -> Name:
        first = index if image.earlier is None else image.earlier
        symbol = self.generated.symbols.get(key)
        if symbol:
            frame = NamedFrame(symbol.name, symbol.name, symbol.path, symbol.line)
            return Name((frame,), FrameKind.JIT, first)
        reason = self.generated.reasons.get(image.pid, NO_JIT_SYMBOL)
        return _one_frame(module_offset(image, key & int(ADDRESS_MASK)), "", FrameKind.JIT, first, "", reason)


def _one_frame(
    function: str, linkage_name: str, kind: FrameKind, image: int, module: str = "", reason: str = ""
) -> Name:
    return Name((NamedFrame(function, linkage_name),), kind, image, module, reason)


def _readable(names: dict[int, dict[int, ImageName]]) -> dict[int, dict[int, ImageName]]:
    """The names with functions as their sources have them: those of all images are demangled at once."""
    frames = {frame for of_image in names.values() for name in of_image.values() for frame in name.frames}
    mangled = {frame.linkage_name for frame in frames if frame.linkage_name and frame.function == frame.linkage_name}
    readable = demangle(mangled) if mangled else {}
    shown = {frame: _readable_frame(frame, readable) for frame in frames}
    return {
        index: {
            address: ImageName(tuple([shown[frame] for frame in name.frames]), name.reason)
            for address, name in of_image.items()
        }
        for index, of_image in names.items()
    }


def _readable_name(name: Name, readable: dict[str, str]) -> Name:
    return replace(name, frames=tuple(_readable_frame(frame, readable) for frame in name.frames))


def _readable_frame(frame: NamedFrame, readable: dict[str, str]) -> NamedFrame:
    if frame.function != frame.linkage_name or readable.get(frame.linkage_name, frame.function) == frame.function:
        return frame
    return replace(frame, function=readable[frame.linkage_name])
