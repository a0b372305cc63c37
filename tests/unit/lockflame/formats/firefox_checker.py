"""Checks a file for the Firefox Profiler against the shape that its src/types/profile.ts documents (version 58)."""

from __future__ import annotations

from typing import Any

INTEGER, OPTIONAL, NUMBER, FLAG, TEXT = "integer", "integer or null", "number", "flag", "text"
COLUMNS = {
    "stackTable": {"frame": INTEGER, "prefix": OPTIONAL},
    "frameTable": {
        "address": INTEGER,
        "inlineDepth": INTEGER,
        "category": OPTIONAL,
        "subcategory": OPTIONAL,
        "func": INTEGER,
        "nativeSymbol": OPTIONAL,
        "innerWindowID": OPTIONAL,
        "line": OPTIONAL,
        "column": OPTIONAL,
    },
    "funcTable": {
        "name": INTEGER,
        "isJS": FLAG,
        "relevantForJS": FLAG,
        "resource": INTEGER,
        "source": OPTIONAL,
        "lineNumber": OPTIONAL,
        "columnNumber": OPTIONAL,
    },
    "resourceTable": {"lib": OPTIONAL, "name": INTEGER, "host": OPTIONAL, "type": INTEGER},
    "nativeSymbols": {"libIndex": INTEGER, "address": INTEGER, "name": INTEGER, "functionSize": OPTIONAL},
    "markers": {
        "data": OPTIONAL,
        "name": INTEGER,
        "startTime": NUMBER,
        "endTime": NUMBER,
        "phase": INTEGER,
        "category": INTEGER,
    },
}
KINDS = {INTEGER: (int,), OPTIONAL: (int, type(None)), NUMBER: (int, float), FLAG: (bool,), TEXT: (str,)}
COLORS = {
    *("transparent", "purple", "green", "orange", "yellow", "lightblue", "blue"),
    *("brown", "magenta", "red", "lightred", "darkgrey", "grey"),
}


def check(document: dict[str, Any]) -> None:
    """Asserts that the document has the shape, and that each index is of something."""
    meta, shared = document["meta"], document["shared"]
    for name in ("interval", "startTime", "processType", "version", "preprocessedProfileVersion", "stackwalk"):
        assert isinstance(meta[name], int | float), name
    assert meta["preprocessedProfileVersion"] == 58
    assert isinstance(meta["product"], str)
    assert isinstance(meta["markerSchema"], list)
    assert any(category["color"] == "grey" for category in meta["categories"])
    assert all(category["color"] in COLORS and category["subcategories"] for category in meta["categories"])
    strings = shared["stringArray"]
    assert all(isinstance(text, str) for text in strings)
    sources = shared["sources"]
    assert len(sources["uuid"]) == len(sources["filename"]) == sources["length"]
    check_indices(sources["filename"], len(strings))
    for lib in document["libs"]:
        assert {"arch", "name", "path", "debugName", "debugPath", "breakpadId", "codeId"} <= set(lib)
    for thread in document["threads"]:
        check_thread(thread, document)


def check_thread(thread: dict[str, Any], document: dict[str, Any]) -> None:
    for name in ("processType", "name", "pid"):
        assert isinstance(thread[name], str), name
    assert isinstance(thread["tid"], int | str)
    assert isinstance(thread["isMainThread"], bool)
    assert thread["pausedRanges"] == []
    for name in ("processStartupTime", "registerTime"):
        assert isinstance(thread[name], int | float)
    for name in ("processShutdownTime", "unregisterTime"):
        assert thread[name] is None or isinstance(thread[name], int | float)
    for name, columns in COLUMNS.items():
        check_table(thread[name], columns)
    strings, categories = len(document["shared"]["stringArray"]), len(document["meta"]["categories"])
    stacks, frames, functions = thread["stackTable"], thread["frameTable"], thread["funcTable"]
    check_indices(stacks["frame"], frames["length"])
    assert all(prefix is None or 0 <= prefix < row for row, prefix in enumerate(stacks["prefix"]))
    check_indices(frames["func"], functions["length"])
    check_indices(frames["category"], categories)
    check_indices(functions["name"], strings)
    check_indices([index for index in functions["resource"] if index != -1], thread["resourceTable"]["length"])
    check_indices(functions["source"], document["shared"]["sources"]["length"])
    check_indices(thread["resourceTable"]["lib"], len(document["libs"]))
    check_indices(thread["resourceTable"]["name"], strings)
    check_samples(thread["samples"], stacks["length"])


def check_samples(samples: dict[str, Any], stacks: int) -> None:
    assert len(samples["stack"]) == len(samples["time"]) == len(samples["weight"]) == samples["length"]
    assert samples["weightType"] in ("samples", "tracing-ms", "bytes")
    assert samples["time"] == sorted(samples["time"])
    check_indices(samples["stack"], stacks)


def check_table(table: dict[str, Any], columns: dict[str, str]) -> None:
    assert set(table) == {*columns, "length"}
    for name, kind in columns.items():
        assert len(table[name]) == table["length"], name
        assert all(type(value) in KINDS[kind] for value in table[name]), name


def check_indices(indices: list[int | None], count: int) -> None:
    assert all(index is None or 0 <= index < count for index in indices)
