"""Unwind rules as columns: for each range of code, where its caller's registers are.

Registers are numbered as DWARF does (System V psABI for x86-64, figure 3.36): rbx 3, rbp 6, rsp 7,
r12-r15 12-15, the return address 16. Most rules only need the registers in `KEPT`; the others are
spelled out as `GeneralRule`s, which many rows share.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

RBX, RBP, RSP, RETURN_ADDRESS = 3, 6, 7, 16
KEPT = (RBX, RBP, 12, 13, 14, 15, RSP)
"""The registers that calls keep, in the order of the unwinder's columns."""
SLOTS = len(KEPT)
"""Columns of `RuleTable.saved`: the registers of `KEPT` but rsp, then the return address."""

KEY_END = 1 << 63
_FORMAT = 1
_LARGEST_GENERAL = 1 << 16
_ITEM = struct.Struct("<BBq")


class RuleKind(IntEnum):
    """What a row of a `RuleTable` says."""

    NONE = 0
    """There are no rules for this code."""
    PLAIN = 1
    """CFA = register + offset; all registers are in slots relative to the CFA, or untouched."""
    END = 2
    """The return address is undefined: nobody called this (DWARF 5, 6.4.4), as in `_start`."""
    GENERAL = 3
    """See the row's `GeneralRule`."""


class Where(IntEnum):
    """How a `GeneralRule` finds a register (DWARF 5, 6.4.1). Absent registers keep their value."""

    OFFSET = 1
    """In memory at CFA + number."""
    VAL_OFFSET = 2
    """It is CFA + number."""
    REGISTER = 3
    """In the register of that number."""
    EXPRESSION = 4
    """In memory at the address that the expression gives, which starts with the CFA on its stack."""
    VAL_EXPRESSION = 5
    """The value of the expression, which starts with the CFA on its stack."""


@dataclass(frozen=True, slots=True)
class GeneralRule:
    """Any rule: the CFA by an expression, registers by (DWARF number, `Where`, number or expression)."""

    is_signal_frame: bool
    cfa: bytes
    registers: tuple[tuple[int, Where, int | bytes], ...]

    def encode(self) -> bytes:
        """As bytes, the form in which rule tables hold it."""
        parts = [bytes([self.is_signal_frame]), _ITEM.pack(0, Where.VAL_EXPRESSION, len(self.cfa)), self.cfa]
        for register, where, value in self.registers:
            if isinstance(value, bytes):
                parts += [_ITEM.pack(register, where, len(value)), value]
            else:
                parts.append(_ITEM.pack(register, where, value))
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> GeneralRule:
        """The reverse of `encode`. Raises `ValueError` for bytes that it doesn't write."""
        if len(data) < 1 + _ITEM.size or len(data) > _LARGEST_GENERAL or data[0] > 1:
            raise ValueError("not a general rule")
        items: list[tuple[int, Where, int | bytes]] = []
        at = 1
        while at < len(data):
            if at + _ITEM.size > len(data):
                raise ValueError("a general rule that is cut short")
            register, where, value = _ITEM.unpack_from(data, at)
            at += _ITEM.size
            content: int | bytes = value
            if where in (Where.EXPRESSION, Where.VAL_EXPRESSION):
                content, at = data[at : at + max(value, 0)], at + value
                if len(content) != value:
                    raise ValueError("an expression that is cut short")
            elif where == Where.REGISTER and not 0 <= value <= RETURN_ADDRESS:
                raise ValueError("an unknown register")
            items.append((register, Where(where), content))
        (_, kind, cfa), *registers = items
        if kind is not Where.VAL_EXPRESSION or any(number > RETURN_ADDRESS for number, _, _ in registers):
            raise ValueError("not a general rule")
        assert isinstance(cfa, bytes)
        return cls(bool(data[0]), cfa, tuple(registers))


@dataclass(frozen=True, slots=True, eq=False)
class RuleTable:
    """Unwind rules, one row per range of code, sorted and without overlap.

    `start` and `end` uint64: ELF addresses (in `RuleCache.table` with the image above bit 48);
    `kind` uint8 of `RuleKind`; for PLAIN rows `cfa_register` uint8 (an index into `KEPT`),
    `cfa_offset` int64 in bytes, `saved` int16[n, 7]: the place of each register in words relative to
    the CFA, 0 for one that keeps its value; for GENERAL rows `general` int32, an index into
    `general_rules`, each of these encoded.
    """

    start: NDArray[np.uint64]
    end: NDArray[np.uint64]
    kind: NDArray[np.uint8]
    cfa_register: NDArray[np.uint8]
    cfa_offset: NDArray[np.int64]
    saved: NDArray[np.int16]
    general: NDArray[np.int32]
    general_rules: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.start)

    def select(self, rows: NDArray[Any]) -> RuleTable:
        """Some of the rows (indices or a mask), with all general rules."""
        return RuleTable(*(getattr(self, name)[rows] for name in _COLUMNS), general_rules=self.general_rules)

    def shift(self, distance: int) -> RuleTable:
        """The same rules for code `distance` further, modulo 2^64."""
        by = np.array([distance % (1 << 64)], np.uint64)
        return replace(self, start=self.start + by, end=self.end + by)

    def drop_unused_rules(self) -> RuleTable:
        """The same rows with those general rules only that they use."""
        is_general = self.kind == RuleKind.GENERAL
        used, places = np.unique(self.general[is_general], return_inverse=True)
        general = np.zeros(len(self), np.int32)
        general[is_general] = places
        numbers: list[int] = used.tolist()
        return replace(self, general=general, general_rules=tuple(self.general_rules[number] for number in numbers))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """As arrays by name, for a file; `from_arrays` checks and takes them."""
        lengths = np.array([len(rule) for rule in self.general_rules], np.int64)
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _COLUMNS}
        arrays["format"] = np.array([_FORMAT], np.int64)
        arrays["general_lengths"] = lengths
        arrays["general_bytes"] = np.frombuffer(b"".join(self.general_rules), np.uint8)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> RuleTable:
        """A table from what `to_arrays` gave. Raises `ValueError` for anything that no table can be."""
        try:
            if arrays["format"].tolist() != [_FORMAT]:
                raise ValueError("another format")
            columns = {name: _checked_column(name, arrays[name]) for name in _COLUMNS}
            rules = _split(arrays["general_bytes"], arrays["general_lengths"])
        except KeyError as error:
            raise ValueError(f"no array {error}") from error
        table = cls(**columns, general_rules=rules)
        _check(table)
        return table


_COLUMNS = tuple(field.name for field in fields(RuleTable) if field.name != "general_rules")
_DTYPES = {"start": "u8", "end": "u8", "kind": "u1", "cfa_register": "u1", "cfa_offset": "i8", "saved": "i2"} | {
    "general": "i4"
}


def gap_table(start: int, end: int) -> RuleTable:
    """One row: the code in [start, end) has no rules."""
    columns = {name: np.zeros((1, SLOTS) if name == "saved" else 1, _DTYPES[name]) for name in _COLUMNS}
    columns["start"][0], columns["end"][0] = start, end
    return RuleTable(**columns, general_rules=())


def merge_tables(tables: Sequence[RuleTable]) -> RuleTable:
    """One sorted table of all rows; equal general rules become one."""
    known: dict[bytes, int] = {}
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in _COLUMNS}
    for table in tables:
        for name in _COLUMNS:
            columns[name].append(getattr(table, name))
        if table.general_rules:
            renumbered = np.array([known.setdefault(rule, len(known)) for rule in table.general_rules], np.int32)
            columns["general"][-1] = renumbered[np.clip(table.general, 0, len(renumbered) - 1)]
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    order = np.argsort(joined["start"], kind="stable")
    return RuleTable(**{name: column[order] for name, column in joined.items()}, general_rules=tuple(known))


def _checked_column(name: str, column: NDArray[Any]) -> NDArray[Any]:
    wanted = (SLOTS,) if name == "saved" else ()
    if column.dtype != np.dtype(_DTYPES[name]) or column.shape[1:] != wanted or not column.shape:
        raise ValueError(f"{name} isn't a column of {_DTYPES[name]}")
    return column


def _split(data: NDArray[Any], lengths: NDArray[Any]) -> tuple[bytes, ...]:
    if data.dtype != np.uint8 or lengths.dtype != np.int64 or data.ndim != 1 or lengths.ndim != 1:
        raise ValueError("general rules of another type")
    sizes = lengths.tolist()
    if any(not 0 < size <= _LARGEST_GENERAL for size in sizes) or sum(sizes) != len(data):
        raise ValueError("general rules of other lengths")
    rules: list[bytes] = []
    at = 0
    for size in sizes:
        rules.append(data[at : at + size].tobytes())
        GeneralRule.decode(rules[-1])
        at += size
    return tuple(rules)


def _check(table: RuleTable) -> None:
    if len({len(getattr(table, name)) for name in _COLUMNS}) != 1:
        raise ValueError("columns of different lengths")
    if not len(table):
        return
    is_sorted = np.all(table.start < table.end) and np.all(table.end[:-1] <= table.start[1:])
    if not is_sorted or int(table.end[-1]) > KEY_END:
        raise ValueError("ranges that aren't sorted, or overlap")
    if table.kind.max() > max(RuleKind) or table.cfa_register.max() >= SLOTS:
        raise ValueError("a number out of its range")
    if np.any(table.general < 0) or np.any(table.general[table.kind == RuleKind.GENERAL] >= len(table.general_rules)):
        raise ValueError("a general rule that isn't there")
