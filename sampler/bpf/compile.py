"""Compiles a C source with BCC and prints what came out as JSON: run as a program of its own.

Apart, because BCC takes more than 100 MB, changes the working directory, and has maps and programs made that nobody
needs. Usage: python -m sampler.bpf.compile SOURCE [FLAG...].
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import platform
import re
import struct
import sys
from pathlib import Path
from typing import Any

BCC_FOLDERS = (Path("/usr/lib/python3/dist-packages"), Path("/usr/lib/python3/site-packages"))
"""Where systems put BCC: it isn't on PyPI."""

INCLUDE = re.compile(r'^#include "(\w+\.bpf\.h)"$', re.MULTILINE)
"""Of a header of ours, in the same folder as this file."""

INSTRUCTION = struct.Struct("<BBhi")
# A 64-bit immediate in two instructions, and that it means a map's descriptor (linux/bpf.h).
LOAD_IMMEDIATE = 0x18
PSEUDO_MAP_DESCRIPTOR = 1


def bcc_folder() -> Path | None:
    """The folder that has the package `bcc`; None where it isn't installed."""
    return next((folder for folder in BCC_FOLDERS if (folder / "bcc/__init__.py").is_file()), None)


def kernel_headers() -> tuple[Path, Path] | None:
    """Where the headers of a kernel are: the folder of those that are generated and the folder of all others.

    Those of the running kernel, where BCC looks too, else the newest of those that Debian keeps in /usr/src. Our
    programs read nothing of the kernel that differs from one version to the next.
    """
    running = Path("/lib/modules", platform.release(), "build")
    installed = sorted(Path("/usr/src").glob("linux-headers-*"), key=_version, reverse=True)
    for build in (running, *installed):
        if (build / "include/generated/autoconf.h").is_file():
            source = _source_of(build)
            if source is not None:
                return build.resolve(), source
    return None


def _version(folder: Path) -> list[int]:
    return [int(part) for part in folder.name.replace("-", ".").split(".") if part.isdigit()]


def _source_of(build: Path) -> Path | None:
    """Debian splits headers: `linux-headers-6.1.0-9-amd64` has what is generated, `…-common` all the rest."""
    name = build.resolve().name
    common = build.resolve().with_name(f"{name.rpartition('-')[0]}-common")
    candidates = (build, build.parent / "source", common)
    return next((folder.resolve() for folder in candidates if (folder / "include/linux/kconfig.h").is_file()), None)


def header_flags(build: Path, source: Path) -> list[str]:
    """The compiler's flags for split headers; BCC itself looks into one folder (`source`)."""
    if build == source:
        return []
    arch = "arm64" if platform.machine() == "aarch64" else "x86"
    folders = ("include", f"arch/{arch}/include/generated", f"arch/{arch}/include/generated/uapi")
    return [f"-I{build / folder}" for folder in (*folders, "include/generated/uapi")]


def main() -> int:
    """Compiles; an error goes to stderr, with the exit status 1."""
    source, *flags = sys.argv[1:]
    folder = bcc_folder()
    if folder is None:
        print("BCC is not installed", file=sys.stderr)
        return 1
    with contextlib.suppress(OSError):
        # On a busy machine the compiler would take ten times as long, and all who wait for it too.
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    headers = kernel_headers()
    if headers is not None:
        os.environ["BCC_KERNEL_SOURCE"] = str(headers[1])
        flags += header_flags(*headers)
    # At the end: nothing else of the system's shall take the place of ours.
    sys.path.append(str(folder))
    import bcc  # pyright: ignore[reportMissingImports]

    print(json.dumps(_compiled(bcc, source, flags)))
    return 0


def whole(source: str, had: set[str]) -> str:
    """A source with our headers' text in place of their includes, each once; `had` are those that it has already.

    BCC rewrites what is done with maps, and takes functions for programs, in the main source only. Raises `OSError`.
    """

    def text_of(include: re.Match[str]) -> str:
        if include[1] in had:
            return ""
        had.add(include[1])
        return whole(Path(__file__).with_name(include[1]).read_text(), had)

    return INCLUDE.sub(text_of, source)


def _compiled(bcc: Any, source: str, flags: list[str]) -> dict[str, object]:
    module = bcc.BPF(text=whole(Path(source).read_text(), set()), cflags=flags)
    library, handle = _declared(bcc.lib), module.module
    maps: dict[str, list[int]] = {}
    names: dict[int, str] = {}
    for number in range(library.bpf_num_tables(handle)):
        name = library.bpf_table_name(handle, number).decode()
        names[library.bpf_table_fd_id(handle, number)] = name
        maps[name] = [
            library.bpf_table_type_id(handle, number),
            library.bpf_table_key_size_id(handle, number),
            library.bpf_table_leaf_size_id(handle, number),
            library.bpf_table_max_entries_id(handle, number),
            library.bpf_table_flags_id(handle, number),
        ]
    programs: dict[str, object] = {}
    for number in range(library.bpf_num_functions(handle)):
        name = library.bpf_function_name(handle, number).decode()
        code = module.dump_func(name)
        programs[name] = {"code": base64.b64encode(code).decode(), "maps": _map_uses(code, names)}
    return {"maps": maps, "programs": programs}


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """libbcc with the functions (bpf_module.h) that BCC's own Python has no declarations of."""
    for name in ("bpf_function_name", "bpf_table_name"):
        function = getattr(library, name)
        function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_size_t]
    for name in ("bpf_num_functions", "bpf_num_tables"):
        function = getattr(library, name)
        function.restype, function.argtypes = ctypes.c_size_t, [ctypes.c_void_p]
    for name in ("type", "key_size", "leaf_size", "max_entries", "flags", "fd"):
        function = getattr(library, f"bpf_table_{name}_id")
        function.restype, function.argtypes = ctypes.c_int, [ctypes.c_void_p, ctypes.c_size_t]
    return library


def _map_uses(code: bytes, names: dict[int, str]) -> list[tuple[int, str]]:
    """The instructions that have a map's descriptor, by number, and which map."""
    uses: list[tuple[int, str]] = []
    for number, (opcode, registers, _, immediate) in enumerate(INSTRUCTION.iter_unpack(code)):
        if opcode == LOAD_IMMEDIATE and registers >> 4 == PSEUDO_MAP_DESCRIPTOR:
            uses.append((number, names[immediate]))
    return uses


if __name__ == "__main__":
    sys.exit(main())
