from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from lockflame.events import FileMapping
from symbolize.address_space import AddressSpace
from symbolize.code_map import ADDRESS_MASK, SPACES_MOST, CodeMap
from symbolize.unwind import UNMAPPED
from tests.support.elf_writer import ElfFile

NO_PID = 2**22 + 1
BASE = 0x7F12_3456_7000


def write_elf(path: Path, elf: ElfFile) -> str:
    path.write_bytes(bytes(elf))
    return str(path)


def code_map(*spaces: list[FileMapping]) -> CodeMap:
    return CodeMap(tuple(AddressSpace(NO_PID + index, tuple(each)) for index, each in enumerate(spaces)), {})


def find(code: CodeMap, *places: tuple[int, int]) -> list[tuple[int, int]]:
    """The (image, address within) of each (space, address)."""
    space = np.array([space for space, _ in places], np.int32)
    image, within = code.find(space, np.array([address for _, address in places], np.uint64))
    return list(zip(image.tolist(), within.tolist(), strict=True))


@pytest.mark.parametrize(
    ("text_offset", "text_address", "map_offset", "address", "elf_address"),
    [
        pytest.param(0x1000, 0x1000, 0x1000, BASE + 0x123, 0x1123, id="same-offset"),
        pytest.param(0x1000, 0x2000, 0x1000, BASE + 0x123, 0x2123, id="linked-a-page-on"),
        pytest.param(0x1230, 0x3230, 0x1000, BASE + 0x233, 0x3233, id="segment-begins-in-a-page"),
        pytest.param(0x1000, 0x2000, 0x3000, BASE + 0x123, 0x4123, id="mapped-from-its-middle"),
    ],
)
def test_address_as_linked_of_position_independent_code(
    tmp_path: Path, text_offset: int, text_address: int, map_offset: int, address: int, elf_address: int
) -> None:
    elf = ElfFile(text_offset=text_offset, text_address=text_address, text_size=0x4000)
    mapping = FileMapping(BASE, BASE + 0x5000, map_offset, write_elf(tmp_path / "lib.so", elf))
    assert find(code_map([mapping]), (0, address)) == [(1, elf_address)]


def test_code_at_its_linked_address_stays_there(tmp_path: Path) -> None:
    elf = ElfFile(is_pie=False, text_address=0x401000, text_offset=0x1000)
    mapping = FileMapping(0x401000, 0x402000, 0x1000, write_elf(tmp_path / "main", elf))
    assert find(code_map([mapping]), (0, 0x401234)) == [(1, 0x401234)]


def test_equal_code_has_equal_keys_in_all_processes(tmp_path: Path) -> None:
    path = write_elf(tmp_path / "lib.so", ElfFile(build_id="ab" * 20))
    status = os.stat(path)
    device = (os.major(status.st_dev), os.minor(status.st_dev))
    code = code_map(
        [FileMapping(BASE, BASE + 0x1000, 0x1000, path, device, status.st_ino)],
        [FileMapping(BASE + 0x9000, BASE + 0xA000, 0x1000, path, build_id="ab" * 20)],
    )
    keys = code.keys(np.array([0, 1], np.int32), np.array([BASE + 0x10, BASE + 0x9010], np.uint64))
    assert keys[0] == keys[1]
    assert len(code.images) == 2


def test_borders_of_mappings(tmp_path: Path) -> None:
    path = write_elf(tmp_path / "lib.so", ElfFile())
    code = code_map([FileMapping(0x5000, 0x6000, 0x1000, path)], [], [FileMapping(0x7000, 0x8000, 0x1000, path)])
    places = [(0, 0x4FFF), (0, 0x5000), (0, 0x5FFF), (0, 0x6000), (1, 0x5000), (2, 0x5000), (2, 0x7000)]
    assert [image for image, _ in find(code, *places)] == [UNMAPPED, 1, 1, UNMAPPED, UNMAPPED, UNMAPPED, 1]


def test_no_address_is_found_in_no_mappings() -> None:
    assert find(code_map([]), (0, 0x5000)) == [(UNMAPPED, 0x5000)]
    assert find(code_map(), *[]) == []


@pytest.mark.parametrize("address", [2**48, 2**63, 2**64 - 1])
def test_what_is_no_user_address_is_unmapped(address: int) -> None:
    mapping = FileMapping(0, int(ADDRESS_MASK), 0, "//anon")
    assert find(code_map([mapping]), (0, address)) == [(UNMAPPED, 0)]


def test_generated_code_keeps_its_addresses_and_its_process() -> None:
    code = code_map([FileMapping(BASE, BASE + 0x1000, 0, "//anon")], [FileMapping(BASE, BASE + 0x1000, 0, "//anon")])
    (first, address), (second, _) = find(code, (0, BASE + 5), (1, BASE + 5))
    assert first != second
    assert address == BASE + 5
    assert [code.images[index].pid for index in (first, second)] == [NO_PID, NO_PID + 1]


def test_generated_code_belongs_to_the_process_that_made_it() -> None:
    """A space that a fork shares may hold code of the parent and code of the child."""
    parents = FileMapping(BASE, BASE + 0x1000, 0, "//anon", pid=NO_PID)
    childs = FileMapping(BASE + 0x1000, BASE + 0x2000, 0, "//anon", pid=NO_PID + 7)
    code = code_map([parents, childs])
    images = [image for image, _ in find(code, (0, BASE), (0, BASE + 0x1000))]
    assert [code.images[image].pid for image in images] == [NO_PID, NO_PID + 7]


def test_a_binary_is_not_opened_before_an_address_needs_it(tmp_path: Path) -> None:
    path = write_elf(tmp_path / "lib.so", ElfFile())
    code = code_map([FileMapping(0x5000, 0x6000, 0x1000, path)])
    assert len(code.images) == 1
    find(code, (0, 0x5000))
    assert len(code.images) == 2


def test_more_spaces_than_keys_have_room_for_are_not_mixed_up() -> None:
    first = AddressSpace(NO_PID, (FileMapping(0x5000, 0x6000, 0, "//anon"),))
    code = CodeMap((first, *[AddressSpace(NO_PID)] * SPACES_MOST), {})
    for space in (SPACES_MOST - 1, SPACES_MOST, SPACES_MOST + 1):
        assert find(code, (space, 0x5000)) == [(UNMAPPED, 0x5000)]
