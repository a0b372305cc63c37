"""Unwinding of many stacks at once by DWARF call frame information.

`UnwindData` reads an image's rules, `RuleCache` keeps those of all images, `unwind` applies them.
"""

from symbolize.unwind.cache import RuleCache
from symbolize.unwind.cfi import UnwindData
from symbolize.unwind.lockstep import MOST_FRAMES, UNMAPPED, CodeMap, UnwoundStacks, unwind
from symbolize.unwind.rules import RuleKind, RuleTable
from symbolize.unwind.stacks import StackEnd

__all__ = [
    "MOST_FRAMES",
    "UNMAPPED",
    "CodeMap",
    "RuleCache",
    "RuleKind",
    "RuleTable",
    "StackEnd",
    "UnwindData",
    "UnwoundStacks",
    "unwind",
]
