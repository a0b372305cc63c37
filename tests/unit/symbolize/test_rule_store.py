"""Unwind rules on disk: they come back as they were, and nothing that is wrong there does harm."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from symbolize import rule_store
from symbolize.array_files import save_arrays
from symbolize.elf import ElfImage
from symbolize.rule_store import RuleStore
from symbolize.unwind import RuleCache, RuleTable, UnwindData

KEY = "ab" * 20


def table_of_own_python() -> RuleTable:
    data = UnwindData(ElfImage.open(os.path.realpath("/proc/self/exe")))
    starts = data.index.starts
    return data.decode(starts[:: max(1, len(starts) // 50)])


@pytest.fixture
def store(tmp_path: Path) -> RuleStore:
    return RuleStore(tmp_path / "rules")


def test_rules_come_back(store: RuleStore) -> None:
    table = table_of_own_python()
    store.save(KEY, table)
    found = store.load(KEY)
    assert found is not None
    assert found.start.tolist() == table.start.tolist()
    assert found.saved.tolist() == table.saved.tolist()
    assert found.general_rules == table.general_rules


def test_nothing_is_found_under_another_key(store: RuleStore) -> None:
    store.save(KEY, table_of_own_python())
    assert store.load("cd" * 20) is None
    assert store.load("") is None


def test_the_folder_is_its_owners_only(store: RuleStore, tmp_path: Path) -> None:
    store.save(KEY, table_of_own_python())
    assert (tmp_path / "rules").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize(
    "content", [b"", b"PK\3\4", b"\0" * 1000, os.urandom(100)], ids=["empty", "zip", "zeros", "random"]
)
def test_a_damaged_file_is_left_out_and_counted(store: RuleStore, tmp_path: Path, content: bytes) -> None:
    store.save(KEY, table_of_own_python())
    (tmp_path / "rules" / f"{KEY}.arrays").write_bytes(content)
    assert store.load(KEY) is None
    assert store.damaged == 1


def test_a_file_with_other_arrays_is_left_out(store: RuleStore, tmp_path: Path) -> None:
    store.save(KEY, table_of_own_python())
    with open(tmp_path / "rules" / f"{KEY}.arrays", "wb") as file:
        save_arrays(file, {"start": np.arange(3)})
    assert store.load(KEY) is None
    assert store.damaged == 1


def test_a_link_or_a_fifo_is_not_followed(store: RuleStore, tmp_path: Path) -> None:
    store.save("other", table_of_own_python())
    (tmp_path / "rules" / f"{KEY}.arrays").symlink_to(tmp_path / "rules" / "other.arrays")
    os.mkfifo(tmp_path / "rules" / "pipe.arrays")
    assert store.load(KEY) is None
    assert store.load("pipe") is None


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = RuleStore(tmp_path / "file" / "rules")
    store.save(KEY, table_of_own_python())
    assert store.load(KEY) is None


def test_the_oldest_files_go_where_there_are_too_many(
    store: RuleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of_own_python()
    store.save("old", table)
    os.utime(tmp_path / "rules" / "old.arrays", (1, 1))
    size = (tmp_path / "rules" / "old.arrays").stat().st_size
    monkeypatch.setattr(rule_store, "FOLDER_BYTES_MOST", size + size // 2)
    store.save("new", table)
    assert [path.name for path in (tmp_path / "rules").iterdir()] == ["new.arrays"]


def test_a_cache_asks_for_stored_rules_before_it_decodes() -> None:
    data = UnwindData(ElfImage.open(os.path.realpath("/proc/self/exe")))
    addresses = data.index.starts[:50] + np.uint64(1)
    image = np.full(len(addresses), 3, dtype=np.int32)
    decoding = RuleCache(lambda _: data)
    rows = decoding.find(image, addresses)
    reading = RuleCache(lambda _: data, lambda _: decoding.of_image(3))
    read_rows = reading.find(image, addresses)
    assert not reading.learned
    assert reading.table.cfa_offset[read_rows].tolist() == decoding.table.cfa_offset[rows].tolist()
