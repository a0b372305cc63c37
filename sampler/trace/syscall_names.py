"""System calls by name, and their arguments, as the kernel's tracepoints describe them (format files of tracefs)."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from lockflame.errors import LockflameError
from sampler.bpf.tracefs import TraceFs

FOLDER = "events/syscalls"
ENTER, LEAVE = "sys_enter_", "sys_exit_"
NEAR_NAMES = 4
# struct trace_entry, the call's number, then a word for each argument (struct syscall_tp_t in trace_syscalls.c).
ARGUMENTS_OFFSET = 16
WORD_BYTES = 8

# Of all arguments the formats say that they have 8 bytes without a sign: what counts are their types' own.
_BITS = {
    "int": (32, True),
    "long": (64, True),
    "pid_t": (32, True),
    "__s32": (32, True),
    "key_t": (32, True),
    "mqd_t": (32, True),
    "timer_t": (32, True),
    "clockid_t": (32, True),
    "qid_t": (32, True),
    "key_serial_t": (32, True),
    "rwf_t": (32, True),
    "loff_t": (64, True),
    "off_t": (64, True),
    "unsigned": (32, False),
    "unsigned int": (32, False),
    "u32": (32, False),
    "__u32": (32, False),
    "uid_t": (32, False),
    "gid_t": (32, False),
    "umode_t": (16, False),
    "unsigned long": (64, False),
    "size_t": (64, False),
    "u64": (64, False),
    "__u64": (64, False),
    "aio_context_t": (64, False),
}
# Whatever the kernel declares them as, libraries pass an int, which is -1 or AT_FDCWD for no file.
_DESCRIPTORS = re.compile(r"(?!max_fd)\w*fd|fd_?(?:in|out)|fildes|mqdes")
_SIZES = {"size", "count", "len", "length", "bufsiz", "bufsize", "nbytes", "old_len", "new_len", "optlen", "bytecount"}
_NO_SIZES = {"vlen", "nr"}
_RETURN_BYTES = re.compile(
    r"p?(?:read|write)(?:v2?|64)?|recv(?:from|msg)|send(?:to|msg|file|file64)|splice|tee|vmsplice|copy_file_range"
    r"|getrandom|getdents(?:64)?|readlink(?:at)?|process_vm_(?:readv|writev)|mq_timedreceive|msgrcv|l?f?(?:get|list)xattr"
)

_FIELD = re.compile(r"field:([^;]+?)(\w+);\s*offset:(\d+);\s*size:8;")


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument by its place (0 to 5); `declared` is its C type. Pointers have no bits."""

    name: str
    declared: str
    place: int
    bits: int
    is_signed: bool

    @property
    def is_pointer(self) -> bool:
        """Whether it is an address: of a type that has a `*`, or that isn't known as a number."""
        return not self.bits

    @property
    def is_descriptor(self) -> bool:
        """Whether it is a file descriptor, by its name."""
        return not self.is_pointer and bool(_DESCRIPTORS.fullmatch(self.name))

    @property
    def is_size(self) -> bool:
        """Whether it counts bytes, by its type and name."""
        if self.is_pointer or self.name in _NO_SIZES:
            return False
        return self.declared.endswith("size_t") or self.name in _SIZES


@dataclass(frozen=True, slots=True)
class SystemCall:
    """A system call that has tracepoints."""

    name: str
    arguments: tuple[Argument, ...]

    @property
    def returns_bytes(self) -> bool:
        """Whether its result is a number of bytes."""
        return bool(_RETURN_BYTES.fullmatch(self.name))

    @property
    def descriptor(self) -> Argument | None:
        """Its first argument that is a file descriptor."""
        return next((argument for argument in self.arguments if argument.is_descriptor), None)

    def argument(self, name: str, what: str) -> Argument:
        """The argument of that name, a number. Raises `LockflameError`, in which `what` is said to fail."""
        found = next((argument for argument in self.arguments if argument.name == name), None)
        if found is not None and not found.is_pointer:
            return found
        numbers = [argument.name for argument in self.arguments if not argument.is_pointer]
        known = f"it has {', '.join(numbers)}" if numbers else "it has none that is a number"
        if found is not None:
            why = f"the argument {name} of {self.name} is an address ({found.declared}), which tells nothing of its own"
            raise LockflameError(what, why, f"{known}; ret and latency go with every call")
        near = difflib.get_close_matches(name, [*numbers, "ret", "latency"], NEAR_NAMES, 0.5)
        guess = f"; names like it: {', '.join(near)}" if near else ""
        why = f"{self.name} has no argument {name} in this kernel"
        raise LockflameError(what, why, f"{known}; ret and latency go with every call{guess}")


def find_calls(tracefs: TraceFs, names: tuple[str, ...], what: str) -> tuple[SystemCall, ...]:
    """The system calls of these names, each once.

    Raises `LockflameError`, in which `what` is said to fail, and `OSError`.
    """
    known = {name.removeprefix(ENTER) for name in _event_names(tracefs, what) if name.startswith(ENTER)}
    calls: list[SystemCall] = []
    for name in dict.fromkeys(names):
        if name not in known:
            raise _unknown(name, known, what)
        text = tracefs.read(f"{FOLDER}/{ENTER}{name}/format").decode(errors="replace")
        calls.append(SystemCall(name, parse_arguments(text)))
    return tuple(calls)


def parse_arguments(text: str) -> tuple[Argument, ...]:
    """The arguments that the format file of a tracepoint `sys_enter_NAME` tells."""
    arguments: list[Argument] = []
    for declared, name, offset in _FIELD.findall(text):
        place, rest = divmod(int(offset) - ARGUMENTS_OFFSET, WORD_BYTES)
        if rest or not 0 <= place < 6:
            continue
        declared = " ".join(declared.split())
        bits, is_signed = _BITS.get(declared.removeprefix("const "), (0, False))
        argument = Argument(name, declared, place, bits, is_signed)
        if argument.is_descriptor:
            argument = Argument(name, declared, place, 32, True)
        arguments.append(argument)
    return tuple(arguments)


def _event_names(tracefs: TraceFs, what: str) -> list[str]:
    try:
        return tracefs.names(FOLDER)
    except FileNotFoundError as error:
        raise LockflameError(
            what,
            "the kernel has no tracepoints on system calls (CONFIG_FTRACE_SYSCALLS)",
            "use a kernel that was built with them, as those of distributions are",
        ) from error


def _unknown(name: str, known: set[str], what: str) -> LockflameError:
    near = difflib.get_close_matches(name, sorted(known), NEAR_NAMES, 0.6)
    near += [other for other in sorted(known) if name and name in other and other not in near][: NEAR_NAMES - len(near)]
    mend = f"names like it: {', '.join(near)}" if near else "see the names with: man 2 syscalls"
    return LockflameError(what, f"this kernel has no tracepoint for a system call {name}", mend)
