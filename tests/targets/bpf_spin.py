"""Burns CPU time inside a BPF program of its own, which it loads and at its end gives up: see bpf(2).

usage: bpf_spin.py SECONDS [NAME]

Prints `ready` when the program is loaded, or `refused: WHY` and ends with status 3.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
import time

SYSCALL_NUMBERS = {"x86_64": 321}
PROG_LOAD, PROG_TEST_RUN = 5, 10
SOCKET_FILTER = 1
ATTR_BYTES = 128
ADD, SHIFT_LEFT, SUBTRACT, MOVE, JUMP_IF_NOT_EQUAL, EXIT = 0x07, 0x67, 0x17, 0xB7, 0x55, 0x95
LOOP_TURNS, LOOP_STEPS = 200, 40
RUNS_A_CALL = 5000

libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attr: bytes) -> int:
    buffer = ctypes.create_string_buffer(attr.ljust(ATTR_BYTES, b"\0"), ATTR_BYTES)
    number = SYSCALL_NUMBERS.get(platform.machine(), -1)
    result: int = libc.syscall(ctypes.c_long(number), command, buffer, ATTR_BYTES)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def step(operation: int, register: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", operation, register, offset, value)


def loop_program() -> bytes:
    """Counts `r1` down from LOOP_TURNS, with arithmetic on `r0` in between."""
    body = (step(ADD, value=1) + step(SHIFT_LEFT, value=1)) * LOOP_STEPS + step(SUBTRACT, register=1, value=1)
    back = step(JUMP_IF_NOT_EQUAL, register=1, offset=-(len(body) // 8 + 1))
    start = step(MOVE) + step(MOVE, register=1, value=LOOP_TURNS)
    return start + body + back + step(MOVE) + step(EXIT)


def load(name: bytes) -> int:
    code = loop_program()
    code_buffer, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    addresses = ctypes.addressof(code_buffer), ctypes.addressof(licence)
    # prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags, prog_name
    return bpf(PROG_LOAD, struct.pack("<IIQQIIQII16s", SOCKET_FILTER, len(code) // 8, *addresses, 0, 0, 0, 0, 0, name))


def run(program: int) -> None:
    packet = ctypes.create_string_buffer(64)
    # prog_fd, retval, data_size_in, data_size_out, data_in, data_out, repeat, duration
    attr = struct.pack("<IIIIQQII", program, 0, len(packet), 0, ctypes.addressof(packet), 0, RUNS_A_CALL, 0)
    bpf(PROG_TEST_RUN, attr)


def main() -> int:
    seconds, name = float(sys.argv[1]), (sys.argv[2] if len(sys.argv) > 2 else "lf_spin").encode()
    try:
        program = load(name)
        run(program)
    except OSError as error:
        print(f"refused: {error}", flush=True)
        return 3
    print("ready", flush=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        run(program)
    os.close(program)
    return 0


if __name__ == "__main__":
    sys.exit(main())
