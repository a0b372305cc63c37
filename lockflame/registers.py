"""The registers that a sample carries."""

from __future__ import annotations

X86_64_REGISTERS = (
    *("ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip", "flags", "cs", "ss"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
)
"""The columns of `SampleTable.registers`: the kernel's order of x86-64's registers without ds, es, fs
and gs (linux/arch/x86/include/uapi/asm/perf_regs.h)."""
