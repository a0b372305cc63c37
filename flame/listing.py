"""What stands above a picture of the worst that is in it, line by line."""

from __future__ import annotations

from typing import NamedTuple

from flame.contention import Contention
from flame.names import short_name
from flame.palette import CONTENDED, Rgb
from flame.text import isolated, percent, shortened, showable

# Shares become whole parts of this many, to be shown as all other shares are.
_SHARES = 1_000_000
_SITE_CHARACTERS = 110


class Entry(NamedTuple):
    """A path that a reader can go to. `stack` indexes the profile's stacks; its frames before `depth` (leaf first,
    inlined ones too) are those above the one to go to. Texts are showable but not escaped. `shade` is the swatch's
    colour, where it isn't the listing's."""

    text: str
    measure: str
    tooltip: str
    stack: int
    depth: int
    shade: Rgb | None = None


class Listing(NamedTuple):
    """A headline and its entries, worst first. `style` is the headline's class in the style sheet, `mark` that of the
    entries' swatches, and `shade` their colour."""

    headline: str
    style: str = "calm"
    entries: tuple[Entry, ...] = ()
    mark: str = ""
    shade: Rgb = CONTENDED[-1]


def contention_listing(contention: Contention) -> Listing:
    """How much of the CPU time goes into contended locks, and the worst paths there."""
    share = percent(round(contention.share * _SHARES), _SHARES)
    if not contention.is_notable:
        return Listing(
            f"No lock contention seen: {share} of CPU time in contended locks. Threads asleep aren't in here."
        )
    entries: list[Entry] = []
    for index, (path, reach) in enumerate(zip(contention.paths, contention.reach, strict=True)):
        name = isolated(shortened(short_name(path.site), _SITE_CHARACTERS))
        part = percent(round(path.share * _SHARES), _SHARES)
        entries.append(
            Entry(
                text=f"{index + 1}  {name} → {path.kind}",
                measure=f"{part} of CPU time (±{100 * reach:.1f})",
                tooltip=showable(path.site),
                stack=path.stack,
                depth=path.depth,
            )
        )
    headline = f"Lock contention: {share} of CPU time. The worst lock paths:"
    return Listing(headline, "contention", tuple(entries), "contended")
