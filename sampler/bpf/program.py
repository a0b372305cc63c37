"""Compiled programs: kept from one recording to the next, and loaded with maps of their own."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import signal
import struct
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lockflame.cache_folder import CacheFolder, user_cache
from lockflame.errors import LockflameError, reason_of
from sampler.bpf import syscall
from sampler.bpf.compile import bcc_folder, kernel_headers
from sampler.bpf.syscall import Map

COMPILE_LIMIT_S = 120
DIGEST_BYTES = 32
CACHE_BYTES_MOST = 8 << 20
FORMAT = "1"
"""Part of what the cache's files are named after: raised when their content changes."""
SHARED = "*.bpf.h"
"""Headers beside this file that sources include."""


@dataclass(frozen=True, slots=True)
class Code:
    """A program's instructions, and in which of them (by number) which map's descriptor belongs."""

    instructions: bytes
    maps: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a source was compiled to. `maps` are (type, bytes of a key, bytes of a value, entries, flags) by name."""

    maps: Mapping[str, tuple[int, int, int, int, int]]
    programs: Mapping[str, Code]


def compiled(source: Path, definitions: Mapping[str, int], what: str) -> Compiled:
    """The programs of a source, compiled with these macros, or as they were compiled before.

    Raises `LockflameError`, in which `what` is said to fail, and `OSError` where the kernel refuses BPF.
    """
    folder = Path(__file__).parent
    flags = [f"-D{name}={value}" for name, value in sorted(definitions.items())]
    headers = [header.read_text() for header in sorted(folder.glob(SHARED))]
    key = "\0".join([FORMAT, platform.machine(), source.read_text(), *headers, *flags])
    name = hashlib.sha256(key.encode()).hexdigest()
    cache = CacheFolder(user_cache("bpf"))
    content = _kept(cache, name)
    if content is None:
        content = _compile(source, [f"-I{folder}", *flags], what)
        _keep(cache, name, content)
    return _parse(content)


def _kept(cache: CacheFolder, name: str) -> bytes | None:
    """The file of that name if it is whole: a digest, then what the compiler printed."""
    file = cache.open(name)
    if file is None:
        return None
    with file:
        digest, content = file.read(DIGEST_BYTES), file.read(CACHE_BYTES_MOST)
    return content if hashlib.sha256(content).digest() == digest else None


def _keep(cache: CacheFolder, name: str, content: bytes) -> None:
    try:
        with cache.writing(name) as file:
            file.write(hashlib.sha256(content).digest() + content)
        cache.prune(CACHE_BYTES_MOST, keep={name})
    except OSError:
        pass  # Then it is compiled again the next time.


def _compile(source: Path, flags: list[str], what: str) -> bytes:
    if bcc_folder() is None:
        raise LockflameError(
            what, "BCC is not installed, which compiles the probes", "install it with: apt-get install python3-bpfcc"
        )
    if kernel_headers() is None and not os.path.exists("/sys/kernel/kheaders.tar.xz"):
        raise LockflameError(
            what, "no kernel headers are installed", "install some with: apt-get install linux-headers-amd64"
        )
    # BCC makes maps too: where the kernel refuses them, its error tells it better than a compiler's does.
    os.close(syscall.create_map(syscall.MAP_ARRAY, 4, 4, 1, 0))
    command = [sys.executable, "-m", "sampler.bpf.compile", str(source), *flags]
    root = str(Path(__file__).parents[2])
    try:
        with _interruptible():
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=COMPILE_LIMIT_S,
                check=False,
                env={**os.environ, "PYTHONPATH": root},
            )
    except subprocess.TimeoutExpired as error:
        raise LockflameError(what, f"BCC took more than {COMPILE_LIMIT_S} s", "try again when it is calmer") from error
    except OSError as error:
        raise LockflameError(
            what, f"the compiler cannot be started: {reason_of(error)}", "run: lockflame doctor"
        ) from error
    if done.returncode != 0:
        raise LockflameError(what, f"BCC cannot compile the probes: {_complaint(done)}", "run: lockflame doctor")
    return done.stdout


@contextmanager
def _interruptible() -> Generator[None]:
    """Has Ctrl-C end us meanwhile, as nothing is recorded yet that could be kept. Only where it isn't ignored."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    """The line that tells most of what a failed compiler said."""
    if done.returncode < 0:
        return f"it ended by signal {-done.returncode}"
    lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if "error:" in line or "denied" in line or "not permitted" in line]
    return (telling or lines or [f"exit status {done.returncode}"])[0 if telling else -1]


def _parse(content: bytes) -> Compiled:
    record = json.loads(content)
    programs = {
        name: Code(base64.b64decode(entry["code"]), tuple((number, used) for number, used in entry["maps"]))
        for name, entry in record["programs"].items()
    }
    return Compiled({name: tuple(values) for name, values in record["maps"].items()}, programs)


class LoadedPrograms:
    """Maps and programs in the kernel; they live until `close`, or as long as they are attached."""

    def __init__(
        self, source: Compiled, kinds: Mapping[str, int], perf_array_entries: int, attach_type: int = 0
    ) -> None:
        """Loads the programs that `kinds` names (values of `syscall.PROG_*`). Raises `OSError`."""
        self.maps: dict[str, Map] = {}
        self.programs: dict[str, int] = {}
        try:
            for name, (kind, key_bytes, value_bytes, entries, flags) in source.maps.items():
                entries = perf_array_entries if kind == syscall.MAP_PERF_EVENT_ARRAY else entries
                descriptor = syscall.create_map(kind, key_bytes, value_bytes, entries, flags)
                if kind in syscall.MAPS_BY_CPU:
                    value_bytes = -(-value_bytes // 8) * 8 * syscall.possible_cpus()
                self.maps[name] = Map(descriptor, key_bytes, value_bytes, entries)
            for name, kind in kinds.items():
                self.programs[name] = syscall.load_program(kind, self._linked(source.programs[name]), attach_type)
        except BaseException:
            self.close()
            raise

    def _linked(self, code: Code) -> bytes:
        instructions = bytearray(code.instructions)
        for number, name in code.maps:
            struct.pack_into("<i", instructions, number * 8 + 4, self.maps[name].descriptor)
        return bytes(instructions)

    def close(self) -> None:
        """Gives up the programs and the maps."""
        for descriptor in (*self.programs.values(), *(entry.descriptor for entry in self.maps.values())):
            os.close(descriptor)
        self.programs, self.maps = {}, {}
