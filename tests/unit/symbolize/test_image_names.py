"""What an address of a program is called: out of debug info, else a symbol, else where its function begins."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lockflame.events import FileMapping
from symbolize import debug_info, image_names
from symbolize.address_space import AddressSpace
from symbolize.code_map import SHIFT, CodeMap
from symbolize.debug_files import DebugFiles
from symbolize.debug_info import DebugInfoReader
from symbolize.elf import ElfImage
from symbolize.image_names import NO_SYMBOL, NO_SYMBOL_BUT_START, UNKNOWN, ImageNamer
from symbolize.name_store import NameStore
from symbolize.name_tables import ImageName, NamedFrame
from symbolize.naming import Name, Namer
from tests.support.debug_files import build_id_of, build_id_path, move_section, split_debug
from tests.support.elf_sections import damage_section
from tests.support.small_programs import (
    ASSEMBLY_SOURCE,
    C_HELPER_SOURCE,
    C_SOURCE,
    CPP_SOURCE,
    compile_program,
    objcopy,
    own_instructions,
)

NO_PID = 2**22 + 1
BASE = 0x5500_0000_0000
INDEX = 1
"""Of the program among the images: 0 is what nobody maps."""
C = {"shop.c": C_SOURCE, "helper.c": C_HELPER_SOURCE}
FLAGS = ("-O2", "-g", "-Wl,--build-id")


@pytest.fixture(scope="module")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_program(tmp_path_factory.mktemp("c"), C, FLAGS)


@pytest.fixture(scope="module")
def cpp_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_program(tmp_path_factory.mktemp("cpp"), {"shop.cpp": CPP_SOURCE}, FLAGS)


class Readers:
    """Counts the children that are started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        monkeypatch.setattr(debug_info, "DebugInfoReader", self._start)

    def _start(self, *arguments) -> DebugInfoReader:
        self.count += 1
        return DebugInfoReader(*arguments)


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> Readers:
    return Readers(monkeypatch)


class Session:
    """One recording of one program: names by the functions that its own symbol table has."""

    def __init__(self, program: Path, cache: Path, debug_folder: Path | None = None, debuginfod=None) -> None:
        segment = next(segment for segment in ElfImage(program.read_bytes()).segments if segment.executable)
        start, offset = BASE + segment.elf_address & -0x1000, segment.file_offset & -0x1000
        mapping = FileMapping(start, start + 0x10_0000, offset, str(program))
        self.code_map = CodeMap((AddressSpace(NO_PID, (mapping,)),), {})
        self.code_map.find(np.zeros(1, np.int32), np.array([start], np.uint64))
        assert self.code_map.images[INDEX].binary.image is not None
        self.store = NameStore(cache)
        folders = (str(debug_folder),) if debug_folder else ()
        self.images = ImageNamer(self.code_map, DebugFiles(folders, debuginfod), self.store)

    def names(self, addresses: Sequence[int]) -> dict[int, ImageName]:
        self.images.begin(INDEX, addresses)
        return self.images.keep(INDEX, self.images.finish(INDEX))

    def readable(self, addresses: Sequence[int]) -> list[Name]:
        keys = np.array([(INDEX << int(SHIFT)) | address for address in addresses], np.uint64)
        return Namer(self.code_map, self.images).names(keys)


def first_of(program: Path, *functions: str) -> list[int]:
    found = own_instructions(program)
    return [found[function][0] for function in functions]


def line_of(source: str, text: str) -> int:
    return next(number for number, row in enumerate(source.splitlines(), 1) if text in row)


def test_names_of_c(c_program: Path, tmp_path: Path) -> None:
    """The part that is moved away is its function; of two names for one function, the better known one is shown."""
    parts = first_of(c_program, "only_here", "parted", "parted.cold", "main")
    inner = own_instructions(c_program).get("__its_inner_name") or own_instructions(c_program)["its_name"]
    names = Session(c_program, tmp_path).names([*parts, inner[0]])
    outermost = [names[address].frames[-1] for address in parts]
    assert [frame.function for frame in outermost] == ["only_here", "parted", "parted", "main"]
    assert [frame.linkage_name for frame in outermost] == ["only_here", "parted", "parted", "main"]
    (alias,) = names[inner[0]].frames
    assert (alias.function, alias.linkage_name) == ("its_name", "__its_inner_name")
    assert Path(alias.path).name == "shop.c"
    assert alias.declared_line == line_of(C_SOURCE, "int __its_inner_name(int number)")
    assert all(name.reason == "" for name in names.values())


def test_names_of_cpp(cpp_program: Path, tmp_path: Path) -> None:
    """Those that debug info has no linkage name of have that of their symbol; inlined ones that of their source."""
    functions = own_instructions(cpp_program)
    hidden = next(name for name in functions if "hidden" in name)
    session = Session(cpp_program, tmp_path)
    names = session.names([address for addresses in functions.values() for address in addresses])
    assert {names[address].frames[-1].linkage_name for address in functions[hidden]} == {hidden}
    pay = {names[address].frames[-1].linkage_name for address in functions["_ZN4shop4Till3payEi"]}
    assert pay == {"_ZN4shop4Till3payEi"}
    inlined = {frame.function for name in names.values() for frame in name.frames[:-1]}
    assert "of" in inlined
    (name,) = Session(cpp_program, tmp_path / "other").readable([functions[hidden][0]])
    assert name.frames[-1].function == "shop::(anonymous namespace)::hidden(int)"


def test_hand_written_code_has_its_symbol_and_its_line(tmp_path: Path) -> None:
    program = compile_program(tmp_path, {"by_hand.s": ASSEMBLY_SOURCE}, ("-g",))
    (address,) = first_of(program, "by_hand")
    (frame,) = Session(program, tmp_path / "names").names([address])[address].frames
    assert (frame.function, frame.linkage_name) == ("by_hand", "by_hand")
    assert (Path(frame.path).name, frame.line) == ("by_hand.s", line_of(ASSEMBLY_SOURCE, "by_hand:") + 1)


def test_without_debug_info_there_are_symbols(c_program: Path, tmp_path: Path, readers: Readers) -> None:
    stripped = tmp_path / "stripped"
    objcopy("--strip-debug", c_program, stripped)
    (address,) = first_of(c_program, "only_here")
    names = Session(stripped, tmp_path / "names").names([address])
    assert names == {address: ImageName((NamedFrame("only_here", "only_here"),))}
    assert readers.count == 0


def test_without_symbols_there_is_where_a_function_begins(c_program: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped"
    objcopy("--strip-all", c_program, stripped)
    addresses = own_instructions(c_program)["only_here"]
    start = addresses[0]
    entry = ElfImage.open(str(c_program)).entry
    names = Session(stripped, tmp_path / "names").names([*addresses, entry, 0x10_0000])
    assert {names[address] for address in addresses} == {
        ImageName((NamedFrame(f"stripped+0x{start:x}", ""),), NO_SYMBOL_BUT_START)
    }
    assert names[entry] == ImageName((NamedFrame("_start", "_start"),))
    assert names[0x10_0000] == ImageName((NamedFrame("[stripped+0x100000]", ""),), NO_SYMBOL)


def test_lines_stay_where_only_the_name_is_missing(tmp_path: Path) -> None:
    """Assembly without its symbols: its lines are known, its functions begin where the unwind data says."""
    with_cfi = ASSEMBLY_SOURCE.replace("by_hand:\n", "by_hand:\n        .cfi_startproc\n").replace(
        "        .size   by_hand", "        .cfi_endproc\n        .size   by_hand"
    )
    program = compile_program(tmp_path, {"by_hand.s": with_cfi}, ("-g",))
    (address,) = first_of(program, "by_hand")
    objcopy("--strip-symbol=by_hand", program, tmp_path / "stripped")
    name = Session(tmp_path / "stripped", tmp_path / "names").names([address])[address]
    (frame,) = name.frames
    assert (frame.function, name.reason) == (f"stripped+0x{address:x}", NO_SYMBOL_BUT_START)
    assert (Path(frame.path).name, frame.line) == ("by_hand.s", line_of(with_cfi, "incl"))


def test_names_from_a_debug_file(c_program: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped"
    debug = build_id_path(tmp_path / "debug", build_id_of(c_program))
    split_debug(c_program, stripped, debug, link=False)
    objcopy("--strip-all", stripped)
    addresses = [address for each in own_instructions(c_program).values() for address in each]
    whole = Session(c_program, tmp_path / "1").names(addresses)
    assert Session(stripped, tmp_path / "2", tmp_path / "debug").names(addresses) == whole
    without = Session(stripped, tmp_path / "2").names(addresses)
    assert {len(name.frames) for name in without.values()} == {1}


def test_a_warm_store_needs_no_child(c_program: Path, tmp_path: Path, readers: Readers) -> None:
    addresses = [address for each in own_instructions(c_program).values() for address in each]
    first = Session(c_program, tmp_path).names(addresses)
    assert readers.count >= 1
    readers.count = 0
    second = Session(c_program, tmp_path)
    assert second.names(addresses) == first
    assert readers.count == 0
    assert list(second.images.notes()) == []


def test_only_what_the_store_does_not_have_is_read(c_program: Path, tmp_path: Path, readers: Readers) -> None:
    main, parted = first_of(c_program, "main", "parted")
    Session(c_program, tmp_path).names([main])
    both = Session(c_program, tmp_path).names([main, parted])
    assert readers.count == 2
    assert Session(c_program, tmp_path).names([parted, main]) == both
    assert readers.count == 2


def test_a_debug_file_that_is_installed_later_is_looked_into(c_program: Path, tmp_path: Path, readers: Readers) -> None:
    stripped = tmp_path / "stripped"
    debug = tmp_path / "new.debug"
    split_debug(c_program, stripped, debug, link=False)
    (address,) = first_of(c_program, "only_here")
    assert Session(stripped, tmp_path / "names", tmp_path / "debug").names([address])[address].frames[0].line == 0
    place = build_id_path(tmp_path / "debug", build_id_of(c_program))
    place.parent.mkdir(parents=True)
    debug.rename(place)
    assert Session(stripped, tmp_path / "names", tmp_path / "debug").names([address])[address].frames[0].line > 0
    assert readers.count == 1


def test_a_damaged_file_is_a_note_and_nothing_of_it_is_kept(c_program: Path, tmp_path: Path, readers: Readers) -> None:
    damaged = Path(shutil.copy(c_program, tmp_path / "damaged"))
    damage_section(damaged, ".debug_info", seed=1)
    (address,) = first_of(c_program, "only_here")
    for turn in (1, 2):
        session = Session(damaged, tmp_path / "names")
        # The symbols are whole.
        assert session.names([address]) == {address: ImageName((NamedFrame("only_here", "only_here"),))}
        (note,) = session.images.notes()
        assert note.startswith(f"Source lines of {damaged} are missing, at least in part: ")
        assert readers.count == turn
    assert not (tmp_path / "names").exists()


def test_debug_info_outside_of_its_file_is_a_note(c_program: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copy(c_program, tmp_path / "damaged"))
    move_section(damaged, ".debug_info", 2**40)
    session = Session(damaged, tmp_path / "names")
    (address,) = first_of(c_program, "main")
    assert session.names([address])[address].frames[-1].function == "main"
    assert len(list(session.images.notes())) == 1


def test_no_process_to_be_had_is_a_note(c_program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> DebugInfoReader:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(debug_info, "DebugInfoReader", refuse)
    session = Session(c_program, tmp_path / "names")
    (address,) = first_of(c_program, "main")
    assert session.names([address])[address].frames == (NamedFrame("main", "main"),)
    (note,) = session.images.notes()
    assert "no process could be started to read them (Resource temporarily unavailable)" in note
    assert not (tmp_path / "names").exists()


class NoServers:
    """Has nothing, and is asked each time."""

    def find(self, build_id: str, name: str) -> None:
        return None


def test_what_servers_did_not_have_is_not_kept(c_program: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped"
    objcopy("--strip-debug", c_program, stripped)
    (address,) = first_of(c_program, "main")
    Session(stripped, tmp_path / "names", debuginfod=NoServers()).names([address])
    assert not (tmp_path / "names").exists()
    # A program that needs no debug file is no concern of theirs.
    Session(c_program, tmp_path / "names", debuginfod=NoServers()).names([address])
    assert (tmp_path / "names").exists()


def test_a_program_without_build_id_is_not_kept(tmp_path: Path) -> None:
    program = compile_program(tmp_path, C, ("-O2", "-g", "-Wl,--build-id=none"))
    (address,) = first_of(program, "main")
    assert Session(program, tmp_path / "names").names([address])[address].frames[-1].line > 0
    assert not (tmp_path / "names").exists()


def test_many_addresses_are_shared_among_children(
    c_program: Path, tmp_path: Path, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = [address for each in own_instructions(c_program).values() for address in each]
    alone = Session(c_program, tmp_path / "1").names(addresses)
    readers.count = 0
    monkeypatch.setattr(image_names, "ADDRESSES_WORTH_A_READER", 10)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(3))
    assert Session(c_program, tmp_path / "2").names(addresses) == alone
    assert 2 <= readers.count <= image_names.READERS_MOST


def test_symbols_for_whoever_only_needs_the_linkers_names(cpp_program: Path, tmp_path: Path) -> None:
    session = Session(cpp_program, tmp_path)
    addresses = first_of(cpp_program, "_ZN4shop4Till3payEi", "main")
    keys = [(INDEX << int(SHIFT)) | address for address in [*addresses, 0x10_0000]]
    namer = Namer(session.code_map, session.images)
    assert namer.symbols(np.array(keys, np.uint64)) == ["_ZN4shop4Till3payEi", "main", ""]
    nobody = np.array([5], np.uint64)
    assert namer.symbols(nobody) == [""]


def test_stored_names_are_readable(cpp_program: Path, tmp_path: Path, readers: Readers) -> None:
    addresses = [address for each in own_instructions(cpp_program).values() for address in each]
    first = Session(cpp_program, tmp_path).readable(addresses)
    readers.count = 0
    second = Session(cpp_program, tmp_path).readable(addresses)
    assert readers.count == 0
    assert first == second
    functions = {frame.function for name in second for frame in name.frames}
    assert "shop::Till::pay(int)" in functions
    assert not any(function.startswith("_Z") for function in functions)
    assert UNKNOWN not in functions
