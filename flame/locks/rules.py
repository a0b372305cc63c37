"""What a function's name says about locks: rules of names and globs, and the search for the first that matches."""

from __future__ import annotations

import enum
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

# `__GI_` is how glibc's own calls of a public function are named. After the name come the linker's symbol versions and
# the suffixes of GCC's and LLVM's copies of a function. Go's names hold dots too, so that the suffixes are listed.
_ADDED = re.compile(r"@.*|(?:\.(?:constprop|isra|part|cold|llvm|lto_priv)(?:\.\d+)?)+$")
_INTERNAL = "__GI_"
PREFIX_LEAST = 4
"""Globs with at least so many literal characters before the first `*` are found by them."""


class Meaning(enum.IntEnum):
    """What a frame of a function says about the sample; `lock_rules.toml` explains each."""

    NONE = 0
    LOCKING = 1
    CONTENDED = 2
    WAITING = 3
    MECHANISM = 4
    WRAPPER = 5
    BOUNDARY = 6


class Space(enum.IntFlag):
    """Where a rule's functions live."""

    USER = 1
    KERNEL = 2
    ANY = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """Names that mean the same. `names` and `module` may be globs: `*` stands for any text, nothing else is special."""

    names: tuple[str, ...]
    means: Meaning
    kind: str = ""
    space: Space = Space.ANY
    module: str = ""
    """The file name of the binary; empty for any."""


class Match(NamedTuple):
    """What the rules say about a function: its meaning, and the kind of lock (empty where the meaning has none)."""

    means: Meaning
    kind: str


NO_MATCH = Match(Meaning.NONE, "")


class LockRules:
    """Rules in the order of precedence, arranged so that a name is compared with few of them."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._by_prefix: dict[str, list[tuple[tuple[str, ...], int]]] = defaultdict(list)
        self._prefix_lengths: dict[str, list[int]] = {}
        self._loose: list[tuple[str, tuple[str, ...], int]] = []
        for index, rule in enumerate(self._rules):
            for name in rule.names:
                self._add(name, index)

    def match(self, names: Iterable[str], space: Space, module: str) -> Match:
        """What the first rule says that matches any of a function's names.

        `module` is the file name of its binary. Takes time in proportion to the names' lengths.
        """
        candidates = sorted({index for name in names for index in self._candidates(name)})
        for index in candidates:
            rule = self._rules[index]
            if rule.space & space and (not rule.module or _matches(tuple(rule.module.split("*")), module)):
                return Match(rule.means, rule.kind)
        return NO_MATCH

    def _add(self, name: str, index: int) -> None:
        pieces = tuple(name.split("*"))
        if len(pieces) == 1:
            self._exact[name].append(index)
        elif len(pieces[0]) >= PREFIX_LEAST:
            self._by_prefix[pieces[0]].append((pieces, index))
            start = name[:PREFIX_LEAST]
            self._prefix_lengths[start] = sorted({*self._prefix_lengths.get(start, ()), len(pieces[0])})
        else:
            self._loose.append((max(pieces, key=len), pieces, index))

    def _candidates(self, name: str) -> list[int]:
        plain = plain_name(name)
        found = list(self._exact.get(plain, ()))
        if plain[:PREFIX_LEAST] in self._prefix_lengths:
            found += [index for pieces, index in self._with_prefix_of(plain) if _matches(pieces, plain)]
        found += [index for longest, pieces, index in self._loose if longest in plain and _matches(pieces, plain)]
        return found

    def _with_prefix_of(self, name: str) -> Iterator[tuple[tuple[str, ...], int]]:
        for length in self._prefix_lengths[name[:PREFIX_LEAST]]:
            if length > len(name):
                break
            yield from self._by_prefix.get(name[:length], ())


def plain_name(name: str) -> str:
    """A function's name without what compilers and linkers add to it."""
    plain = name.removeprefix(_INTERNAL)
    return _ADDED.sub("", plain) if "." in plain or "@" in plain else plain


def _matches(pieces: tuple[str, ...], text: str) -> bool:
    """Whether a glob, split at its `*`, matches the whole text. Each piece is looked for once, from left to right."""
    first, *middle, last = pieces if len(pieces) > 1 else (*pieces, None)
    if last is None:
        return text == first
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
