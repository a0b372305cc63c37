"""Rule tables as arrays for a file, merging, and the cache in front of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolize.unwind import RuleCache, RuleKind, RuleTable, UnwindData
from symbolize.unwind.rules import GeneralRule, Where, merge_tables
from tests.unit.symbolize.unwind import elf_writer as w
from tests.unit.symbolize.unwind.elf_writer import Function, image_of

GENERAL = w.def_cfa_expression(w.breg(w.RBP, -8) + w.DEREF)
OTHER = w.def_cfa_expression(w.breg(w.RBP, -16) + w.DEREF)
FUNCTIONS = [Function(0x1000, 0x80), Function(0x1100, 0x80, GENERAL), Function(0x1200, 0x80, OTHER)]


def u64(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def table_of(*addresses: int) -> RuleTable:
    return UnwindData(image_of(FUNCTIONS)).decode(u64(*addresses))


def same(first: RuleTable, second: RuleTable) -> bool:
    ours, theirs = first.to_arrays(), second.to_arrays()
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_arrays_give_the_table_back() -> None:
    table = table_of(0x1000, 0x1100, 0x1200, 0x10)
    assert same(RuleTable.from_arrays(table.to_arrays()), table)


def test_merging_in_any_order_is_decoding_at_once() -> None:
    parts = [table_of(0x1100), table_of(0x1000), table_of(0x1200)]
    merged = merge_tables(parts)
    whole = table_of(0x1000, 0x1100, 0x1200)
    for column in ("start", "end", "kind", "cfa_register", "cfa_offset", "saved"):
        assert np.array_equal(getattr(merged, column), getattr(whole, column))
    for table in (merged, whole):
        rows = np.flatnonzero(table.kind == RuleKind.GENERAL)
        rules = [table.general_rules[number] for number in table.general[rows].tolist()]
        assert [GeneralRule.decode(rule).cfa for rule in rules] == [b"\x76\x78\x06", b"\x76\x70\x06"]


DAMAGE: list[tuple[str, Any]] = [
    ("format", np.array([2])),
    ("start", u64(0x1000)),
    ("start", np.array([3.0] * 6)),
    ("end", u64(5, 4, 3, 2, 1, 0)),
    ("start", u64(0, 0, 0, 0, 0, 0)),
    ("end", np.full(6, 1 << 63, np.uint64)),
    ("kind", np.full(6, 9, np.uint8)),
    ("cfa_register", np.full(6, 7, np.uint8)),
    ("saved", np.zeros((6, 3), np.int16)),
    ("general", np.full(6, 2, np.int32)),
    ("general", np.full(6, -1, np.int32)),
    ("general_lengths", np.array([-1, 3])),
    ("general_lengths", np.array([1 << 40])),
    ("general_bytes", np.zeros(3, np.uint8)),
]


@pytest.mark.parametrize(("name", "value"), DAMAGE)
def test_damaged_arrays_are_refused(name: str, value: Any) -> None:
    arrays = table_of(0x1000, 0x1100, 0x1200).to_arrays()
    assert len(arrays["start"]) == 6
    with pytest.raises(ValueError, match=r".+"):
        RuleTable.from_arrays(arrays | {name: value})
    del arrays[name]
    with pytest.raises(ValueError, match=name):
        RuleTable.from_arrays(arrays)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_general_rules_from_garbage(data: bytes) -> None:
    try:
        rule = GeneralRule.decode(data)
    except ValueError:
        return
    assert rule.encode() == data


def test_general_rules_keep_what_they_say() -> None:
    rule = GeneralRule(
        True, b"\x77\x00", ((3, Where.VAL_OFFSET, -24), (6, Where.REGISTER, 2), (16, Where.EXPRESSION, b"\x77\x08"))
    )
    assert GeneralRule.decode(rule.encode()) == rule


def cache_of(functions: list[Function]) -> RuleCache:
    data = UnwindData(image_of(functions))
    return RuleCache({1: data, 3: data}.get)


def images(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def test_cache_counts_hits_and_misses() -> None:
    cache = cache_of(FUNCTIONS)
    for expected in ((0, 3), (3, 3)):
        rows = cache.find(images(1, 1, 3), u64(0x1000, 0x1100, 0x1000))
        assert cache.table.kind[rows].tolist() == [RuleKind.PLAIN, RuleKind.GENERAL, RuleKind.PLAIN]
        assert (cache.hits, cache.misses) == expected


def test_cache_remembers_what_has_no_rules() -> None:
    cache = cache_of(FUNCTIONS)
    for _ in range(2):
        rows = cache.find(images(0, 1, 1, 2), u64(0x1000, 0x90, 0x1090, 0x1000))
        assert cache.table.kind[rows].tolist() == [RuleKind.NONE] * 4
    assert (cache.hits, cache.misses) == (5, 3)


def test_cache_takes_rules_from_a_file_and_gives_them_back() -> None:
    first = cache_of(FUNCTIONS)
    first.find(images(3, 1), u64(0x1200, 0x1000))
    saved = first.of_image(3)
    assert [int(saved.start[0]), int(saved.end[-1])] == [0x1200, 1 << 47]
    assert len(saved.general_rules) == 1
    second = RuleCache(lambda number: None)
    second.add(3, RuleTable.from_arrays(saved.to_arrays()))
    rows = second.find(images(3), u64(0x1204))
    assert (second.hits, second.misses) == (1, 0)
    assert second.general_rule(int(second.table.general[rows[0]])).cfa == b"\x76\x70\x06"
    with pytest.raises(ValueError, match="can't be added"):
        second.add(3, saved)
    with pytest.raises(ValueError, match="can't be added"):
        second.add(4, saved.shift(1 << 47))
    with pytest.raises(ValueError, match="image number"):
        second.add(0, saved)


def test_general_rules_keep_their_numbers_as_the_cache_grows() -> None:
    cache = cache_of(FUNCTIONS)
    first = cache.find(images(1), u64(0x1200))
    assert cache.general_rule(int(cache.table.general[first[0]])).cfa == b"\x76\x70\x06"
    rows = cache.find(images(1, 1), u64(0x1100, 0x1200))
    cfas = [cache.general_rule(int(cache.table.general[row])).cfa for row in rows]
    assert cfas == [b"\x76\x78\x06", b"\x76\x70\x06"]
