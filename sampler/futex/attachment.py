"""Loads the programs of `futex.bpf.c` and attaches them to futex system calls, by kprobes or tracepoints."""

from __future__ import annotations

import errno
from contextlib import suppress
from enum import Enum
from pathlib import Path

from lockflame.errors import LockflameError
from sampler.bpf import syscall
from sampler.bpf.hooks import Kprobes, attach_tracepoint, close_all
from sampler.bpf.program import Compiled, LoadedPrograms, compiled
from sampler.bpf.refusals import open_tracefs, refusal
from sampler.bpf.syscall import Map, VerifierError
from sampler.bpf.tracefs import Tracepoint
from sampler.futex import layout

SOURCE = Path(__file__).with_name("futex.bpf.c")
WHAT = "cannot record lock waits"

# What runs when a system call of this name begins, as the kernel calls it in tracepoints and in functions.
CALLS = {
    "futex": "on_futex",
    "futex_wait": "on_futex_wait",
    "futex_waitv": "on_futex_waitv",
    "futex_wake": "on_futex_wake",
    "futex_requeue": "on_futex_requeue",
    "restart_syscall": "on_restart",
}
WAITING_CALLS = ("futex", "futex_wait", "futex_waitv", "restart_syscall")
END_PROGRAM = "on_wait_end"
CPU_SAMPLE_PROGRAM = "on_cpu_sample"
PROCESS_TRACEPOINTS = {
    "task:task_newtask": "on_new_task",
    "sched:sched_process_exec": "on_exec",
    "sched:sched_process_exit": "on_exit",
}
# What the kernel calls the function of a system call depends on the machine (arch/*/include/asm/syscall_wrapper.h).
FUNCTION_PREFIXES = ("__x64_sys_", "__arm64_sys_", "__se_sys_")


class ProbeKind(Enum):
    """How the futex system calls are seen."""

    AUTO = "auto"
    KPROBE = "kprobe"
    TRACEPOINT = "tracepoint"


class Attachment:
    """Programs that run at futex calls from creation to `detach`, and their maps until `close`."""

    def __init__(self, kind: ProbeKind, cpus: int, *, in_namespace: bool) -> None:
        """`cpus`: one more than the highest number of a CPU. `in_namespace`: ids are those of our pid namespace.

        Raises `LockflameError` and `OSError` (see `refusal`); then nothing is left attached.
        """
        self._cpus = cpus
        self._in_namespace = in_namespace
        self._tracefs = open_tracefs(WHAT)
        self._kprobes: Kprobes | None = None
        self._hooks: list[int] = []
        self._loaded: LoadedPrograms | None = None
        self._attached: list[str] = []
        self.notes: list[str] = []
        try:
            self._attach_some(kind)
        except BaseException:
            self.close()
            raise

    @property
    def maps(self) -> dict[str, Map]:
        """The programs' maps by name."""
        assert self._loaded is not None
        return self._loaded.maps

    @property
    def cpu_sample_program(self) -> int:
        """The program that tells which CPU samples are of the processes that are followed."""
        assert self._loaded is not None
        return self._loaded.programs[CPU_SAMPLE_PROGRAM]

    @property
    def names(self) -> str:
        """What was attached to, briefly."""
        kinds: dict[str, list[str]] = {}
        for name in self._attached:
            kind, _, where = name.partition(" ")
            kinds.setdefault(kind, []).append(where.removeprefix("syscalls:"))
        return "; ".join(f"{kind}s {', '.join(places)}" for kind, places in kinds.items())

    def detach(self) -> None:
        """Takes the programs off the system calls; their maps stay."""
        if self._kprobes is not None:
            with suppress(OSError):
                missed = self._kprobes.missed()
                if missed:
                    self.notes.append(f"The kernel passed {missed:,} calls by without asking our kprobes.")
            self._kprobes.close()
            self._kprobes = None
        close_all(self._hooks)
        self._hooks = []

    def close(self) -> None:
        """Detaches everything and gives it up."""
        self._give_up()
        self._tracefs.close()

    def _attach_some(self, kind: ProbeKind) -> None:
        """Attaches kprobes where they are wanted and there, else tracepoints."""
        if kind is not ProbeKind.TRACEPOINT and self._tracefs.has("kprobe_events"):
            try:
                self._load(with_kprobes=True)
                self._attach_kprobes()
            except (OSError, LockflameError) as error:
                if kind is ProbeKind.KPROBE:
                    raise
                self._give_up()
                why = error.why if isinstance(error, LockflameError) else refusal(error, WHAT).why
                self.notes.append(
                    f"Kprobes could not be used, so tracepoints were, which cost all system calls: {why}."
                )
            else:
                return
        elif kind is ProbeKind.KPROBE:
            raise LockflameError(WHAT, "this kernel has no kprobes (CONFIG_KPROBE_EVENTS)", "use --probe tracepoint")
        self._load(with_kprobes=False)
        self._attach_tracepoints()

    def _give_up(self) -> None:
        self.detach()
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None
        self._attached = []

    def _load(self, *, with_kprobes: bool) -> None:
        newtask = self._tracefs.tracepoint("task:task_newtask")
        if newtask is None:
            raise LockflameError(WHAT, "the kernel has no tracepoint task:task_newtask", "run: lockflame doctor")
        definitions = definitions_for(newtask, in_namespace=self._in_namespace)
        if with_kprobes:
            self._loaded = self._loaded_from(
                compiled(SOURCE, definitions | {"WITH_KPROBES": 1}, WHAT), with_kprobes=with_kprobes
            )
            return
        try:
            source = compiled(SOURCE, definitions | {"WITH_REGISTERS": 1}, WHAT)
            self._loaded = self._loaded_from(source, with_kprobes=with_kprobes)
        except VerifierError as error:
            if error.errno != errno.EINVAL or "unknown func" not in error.log:
                raise
            # Before Linux 5.15; then stacks of waits that are still open at the end may be cut short.
            self._loaded = self._loaded_from(compiled(SOURCE, definitions, WHAT), with_kprobes=with_kprobes)

    def _loaded_from(self, source: Compiled, *, with_kprobes: bool) -> LoadedPrograms:
        on_calls = syscall.PROG_KPROBE if with_kprobes else syscall.PROG_TRACEPOINT
        kinds = dict.fromkeys((*CALLS.values(), END_PROGRAM), on_calls)
        kinds[CPU_SAMPLE_PROGRAM] = syscall.PROG_PERF_EVENT
        kinds |= {name: syscall.PROG_TRACEPOINT for name in PROCESS_TRACEPOINTS.values() if name in source.programs}
        return LoadedPrograms(source, kinds, self._cpus)

    def _attach_tracepoints(self) -> None:
        assert self._loaded is not None
        # Ends first, so that no wait begins whose end isn't seen.
        for call in WAITING_CALLS:
            self._attach_tracepoint(f"syscalls:sys_exit_{call}", self._loaded.programs[END_PROGRAM])
        for call, program in CALLS.items():
            self._attach_tracepoint(f"syscalls:sys_enter_{call}", self._loaded.programs[program])
        if "tracepoint syscalls:sys_enter_futex" not in self._attached:
            raise LockflameError(
                WHAT, "the kernel has no tracepoints on system calls (CONFIG_FTRACE_SYSCALLS)", "use --probe kprobe"
            )
        self._attach_process_tracepoints()

    def _attach_kprobes(self) -> None:
        assert self._loaded is not None
        self._kprobes = Kprobes(self._tracefs)
        for call, program in CALLS.items():
            for prefix in FUNCTION_PREFIXES:
                function = f"{prefix}{call}"
                # Its return first here too.
                ends = call not in WAITING_CALLS or self._attach_kprobe(function, END_PROGRAM, at_return=True)
                if ends and self._attach_kprobe(function, program, at_return=False):
                    break
        if not any(name.endswith("_sys_futex") for name in self._attached):
            raise LockflameError(
                WHAT, "the kernel has no function for futex that a kprobe can be set on", "use --probe tracepoint"
            )
        self._attach_process_tracepoints()

    def _attach_kprobe(self, function: str, program: str, *, at_return: bool) -> bool:
        assert self._loaded is not None
        assert self._kprobes is not None
        if not self._kprobes.attach(function, self._loaded.programs[program], at_return=at_return):
            return False
        self._attached.append(f"{'kretprobe' if at_return else 'kprobe'} {function}")
        return True

    def _attach_tracepoint(self, name: str, program: int) -> None:
        tracepoint = self._tracefs.tracepoint(name)
        if tracepoint is not None:
            self._hooks.append(attach_tracepoint(tracepoint, program))
            self._attached.append(f"tracepoint {name}")

    def _attach_process_tracepoints(self) -> None:
        assert self._loaded is not None
        for name, program in PROCESS_TRACEPOINTS.items():
            if program in self._loaded.programs:
                self._attach_tracepoint(name, self._loaded.programs[program])
        if self._in_namespace:
            self.notes.append(
                "Processes that began during the recording have no lock waits in it, as it was taken "
                "within a pid namespace."
            )


def definitions_for(newtask: Tracepoint, *, in_namespace: bool) -> dict[str, int]:
    """The macros to compile with; `newtask` is the tracepoint task:task_newtask."""
    definitions = {
        "WAIT_ENTRIES": layout.WAIT_ENTRIES,
        "LOCK_ENTRIES": layout.LOCK_ENTRIES,
        "PLACE_ENTRIES": layout.PLACE_ENTRIES,
        "TARGET_ENTRIES": layout.TARGET_ENTRIES,
        "NEWTASK_PID": newtask.fields["pid"][0],
        "NEWTASK_FLAGS": newtask.fields["clone_flags"][0],
    }
    return definitions | {"IN_NAMESPACE": 1} if in_namespace else definitions
