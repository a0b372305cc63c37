"""`python -m benchmarks.side_by_side.draw TEXT SVG [offcputime]`: draws what a tool printed, as cheaply as can be."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

EXTENSION = "pyinferno.pyinferno"


def main(text: str, svg: str, form: str = "folded") -> None:
    """Writes the flame graph of folded lines, or of what libbpf-tools' offcputime prints."""
    lines = Path(text).read_text(errors="replace")
    if form == "offcputime":
        from benchmarks.side_by_side.folding import folded_offcputime

        folded = list(folded_offcputime(lines))
    else:
        folded = [line for line in lines.splitlines() if line.rpartition(" ")[2].isdigit()]
    Path(svg).write_text(_flamegraph()(folded), encoding="utf-8")


def _flamegraph() -> Callable[[list[str]], str]:
    """inferno itself: its package imports a profiler that takes longer than the drawing."""
    package = importlib.util.find_spec("pyinferno")
    if package is None or not package.submodule_search_locations:
        sys.exit("pyinferno is not installed: make setup")
    finder = importlib.machinery.FileFinder(
        package.submodule_search_locations[0],
        (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
    )
    spec = finder.find_spec(EXTENSION)
    if spec is None or spec.loader is None:
        sys.exit(f"pyinferno has no {EXTENSION}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.flamegraph_from_lines


if __name__ == "__main__":
    main(*sys.argv[1:])
