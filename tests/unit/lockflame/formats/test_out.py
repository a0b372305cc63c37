from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from flame.locks.rule_file import load_rules
from lockflame.cli.exports import parts_of, without_counts
from lockflame.cli.output import Look, render
from lockflame.errors import LockflameError
from lockflame.formats.firefox import firefox_json
from lockflame.formats.folded import read_folded
from lockflame.formats.parts import NO_STACK, Part, valid
from lockflame.formats.speedscope import speedscope_json
from lockflame.profile import CPU, DELAY, Profile, SampleType
from tests.support.recording import stacks_of
from tests.unit.flame.conftest import profile_of
from tests.unit.flame.lock_profiles import small_profile
from tests.unit.lockflame.formats.firefox_checker import check
from tests.unit.lockflame.profiles import profiles


def self_times(profile: Profile, kind: SampleType) -> Counter[tuple[str, ...]]:
    """Weights by whole stack, leaf first."""
    stacks = stacks_of(profile)
    result: Counter[tuple[str, ...]] = Counter()
    column = profile.samples.values[:, profile.sample_types.index(kind)].tolist()
    for stack, value in zip(profile.samples.stack.tolist(), column, strict=True):
        if value:
            result[tuple(valid(name) for name in stacks[stack]) or (NO_STACK,)] += value
    return result


def of_speedscope(document: dict[str, Any], number: int) -> Counter[tuple[str, ...]]:
    names = [frame["name"] for frame in document["shared"]["frames"]]
    shown = document["profiles"][number]
    result: Counter[tuple[str, ...]] = Counter()
    for sample, weight in zip(shown["samples"], shown["weights"], strict=True):
        result[tuple(names[frame] for frame in reversed(sample))] += weight
    assert sum(result.values()) == shown["endValue"]
    return result


def of_firefox(document: dict[str, Any], *, waits: bool = False) -> Counter[tuple[str, ...]]:
    """In nanoseconds."""
    result: Counter[tuple[str, ...]] = Counter()
    strings = document["shared"]["stringArray"]
    for thread in document["threads"]:
        if thread["name"].endswith("(lock waits)") != waits:
            continue
        names = [strings[name] for name in thread["funcTable"]["name"]]
        table = thread["stackTable"]
        for stack, weight in zip(thread["samples"]["stack"], thread["samples"]["weight"], strict=True):
            path: list[str] = []
            while stack is not None:
                path.append(names[thread["frameTable"]["func"][table["frame"][stack]]])
                stack = table["prefix"][stack]
            result[tuple(path)] += round(weight * 1e6)
    return result


@given(profiles())
def test_speedscope_has_each_stack_with_its_weight(profile: Profile) -> None:
    small = replace(profile, samples=replace(profile.samples, values=profile.samples.values % 10**12))
    document = json.loads(speedscope_json([Part("a", small, CPU)], "title", "exporter"))
    assert document["profiles"][0]["unit"] == "nanoseconds"
    assert of_speedscope(document, 0) == self_times(small, CPU)


@given(profiles())
def test_firefox_has_each_stack_with_its_weight_and_the_documented_shape(profile: Profile) -> None:
    small = replace(profile, samples=replace(profile.samples, values=profile.samples.values % 10**12))
    document = json.loads(gzip.decompress(firefox_json([Part("a", small, CPU)], small.recording, "x")))
    check(document)
    assert of_firefox(document) == self_times(small, CPU)


def test_locks_are_profiles_and_threads_of_their_own() -> None:
    profile = small_profile()
    rules = load_rules()
    parts = parts_of(profile, Look(), rules)
    assert [part.title for part in parts] == ["CPU time", "samples", "lock waits", "contentions", "lock holders"]
    document = json.loads(render(profile, ".speedscope.json", Look()))
    waited = of_speedscope(document, 2)
    shown = sum(lock.total_ns for lock in profile.locks if not lock.is_idle)
    assert sum(waited.values()) == shown
    assert all(stack[0].startswith("[") for stack in waited)
    firefox = json.loads(gzip.decompress(render(profile, ".firefox.json.gz", Look())))
    check(firefox)
    assert sum(of_firefox(firefox, waits=True).values()) == shown
    assert [part.sample_type for part in without_counts(parts)][:2] == [CPU, DELAY]


def test_no_escape_sequence_gets_into_files_for_others() -> None:
    profile = read_folded(io.BytesIO("main;\x1b]0;x\x07;a\x9b2J\u202e 5\n".encode()), "x")
    for suffix in (".speedscope.json", ".firefox.json.gz"):
        content = render(profile, suffix, Look())
        document = json.loads(gzip.decompress(content) if suffix.endswith(".gz") else content)
        frames = document["shared"].get("stringArray") or [frame["name"] for frame in document["shared"]["frames"]]
        assert len(frames) > 3
        assert all(name.isprintable() for name in frames)


def test_one_view_is_one_profile() -> None:
    document = json.loads(render(small_profile(), ".speedscope.json", Look(view="chain")))
    assert [profile["name"] for profile in document["profiles"]] == ["waiters and holders"]
    with pytest.raises(LockflameError, match="no thread"):
        render(small_profile(), ".speedscope.json", Look(threads=("nobody",)))


def test_a_profile_without_samples_is_a_whole_file() -> None:
    empty = profile_of([])
    assert json.loads(render(empty, ".speedscope.json", Look()))["profiles"][0]["samples"] == []
    check(json.loads(gzip.decompress(render(empty, ".firefox.json.gz", Look()))))
