"""The lines of `perf script` (man perf-script): what begins a sample, and what is a frame of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

HEADER_CHARACTERS_MOST = 1024
_OFFSET_CHARACTERS_MOST = 20
_HEXADECIMAL = frozenset("0123456789abcdef")

# `comm pid/tid [cpu] time: period event:`, of which much may be left out (perf script -F). A comm may hold spaces and
# numbers, so that only what follows tells where it ends: a time, else an event, else nothing after both ids.
_CPU = r"(?:\s+\[\d+\])?"
_IDS = r"(?P<comm>\S.*?)\s+(?P<first>-?\d{1,18})/(?P<second>-?\d{1,18})" + _CPU
_WHO = r"(?P<comm>\S.*?)\s+(?P<first>-?\d{1,18})(?:/(?P<second>-?\d{1,18}))?" + _CPU
_PERIOD = r"(?:\s+(?P<period>\d{1,18})(?=\s|$))?"
_EVENT = r"\s+(?P<event>(?!\d+\.\d+:)[^\s:]\S*):(?=\s|$)"
_WITH_TIME = re.compile(rf"{_WHO}\s+\d+\.\d+:{_PERIOD}(?:{_EVENT})?(?P<tail>.*)")
_WITH_EVENT = re.compile(rf"{_WHO}{_PERIOD}{_EVENT}(?P<tail>.*)")
_WITH_IDS = re.compile(rf"{_IDS}{_PERIOD}(?P<event>)(?P<tail>)")
# --show-mmap-events, --show-task-events and the like: they tell of the program, not where it was.
_RECORD = re.compile(r":\s+PERF_RECORD_[A-Z]")
_OFFSET = re.compile(r"\+0x[0-9a-f]+$")
INLINED = "inlined"
_DELETED = " (deleted))"


@dataclass(frozen=True, slots=True)
class Frame:
    """A function's name and the file it is in (empty where perf doesn't say; `INLINED`)."""

    name: str
    module: str
    is_kernel: bool


@dataclass(frozen=True, slots=True)
class Header:
    """What a sample's first line says. `event` is empty and `period` None where the line has none.

    A single number is the thread's: perf's default fields have no process (0). `frame` is that of a sample without
    call chain, which perf puts on the same line. `is_sure` is whether no other kind of text has such lines.
    """

    comm: str
    pid: int
    tid: int
    event: str
    period: int | None
    frame: Frame | None
    is_sure: bool


def header_of(line: str) -> Header | None:
    """What a line says that begins a sample; None if it is no such line."""
    text = line.strip()
    if len(text) > HEADER_CHARACTERS_MOST or _RECORD.search(text):
        return None
    for pattern in (_WITH_TIME, _WITH_EVENT, _WITH_IDS):
        if found := pattern.fullmatch(text):
            return _header(found, is_sure=pattern is not _WITH_IDS)
    return None


def _header(found: re.Match[str], *, is_sure: bool) -> Header | None:
    first, second, event, period = found["first"], found["second"], found["event"] or "", found["period"]
    tail = found["tail"].strip()
    if tail and period and not event:
        # No period, but the address of the one frame.
        tail, period = f"{period} {tail}", None
    frame = frame_of(tail) if tail.endswith(")") or not event else None
    if tail and not event and frame is None:
        return None
    pid, tid = (0, int(first)) if second is None else (int(first), int(second))
    return Header(found["comm"].strip(), pid, tid, event, None if period is None else int(period), frame, is_sure)


def is_record(line: str) -> bool:
    """Whether a line tells of something else than a sample: a mapping, a new thread."""
    return _RECORD.search(line[:HEADER_CHARACTERS_MOST]) is not None


def frame_of(line: str) -> Frame | None:
    """The frame in `ADDRESS NAME+OFFSET (MODULE)`; the name of what has none says where it is."""
    address, _, rest = line.strip().partition(" ")
    if not address or not _HEXADECIMAL.issuperset(address):
        return None
    name, module = f" {rest.strip()}", ""
    if name.endswith(")"):
        # A file that is gone: `(/tmp/a (deleted))`.
        end = name.rfind(" (", 0, -len(_DELETED) if name.endswith(_DELETED) else None)
        if end >= 0:
            name, module = name[:end], name[end + 2 : -1]
    name = name.strip()
    name = name[:-_OFFSET_CHARACTERS_MOST] + _OFFSET.sub("", name[-_OFFSET_CHARACTERS_MOST:])
    return Frame(
        name if name not in ("", "[unknown]") else _unnamed(address, module), module, _is_kernel(address, module)
    )


def _is_kernel(address: str, module: str) -> bool:
    """Modules of the kernel go by names like any other; its addresses are those of the upper half."""
    return module.startswith(("[kernel", "[guest.kernel")) or (len(address) == 16 and address.startswith("ffff"))


def _unnamed(address: str, module: str) -> str:
    """Code without a name by its binary, as perf doesn't give offsets; else by its address."""
    return f"[{module.rpartition('/')[2]}]" if module and module != "[unknown]" else f"0x{address.lstrip('0') or '0'}"


def is_perf_script(lines: Sequence[str]) -> bool:
    """Whether a text that begins with these lines is of `perf script`; comments and empty lines are left out."""
    for index, line in enumerate(lines):
        if not is_record(line):
            header, following = header_of(line), lines[index + 1 : index + 2]
            is_followed = any(text[:1].isspace() and frame_of(text) is not None for text in following)
            return header is not None and (header.is_sure or is_followed)
    return bool(lines)
