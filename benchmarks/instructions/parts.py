"""The parts of the program that are pure computing, by name."""

from __future__ import annotations

import importlib

from benchmarks.instructions.part import Part

_MODULES = {
    "decode": "decoding",
    "unwind": "unwinding",
    "symbolize": "symbolizing",
    "render": "rendering",
}
NAMES = tuple(_MODULES)


def part_named(name: str) -> Part:
    """A part; only its own modules are imported, as callgrind makes all slow."""
    module = importlib.import_module(f"benchmarks.instructions.{_MODULES[name]}")
    part = module.PART
    assert isinstance(part, Part)
    return part
