"""The Firefox Profiler's processed profile format out, version 58, gzipped.

Its shape is documented in the profiler's src/types/profile.ts, its changes in docs-developer/CHANGELOG-formats.md
(https://github.com/firefox-devtools/profiler). Tables are columns of equal length.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence

import numpy as np

from lockflame.formats.parts import NO_STACK, Part, valid
from lockflame.profile import FrameKind, Function, Line, Location, Profile, RecordingInfo, Thread

VERSION = 58
"""Of the processed format."""
GECKO_VERSION = 31
"""Of the browser's own format at that time; the profiler wants one."""
COMPRESSION_LEVEL = 5

CATEGORIES = (
    {"name": "Other", "color": "grey", "subcategories": ["Other"]},
    {"name": "User", "color": "yellow", "subcategories": ["Other"]},
    {"name": "Kernel", "color": "orange", "subcategories": ["Other"]},
    {"name": "JIT", "color": "green", "subcategories": ["Other"]},
    {"name": "Note", "color": "purple", "subcategories": ["Other"]},
)
_CATEGORY_OF = {FrameKind.USER: 1, FrameKind.KERNEL: 2, FrameKind.JIT: 3, FrameKind.MARKER: 4}
_WEIGHT_TYPES = {"nanoseconds": "tracing-ms", "bytes": "bytes"}
_NS_PER_MS = 1_000_000
# The profiler's number for a resource that is a library (src/profile-logic/data-structures.ts).
_LIBRARY = 1

Table = dict[str, object]
_Stack = tuple[int, ...]


def firefox_json(parts: Sequence[Part], recording: RecordingInfo, product: str) -> bytes:
    """A `.firefox.json.gz` with a thread for each part and each thread that has samples in it.

    Weights of times are in milliseconds (`tracing-ms`). Samples were summed up and have no time of their own: they
    stand one after the other, each as long as it weighs.
    """
    shared = _Shared()
    threads: list[Table] = []
    for part in parts:
        threads.extend(_threads(part, shared, is_first=part is parts[0]))
    sources = {
        "length": len(shared.sources),
        "uuid": [None] * len(shared.sources),
        "filename": [shared.string(path) for path in shared.sources],
    }
    content = {
        "meta": _meta(recording, product),
        "libs": shared.libs,
        "pages": [],
        "counters": [],
        "shared": {
            "stringArray": list(shared.strings),
            "sources": sources,
        },
        "threads": threads,
    }
    return gzip.compress(json.dumps(content, separators=(",", ":")).encode(), COMPRESSION_LEVEL, mtime=0)


class _Shared:
    """What all threads refer to by its place."""

    def __init__(self) -> None:
        self.strings: dict[str, int] = {}
        self.sources: dict[str, int] = {}
        self.libs: list[dict[str, str | None]] = []
        self._places: dict[tuple[str, str], int] = {}

    def string(self, text: str) -> int:
        return self.strings.setdefault(valid(text), len(self.strings))

    def source(self, path: str) -> int | None:
        return self.sources.setdefault(path, len(self.sources)) if path else None

    def lib(self, path: str, build_id: str) -> int:
        place = self._places.setdefault((path, build_id), len(self._places))
        if place == len(self.libs):
            name = valid(path).rpartition("/")[2]
            names = {"name": name, "debugName": name, "path": valid(path), "debugPath": valid(path)}
            self.libs.append({"arch": "", **names, "breakpadId": "", "codeId": build_id or None})
        return place


def _meta(recording: RecordingInfo, product: str) -> Table:
    rate = recording.frequency_asked_hz
    return {
        "interval": 1000 / rate if rate > 0 else 1,
        "startTime": recording.started_unix_ns / _NS_PER_MS,
        "processType": 0,
        "product": valid(recording.command) or product,
        "importedFrom": product,
        "stackwalk": 1,
        "version": GECKO_VERSION,
        "preprocessedProfileVersion": VERSION,
        "categories": CATEGORIES,
        "markerSchema": [],
        "symbolicated": True,
        "symbolicationNotSupported": True,
        "usesOnlyOneStackType": True,
        "sourceCodeIsNotOnSearchfox": True,
        "keepProfileThreadOrder": True,
        "sampleUnits": {"time": "ms", "eventDelay": "ms", "threadCPUDelta": "ns"},
        "arguments": valid(recording.command),
        "platform": "X11",
        "oscpu": valid(f"Linux {recording.kernel}".strip()),
    }


def _threads(part: Part, shared: _Shared, *, is_first: bool) -> list[Table]:
    samples, weights = part.profile.samples, part.weights
    result: list[Table] = []
    for number, thread in enumerate(part.profile.threads):
        rows = np.flatnonzero((samples.thread == number) & (weights > 0))
        if len(rows):
            tables = _Tables(part.profile, shared)
            stacks = [tables.stack(stack) for stack in samples.stack[rows].tolist()]
            title = "" if is_first else f" ({part.title})"
            table = _thread(thread, title, part, tables)
            table["samples"] = _samples(part, stacks, weights[rows].tolist())
            result.append(table)
    return result


def _samples(part: Part, stacks: list[int], weights: list[int]) -> Table:
    kind = _WEIGHT_TYPES.get(part.sample_type.unit, "samples")
    scale = _NS_PER_MS if kind == "tracing-ms" else 1
    # Whole where the weights are: a JSON number without a fraction.
    shown = [weight / scale if scale > 1 else weight for weight in weights]
    ends = np.cumsum(weights, dtype=np.float64) / scale
    return {
        "stack": stacks,
        "time": (ends - ends[0]).tolist(),
        "weight": shown,
        "weightType": kind,
        "length": len(stacks),
    }


def _thread(thread: Thread, title: str, part: Part, tables: _Tables) -> Table:
    name = valid(thread.comm) or str(thread.tid)
    return {
        "processType": "default",
        "processStartupTime": 0,
        "processShutdownTime": None,
        "registerTime": 0,
        "unregisterTime": None,
        "pausedRanges": [],
        "name": f"{name}{title}",
        "processName": valid(thread.container) or f"PID {thread.pid}",
        "isMainThread": thread.pid == thread.tid and not title,
        "pid": str(thread.pid),
        # Waits are a thread beside the one that waited.
        "tid": f"{thread.tid}{title}" if title else thread.tid,
        "markers": {"length": 0} | {name: [] for name in ("data", "name", "startTime", "endTime", "phase", "category")},
        "nativeSymbols": {"length": 0} | {name: [] for name in ("libIndex", "address", "name", "functionSize")},
        **tables.tables(),
    }


class _Tables:
    """The frames and stacks of one thread."""

    def __init__(self, profile: Profile, shared: _Shared) -> None:
        self._profile = profile
        self._shared = shared
        self._stacks: dict[tuple[int, int], int] = {}
        self._frames: dict[_Stack, int] = {}
        self._functions: dict[tuple[Function, int], int] = {}
        self._resources: dict[int, int] = {}
        self._frames_of: dict[int, list[int]] = {}
        self._nothing = Location(0, -1, (), FrameKind.MARKER)

    def stack(self, number: int) -> int:
        """The row of a stack, -1 as the prefix of the first frame."""
        prefix = -1
        locations: list[int] = self._profile.stacks[number][::-1].tolist()
        for location in locations:
            for frame in self._location(location):
                prefix = self._stacks.setdefault((prefix, frame), len(self._stacks))
        if prefix < 0:
            frame = self._frame(self._nothing, Function(NO_STACK, NO_STACK), 0, 0)
            prefix = self._stacks.setdefault((-1, frame), len(self._stacks))
        return prefix

    def _location(self, number: int) -> list[int]:
        """The frames of a location, outermost first."""
        known = self._frames_of.get(number)
        if known is None:
            location = self._profile.locations[number]
            lines: tuple[Line, ...] = location.lines[::-1]
            known = self._frames_of[number] = [
                self._frame(location, self._profile.functions[line.function], line.line, depth)
                for depth, line in enumerate(lines)
            ]
        return known

    def _frame(self, location: Location, function: Function, line: int, depth: int) -> int:
        resource = -1
        if location.mapping >= 0:
            mapping = self._profile.mappings[location.mapping]
            lib = self._shared.lib(mapping.path, mapping.build_id)
            resource = self._resources.setdefault(lib, len(self._resources))
        place = self._functions.setdefault((function, resource), len(self._functions))
        # JavaScript's numbers hold 53 bits: an address of the kernel would be another one.
        key = (place, line, depth, _CATEGORY_OF[location.kind])
        return self._frames.setdefault(key, len(self._frames))

    def tables(self) -> Table:
        """The tables by their names."""
        shared, frames, functions = self._shared, list(self._frames), list(self._functions)
        lib_names = [shared.libs[lib]["name"] or "" for lib in self._resources]
        return {
            "stackTable": {
                "frame": [frame for _, frame in self._stacks],
                "prefix": [None if prefix < 0 else prefix for prefix, _ in self._stacks],
                "length": len(self._stacks),
            },
            "frameTable": {
                "address": [-1] * len(frames),
                "inlineDepth": [depth for _, _, depth, _ in frames],
                "category": [category for *_, category in frames],
                "subcategory": [0] * len(frames),
                "func": [place for place, *_ in frames],
                "nativeSymbol": [None] * len(frames),
                "innerWindowID": [0] * len(frames),
                "line": [line if line > 0 else None for _, line, _, _ in frames],
                "column": [None] * len(frames),
                "length": len(frames),
            },
            "funcTable": {
                "name": [shared.string(function.name) for function, _ in functions],
                "isJS": [False] * len(functions),
                "relevantForJS": [False] * len(functions),
                "resource": [resource for _, resource in functions],
                "source": [shared.source(function.path) for function, _ in functions],
                "lineNumber": [function.line if function.line > 0 else None for function, _ in functions],
                "columnNumber": [None] * len(functions),
                "length": len(functions),
            },
            "resourceTable": {
                "lib": list(self._resources),
                "name": [shared.string(name) for name in lib_names],
                "host": [None] * len(self._resources),
                "type": [_LIBRARY] * len(self._resources),
                "length": len(self._resources),
            },
        }
