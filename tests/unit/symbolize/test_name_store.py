"""Names on disk: they come back as they were, and nothing that is wrong there does harm."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from symbolize import name_store
from symbolize.name_store import NameStore
from symbolize.name_tables import ImageName, NamedFrame, NameTables, StoredNames, decode, encode

KEY = "ab" * 20
FRAME = NamedFrame("shop::pay(int)", "_ZN4shop3payEi", "/src/shop.cpp", 17, 12)
INLINED = NamedFrame("tax", "tax", "/src/tax.h", 3, 1)
NAMES = StoredNames(
    {0x1000: ImageName((INLINED, FRAME)), 0x2000: ImageName((NamedFrame("[shop+0x2000]", ""),), "no symbol")},
    {0: [(0x1000, 0x1800, 42), (0x1900, 0x1910, 42)], 512: []},
)
NONE = StoredNames()


@pytest.fixture
def store(tmp_path: Path) -> NameStore:
    return NameStore(tmp_path / "names")


def put(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "names" / f"{KEY}.names"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def with_digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest() + body


def content_of(tables: NameTables) -> bytes:
    """A file with these columns, whatever they are."""
    columns = [getattr(tables, field.name) for field in fields(NameTables)]
    lengths = np.array([*map(len, columns)], np.int64)
    return with_digest(b"".join((lengths.tobytes(), *(bytes(column) for column in columns))))


def loaded(store: NameStore, key: str = KEY) -> StoredNames:
    return store.load(key).all_names()


def test_names_come_back(store: NameStore) -> None:
    store.save(KEY, NAMES)
    assert loaded(store) == NAMES
    assert store.damaged == 0


NUMBERS = st.integers(0, 2**63 - 1)
# File names are bytes: what isn't UTF-8 in them are lone surrogates.
TEXTS = st.one_of(st.text(max_size=8), st.binary(max_size=8).map(os.fsdecode))
FRAMES = st.builds(NamedFrame, TEXTS, TEXTS, TEXTS, NUMBERS, NUMBERS)
IMAGE_NAMES = st.builds(ImageName, st.lists(FRAMES, min_size=1, max_size=3).map(tuple), TEXTS)
EXTENTS = st.dictionaries(NUMBERS, st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=3), max_size=3)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.builds(StoredNames, st.dictionaries(NUMBERS, IMAGE_NAMES, max_size=4), EXTENTS))
def test_any_names_come_back(tmp_path: Path, names: StoredNames) -> None:
    store = NameStore(tmp_path / "names")
    store.save(KEY, names)
    assert loaded(store) == names


@settings(max_examples=60)
@given(st.dictionaries(NUMBERS, IMAGE_NAMES, max_size=6), st.sets(NUMBERS, max_size=4), st.data())
def test_only_what_is_asked_for_is_given(names: dict[int, ImageName], others: set[int], data: st.DataObject) -> None:
    asked = {address for address in names if data.draw(st.booleans())} | others
    found = decode(encode(StoredNames(names))).names_of(asked)
    assert found == {address: name for address, name in names.items() if address in asked}


def test_names_that_are_the_same_are_one_object() -> None:
    name = [ImageName((NamedFrame("f", "f"),)) for _ in range(2)]
    found = decode(encode(StoredNames(dict(enumerate(name))))).names_of([0, 1])
    assert found[0] is found[1]


def test_numbers_of_more_than_63_bits_are_not_stored(store: NameStore) -> None:
    store.save(KEY, NAMES)
    store.save(KEY, StoredNames(NAMES.names, {0: [(0, 2**63, 0)]}))
    assert loaded(store) == NAMES


def test_nothing_is_found_under_another_key(store: NameStore) -> None:
    store.save(KEY, NAMES)
    assert loaded(store, "cd" * 20) == NONE
    assert loaded(store, "") == NONE
    assert store.damaged == 0


def test_a_key_is_of_the_image_and_its_debug_files() -> None:
    keys = [NameStore.key(rules, files) for rules in ("a", "b") for files in ("", "x", "y x")]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 40 and key.isalnum() for key in keys)
    assert NameStore.key("", "x") == ""


def test_the_folder_is_its_owners_only(store: NameStore, tmp_path: Path) -> None:
    store.save(KEY, NAMES)
    assert (tmp_path / "names").stat().st_mode & 0o77 == 0
    assert (tmp_path / "names" / f"{KEY}.names").stat().st_mode & 0o77 == 0


def assert_damaged(tmp_path: Path, content: bytes) -> None:
    store = NameStore(tmp_path / "names")
    put(tmp_path, content)
    assert loaded(store) == NONE
    assert store.damaged == 1


@pytest.mark.parametrize("body", [b"", b"\0", b"\0" * 112, b"\xff" * 120, b"\0" * 1000], ids=len)
def test_what_is_no_file_of_ours_is_left_out(tmp_path: Path, body: bytes) -> None:
    assert_damaged(tmp_path, body)
    assert_damaged(tmp_path, with_digest(body))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_random_bytes_are_left_out(tmp_path: Path, content: bytes) -> None:
    assert_damaged(tmp_path, content)


def test_a_file_that_is_cut_off_is_left_out(tmp_path: Path) -> None:
    content = encode(NAMES)
    for length in range(0, len(content), 13):
        assert_damaged(tmp_path, content[:length])
        assert_damaged(tmp_path, with_digest(content[16:length]))


def test_a_letter_that_changed_is_no_other_name(tmp_path: Path) -> None:
    content = encode(NAMES)
    for at in range(0, len(content), 11):
        assert_damaged(tmp_path, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


COLUMNS = [field.name for field in fields(NameTables) if field.name != "texts"]


def test_a_file_is_as_this_test_makes_it() -> None:
    assert content_of(decode(encode(NAMES))) == encode(NAMES)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_number_below_0_is_damage(tmp_path: Path, name: str) -> None:
    tables = decode(encode(NAMES))
    for row in range(len(getattr(tables, name))):
        column = getattr(tables, name).copy()
        column[row] = -1
        assert_damaged(tmp_path, content_of(replace(tables, **{name: column})))


NUMBERS_OF_ANY_SIZE = ("address", "line", "declared_line", "unit", "extents")


@pytest.mark.parametrize("name", [name for name in COLUMNS if name not in NUMBERS_OF_ANY_SIZE])
def test_an_index_beyond_the_end_is_damage(tmp_path: Path, name: str) -> None:
    tables = decode(encode(NAMES))
    for row, number in itertools.product(range(len(getattr(tables, name))), (100_000, 2**63 - 1)):
        column = getattr(tables, name).copy()
        column[row] = number
        assert_damaged(tmp_path, content_of(replace(tables, **{name: column})))


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_another_length_is_damage(tmp_path: Path, name: str) -> None:
    tables = decode(encode(NAMES))
    column = getattr(tables, name)
    for other in (column[:-1], column[:0], np.append(column, column[-1:] + 1)):
        assert_damaged(tmp_path, content_of(replace(tables, **{name: other})))


def test_addresses_have_to_ascend(tmp_path: Path) -> None:
    tables = decode(encode(NAMES))
    assert_damaged(tmp_path, content_of(replace(tables, address=tables.address[::-1].copy())))
    assert_damaged(tmp_path, content_of(replace(tables, address=np.full_like(tables.address, 7))))


def test_a_file_that_is_too_large_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, encode(NAMES))
    size = (tmp_path / "names" / f"{KEY}.names").stat().st_size
    monkeypatch.setattr(name_store, "FILE_BYTES_MOST", size)
    assert loaded(NameStore(tmp_path / "names")) == NAMES
    monkeypatch.setattr(name_store, "FILE_BYTES_MOST", size - 1)
    assert_damaged(tmp_path, (tmp_path / "names" / f"{KEY}.names").read_bytes())


def test_a_link_a_fifo_or_a_folder_is_not_read(store: NameStore, tmp_path: Path) -> None:
    store.save("other", NAMES)
    (tmp_path / "names" / "link.names").symlink_to(tmp_path / "names" / "other.names")
    os.mkfifo(tmp_path / "names" / "pipe.names")
    (tmp_path / "names" / "folder.names").mkdir()
    assert [loaded(store, key) for key in ("link", "pipe", "folder")] == [NONE] * 3
    assert loaded(store, "other") == NAMES


@pytest.mark.requires_root
def test_another_users_file_is_not_read(store: NameStore, tmp_path: Path) -> None:
    store.save(KEY, NAMES)
    os.chown(tmp_path / "names" / f"{KEY}.names", 65534, 65534)
    assert loaded(store) == NONE


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = NameStore(tmp_path / "file" / "names")
    store.save(KEY, NAMES)
    assert loaded(store) == NONE
    assert store.damaged == 0


def test_too_many_names_are_not_stored(store: NameStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_store, "NAMES_MOST", len(NAMES.names))
    store.save(KEY, NAMES)
    assert loaded(store) == NAMES
    store.save(KEY, StoredNames({**NAMES.names, 0x3000: ImageName((FRAME,))}))
    assert loaded(store) == NAMES


def test_too_large_a_file_is_not_stored(store: NameStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_store, "FILE_BYTES_MOST", 200)
    store.save(KEY, NAMES)
    assert loaded(store) == NONE
    assert store.damaged == 0


def test_the_files_unused_for_longest_go_where_there_are_too_many(
    store: NameStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, key in enumerate(("used", "old", "older")):
        store.save(key, NAMES)
        os.utime(tmp_path / "names" / f"{key}.names", (1 - number, 1 - number))
    size = (tmp_path / "names" / "old.names").stat().st_size
    assert loaded(store, "used") == NAMES
    monkeypatch.setattr(name_store, "FOLDER_BYTES_MOST", 2 * size)
    store.save("new", NAMES)
    assert sorted(path.name for path in (tmp_path / "names").iterdir()) == ["new.names", "used.names"]


def _save_and_load_often(folder: Path, number: int) -> None:
    store = NameStore(folder)
    names = StoredNames({address: ImageName((NamedFrame(f"by_{number}", ""),)) for address in range(200)})
    for _ in range(100):
        store.save(KEY, names)
        found = loaded(store)
        assert store.damaged == 0
        assert len(found.names) == 200
        assert len({name.frames[0].function for name in found.names.values()}) == 1


def test_two_processes_at_once_never_see_half_a_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_save_and_load_often, args=(tmp_path / "names", number)) for number in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    for process in processes:
        process.close()
    assert [path.name for path in (tmp_path / "names").iterdir()] == [f"{KEY}.names"]
