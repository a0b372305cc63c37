"""Builds the programs in tests/targets, once for each source and set of flags."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.needs import find_program
from tests.support.paths import BUILD, TARGETS

TARGET_CACHE = BUILD / "targets"

RELEASE = ("-O2", "-g")
"""As a distribution builds: optimised, without frame pointers."""
RUST_RELEASE = ("-O", "-g")
UNWIND_FLAG_SETS = (("-O0", "-g"), ("-O2", "-g"), ("-O3", "-g", "-fomit-frame-pointer"))
UNWIND_SOURCES = ("unwind_truth.cpp", "unwind_plain.cpp", "unwind_special.cpp")

WARNINGS = ("-Wall", "-Wextra", "-pthread")
COMPILERS = {
    ".c": ("cc", "-std=gnu11", *WARNINGS),
    ".cpp": ("c++", "-std=gnu++17", *WARNINGS),
    ".rs": ("rustc", "--edition=2021"),
}


class BuildFailed(Exception):
    """A target does not compile; the message is the compiler's."""


def build_target(
    *sources: str, flags: Sequence[str] = RELEASE, name: str | None = None, compiler: str | None = None
) -> Path:
    """Compile `sources` (file names in tests/targets) into one program and return its path.

    The program is called `name`, by default like the first source. Each set of sources and flags has a folder of its
    own below build/targets, so that the name, which becomes the process's comm, stays plain. `compiler` is another one
    than that of the sources' language, such as musl-gcc.
    """
    return _build(sources, flags, name or Path(sources[0]).stem, compiler)


def build_shared_object(source: str, flags: Sequence[str] = RELEASE, name: str | None = None) -> Path:
    """Compile one source into a shared object, called `name` (default: the source's stem and `.so`)."""
    return _build((source,), (*flags, "-fPIC", "-shared"), name or f"{Path(source).stem}.so")


def build_rust_target(source: str) -> Path:
    """Compile one .rs file, which uses the standard library alone, with the rustc on PATH."""
    return _build((source,), RUST_RELEASE, Path(source).stem)


def build_unwind_truth(flags: Sequence[str] = RELEASE) -> Path:
    """`unwind_truth`, with the plugin that one of its scenarios loads beside it."""
    program = build_target(*UNWIND_SOURCES, flags=(*flags, "-rdynamic"))
    plugin = program.parent / "unwind_plugin.so"
    if not plugin.exists():
        _put_in_place(build_shared_object("unwind_plugin.cpp", flags), plugin)
    return program


def build_dlopen_reuse(flags: Sequence[str] = RELEASE) -> list[str]:
    """The command line of `dlopen_reuse` with its two libraries, which burn in `first_leaf` and `second_leaf`."""
    program = build_target("dlopen_reuse.c", flags=flags)
    libraries = [
        build_shared_object("reuse_library.c", (*flags, f"-DLEAF={leaf}"), f"{leaf}.so")
        for leaf in ("first_leaf", "second_leaf")
    ]
    return [str(program), *map(str, libraries)]


def _build(sources: Sequence[str], flags: Sequence[str], name: str, compiler: str | None = None) -> Path:
    paths = [TARGETS / source for source in sources]
    usual, *options = COMPILERS[paths[0].suffix]
    command = [str(find_program(compiler or usual)), *options, *flags]
    folder = TARGET_CACHE / f"{paths[0].stem}-{_cache_key(command, paths)}"
    program = folder / name
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = Path(scratch) / name
            _run([*command, *map(str, paths), "-o", str(built)])
            built.replace(program)
    return program


def _cache_key(command: Sequence[str], paths: Sequence[Path]) -> str:
    digest = hashlib.sha256("\0".join(command).encode())
    for path in [*paths, *sorted(TARGETS.glob("*.h"))]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildFailed(f"{' '.join(command)}\n{done.stderr}")


def _put_in_place(source: Path, destination: Path) -> None:
    """A hard link under a passing name, renamed: whole at any moment, also with two test runs at once."""
    passing = destination.with_name(f".{destination.name}.{os.getpid()}")
    os.link(source, passing)
    passing.replace(destination)
