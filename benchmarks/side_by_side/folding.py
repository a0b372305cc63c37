"""Texts of other tools as stacks, and what stacks tell: pure functions, for answers and for pictures."""

from __future__ import annotations

import functools
import html
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydemumble import demangle

from flame.locks.rule_file import load_rules
from flame.locks.rules import LockRules, Meaning, Space, plain_name
from flame.names import short_name

KERNEL_MARK = "_[k]"
"""What BCC's tools add to the kernel's functions with `-a`."""
NO_FUNCTION = ("[", "0x")
"""How a name begins that stands for none: `[unknown]`, `[wait not sampled]`, an address."""
_KERNEL_ENTRIES = re.compile(r"entry_|asm_|ret_from_fork")
_FUTEX_WAITS = frozenset({"futex_wait", "futex_lock_pi", "futex_wait_multiple", "futex_wait_requeue_pi"})
_OFFSET = re.compile(r"\+\d+$")
_OFFCPU_END = re.compile(r" {4}-\s+(.*) \(\d+\)$")
_HISTOGRAM = re.compile(r"@(\w+_ns)\[(.*)$")
_BUCKET = re.compile(r"\[(\d+)([KMGT]?)(?:, (\d+)([KMGT]?)\)|\])\s+(\d+) \|")
_SVG_FRAME = re.compile(r"<title>([^<]*) \([\d,]+ samples, [^<]*</title><rect ([^>]*)>")
_SVG_SPAN = re.compile(r'fg:x="(\d+)" fg:w="(\d+)"')
_PLACE = re.compile(r" \([^()]*\)$")
_POWERS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


@dataclass(frozen=True, slots=True)
class Stack:
    """Functions, leaf first, and how many samples or nanoseconds they have."""

    names: tuple[str, ...]
    weight: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """What bpftrace found under one key: a stack, leaf first, how many events, and their time.

    The time is an estimate: each event counts with the middle of its bucket, which may be 1.5 times too long.
    """

    map_name: str
    names: tuple[str, ...]
    count: int
    total_ns: float


def bare_name(name: str) -> str:
    """A function's name as all tools can be compared by it: demangled, without parameters, versions and marks."""
    plain = plain_name(_OFFSET.sub("", name.removesuffix(KERNEL_MARK)))
    return short_name(_demangled(plain) if plain.startswith("_Z") else plain)


def shares_of(stacks: Iterable[Stack]) -> dict[str, float]:
    """The share in percent that each function has of all stacks, with its callees; recursion counts once."""
    weights: defaultdict[str, float] = defaultdict(float)
    bare = functools.cache(bare_name)
    total = 0.0
    for stack in stacks:
        total += stack.weight
        for name in set(map(bare, stack.names)):
            weights[name] += stack.weight
    return {name: 100 * weight / total for name, weight in weights.items()} if total else {}


def lock_callers(stacks: Iterable[Stack]) -> list[str]:
    """The functions that called the locks in which these stacks end, those with the most weight first.

    What belongs to a lock, `pthread_mutex_lock` and a server's wrapper of it, is known by the same rules as for our
    own table. Stacks that end within a lock tell no caller and are left out.
    """
    rules = load_rules()
    callers: defaultdict[str, float] = defaultdict(float)
    for stack in stacks:
        caller = next((bare for bare in map(bare_name, stack.names) if not _is_of_a_lock(rules, bare)), None)
        if caller is not None and not caller.startswith(NO_FUNCTION):
            callers[caller] += stack.weight
    return sorted(callers, key=lambda name: -callers[name])


def folded_stacks(text: str) -> Iterator[Stack]:
    """Of lines such as `comm;main;work 12`: root first, with the process's name before it, which is left out."""
    for line in text.splitlines():
        frames, _, weight = line.rpartition(" ")
        if frames and weight.isdigit():
            yield Stack(tuple(frames.split(";")[:0:-1]), int(weight))


def folded_offcputime(text: str) -> Iterator[str]:
    """Folded lines of what libbpf-tools' offcputime prints: a frame a line, leaf first, then the thread, then us."""
    frames: list[str] = []
    thread = ""
    for line in text.splitlines():
        end = _OFFCPU_END.match(line)
        if end:
            thread = end[1]
        elif thread and line.strip().isdigit():
            yield f"{';'.join([thread, *reversed(frames)])} {int(line)}"
            frames, thread = [], ""
        elif line.startswith("    "):
            frames.append(line.strip().replace(";", ":"))


def futex_waits(stacks: Iterable[Stack]) -> Iterator[Stack]:
    """The user frames of those stacks that wait for a futex in the kernel."""
    for stack in stacks:
        entry = next((place for place, name in enumerate(stack.names) if _KERNEL_ENTRIES.match(name)), -1)
        if not _FUTEX_WAITS.isdisjoint(stack.names[: entry + 1]):
            yield Stack(stack.names[entry + 1 :], stack.weight)


def bpftrace_histograms(text: str) -> list[Histogram]:
    """The histograms of maps called `…_ns`, whose keys are a stack, or a name and a stack."""
    found: list[Histogram] = []
    map_name, names, buckets, is_in_key = "", list[str](), list[tuple[int, float]](), False
    for line in [*text.splitlines(), "@end"]:
        start, bucket = _HISTOGRAM.match(line), _BUCKET.match(line)
        if line.startswith("@") and buckets:
            found.append(_histogram(map_name, names, buckets))
            buckets = []
        if start:
            map_name, names, is_in_key = start[1], [], not start[2].rstrip().endswith("]:")
        elif line.startswith("]:"):
            is_in_key = False
        elif is_in_key and line.strip(" ,"):
            names.append(line.strip(" ,"))
        elif bucket:
            buckets.append((int(bucket[5]), _middle(bucket)))
    return found


def svg_spans(svg: str) -> dict[str, list[tuple[int, int]]]:
    """From and to which sample the boxes of each function reach in a flame graph that inferno has drawn."""
    spans: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for name, attributes in _SVG_FRAME.findall(svg):
        span = _SVG_SPAN.search(attributes)
        if span:
            start, width = int(span[1]), int(span[2])
            spans[bare_name(_PLACE.sub("", html.unescape(name)))].append((start, start + width))
    return dict(spans)


def svg_shares(svg: str) -> dict[str, float]:
    """The share of the samples that each function has with its callees; boxes above each other count once."""
    spans = svg_spans(svg)
    total = sum(end - start for start, end in spans.pop("all", []))
    return {name: 100 * _covered(of_name) / total for name, of_name in spans.items()} if total else {}


@functools.cache
def _demangled(name: str) -> str:
    return demangle(name) or name


def _is_of_a_lock(rules: LockRules, name: str) -> bool:
    return rules.match([name], Space.ANY, "").means != Meaning.NONE


def _histogram(map_name: str, names: Sequence[str], buckets: Sequence[tuple[int, float]]) -> Histogram:
    count = sum(events for events, _ in buckets)
    return Histogram(map_name, tuple(names), count, sum(events * middle for events, middle in buckets))


def _middle(bucket: re.Match[str]) -> float:
    """Of `[8K, 16K)`, or the number itself of `[1]`."""
    first = int(bucket[1]) << _POWERS[bucket[2]]
    return (first + (int(bucket[3]) << _POWERS[bucket[4]])) / 2 if bucket[3] else first


def _covered(spans: Sequence[tuple[int, int]]) -> int:
    covered = reached = 0
    for start, end in sorted(spans):
        covered += max(0, end - max(start, reached))
        reached = max(reached, end)
    return covered
