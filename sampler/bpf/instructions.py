"""BPF instructions by name, for programs of a few lines that need no compiler (linux/bpf.h, linux/bpf_common.h).

Each function returns the bytes of one instruction, `load_map` of two. Registers are numbers: 0 for results, 1 to 5 for
arguments, which calls clobber, 6 to 9 for what is to be kept, 10 for the stack's upper end.
"""

from __future__ import annotations

import struct

# Classes and modes: load, store and arithmetic on 64 bits, jumps.
_LDX_MEM, _STX_MEM, _ST_MEM, _STX_ATOMIC = 0x61, 0x63, 0x62, 0xDB
_ADD_IMMEDIATE, _MOVE, _MOVE_IMMEDIATE, _SHIFT_RIGHT = 0x07, 0xBF, 0xB7, 0x77
_LOAD_64 = 0x18
_CALL, _EXIT, _JUMP, _JUMP_UNEQUAL, _JUMP_IF_SET = 0x85, 0x95, 0x05, 0x55, 0x45
_PSEUDO_MAP_FD = 1
_EIGHT_BYTES = 0x18
STACK = 10

MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, MAP_DELETE_ELEM, GET_CURRENT_PID_TGID = 1, 2, 3, 14


def _instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, to | source << 4, offset, value)


def move(to: int, source: int) -> bytes:
    """to = source"""
    return _instruction(_MOVE, to, source)


def move_value(to: int, value: int) -> bytes:
    """to = value"""
    return _instruction(_MOVE_IMMEDIATE, to, value=value)


def add_value(to: int, value: int) -> bytes:
    """to += value"""
    return _instruction(_ADD_IMMEDIATE, to, value=value)


def shift_right(to: int, bits: int) -> bytes:
    """to >>= bits, without sign"""
    return _instruction(_SHIFT_RIGHT, to, value=bits)


def load(to: int, base: int, offset: int, *, size: int = 4) -> bytes:
    """to = the 4 or 8 bytes at base + offset"""
    return _instruction(_LDX_MEM | (_EIGHT_BYTES if size == 8 else 0), to, base, offset)


def store(base: int, offset: int, source: int) -> bytes:
    """The 4 bytes at base + offset = source"""
    return _instruction(_STX_MEM, base, source, offset)


def store_value(base: int, offset: int, value: int) -> bytes:
    """The 4 bytes at base + offset = value"""
    return _instruction(_ST_MEM, base, offset=offset, value=value)


def add_atomically(base: int, offset: int, source: int) -> bytes:
    """The 8 bytes at base + offset += source"""
    return _instruction(_STX_ATOMIC, base, source, offset)


def load_map(to: int, descriptor: int) -> bytes:
    """to = the map of that descriptor"""
    return _instruction(_LOAD_64, to, _PSEUDO_MAP_FD, value=descriptor) + _instruction(0)


def call(helper: int) -> bytes:
    """Register 0 = helper(registers 1 to 5)"""
    return _instruction(_CALL, value=helper)


def exit_unless(register: int, *, returning: int) -> bytes:
    """if (!register) return `returning`"""
    leave = exit_with(returning)
    return _instruction(_JUMP_UNEQUAL, register, offset=len(leave) // 8) + leave


def exit_if_set(register: int, bits: int, *, returning: int) -> bytes:
    """if (register & bits) return `returning`"""
    leave = exit_with(returning)
    go_on = _instruction(_JUMP, offset=len(leave) // 8)
    return _instruction(_JUMP_IF_SET, register, offset=len(go_on) // 8, value=bits) + go_on + leave


def exit_with(value: int) -> bytes:
    """return value"""
    return move_value(0, value) + _instruction(_EXIT)
