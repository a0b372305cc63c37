"""What a file is, by its first bytes."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from lockflame.formats.folded import is_folded_line
from lockflame.formats.lines import text_of
from lockflame.formats.perf_lines import is_perf_script

KNOWN = "give a profile of lockflame record or another tool: pprof, folded stacks, the text of perf script, perf.data"
HEAD_BYTES = 1 << 16
_LINES_LOOKED_AT = 50
# What no text has; a pprof message has some in its first bytes.
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))


class Kind(enum.Enum):
    """How a file is to be read."""

    PPROF = enum.auto()
    FOLDED = enum.auto()
    PERF_SCRIPT = enum.auto()
    UNKNOWN = enum.auto()


# What is known, but not read: (the first bytes, why not, what to do).
_BINARY = (
    # A header of five words of 64 bits, the first two 0 and 3
    # (https://gperftools.github.io/gperftools/cpuprofile-fileformat.html).
    (bytes(8) + b"\3" + bytes(7), "it is in gperftools' own format", "convert it: go tool pprof -proto PROGRAM FILE"),
    (b"--- symbol", "it is in gperftools' own format", "convert it: go tool pprof -proto FILE"),
    (b"FLR\0", "it is a JFR recording", "convert it to folded stacks: jfrconv -o collapsed FILE"),
    (b"PERFILE2", "it is a packed perf.data", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "it is packed by zstd", "unpack it"),
    (b"\x7fELF", "it is a program", KNOWN),
    (b"\xff\xfe", "it is text in UTF-16", "save it as UTF-8"),
    (b"\xfe\xff", "it is text in UTF-16", "save it as UTF-8"),
)
_TEXT = (
    (b"{", "it is JSON, which is written but not read", KNOWN),
    (b"[", "it is JSON, which is written but not read", KNOWN),
    (b"<", "it is a picture or a page", "give the profile that it was made of"),
    (b"", "it is text, but neither folded stacks nor the output of perf script", KNOWN),
)


def kind_of(head: bytes) -> Kind:
    """How to read a file that begins with these bytes, up to `HEAD_BYTES` of them."""
    if any(head.startswith(start) for start, _, _ in _BINARY):
        return Kind.UNKNOWN
    lines = _lines(head)
    is_binary = head.translate(None, _CONTROLS) != head
    if not is_binary and is_perf_script([text_of(line) for line in lines]):
        return Kind.PERF_SCRIPT
    # Text of other kinds has lines as well that end in a number. And a name may hold anything but the end of a line: a
    # single odd one doesn't make folded stacks binary.
    if 2 * sum(map(is_folded_line, lines)) > len(lines) and b"\0" not in head:
        return Kind.FOLDED
    if is_binary:
        return Kind.PPROF
    return Kind.FOLDED if _is_one_deep_stack(head) else Kind.UNKNOWN


def why_unknown(head: bytes) -> tuple[str, str]:
    """Why a file of `Kind.UNKNOWN` can't be read, and what to do."""
    text = head.lstrip()
    found = [other for other in _BINARY if head.startswith(other[0])]
    _, why, what_to_do = (found or [other for other in _TEXT if text.startswith(other[0])])[0]
    return why, what_to_do


def _lines(head: bytes) -> Sequence[bytes]:
    """The whole lines of a text, but empty ones and comments."""
    lines = head.split(b"\n")
    if len(head) >= HEAD_BYTES and len(lines) > 1:
        del lines[-1]
    return [line for line in lines[:_LINES_LOOKED_AT] if line.strip() and not line.startswith(b"#")]


def _is_one_deep_stack(head: bytes) -> bool:
    """Whether the first line goes beyond what is looked at, as very deep stacks do."""
    return len(head) >= HEAD_BYTES and b"\n" not in head and b";" in head
