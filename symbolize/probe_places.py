"""Where in a function a uprobe costs least, and where the function returns.

A uprobe is a breakpoint. Having called its programs, the kernel either does itself what the instruction under it would
have done, or lets a copy of it run by single steps, which is a second trap: on a virtual machine that took 14 us where
the first took 0.8 us. It does itself what arch/x86/kernel/uprobes.c knows: jumps, calls, `nop` and `push`. So a
function's probe is not on its first instruction but on the first of that kind which each call passes: its arguments are
still where they were, and so is the return address, which probes at return need, as they put another in its place.
"""

from __future__ import annotations

from dataclasses import dataclass

import capstone
from capstone import x86_const

BYTES_MOST = 1 << 16
"""No lock function is longer; what a symbol claims may be."""
STRAIGHT_BYTES_MOST = 64

_SHORT_JUMPS = range(0x70, 0x80)
_NEAR_JUMPS = range(0x80, 0x90)
_PUSHES = range(0x50, 0x58)
_JUMPS_AND_CALL = (0xE8, 0xE9, 0xEB)
_NOP = 0x90


@dataclass(frozen=True, slots=True)
class ProbePlaces:
    """Offsets from a function's beginning: where a call is seen, and the instructions that return from it."""

    call: int
    returns: tuple[int, ...]


def probe_places(code: bytes, kept: tuple[str, ...]) -> ProbePlaces:
    """Of a function with this x86-64 code. The registers `kept` have to be untouched at the place of the call."""
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    instructions = list(decoder.disasm(code[:BYTES_MOST], 0))
    returns = tuple(one.address for one in instructions if one.id == x86_const.X86_INS_RET)
    return ProbePlaces(_place_of_call(instructions, kept), returns)


def _place_of_call(instructions: list[capstone.CsInsn], kept: tuple[str, ...]) -> int:
    """0 where no better place is known to be passed once by each call."""
    targets = {
        operand.imm
        for one in instructions
        if one.group(capstone.CS_GRP_JUMP)
        for operand in one.operands
        if operand.type == capstone.CS_OP_IMM
    }
    for one in instructions:
        if one.address > STRAIGHT_BYTES_MOST or (one.address and one.address in targets):
            return 0
        if is_emulated(one.bytes):
            return one.address
        _, written = one.regs_access()
        names = {one.reg_name(register) for register in written}
        if names & {"rsp", "esp", *kept} or one.group(capstone.CS_GRP_RET):
            return 0
    return 0


def is_emulated(code: bytes | bytearray) -> bool:
    """Whether the kernel does itself what this x86-64 instruction does, when a uprobe is on it.

    As branch_setup_xol_ops and push_setup_xol_ops in arch/x86/kernel/uprobes.c decide it since Linux 4.18, but for
    prefixes: with any but REX before a push, none is taken to be emulated.
    """
    first = code[0]
    if first in _JUMPS_AND_CALL or first in _SHORT_JUMPS or first in _PUSHES:
        return True
    if first == _NOP:
        return len(code) == 1
    if 0x40 <= first < 0x50:
        return len(code) == 2 and code[1] in _PUSHES
    return first == 0x0F and len(code) > 1 and code[1] in _NEAR_JUMPS
