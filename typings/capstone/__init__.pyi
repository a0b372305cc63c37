from collections.abc import Generator

CS_ARCH_X86: int
CS_MODE_64: int
CS_GRP_JUMP: int
CS_GRP_RET: int
CS_OP_IMM: int

class CsOperand:
    type: int
    imm: int

class CsInsn:
    id: int
    address: int
    bytes: bytearray
    operands: list[CsOperand]
    def group(self, group_id: int) -> bool: ...
    def regs_access(self) -> tuple[tuple[int, ...], tuple[int, ...]]: ...
    def reg_name(self, reg_id: int) -> str: ...

class Cs:
    detail: bool
    def __init__(self, arch: int, mode: int) -> None: ...
    def disasm(self, code: bytes, offset: int, count: int = 0) -> Generator[CsInsn]: ...
