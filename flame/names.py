"""Long function names made short enough for a box or a table. C++ and Rust as their demanglers write them; all
that isn't understood stays as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

_FOLDED = "…"
_LONGEST = 1 << 16
"""Characters. A demangler's longest is 64 KiB; what is longer was made to be slow."""

# Without any of these there is nothing to fold or to drop: C, the kernel, most of Go, addresses.
_MAY_BE_LONG = re.compile(r"[<(]|\[abi:|\bstd::_|::h[0-9a-f]{16}")

_THUNK = re.compile(r"(?:non-virtual|virtual|covariant return) thunk to |invocation function for block in ")
_CLONE_MARK = re.compile(r"\.(?:cold|isra|part|constprop|lto_priv|llvm|localalias|clone|ifunc|resolver)(?:\.\d+)*")
_RUST_HASH = re.compile(r"::h[0-9a-f]{16}")
_RUST_HASH_LENGTH = 19

# Operators first, so that their brackets aren't taken for others. `operator<<int>` is `operator<` of `<int>`.
_BRACKET = re.compile(
    r"(?<![\w$])operator(?:\(\)|\[\]|<=>|<<=|<<(?=\s*[(<]|$)|<=?|>>?=?|->\*?|&&|\|\||\+\+|--|[-+*/%^&|!=]=?|~|,"
    r"|\"\" ?[\w$]+| (?:new|delete)(?:\[\])?(?![\w$])| co_await(?![\w$]))"
    r"|->|[()<>\[\]{}]"
)
_OPENS = {")": "(", "]": "[", "}": "{", ">": "<"}
_WORD = re.compile(
    r"::| (?:const|volatile|noexcept|&&?)(?![\w$&])| requires | |operator(?= )|'[^']*'|[\w$]+|[*&~]|:(?!:)"
)
_PLAIN = re.compile(r"[\w$]+")

# Inline namespaces of standard libraries: they say which build of a type it is, not which type.
_INLINE_NAMESPACES = frozenset({"__cxx11", "__1", "__2", "__ndk1", "_V2"})
# What stays as it is when shortened, as most short forms do: it has no inline namespace, no operator and no hash.
_COMPONENT = (
    rf"~?(?!operator|(?:{'|'.join(sorted(_INLINE_NAMESPACES))})::|h[0-9a-f]{{16}}(?![\w$<:]))"
    rf"[\w$]+(?:<{_FOLDED}>)?"
)
_STABLE = rf"{_COMPONENT}(?:::{_COMPONENT})*"
_SHORT = re.compile(_STABLE)
# A function with parameters, as most of C++ are: no more than these are to be dropped.
_WITH_PARAMETERS = re.compile(rf"({_STABLE})\([^()\[\]{{}}]*\)(?: const)?")
_KEPT_PARENTHESES = ("anonymous ", "unnamed ", "lambda at ")


def short_name(name: str) -> str:
    """The name as a view shows it: template arguments folded, parameters, return types and clone marks dropped.

    `void foo<int>(std::map<int, int>) [clone .cold]` is `foo<…>`. Names of C, Go, Java, Python, JavaScript, the
    kernel and of addresses stay as they are, and so does what isn't understood. The result is never longer than
    the name, only empty if the name is, and stays as it is when shortened again. It takes time in proportion to
    the name's length.
    """
    if len(name) > _LONGEST or not _MAY_BE_LONG.search(name):
        return name
    if with_parameters := _WITH_PARAMETERS.fullmatch(name):
        return with_parameters[1]
    short = _shortened(name)
    if not short or len(short) > len(name):
        return name
    # What would be shortened again wasn't understood the first time.
    return short if _SHORT.fullmatch(short) or _shortened(short) in (short, None) else name


class _Part(NamedTuple):
    """A piece of a name that stands in no brackets: text, an operator's name, or a pair of brackets with all in it."""

    kind: str
    """`text`, `operator`, or the opening bracket."""
    text: str

    @property
    def content(self) -> str:
        return self.text[1:-1]


@dataclass(slots=True)
class _Words:
    """What is kept of a name so far."""

    kept: list[str] = field(default_factory=list[str])
    has_parameters: bool = False
    has_arguments: bool = False
    had_return_type: bool = False
    is_conversion: bool = False
    """Within the type of a conversion operator, where spaces are part of the name."""
    is_named_by_type: bool = False
    """Its last component is a conversion operator."""
    is_in_std: bool = False
    is_complete: bool = False
    """What follows are constraints."""

    @property
    def at_component(self) -> bool:
        """Whether a component of the name begins here."""
        return not self.kept or self.kept[-1] == "::"

    def restart(self) -> None:
        """What was read was a return type."""
        self.kept.clear()
        self.has_parameters = self.has_arguments = False
        self.is_in_std = False
        self.had_return_type = True


def _shortened(name: str) -> str | None:
    """The short form, or None if the name isn't understood."""
    thunk = _THUNK.match(name)
    prefix = thunk.group() if thunk else ""
    body = name[len(prefix) : _end_without_marks(name)]
    short = _declared(body, in_declarator=False)
    return prefix + short if short else None


def _end_without_marks(name: str) -> int:
    """Where a compiler's marks begin: ` [clone .cold]`, ` (.cold)`, `.isra.0`, a Rust symbol's hash."""
    end = len(name)
    while end:
        start = _start_of_mark(name, end)
        if start < 0:
            break
        end = start
    return end


def _start_of_mark(name: str, end: int) -> int:
    if name.endswith("]", 0, end):
        return name.rfind(" [clone ", 0, end)
    if name.endswith(")", 0, end):
        start = name.rfind(" (.", 0, end)
        return start if name.find(")", start, end) == end - 1 else -1
    hash_start = end - _RUST_HASH_LENGTH
    if hash_start > 0 and _RUST_HASH.fullmatch(name, hash_start, end):
        return hash_start
    # A mark is a word and at most a number, which its dots set apart.
    start = name.rfind(".", 0, end)
    if start > 0 and name[start + 1 : end].isdigit():
        start = name.rfind(".", 0, start)
    return start if start > 0 and _CLONE_MARK.fullmatch(name, start, end) else -1


def _parts(name: str) -> list[_Part] | None:
    """The name's pieces in order, or None if its brackets don't match."""
    parts: list[_Part] = []
    opened: list[str] = []
    begin = 0
    for match in _BRACKET.finditer(name):
        token = match.group()
        if token in "([{<":
            if not opened:
                parts.append(_Part("text", name[begin : match.start()]))
                begin = match.start()
            opened.append(token)
        elif token in _OPENS:
            if not _close(opened, token):
                return None
            if not opened:
                parts.append(_Part(name[begin], name[begin : match.end()]))
                begin = match.end()
        elif not opened:
            parts += (_Part("text", name[begin : match.start()]), _Part("operator", token))
            begin = match.end()
    if opened:
        return None
    parts.append(_Part("text", name[begin:]))
    return [part for part in parts if part.text]


def _close(opened: list[str], token: str) -> bool:
    """Takes off the bracket that `token` closes. In parentheses `<` and `>` may be comparisons without a partner."""
    if token == ">":
        if opened and opened[-1] == "<":
            opened.pop()
            return True
        return bool(opened)
    while opened and opened[-1] == "<" and _OPENS[token] != "<":
        opened.pop()
    return bool(opened) and opened.pop() == _OPENS[token]


def _declared(name: str, *, in_declarator: bool) -> str | None:
    """The short form of the function that a demangled name declares, or None if it isn't understood."""
    parts = _parts(name)
    if parts is None:
        return None
    words = _Words()
    for index, part in enumerate(parts):
        if part.kind == "(" and words.had_return_type and not words.kept and part.content[:1] in ("*", "&"):
            # `void (*foo<int>(int))(char)`: a function that returns a pointer to a function.
            is_whole = not in_declarator and all(rest.kind in "([" for rest in parts[index + 1 :])
            return _declared(part.content.lstrip("*& "), in_declarator=True) if is_whole else None
        follows = parts[index + 1].kind if index + 1 < len(parts) else ""
        if not _take(words, part, follows):
            return None
        if words.is_complete:
            break
    if words.at_component or (not words.is_named_by_type and not {"*", "&"}.isdisjoint(words.kept)):
        return None
    # Only the names of template functions have a return type. Others with spaces are no C++.
    if words.had_return_type and not (words.has_arguments and (words.has_parameters or in_declarator)):
        return None
    return "".join(words.kept)


def _take(words: _Words, part: _Part, follows: str) -> bool:
    """Adds one piece. False if it can't stand here."""
    if part.kind == "text":
        return _take_text(words, part.text, follows)
    if part.kind == "operator":
        words.kept.append(part.text)
    elif part.kind == "(":
        return _take_parentheses(words, part)
    elif part.kind == "<":
        return _take_arguments(words, part.content)
    elif part.kind == "{":
        words.kept.append(_brace(part.text))
    elif not part.text.startswith("[abi:"):
        words.kept.append(part.text)
    return True


def _take_text(words: _Words, text: str, follows: str) -> bool:
    at = 0
    while at < len(text):
        match = _WORD.match(text, at)
        if not match or match.group() == ":":
            return False
        token, at = match.group(), match.end()
        if token == " requires ":
            words.is_complete = True
            return True
        if token == " " and at == len(text) and follows == "<":
            if not words.kept or not words.kept[-1].startswith("operator"):
                return False  # GNU's `operator< <int>`, and nothing else, has a space there
        elif token[0] == " " and words.is_conversion:
            words.kept.append(token)
        elif token == " ":
            words.restart()
        elif token[0] != " " and not _take_word(words, token):
            return False
    return True


def _take_word(words: _Words, token: str) -> bool:
    if token == "operator":
        words.is_conversion = words.is_named_by_type = True
    kept = words.kept
    if token == "::" and words.is_in_std and kept[-1] in _INLINE_NAMESPACES:
        kept.pop()
        return True
    if token == "std":
        words.is_in_std = True
    # After parameters or template arguments only `::` can follow; `*` and `&` end the type of a return.
    if _PLAIN.match(token) and kept and kept[-1] in (f"<{_FOLDED}>", "()"):
        return False
    kept.append(token)
    return True


def _take_parentheses(words: _Words, part: _Part) -> bool:
    if words.at_component:
        if part.content.startswith(_KEPT_PARENTHESES):
            words.kept.append(part.text)
            return True
        return words.had_return_type  # what `decltype (…)` is of
    words.has_parameters = True
    words.is_conversion = False
    return True


def _take_arguments(words: _Words, content: str) -> bool:
    """Template arguments are folded. At the start of a component `<` is Rust's, or part of a name such as `<init>`."""
    if words.at_component:
        words.kept.append(_rust_type(content))
        return True
    words.has_arguments = words.has_arguments or not words.is_conversion
    operator_ends = words.kept[-1].endswith("<")
    words.kept.append(f"{' ' if operator_ends else ''}<{_FOLDED if content else ''}>")
    return True


def _brace(text: str) -> str:
    """`{lambda(int, char)#2}` without its parameters; others, such as `{closure#0}`, as they are."""
    return "{lambda#" + text.rpartition("#")[2] if text.startswith("{lambda") and "#" in text else text


def _rust_type(content: str) -> str:
    """`<alloc::vec::Vec<T> as core::ops::Drop>` as `<Vec<…> as Drop>`, `<impl a::B for C>` as `<impl B for C>`."""
    if _PLAIN.fullmatch(content):
        return f"<{content}>"
    parts = _parts(content)
    if parts is None:
        return f"<{_FOLDED}>"
    folded = "".join(part.text if part.kind == "text" else _fold(part) for part in parts)
    is_impl = folded.startswith("impl ")
    separator = " for " if is_impl else " as "
    left, found, right = folded.removeprefix("impl ").partition(separator)
    if not (is_impl or found or "::" in left or "<" in left):
        return f"<{_FOLDED}>"
    return f"<{'impl ' if is_impl else ''}{_last_component(left)}{found}{_last_component(right)}>"


def _fold(part: _Part) -> str:
    return f"{part.text[0]}{_FOLDED if part.content else ''}{part.text[-1]}" if part.kind in "([{<" else part.text


def _last_component(path: str) -> str:
    """`&mut core::fmt::Formatter` as `&mut Formatter`."""
    lead, space, last = path.rpartition(" ")
    sigil = last[: len(last) - len(last.lstrip("&*"))]
    return f"{lead}{space}{sigil}{last.lstrip('&*').rpartition('::')[2]}"
