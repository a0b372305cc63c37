"""Rules of this machine's own binaries, against what binutils and pyelftools read in them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.dwarf.callframe import FDE
from elftools.elf.elffile import ELFFile

from symbolize.elf import ElfImage
from symbolize.unwind import RuleKind, RuleTable, UnwindData
from symbolize.unwind.rules import KEPT, GeneralRule, Where
from tests.unit.symbolize.unwind.code_map import read_vdso

LIBRARIES = "/usr/lib/x86_64-linux-gnu"
BINARIES = [
    f"{LIBRARIES}/libc.so.6",
    f"{LIBRARIES}/libstdc++.so.6",
    f"{LIBRARIES}/libcrypto.so.3",
    "/lib64/ld-linux-x86-64.so.2",
    "/usr/sbin/mariadbd",
    "/usr/bin/redis-server",
    "/usr/bin/python3.11",
]
FDES_MOST = 1000
"""Of each binary as many, evenly chosen; each has about six rows."""
REGISTERS = ("rbx", "rbp", "r12", "r13", "r14", "r15", "ra")

Row = tuple[int, str, dict[str, str]]


def need(*paths: str) -> None:
    for path in paths:
        if not Path(path).exists() and not shutil.which(path):
            pytest.skip(f"there is no {path} here")


def readelf_functions(path: str) -> Iterator[tuple[int, int, list[Row]]]:
    """(start, end, rows) of each FDE: the address, the CFA and the columns of registers."""
    command = ["readelf", "--debug-dump=frames-interp", path]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    # It prints registers that are in registers as `r9 (r9)`.
    for block in re.sub(r"(\w+) \(\w+\)", r"=\1", text).split("\n\n"):
        header, *lines = block.strip("\n").splitlines() or [""]
        bounds = re.search(r" FDE .*pc=(\w+)\.\.(\w+)", header)
        if bounds is None or not lines:
            continue
        names = lines[0].split()[2:]
        rows = [
            (int(cells[0], 16), cells[1], dict(zip(names, cells[2:], strict=True)))
            for cells in map(str.split, lines[1:])
        ]
        yield int(bounds[1], 16), int(bounds[2], 16), rows


def as_readelf_prints(table: RuleTable, row: int) -> tuple[str, dict[str, str]]:
    """A plain row: its CFA, and the registers that are somewhere."""
    name = {3: "rbx", 6: "rbp", 7: "rsp", 12: "r12", 13: "r13", 14: "r14", 15: "r15"}[KEPT[table.cfa_register[row]]]
    places = dict(zip(REGISTERS, table.saved[row].tolist(), strict=True))
    return f"{name}{int(table.cfa_offset[row]):+d}", {name: f"c{8 * at:+d}" for name, at in places.items() if at}


def check_row(table: RuleTable, row: int, cfa: str, registers: dict[str, str]) -> None:
    kind = int(table.kind[row])
    known = {name: place for name, place in registers.items() if place.startswith("c") and name in REGISTERS}
    if registers.get("ra") == "u":
        assert kind == RuleKind.END
    elif kind == RuleKind.PLAIN:
        assert all(place == "u" or place.startswith("c") for place in registers.values())
        assert as_readelf_prints(table, row) == (cfa, known)
    else:
        assert kind == RuleKind.GENERAL
        is_usual = cfa[:3] in ("rsp", "rbp", "rbx", "r12", "r13", "r14", "r15") and set(registers) <= {*REGISTERS}
        assert not is_usual or any(place == "exp" or place.startswith("=") for place in registers.values())


@pytest.mark.parametrize("path", [*BINARIES, "[vdso]"])
def test_rows_are_those_of_readelf(path: str, tmp_path: Path) -> None:
    need("readelf")
    if path == "[vdso]":
        path = str(tmp_path / "vdso")
        Path(path).write_bytes(read_vdso())
    need(path)
    functions = list(readelf_functions(path))
    functions = functions[:: max(1, len(functions) // FDES_MOST)]
    assert functions
    data = UnwindData(ElfImage.open(path))
    table = data.decode(np.array([start for start, _, _ in functions], np.uint64))
    for start, end, rows in functions:
        for at, cfa, registers in rows:
            if at >= end:
                continue  # what binutils prints behind the end, when the last instruction advances there
            row = int(np.searchsorted(table.start, np.uint64(at), side="right")) - 1
            assert start <= at < int(table.end[row]) <= end
            check_row(table, row, cfa, registers)
    starts, ends = data.function_starts(np.array([end - 1 for _, end, _ in functions], np.uint64))
    assert starts.tolist() == [start for start, _, _ in functions]
    assert ends.tolist() == [end for _, end, _ in functions]


def pyelftools_rows(path: str) -> Iterator[dict[Any, Any]]:
    """The decoded rows of those FDEs that have expressions, or registers in registers."""
    with open(path, "rb") as file:
        elf = ELFFile(file)
        for entry in elf.get_dwarf_info().EH_CFI_entries():
            if isinstance(entry, FDE) and any(
                instruction.opcode in (0x09, 0x0F, 0x10, 0x16) for instruction in entry.instructions
            ):
                entry.instructions = [each for each in entry.instructions if each.opcode != 0x2E]
                yield from (
                    row
                    for row in entry.get_decoded().table
                    if row["pc"] < entry["initial_location"] + entry["address_range"]
                )


def expected_general(row: dict[Any, Any]) -> tuple[bytes | tuple[int, int], dict[int, tuple[Where, int | bytes]]]:
    cfa = row["cfa"]
    registers: dict[int, tuple[Where, int | bytes]] = {}
    for number, rule in row.items():
        if isinstance(number, int) and number <= 16 and rule.type in Where.__members__:
            registers[number] = (Where[rule.type], bytes(rule.arg) if isinstance(rule.arg, list) else rule.arg)
    return (bytes(cfa.expr) if cfa.expr is not None else (cfa.reg, cfa.offset)), registers


@pytest.mark.parametrize(
    "path", [f"{LIBRARIES}/libc.so.6", f"{LIBRARIES}/libcrypto.so.3", "/lib64/ld-linux-x86-64.so.2"]
)
def test_expressions_are_those_of_pyelftools(path: str) -> None:
    """The PLT's, `__restore_rt`'s, those of functions that realign their stack, of OpenSSL's assembly."""
    need(path)
    rows = list(pyelftools_rows(path))
    assert rows
    data = UnwindData(ElfImage.open(path))
    table = data.decode(np.array([row["pc"] for row in rows], np.uint64))
    compared = 0
    for row in rows:
        at = int(np.searchsorted(table.start, np.uint64(row["pc"]), side="right")) - 1
        cfa, registers = expected_general(row)
        if int(table.kind[at]) != RuleKind.GENERAL:
            assert not isinstance(cfa, bytes)
            assert all(where is Where.OFFSET for where, _ in registers.values())
            continue
        rule = GeneralRule.decode(table.general_rules[int(table.general[at])])
        assert {number: (where, value) for number, where, value in rule.registers} == registers
        assert rule.is_signal_frame == (len(registers) == 17)
        if isinstance(cfa, bytes):
            assert rule.cfa == cfa
            compared += 1
    assert compared
