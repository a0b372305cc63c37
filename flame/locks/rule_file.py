"""Reads rules from TOML: ours, which come with the package, and the user's, which win over them."""

from __future__ import annotations

import functools
import os.path
import re
import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from flame.locks.rules import LockRules, Meaning, Rule, Space
from lockflame.errors import LockflameError, reason_of

_Value = TypeVar("_Value")

FILE_BYTES_MOST = 1 << 20
NAMES_MOST = 10_000
NAME_LENGTH_MOST = 1_000

_KIND = re.compile(r"[a-z][a-z0-9_-]{0,23}")
_KEYS = frozenset({"names", "kind", "means", "space", "module"})
_MEANINGS = {meaning.name.lower(): meaning for meaning in Meaning}
_SPACES = {"user": Space.USER, "kernel": Space.KERNEL}
_WITHOUT_KIND = (Meaning.NONE, Meaning.BOUNDARY)
_HEADER = re.compile(r"\s*\[\[\s*(?:rule|\"rule\"|'rule')\s*\]\]")
_LINE_OF_SYNTAX = re.compile(r"\s*\(at line (\d+), column \d+\)$")
_QUOTES = ('"""', "'''")


# By hand: importing importlib.resources takes longer than the reading.
_OURS = os.path.join(os.path.dirname(__file__), "lock_rules.toml")
_ADVICE = f"the format is explained at the top of {_OURS}"


def load_rules(user_file: str | None = None) -> LockRules:
    """Our rules, behind those of the user's file if there is one. Raises `LockflameError` with the line at fault."""
    if user_file is None:
        return _arranged()
    return LockRules((*parse_rules(_text_of(user_file), user_file), *_ours()))


@functools.cache
def _ours() -> tuple[Rule, ...]:
    return parse_rules(_text_of(_OURS), _OURS)


@functools.cache
def _arranged() -> LockRules:
    """Ours alone: a recording asks for them for its locks' names, its picture and its summary."""
    return LockRules(_ours())


def parse_rules(text: str, name: str) -> tuple[Rule, ...]:
    """The rules in a TOML document called `name`. Raises `LockflameError` with the line at fault."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(text, name, str(error)) from error
    except RecursionError as error:
        raise LockflameError(f"cannot read {name}", "it nests too deeply", _ADVICE) from error
    try:
        return _rules_of(document)
    except _MistakeError as mistake:
        line = _line_of_rule(text, mistake.rule)
        raise LockflameError(f"cannot use {name}", f"line {line}: {mistake.reason}", _ADVICE) from mistake


class _MistakeError(Exception):
    """What is wrong with the rule of this number (None: with the document)."""

    def __init__(self, rule: int | None, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule
        self.reason = reason


def _text_of(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(FILE_BYTES_MOST + 1)
    except OSError as error:
        raise LockflameError(f"cannot read {path}", reason_of(error), "check the path") from error
    if len(content) > FILE_BYTES_MOST:
        raise LockflameError(f"cannot read {path}", f"it is larger than {FILE_BYTES_MOST >> 20} MiB", "check the path")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise LockflameError(f"cannot use {path}", f"line {line}: it is not UTF-8 text", _ADVICE) from error


def _syntax_error(text: str, name: str, message: str) -> LockflameError:
    found = _LINE_OF_SYNTAX.search(message)
    line = int(found[1]) if found else max(1, len(text.splitlines()))
    reason = _LINE_OF_SYNTAX.sub("", message).removesuffix(" (at end of document)")
    return LockflameError(f"cannot use {name}", f"line {line}: {reason}", _ADVICE)


def _rules_of(document: Mapping[str, Any]) -> tuple[Rule, ...]:
    for key in document:
        if key != "rule":
            raise _MistakeError(None, f"{_shown(key)} is unknown: each rule begins with [[rule]]")
    entries: Any = document.get("rule")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in cast("list[Any]", entries)):
        raise _MistakeError(None, "it holds no [[rule]]")
    rules = tuple(_rule(number, entry) for number, entry in enumerate(cast("list[dict[str, Any]]", entries)))
    total = 0
    for number, rule in enumerate(rules):
        total += len(rule.names)
        if total > NAMES_MOST:
            raise _MistakeError(number, f"the file holds more than {NAMES_MOST:,} names")
    return rules


def _rule(number: int, entry: Mapping[str, Any]) -> Rule:
    for key in entry:
        if key not in _KEYS:
            raise _MistakeError(number, f"{_shown(key)} is no key of a rule ({', '.join(sorted(_KEYS))})")
    means = _choice(number, entry, "means", _MEANINGS)
    return Rule(
        names=_names(number, entry),
        means=means,
        kind=_kind(number, entry, means),
        space=_choice(number, entry, "space", _SPACES) if "space" in entry else Space.ANY,
        module=_text(number, entry, "module") if "module" in entry else "",
    )


def _names(number: int, entry: Mapping[str, Any]) -> tuple[str, ...]:
    names: Any = entry.get("names")
    if not isinstance(names, list) or not names:
        raise _MistakeError(number, "names must be a list of names or globs")
    return tuple(_name(number, name) for name in cast("list[Any]", names))


def _name(number: int, name: object) -> str:
    if not isinstance(name, str) or not name.strip("*"):
        raise _MistakeError(number, f"{_shown(name)} in names is no name: it would match nothing or everything")
    if len(name) > NAME_LENGTH_MOST:
        raise _MistakeError(number, f"a name is longer than {NAME_LENGTH_MOST:,} characters")
    return name


def _kind(number: int, entry: Mapping[str, Any], means: Meaning) -> str:
    if means in _WITHOUT_KIND:
        if "kind" in entry:
            raise _MistakeError(number, f'a rule that means "{means.name.lower()}" has no kind')
        return ""
    if means is Meaning.WRAPPER and "kind" not in entry:
        return ""
    kind = _text(number, entry, "kind")
    if not _KIND.fullmatch(kind):
        raise _MistakeError(number, f"{_shown(kind)} is no kind: up to 24 lower-case letters, digits, - and _")
    return kind


def _text(number: int, entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value or len(value) > NAME_LENGTH_MOST:
        raise _MistakeError(number, f"{key} must be a text" if key in entry else f"{key} is missing")
    return value


def _choice(number: int, entry: Mapping[str, Any], key: str, choices: Mapping[str, _Value]) -> _Value:
    value = _text(number, entry, key)
    if value not in choices:
        raise _MistakeError(number, f"{key} is {_shown(value)}, not one of {', '.join(choices)}")
    return choices[value]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _line_of_rule(text: str, rule: int | None) -> int:
    """The line at which the rule of this number begins; 1 where that can't be told."""
    seen = 0
    quote = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not quote and _HEADER.match(line):
            if seen == rule:
                return number
            seen += 1
        quote = _open_quote(line, quote)
    return 1


def _open_quote(line: str, quote: str) -> str:
    """The multi-line quote that is open after a line, given what was open before it."""
    for candidate in (quote,) if quote else _QUOTES:
        if line.count(candidate) % 2:
            return "" if quote else candidate
    return quote
