"""Names on disk: they come back as they were, and nothing that is wrong there does harm."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from symbolize import name_store
from symbolize.name_store import ImageName, NamedFrame, NameStore, StoredNames

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


def put(tmp_path: Path, content: bytes | str, key: str = KEY) -> Path:
    path = tmp_path / "names" / f"{key}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else with_digest(content.encode()))
    return path


def with_digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).hexdigest().encode() + b"\n" + body


def saved(tmp_path: Path) -> dict[str, Any]:
    """What `save` writes, for a test to change."""
    NameStore(tmp_path / "names").save(KEY, NAMES)
    return json.loads((tmp_path / "names" / f"{KEY}.json").read_text().split("\n", 1)[1])


def test_names_come_back(store: NameStore) -> None:
    store.save(KEY, NAMES)
    assert store.load(KEY) == NAMES
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
    assert store.load(KEY) == names


def test_nothing_is_found_under_another_key(store: NameStore) -> None:
    store.save(KEY, NAMES)
    assert store.load("cd" * 20) == NONE
    assert store.load("") == NONE
    assert store.damaged == 0


def test_a_key_is_of_the_image_and_its_debug_files() -> None:
    keys = [NameStore.key(rules, files) for rules in ("a", "b") for files in ("", "x", "y x")]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 40 and key.isalnum() for key in keys)
    assert NameStore.key("", "x") == ""


def test_the_folder_is_its_owners_only(store: NameStore, tmp_path: Path) -> None:
    store.save(KEY, NAMES)
    assert (tmp_path / "names").stat().st_mode & 0o77 == 0
    assert (tmp_path / "names" / f"{KEY}.json").stat().st_mode & 0o77 == 0


def assert_damaged(tmp_path: Path, content: bytes | str) -> None:
    store = NameStore(tmp_path / "names")
    put(tmp_path, content)
    assert store.load(KEY) == NONE
    assert store.damaged == 1


SHAPES = ["null", "1", "[]", "{}", '"x"', "true", "[[]]", '{"strings":1,"frames":[],"names":[],"extents":[]}']


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00", b"\0" * 1000, "[" * 200_000, '{"a":' * 200_000, "9" * 5000, "NaN", *SHAPES],
    ids=lambda content: repr(content[:20]),
)
def test_what_is_no_file_of_ours_is_left_out(tmp_path: Path, content: bytes | str) -> None:
    assert_damaged(tmp_path, content)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_random_bytes_are_left_out(tmp_path: Path, content: bytes) -> None:
    assert_damaged(tmp_path, content)


def test_a_file_that_is_cut_off_is_left_out(tmp_path: Path) -> None:
    content = with_digest(json.dumps(saved(tmp_path)).encode())
    for length in range(0, len(content), 7):
        assert_damaged(tmp_path, content[:length])


def test_a_letter_that_changed_is_no_other_name(tmp_path: Path) -> None:
    content = with_digest(json.dumps(saved(tmp_path)).encode())
    for at in range(0, len(content), 5):
        assert_damaged(tmp_path, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


BAD_NUMBERS = [-1, 2**63, 10**4000, True, 0.0, 1.5, float("nan"), float("inf"), "0", None, [], {}]
PLACES = [
    *[("frames", 0, column) for column in range(5)],
    *[("names", 0, column) for column in range(2)],
    ("names", 0, 2, 0),
    ("extents", 0, 0),
    *[("extents", 0, 1, 0, column) for column in range(3)],
]


@pytest.mark.parametrize("place", PLACES, ids=repr)
def test_what_stands_for_a_number_is_one(tmp_path: Path, place: tuple[str | int, ...]) -> None:
    content: Any = saved(tmp_path)
    row = content
    for step in place[:-1]:
        row = row[step]
    for number in BAD_NUMBERS:
        row[place[-1]] = number
        assert_damaged(tmp_path, json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        {"strings": [1, 2, 3]},
        {"strings": [None] * 9},
        {"strings": {}},
        {"strings": []},
        {"frames": []},
        {"frames": [[0, 0, 0, 0]]},
        {"frames": [[0, 0, 0, 0, 0, 0]]},
        {"names": [[0, 0, []]]},
        {"names": [[0, 0, {}]]},
        {"names": [[0, 0, "x"]]},
        {"names": [[0, 0]]},
        {"names": [[0, 0, [999]]]},
        {"names": 7},
        {"extents": [[0, [[1, 2]]]]},
        {"extents": [[0, 5]]},
        {"extents": None},
    ],
    ids=repr,
)
def test_tables_of_another_shape_are_left_out(tmp_path: Path, change: dict[str, object]) -> None:
    assert_damaged(tmp_path, json.dumps({**saved(tmp_path), **change}))


def test_every_table_is_needed(tmp_path: Path) -> None:
    for name in (content := saved(tmp_path)):
        assert_damaged(tmp_path, json.dumps({key: value for key, value in content.items() if key != name}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables=st.fixed_dictionaries({}, optional={name: JSON for name in ("strings", "frames", "names", "extents")}))
def test_other_json_is_either_names_or_damage(tmp_path: Path, tables: dict[str, object]) -> None:
    store = NameStore(tmp_path / "names")
    put(tmp_path, json.dumps(tables))
    names = store.load(KEY)
    assert store.damaged in (0, 1)
    for address, name in names.names.items():
        assert type(address) is int
        assert name.frames
        assert all(isinstance(frame.function, str) and type(frame.line) is int for frame in name.frames)


def test_a_file_that_is_too_large_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path)
    size = (tmp_path / "names" / f"{KEY}.json").stat().st_size
    monkeypatch.setattr(name_store, "FILE_BYTES_MOST", size)
    assert NameStore(tmp_path / "names").load(KEY) == NAMES
    monkeypatch.setattr(name_store, "FILE_BYTES_MOST", size - 1)
    assert_damaged(tmp_path, (tmp_path / "names" / f"{KEY}.json").read_bytes())


def test_a_link_a_fifo_or_a_folder_is_not_read(store: NameStore, tmp_path: Path) -> None:
    store.save("other", NAMES)
    (tmp_path / "names" / "link.json").symlink_to(tmp_path / "names" / "other.json")
    os.mkfifo(tmp_path / "names" / "pipe.json")
    (tmp_path / "names" / "folder.json").mkdir()
    assert [store.load(key) for key in ("link", "pipe", "folder")] == [NONE] * 3
    assert store.load("other") == NAMES


@pytest.mark.requires_root
def test_another_users_file_is_not_read(store: NameStore, tmp_path: Path) -> None:
    store.save(KEY, NAMES)
    os.chown(tmp_path / "names" / f"{KEY}.json", 65534, 65534)
    assert store.load(KEY) == NONE


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = NameStore(tmp_path / "file" / "names")
    store.save(KEY, NAMES)
    assert store.load(KEY) == NONE
    assert store.damaged == 0


def test_too_many_names_are_not_stored(store: NameStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_store, "NAMES_MOST", len(NAMES.names))
    store.save(KEY, NAMES)
    assert store.load(KEY) == NAMES
    store.save(KEY, StoredNames({**NAMES.names, 0x3000: ImageName((FRAME,))}))
    assert store.load(KEY) == NAMES


def test_too_large_a_file_is_not_stored(store: NameStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_store, "FILE_BYTES_MOST", 200)
    store.save(KEY, NAMES)
    assert store.load(KEY) == NONE
    assert store.damaged == 0


def test_the_files_unused_for_longest_go_where_there_are_too_many(
    store: NameStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, key in enumerate(("used", "old", "older")):
        store.save(key, NAMES)
        os.utime(tmp_path / "names" / f"{key}.json", (1 - number, 1 - number))
    size = (tmp_path / "names" / "old.json").stat().st_size
    assert store.load("used") == NAMES
    monkeypatch.setattr(name_store, "FOLDER_BYTES_MOST", 2 * size)
    store.save("new", NAMES)
    assert sorted(path.name for path in (tmp_path / "names").iterdir()) == ["new.json", "used.json"]


def _save_and_load_often(folder: Path, number: int) -> None:
    store = NameStore(folder)
    names = StoredNames({address: ImageName((NamedFrame(f"by_{number}", ""),)) for address in range(200)})
    for _ in range(100):
        store.save(KEY, names)
        found = store.load(KEY)
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
    assert [path.name for path in (tmp_path / "names").iterdir()] == [f"{KEY}.json"]
