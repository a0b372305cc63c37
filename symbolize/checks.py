"""What names can be had on this machine."""

from __future__ import annotations

from collections.abc import Iterator

from lockflame.checks import Check, State
from lockflame.events import FileMapping
from symbolize import libdw
from symbolize.binaries import open_binary
from symbolize.debug_files import DebugFiles
from symbolize.kernel import read_kallsyms

LIBC = "libc.so.6"


def symbol_checks() -> Iterator[Check]:
    """Kernel names, then those of libc: its local functions are only in its debug file."""
    kernel = read_kallsyms()
    if kernel.reason:
        yield Check(
            "kernel symbols", State.LIMITED, kernel.reason, "run as root; if you are: sysctl kernel.kptr_restrict=1"
        )
    else:
        yield Check("kernel symbols", State.OK, f"{len(kernel.starts):,} functions in /proc/kallsyms")
    yield _libc_check()
    yield _lines_check()


def _libc_check() -> Check:
    path = _libc_path()
    if path is None:
        return Check("libc's symbols", State.LIMITED, "no libc.so.6 is mapped into this process")
    binary = open_binary(FileMapping(0, 1, 0, path), 0)
    if binary.image is None:
        return Check("libc's symbols", State.LIMITED, f"{path}: {binary.reason}")
    if ".symtab" in binary.image.sections or DebugFiles().symbols_of(binary, 0) is not None:
        return Check("libc's symbols", State.OK, f"all functions of {path}")
    return Check(
        "libc's symbols",
        State.LIMITED,
        f"only the exported functions of {path}: start_thread or _int_malloc stay without name",
        "apt-get install libc6-dbg",
    )


def _lines_check() -> Check:
    try:
        libdw.load()
    except libdw.LibdwError as problem:
        return Check(
            "source lines", State.LIMITED, f"no lines and no inlined functions: {problem}", "apt-get install libdw1"
        )
    return Check("source lines", State.OK, "where a program or its debug file has DWARF data")


def _libc_path() -> str | None:
    with open("/proc/self/maps") as maps:
        for line in maps:
            if line.rstrip().endswith(f"/{LIBC}"):
                return line.split(None, 5)[5].strip()
    return None
