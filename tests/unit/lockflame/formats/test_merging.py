from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockflame.errors import LockflameError
from lockflame.formats import merging_files
from lockflame.formats.merging import merged, sorted_by
from lockflame.formats.merging_files import merged_files
from lockflame.pprof import decode, encode, encode_tables
from lockflame.pprof_tables import profile_of, tables_of
from lockflame.profile import (
    CPU,
    HISTOGRAM_BUCKETS,
    HoldTimes,
    Profile,
    RecordingInfo,
    SampleColumns,
    SampleType,
    WaitEnds,
)
from tests.support.recording import stacks_of
from tests.unit.flame.lock_profiles import small_profile
from tests.unit.lockflame.profiles import profiles, rows_of


def merge(*given: Profile) -> Profile:
    return profile_of(merged(map(tables_of, given)).tables)


def sums(profile: Profile) -> Counter[object]:
    """All values by what they are of, names in full."""
    stacks = stacks_of(profile)
    result: Counter[object] = Counter()
    for row in range(len(profile.samples)):
        samples = profile.samples
        lock = int(samples.lock[row])
        key = (
            tuple(stacks[int(samples.stack[row])]),
            profile.threads[int(samples.thread[row])],
            (profile.locks[lock].address, profile.locks[lock].name) if lock >= 0 else None,
        )
        for kind, value in zip(profile.sample_types, samples.values[row].tolist(), strict=True):
            if value:
                result[(key, kind)] += value
    return result


@given(st.lists(profiles(), min_size=1, max_size=4))
def test_sums_of_a_merge_are_those_of_its_parts(parts: list[Profile]) -> None:
    small = [
        replace(
            part, samples=replace(part.samples, values=part.samples.values % 10**9), recording=RecordingInfo(samples=1)
        )
        for part in parts
    ]
    expected: Counter[object] = Counter()
    for part in small:
        expected.update(sums(part))
    assert sums(merge(*small)) == expected


@given(profiles())
def test_columns_and_objects_are_the_same_profile(profile: Profile) -> None:
    again = profile_of(tables_of(profile))
    assert rows_of(again) == rows_of(profile) or stacks_of(again) != []
    assert (again.functions, again.locations, again.mappings) == (
        profile.functions,
        profile.locations,
        profile.mappings,
    )


def test_locks_keep_exact_totals_and_histograms() -> None:
    one = small_profile()
    other = replace(one, locks=tuple(replace(lock, max_ns=lock.max_ns * 2, name=lock.name) for lock in one.locks))
    both = merge(one, other)
    assert len(both.locks) == len(one.locks)
    for before, after in zip(one.locks, both.locks, strict=True):
        assert after.total_ns == 2 * before.total_ns
        assert after.ends.total == 2 * before.ends.total
        assert after.histogram == tuple(2 * count for count in before.histogram)
        assert (after.max_ns, after.threads) == (2 * before.max_ns, before.threads)
    for kind in one.sample_types:
        assert both.total(kind) == 2 * one.total(kind)
    assert both.recording.duration_ns == 2 * one.recording.duration_ns
    assert both.recording.notes[0].startswith("Merged from 2 profiles")
    assert decode(encode(both), "x").locks == both.locks


FULL = 2**63 - 1


@pytest.mark.parametrize(
    "lock",
    [
        {"total_ns": FULL},
        {"unreleased_ns": FULL},
        {"woken_ns": FULL},
        {"ends": WaitEnds(woken=FULL)},
        {"histogram": (FULL, *[0] * (HISTOGRAM_BUCKETS - 1))},
        {"held": HoldTimes(1, FULL, 1, (0,) * HISTOGRAM_BUCKETS)},
        {"held": HoldTimes(1, 1, 1, (FULL, *[0] * (HISTOGRAM_BUCKETS - 1)))},
    ],
)
def test_locks_whose_sums_no_file_could_hold_are_refused(lock: dict[str, Any]) -> None:
    one = small_profile()
    full = replace(one, locks=(replace(one.locks[0], **lock), *one.locks[1:]))
    assert decode(encode(merge(full)), "x").locks == full.locks
    with pytest.raises(LockflameError, match=r"sums of a lock are beyond 2\^63"):
        merge(full, full)


@pytest.mark.parametrize("value", [FULL, -FULL])
@pytest.mark.parametrize("name", ["duration_ns", "samples", "waits_unseen"])
def test_recordings_whose_counts_no_file_could_hold_are_refused(name: str, value: int) -> None:
    one = small_profile()
    full = replace(one, recording=replace(one.recording, **{name: value}))
    assert getattr(merge(full).recording, name) == value
    with pytest.raises(LockflameError, match=r"counts of the recordings are beyond 2\^63"):
        merge(full, full)


def test_what_readers_note_is_told_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(tmp_path / name) for name in "abcd"]
    for number, path in enumerate(paths):
        Path(path).write_bytes(b"main;f 3\n" + b"main;f -3\n" * number)
    expected = tuple(f"{path}: {number} lines of the file could not be read." for number, path in enumerate(paths))[1:]
    assert merged_files(paths).notes == expected
    monkeypatch.setattr(merging_files, "FILES_OF_A_PROCESS_LEAST", 1)
    monkeypatch.setattr(merging_files.os, "sched_getaffinity", lambda _: {0, 1})
    assert merged_files(paths).notes == expected


def test_other_locks_and_types_stay_apart() -> None:
    one = small_profile()
    moved = replace(one, locks=tuple(replace(lock, address=lock.address + 0x100000) for lock in one.locks))
    assert len(merge(one, moved).locks) == 2 * len(one.locks)
    kinds = (SampleType("other", "count"), *one.sample_types[1:])
    both = merge(one, replace(one, sample_types=kinds))
    assert both.total(kinds[0]) == one.total(one.sample_types[0])
    assert both.total(CPU) == 2 * one.total(CPU)


def test_processes_merge_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{number}.pb.gz" for number in range(4)]
    for number, path in enumerate(paths):
        part = small_profile()
        threads = tuple(replace(thread, tid=thread.tid + number % 2) for thread in part.threads)
        path.write_bytes(encode(replace(part, threads=threads)))
    alone = encode_tables(merged_files(list(map(str, paths))).content)
    monkeypatch.setattr(merging_files, "FILES_OF_A_PROCESS_LEAST", 1)
    monkeypatch.setattr(merging_files.os, "sched_getaffinity", lambda _: {0, 1})
    assert encode_tables(merged_files(list(map(str, paths))).content) == alone
    with pytest.raises(LockflameError, match="No such file"):
        merged_files([*map(str, paths), str(tmp_path / "none")])


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(-1, 2), st.integers(1, 9)), min_size=1)


@given(st.lists(ROWS, min_size=1, max_size=3))
def test_samples_are_summed_up_by_stack_thread_and_lock(parts: list[list[tuple[int, int, int, int]]]) -> None:
    whole = small_profile()
    threads = tuple(replace(whole.threads[0], tid=tid) for tid in range(3))
    locks = tuple(replace(whole.locks[0], address=8 * number) for number in range(3))
    expected: Counter[tuple[object, ...]] = Counter()
    given_profiles: list[Profile] = []
    for rows in parts:
        stack, thread, lock, value = np.array(rows, np.int32).T
        stack %= len(whole.stacks)
        values = np.repeat(value[:, None].astype(np.int64), len(whole.sample_types), axis=1)
        samples = SampleColumns(stack, thread, values, lock)
        # Tables in another order: equal is what is the same, not what has the same number.
        turned = replace(samples, thread=(2 - thread).astype(np.int32)) if len(given_profiles) % 2 else samples
        own = threads[::-1] if len(given_profiles) % 2 else threads
        given_profiles.append(replace(whole, threads=own, locks=locks, samples=turned))
        for place, tid, number, amount in zip(
            stack.tolist(), thread.tolist(), lock.tolist(), value.tolist(), strict=True
        ):
            expected[(tuple(stacks_of(whole)[place]), tid, 8 * number)] += amount
    both = merge(*given_profiles)
    found = {
        (
            tuple(stacks_of(both)[int(stack)]),
            both.threads[int(thread)].tid,
            both.locks[int(lock)].address if lock >= 0 else -8,
        ): value
        for stack, thread, lock, value in zip(
            both.samples.stack, both.samples.thread, both.samples.lock, both.samples.values[:, 0].tolist(), strict=True
        )
    }
    assert found == expected
    assert len(found) == len(both.samples)


def test_rows_are_ordered_however_many_threads_and_locks_there_are() -> None:
    largest = 2**31 - 1
    stack, thread, lock = np.array(
        [[1, largest, 1, 0, 1], [largest, 0, largest, 5, 2], [largest, -1, largest, -1, 3]], np.int32
    )
    order, firsts = sorted_by(stack, thread, lock)
    assert order.tolist() == [3, 4, 0, 2, 1]
    assert firsts.tolist() == [0, 1, 2, 4]


def test_sums_beyond_64_bits_are_refused() -> None:
    one = small_profile()
    large = replace(one, samples=replace(one.samples, values=one.samples.values * 0 + 2**61))
    with pytest.raises(LockflameError, match=r"2\^63"):
        merge(*[large] * 8)
