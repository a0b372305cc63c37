"""Functions by the names that they keep when a program is built anew."""

from __future__ import annotations

import re
from dataclasses import replace

from lockflame.profile import Function, Profile

# What compilers and linkers add to a symbol for a part or a copy of its function, in symbols and as demanglers show it.
_MARK = r"(?:cold|isra|part|constprop|lto_priv|llvm|localalias|clone|ifunc|resolver)"
_MARKS = re.compile(
    rf"(?:(?:\.{_MARK}(?:\.\d{{1,20}})?)| \[clone [^\]]{{1,80}}\]| \(\.[^()]{{1,80}}\))+\Z|::h[0-9a-f]{{16}}\Z"
)
_LONGEST_MARKS = 400
"""Characters from a name's end in which marks are looked for."""
_UNNAMED = re.compile(r"(?P<module>.*)\+0x[0-9a-f]{1,16}\Z", re.DOTALL)


def comparable(profile: Profile) -> Profile:
    """The profile with functions renamed such that the same source has the same names in another build.

    Parts and copies (`f.cold`, `f.isra.0`, `f [clone .constprop.0]`) have the name of their function, Rust's names lose
    their hash. Code without a name is named by its module alone, as its offsets differ from build to build.
    """
    unnamed = {line.function for location in profile.locations if location.unresolved_reason for line in location.lines}
    functions = tuple(_renamed(function, index in unnamed) for index, function in enumerate(profile.functions))
    return replace(profile, functions=functions)


def stable_name(name: str) -> str:
    """A function's name without what compilers add for its parts and copies; never empty but for an empty one."""
    start = max(len(name) - _LONGEST_MARKS, 1)
    match = _MARKS.search(name, start)
    return name[: match.start()] if match else name


def _renamed(function: Function, unnamed: bool) -> Function:
    if unnamed:
        match = _UNNAMED.match(function.name)
        name = f"{match['module']} (without a name)" if match else function.name
    else:
        name = stable_name(function.name)
    return function if name == function.name else replace(function, name=name)
