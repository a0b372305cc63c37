"""ELF files with sections compressed by zstd, made plain for readers that know only zlib.

gABI, "Section Compression": a compressed section starts with Elf64_Chdr {type, reserved, size, alignment}.
"""

from __future__ import annotations

import os
import struct

from symbolize.elf import SHF_COMPRESSED, ElfImage, Section

_HEADER = struct.Struct("<IIQQ")
_COMPRESSED_BY_ZSTD = 2
_SECTION_HEADER_AT = 0x28  # e_shoff in Elf64_Ehdr
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
SIZE_MOST = 8 << 30


class InflateError(Exception):
    """A compressed section couldn't be made plain; the message says why."""


def is_zstd(image: ElfImage, section: Section) -> bool:
    """Whether a section is compressed by zstd."""
    header = image.read(section.file_offset, _HEADER.size) if section.is_compressed and section.has_bytes else b""
    return len(header) == _HEADER.size and _HEADER.unpack(header)[0] == _COMPRESSED_BY_ZSTD


def plain_descriptor(image: ElfImage) -> int:
    """A file with the image's DWARF sections as any reader knows them: the image's own, or a copy in memory.

    Raises `InflateError` and `OSError`. Only for a process of its own: nobody closes the copy.
    """
    sections = [section for section in image.sections.values() if is_zstd(image, section)]
    if image.descriptor is None:
        raise InflateError("an image from memory")
    if not sections:
        return image.descriptor
    copy = os.memfd_create("lockflame-debug-info", os.MFD_CLOEXEC)
    _copy_all(image.descriptor, copy)
    (table,) = struct.unpack("<Q", image.read(_SECTION_HEADER_AT, 8))
    for section in sections:
        _append_plain(copy, image, section, table + section.index * _SECTION_HEADER.size)
    return copy


def _copy_all(source: int, target: int) -> None:
    size, at = os.fstat(source).st_size, 0
    while at < size:
        copied = os.sendfile(target, source, at, size - at)
        if not copied:
            return  # cut off meanwhile
        at += copied


def _append_plain(copy: int, image: ElfImage, section: Section, header_at: int) -> None:
    content = image.data(section)
    _, _, size, alignment = _HEADER.unpack(content[: _HEADER.size])
    plain = _decompress(content[_HEADER.size :], size, section.name)
    place = os.lseek(copy, 0, os.SEEK_END)
    place = os.lseek(copy, (place + 15) // 16 * 16, os.SEEK_SET)
    with open(copy, "wb", closefd=False, buffering=0) as file:
        remaining = memoryview(plain)
        while remaining:
            remaining = remaining[file.write(remaining) :]
    fields = list(_SECTION_HEADER.unpack(image.read(header_at, _SECTION_HEADER.size)))
    # sh_flags, sh_offset, sh_size, sh_addralign
    fields[2], fields[4], fields[5], fields[8] = fields[2] & ~SHF_COMPRESSED, place, len(plain), alignment
    os.pwrite(copy, _SECTION_HEADER.pack(*fields), header_at)


def _decompress(content: memoryview, size: int, name: str) -> bytes:
    import zstandard

    if size > SIZE_MOST:
        raise InflateError(f"{name} claims to be of {size:,} bytes")
    try:
        frame_size = zstandard.frame_content_size(bytes(content[:64]))
        if frame_size >= 0 and frame_size != size:
            raise InflateError(f"{name} lies about its size")
        plain = zstandard.ZstdDecompressor().decompress(content, max_output_size=size)
    except zstandard.ZstdError as error:
        raise InflateError(f"{name} is damaged ({error})") from error
    if len(plain) != size:
        raise InflateError(f"{name} lies about its size")
    return plain
