"""Writes and builds a C++ program with as much debug info as is asked for, and other forms of a program's debug info.

The program is many units of generated source (tests/targets/big_*.cpp.in): each group of a unit has types of its own,
for which the containers of the standard library are instantiated anew, and `-O2` inlines several levels of their
functions. Its threads go round all groups, so that samples fall everywhere.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template

from tests.support.needs import find_program
from tests.support.paths import TARGETS
from tests.support.targets import RELEASE, TARGET_CACHE, BuildFailed

SMALL = (2, 1)
"""Units and groups of a program for tests: a few seconds to build."""
LARGE = (24, 6)
"""Units and groups of a program with more than 50 MB of debug info: a minute to build on two CPUs."""

SORTED = """        std::sort(records.begin(), records.end(), less);
        return records.empty() ? 0 : records.front().weight;"""
LEAST = """        auto least = std::min_element(records.begin(), records.end(), less);
        return least == records.end() ? 0 : least->weight;"""
SORTED_EVERY = 6
"""One in so many groups sorts: `std::sort` takes longer to compile than all else of a group."""


def build_big_program(
    units: int, groups: int, *, flags: Sequence[str] = RELEASE, compiler: str = "g++", name: str = "big_program"
) -> Path:
    """Build the program of `units` units with `groups` groups each and return its path; once for equal arguments.

    `big_program [--threads N] [--seconds S]` prints `ready` and burns CPU until SIGTERM. Raises BuildFailed.
    """
    command = [str(find_program(compiler)), "-std=gnu++17", "-pthread", f"-I{TARGETS}", *flags]
    sources = dict(_sources(units, groups))
    folder = TARGET_CACHE / f"{name}-{_cache_key(command, sources)}"
    program = folder / name
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for file_name, text in sources.items():
            _write(folder / file_name, text)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = _compile_and_link(command, [folder / file_name for file_name in sources], Path(scratch) / name)
            built.replace(program)
    return program


def debug_bytes(program: Path) -> int:
    """The bytes that the debug sections of `program` take in its file."""
    return sum(size for name, size in _section_sizes(program) if name.startswith(".debug_"))


def _sources(units: int, groups: int) -> Iterator[tuple[str, str]]:
    unit_template = _template("big_unit.cpp.in")
    group_template = _template("big_group.cpp.in")
    for unit in range(units):
        texts = (_group(group_template, unit, group) for group in range(groups))
        all_work = ", ".join(f"group_{group}::work" for group in range(groups))
        yield (
            f"big_unit_{unit}.cpp",
            unit_template.substitute(unit=unit, groups="\n".join(texts), all_work=all_work),
        )
    yield (
        "big_main.cpp",
        _template("big_main.cpp.in").substitute(
            declarations="\n".join(
                f"namespace unit_{unit} {{ std::uint64_t run(std::uint64_t seed); }}" for unit in range(units)
            ),
            all_units=", ".join(f"big::unit_{unit}::run" for unit in range(units)),
        ),
    )


def _group(template: Template, unit: int, group: int) -> str:
    number = unit * 7 + group
    return template.substitute(
        group=group,
        distance=3 + number % 29,
        other=5 + number % 41,
        ring=4 + number % 13,
        ordered=SORTED if number % SORTED_EVERY == 0 else LEAST,
    )


def _template(file_name: str) -> Template:
    return Template((TARGETS / file_name).read_text())


def _cache_key(command: Sequence[str], sources: dict[str, str]) -> str:
    digest = hashlib.sha256("\0".join(command).encode())
    for text in (*sources.values(), (TARGETS / "target.h").read_text()):
        digest.update(text.encode())
    return digest.hexdigest()[:12]


def _compile_and_link(command: Sequence[str], sources: Sequence[Path], program: Path) -> Path:
    objects = [program.parent / f"{source.stem}.o" for source in sources]
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        commands = (
            [*command, "-c", str(source), "-o", str(built)] for source, built in zip(sources, objects, strict=True)
        )
        list(workers.map(_run, commands))
    _run([*command, *map(str, objects), "-o", str(program)])
    return program


def _write(path: Path, text: str) -> None:
    """Written under a passing name and renamed: whole at any moment, also with two test runs at once."""
    passing = path.with_name(f".{path.name}.{os.getpid()}")
    passing.write_text(text)
    passing.replace(path)


def _section_sizes(program: Path) -> Iterator[tuple[str, int]]:
    for line in _run([str(find_program("objdump")), "-h", "-w", str(program)]).splitlines():
        words = line.split()
        if words and words[0].isdigit():
            yield words[1], int(words[2], 16)


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildFailed(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout
