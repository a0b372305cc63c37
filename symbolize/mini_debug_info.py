"""The symbols that Fedora and its kin keep in stripped programs: an ELF file in the section `.gnu_debugdata`.

It is compressed by LZMA (GDB manual, "MiniDebugInfo").
"""

from __future__ import annotations

from symbolize.elf import ElfImage, ElfProblem

SIZE_MOST = 256 << 20
MEMORY_MOST = 256 << 20


def mini_symbols(image: ElfImage | None) -> ElfImage | None:
    """The image in an image; None where there is none, or a damaged one: the symbols of the outer one remain."""
    section = image.sections.get(".gnu_debugdata") if image is not None else None
    if image is None or section is None or section.size > SIZE_MOST:
        return None
    import lzma

    try:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_MOST)
        return ElfImage(decompressor.decompress(bytes(image.data(section)), SIZE_MOST))
    except (lzma.LZMAError, EOFError, MemoryError, ElfProblem):
        return None
