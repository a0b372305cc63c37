"""Text that comes from outside made fit to show, and numbers made fit to read."""

from __future__ import annotations

import re
import unicodedata

_REPLACEMENT = "\ufffd"

# What XML 1.0 forbids even escaped, line breaks, and controls that reorder the text around them.
_UNSHOWABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]",
)
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
_DURATIONS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"))
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def showable(text: str) -> str:
    r"""The text on one line, as valid Unicode that any XML 1.0 document and any UTF-8 file can hold.

    Bytes that were no UTF-8 (decoded with `surrogateescape`) become `\xNN`; control characters, bidirectional
    controls and other lone surrogates become U+FFFD.
    """
    if text.isascii() and text.isprintable():  # as nearly all are; looking for what may not be shown takes longer
        return text
    return _UNSHOWABLE.sub(_substitute, text)


def isolated(text: str) -> str:
    """`showable` text that keeps its own direction when it stands within a line of other text."""
    shown = showable(text)
    if shown.isascii() or not any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in shown):
        return shown
    return f"\u2068{shown}\u2069"


def escape(text: str) -> str:
    """The text as XML has it between tags.

    The standard library's own brings all along that it takes to fetch documents from the net.
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def shortened(text: str, limit: int) -> str:
    """The text, cut to `limit` characters with an ellipsis as the last where it is longer."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def percent(part: float, whole: float) -> str:
    """A share such as `4.1 %`. Only nothing is `0 %`, and only all is `100 %`."""
    if part == 0 or whole == 0:
        return "0 %"
    share = 100 * part / whole
    if share < 0.05:
        return "<0.1 %"
    if 99.95 <= share < 100:
        return ">99.9 %"
    return f"{share:.1f} %".replace(".0 %", " %")


def amount(value: float, unit: str) -> str:
    """A weight with its unit: `1.23 s` of nanoseconds, `16 KiB` of bytes, `1,234` of a count."""
    if unit == "nanoseconds":
        return _scaled(value, _DURATIONS, "ns")
    if unit == "bytes":
        return _scaled(value, _SIZES, "bytes")
    number = f"{value:,}" if isinstance(value, int) else _three_digits(value)
    return number if unit == "count" else f"{number} {showable(unit)}"


def counted(count: int, singular: str) -> str:
    """A number with its noun: `1 sample`, `1,234 samples`."""
    return f"{count:,} {singular}" if count == 1 else f"{count:,} {singular}s"


def _scaled(value: float, scales: tuple[tuple[int, str], ...], smallest: str) -> str:
    for factor, unit in scales:
        if abs(value) >= factor:
            return f"{_three_digits(value / factor)} {unit}"
    return f"{_three_digits(value)} {smallest}"


def _three_digits(value: float) -> str:
    decimals = 2 - (abs(value) >= 10) - (abs(value) >= 100)
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _substitute(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else _REPLACEMENT
