"""Rows of call frame rules, made into the columns of a `RuleTable`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from symbolize.unwind.program import OFFSET, REGISTER, SAME, UNDEFINED, Cfa, Registers, Row
from symbolize.unwind.reading import BadUnwindData
from symbolize.unwind.rules import KEPT, RETURN_ADDRESS, RSP, SLOTS, GeneralRule, RuleKind, RuleTable, Where

_SLOT = {register: slot for slot, register in enumerate(KEPT) if register != RSP} | {RETURN_ADDRESS: SLOTS - 1}
_KEPT_INDEX = {register: index for index, register in enumerate(KEPT)}
_DEFAULT_SAVED = (0,) * (SLOTS - 1) + (-1,)
_MOST_WORDS = (1 << 15) - 1
_LARGEST_CFA_OFFSET = 1 << 40

_Columns = tuple[int, int, int, tuple[int, ...], int]
"""Kind, CFA register, CFA offset, saved, general rule."""
_NONE: _Columns = (RuleKind.NONE, 0, 0, _DEFAULT_SAVED, 0)
_END: _Columns = (RuleKind.END, 0, 0, _DEFAULT_SAVED, 0)


@dataclass(slots=True)
class TableBuilder:
    """Collects ranges with their rules and makes a table of them."""

    _ranges: list[tuple[int, int]] = field(default_factory=lambda: [])
    _columns: list[_Columns] = field(default_factory=lambda: [])
    _general: dict[bytes, int] = field(default_factory=lambda: {})

    def add_gap(self, start: int, end: int) -> None:
        """Code in [start, end), if any, has no rules."""
        if start < end:
            self._ranges.append((start, end))
            self._columns.append(_NONE)

    def add_rows(self, rows: Sequence[Row], end: int, *, is_signal_frame: bool) -> None:
        """The rows of one FDE, as far as they lie before `end`."""
        for row in rows:
            if row.start >= end:
                break
            self._ranges.append((row.start, min(row.end, end)))
            self._columns.append(self._compile(row.cfa, row.registers, is_signal_frame))

    def build(self) -> RuleTable:
        """The table, sorted by address."""
        order = sorted(range(len(self._ranges)), key=self._ranges.__getitem__)
        columns = [self._columns[at] for at in order]
        return RuleTable(
            np.array([self._ranges[at][0] for at in order], np.uint64),
            np.array([self._ranges[at][1] for at in order], np.uint64),
            np.array([column[0] for column in columns], np.uint8),
            np.array([column[1] for column in columns], np.uint8),
            np.array([column[2] for column in columns], np.int64),
            np.array([column[3] for column in columns], np.int16).reshape(-1, SLOTS),
            np.array([column[4] for column in columns], np.int32),
            tuple(self._general),
        )

    def _compile(self, cfa: Cfa, registers: Registers, is_signal_frame: bool) -> _Columns:
        kind, _ = registers.get(RETURN_ADDRESS, (OFFSET, -8))
        if kind == UNDEFINED:
            return _END
        if kind == SAME:
            return _NONE
        saved = None if is_signal_frame else _plain_slots(registers)
        if saved is not None and isinstance(cfa, tuple):
            register = _KEPT_INDEX.get(cfa[0])
            if register is not None and abs(cfa[1]) < _LARGEST_CFA_OFFSET:
                return RuleKind.PLAIN, register, cfa[1], saved, 0
        try:
            rule = _general_rule(cfa, registers, is_signal_frame).encode()
        except BadUnwindData:
            return _NONE
        return RuleKind.GENERAL, 0, 0, _DEFAULT_SAVED, self._general.setdefault(rule, len(self._general))


def _plain_slots(registers: Registers) -> tuple[int, ...] | None:
    """Where the registers are in words from the CFA; None when that can't tell it all."""
    saved: list[int] = list(_DEFAULT_SAVED)
    for register, (kind, value) in registers.items():
        if kind in (UNDEFINED, SAME):
            continue
        slot = _SLOT.get(register)
        if slot is None or kind != OFFSET or not isinstance(value, int) or value % 8 or not value:
            return None
        if abs(value) // 8 > _MOST_WORDS:
            return None
        saved[slot] = value // 8
    return tuple(saved)


def _general_rule(cfa: Cfa, registers: Registers, is_signal_frame: bool) -> GeneralRule:
    items: list[tuple[int, Where, int | bytes]] = []
    for register, (kind, value) in sorted(registers.items()):
        if kind in (UNDEFINED, SAME):
            continue
        limit = RETURN_ADDRESS + 1 if kind == REGISTER else _LARGEST_CFA_OFFSET
        if isinstance(value, int) and abs(value) >= limit:
            raise BadUnwindData("a number out of all reason")
        items.append((register, Where(kind), value))
    if isinstance(cfa, tuple):
        register, offset = cfa
        if register > RETURN_ADDRESS or abs(offset) >= _LARGEST_CFA_OFFSET:
            raise BadUnwindData("a CFA out of all reason")
        cfa = bytes([0x70 + register]) + _sleb128(offset)  # DW_OP_bregN
    return GeneralRule(is_signal_frame, cfa, tuple(items))


def _sleb128(value: int) -> bytes:
    written = bytearray()
    while not -64 <= value < 64:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value & 0x7F])
