"""Futex calls of a running program, counted by bpftrace for each place in the program that made them.

bpftrace's `ustack` follows frame pointers. libc has none, so that its first frame above libc is the caller of the
function that took the lock. Here the program at the tracepoint reads the top of the user stack itself, and keeps the
first addresses there that lie within the program's code: libc's lock functions have small frames, which hold nothing
else of that kind. Nothing of Lockflame takes part in this.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import re
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from elftools.elf.elffile import ELFFile

from tests.support.needs import CannotTest, find_program
from tests.support.process import running
from tests.support.tracefs import WITH_TRACEFS

FUTEX_WAIT, FUTEX_WAKE = 128, 129
"""As glibc's mutexes call them (include/uapi/linux/futex.h), with FUTEX_PRIVATE_FLAG."""
X86_64_FUTEX = 202
THREAD_SIZE = 16384
WORDS = 40
BTF = Path("/sys/kernel/btf/vmlinux")
NO_LOCKS = re.compile(r"pthread_cond_|sem_|pthread_barrier_|cnd_")
"""Functions of libc that wait for, or tell of, an event that is no lock."""
ROW = re.compile(r"@calls\[(\d+), (\d+), (\d+), (\d+)\]: (\d+)")

# The registers that a system call saved are at the end of the thread's kernel stack (task_pt_regs in
# arch/x86/include/asm/processor.h).
PROGRAM = """
tracepoint:syscalls:sys_enter_futex /pid == {pid} && (args->op == {wait} || args->op == {wake})/ {{
  $stack = (uint64)((struct task_struct *)curtask)->stack;
  $registers = (struct pt_regs *)($stack + {thread_size} - sizeof(struct pt_regs));
  if ($registers->orig_ax != {futex}) {{ @elsewhere = count(); }}
  $sp = $registers->sp; $first = (uint64)0; $second = (uint64)0; $word = (uint64)0;
  {reads}
  @calls[args->op, $registers->ip, $first, $second] = count();
}}
interval:ms:200 /@said == 0/ {{ @said = 1; printf("ready\\n"); }}
"""
READ = """$word = *(uint64 *)uptr($sp + {offset});
  if ($word >= {start} && $word < {end}) {{
    if ($first == 0) {{ $first = $word; }} else if ($second == 0) {{ $second = $word; }}
  }}"""


@dataclass(frozen=True, slots=True)
class Code:
    """A binary's functions, as its own tables have them: `starts` from .eh_frame_hdr, `names` from .dynsym."""

    path: str
    text: range
    starts: tuple[int, ...]
    names: dict[int, str]

    def function(self, address: int) -> int:
        """The start of the function that holds an address, as linked."""
        return self.starts[max(bisect.bisect_right(self.starts, address) - 1, 0)]

    def name(self, start: int) -> str:
        """The name of the function that starts there, else its address."""
        return self.names.get(start, f"{os.path.basename(self.path)}+{start:#x}")


@dataclass(slots=True)
class FutexCalls:
    """What was counted: calls by the start of the function that called the lock. Filled when the tracing has ended."""

    code: Code
    calls: Counter[int] = field(default_factory=Counter[int])


def code_of(path: str) -> Code:
    """Reads a binary's tables. Raises `CannotTest`."""
    with open(path, "rb") as file:
        elf = ELFFile(file)
        text, header = elf.get_section_by_name(".text"), elf.get_section_by_name(".eh_frame_hdr")
        if text is None or header is None:
            raise CannotTest(f"{path} has no table of its functions")
        start, size, base, table = text["sh_addr"], text["sh_size"], header["sh_addr"], header.data()
    # Version 1, then the sorted table's rows: two offsets of 4 bytes from the section's own address.
    (count,) = struct.unpack_from("<I", table, 8)
    starts = tuple(base + offset for offset, _ in struct.iter_unpack("<ii", table[12 : 12 + 8 * count]))
    return Code(path, range(start, start + size), starts, {row[0]: row[2] for row in _exported(path)})


@contextlib.contextmanager
def futex_calls(pid: int, lock_functions: tuple[str, ...]) -> Iterator[FutexCalls]:
    """Count the waits and wakes of a process's locks while the context is open.

    Calls are charged to the first function of the program whose name doesn't begin like one of `lock_functions`.
    Needs root, and a kernel that tells about its types. Raises `CannotTest`.
    """
    bpftrace = find_program("bpftrace")
    if not BTF.exists():
        raise CannotTest(f"there is no {BTF}: this kernel was built without CONFIG_DEBUG_INFO_BTF")
    counted = FutexCalls(code_of(os.readlink(f"/proc/{pid}/exe")))
    load_address = _load_address(pid, counted.code.path)
    text = counted.code.text
    limits = {"start": text.start + load_address, "end": text.stop + load_address}
    program = PROGRAM.format(
        pid=pid,
        wait=FUTEX_WAIT,
        wake=FUTEX_WAKE,
        thread_size=THREAD_SIZE,
        futex=X86_64_FUTEX,
        reads="\n  ".join(READ.format(offset=8 * index, **limits) for index in range(WORDS)),
    )
    command = [*WITH_TRACEFS, bpftrace, "-B", "line", "-e", program]
    with running(command, wait_ready=False, stderr=subprocess.STDOUT) as tracer:
        tracer.wait_until_ready(60)
        yield counted
        tracer.interrupt()
        _count(tracer.lines, counted, load_address, _no_locks(pid), lock_functions)


def _count(
    lines: list[str], counted: FutexCalls, load_address: int, no_locks: list[range], lock_functions: tuple[str, ...]
) -> None:
    if any(line.startswith("@elsewhere") and not line.endswith(": 0") for line in lines):
        raise CannotTest(f"this kernel's stacks aren't of {THREAD_SIZE} bytes: the user's registers weren't found")
    code = counted.code
    for match in filter(None, map(ROW.fullmatch, lines)):
        _, instruction, *words, count = map(int, match.groups())
        if any(instruction in function for function in no_locks):
            continue
        # A return address is behind its call, which may be a function's last instruction.
        functions = [code.function(word - load_address - 1) for word in words if word]
        callers = [start for start in functions if not code.name(start).startswith(lock_functions)]
        if callers:
            counted.calls[callers[0]] += count


def _no_locks(pid: int) -> list[range]:
    """Where libc's functions for conditions, semaphores and the like are, in the process."""
    libc = next(path for path in _mapped(pid) if os.path.basename(path) == "libc.so.6")
    base = _load_address(pid, libc)
    rows = [(address + base, size) for address, size, name in _exported(libc) if NO_LOCKS.match(name)]
    return [range(address, address + size) for address, size in rows]


def _exported(path: str) -> list[tuple[int, int, str]]:
    """(address as linked, size, demangled name) of the functions that a binary exports."""
    command = [str(find_program("nm")), "--dynamic", "--demangle", "--print-size", "--defined-only", path]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^([0-9a-f]+) ([0-9a-f]+) [tTwWi] (.+)$", listing, re.MULTILINE)
    return [(int(address, 16), int(size, 16), name) for address, size, name in rows]


def _mapped(pid: int) -> list[str]:
    """The files that a process has mapped."""
    rows = (line.split(maxsplit=5) for line in Path(f"/proc/{pid}/maps").read_text().splitlines())
    return list(dict.fromkeys(row[5] for row in rows if len(row) == 6 and row[5].startswith("/")))


def _load_address(pid: int, path: str) -> int:
    """Where a binary that is linked at 0 begins in a process."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.endswith(f" {path}"):
            return int(line.split("-")[0], 16)
    raise CannotTest(f"process {pid} has not mapped {path}")
