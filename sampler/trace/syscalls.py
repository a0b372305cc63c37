"""Follows system calls: has programs in the kernel count them (syscalls.bpf.c), and reads what they counted."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lockflame.errors import LockflameError
from sampler import procfs
from sampler.bpf import syscall
from sampler.bpf.hooks import attach_tracepoint, close_all
from sampler.bpf.program import Code, Compiled, LoadedPrograms, compiled
from sampler.bpf.refusals import refusal
from sampler.bpf.syscall import Map
from sampler.bpf.tracefs import TraceFs
from sampler.trace import syscall_layout as layout
from sampler.trace.filters import (
    PROCESS_PROGRAMS,
    TARGET,
    Filters,
    apply_filters,
    filter_definitions,
    follow_processes,
    untracked_processes,
)
from sampler.trace.syscall_layout import By, MeasureKind
from sampler.trace.syscall_names import ENTER, LEAVE, Argument, SystemCall

SOURCE = Path(__file__).with_name("syscalls.bpf.c")
WHAT = "cannot trace system calls"
THREAD_EXIT = "sched:sched_process_exit"
POSSIBLE_CPUS = "/sys/devices/system/cpu/possible"
CELLS_A_MEASURE = 2048
"""More than a measure of one call can have, where there are no keys."""


@dataclass(frozen=True, slots=True)
class Linear:
    """Buckets of one width: `count` of them from `least` on, and one below and one above."""

    least: int
    step: int
    count: int


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for: of each call the same measures (`arguments` by call for those that are one).

    Without measures, calls and their errors are counted.
    """

    calls: tuple[SystemCall, ...]
    measures: tuple[MeasureKind, ...]
    arguments: tuple[tuple[Argument | None, ...], ...]
    by: By = By.NOTHING
    linear: Linear | None = None

    @property
    def at_enter(self) -> bool:
        """Whether calls count when they begin: nothing is asked for that only their end tells."""
        is_of_end = self.by in (By.RET, By.ERROR)
        return not is_of_end and all(kind is MeasureKind.ARGUMENT for kind in self.measures)


@dataclass(frozen=True, slots=True)
class Cell:
    """Calls that are alike: `call` and `measure` are their places in the question, `by` the key as the kernel has it.

    `error` is an errno, or 0. `total` and `maximum` are of what was measured, exactly.
    """

    call: int
    measure: int
    bucket: int
    error: int
    by: bytes
    count: int
    total: int
    maximum: int


class SyscallTrace:
    """The programs of one trace: attached on creation, counting from `start` to `stop`."""

    def __init__(self, question: Question, filters: Filters, tracefs: TraceFs) -> None:
        """Raises `LockflameError`; then nothing is left attached."""
        self._question = question
        self._filters = filters
        self._tracefs = tracefs
        self._hooks: list[int] = []
        self._loaded: LoadedPrograms | None = None
        try:
            self._load()
            self._attach()
        except OSError as error:
            self.close()
            raise refusal(error, WHAT) from error
        except BaseException:
            self.close()
            raise

    @property
    def maps(self) -> dict[str, Map]:
        """The programs' maps by name."""
        assert self._loaded is not None
        return self._loaded.maps

    def start(self) -> None:
        """Counts from now on. Raises `OSError`."""
        self._set_question(len(self._question.measures))

    def stop(self) -> None:
        """Counts no more; what was counted stays. Raises `OSError`."""
        self._set_question(0)

    def detach(self) -> None:
        """Takes the programs off the system calls, for which the kernel waits until none runs any more."""
        close_all(self._hooks)
        self._hooks = []

    def cells(self) -> list[Cell]:
        """What was counted so far, in no order. Raises `OSError`."""
        return [
            cell
            for key, value in _per_cpu(self.maps["cells"]).items()
            if (cell := read_cell(key, value, is_signed=self._is_signed(key))).count
        ]

    def open_calls(self) -> int:
        """Calls that began and haven't ended. Raises `OSError`."""
        if self._question.at_enter:
            return 0
        return sum(value[:8] != bytes(8) for _, value in self.maps["open_calls"].items())

    def losses(self) -> dict[str, int]:
        """What couldn't be counted, by the names of `layout.LOSSES`, and `no_target_entry`."""
        losses = {
            name: int.from_bytes(self.maps["losses"].get(number.to_bytes(4, "little")) or b"", "little")
            for number, name in enumerate(layout.LOSSES)
        }
        return losses | {"no_target_entry": untracked_processes(self.maps)}

    def refresh_code_ranges(self) -> None:
        """Finds out where the code lies of processes that have run another program meanwhile. Raises `OSError`."""
        if procfs.is_in_pid_namespace():
            return  # the numbers in the table are the machine's
        targets = self.maps["targets"]
        for key, value in targets.items():
            if not TARGET.unpack(value)[1]:
                with suppress(FileNotFoundError):
                    code = procfs.program_code(int.from_bytes(key, "little"))
                    targets.put(key, TARGET.pack(*code), syscall.UPDATE_EXIST)

    def close(self) -> None:
        """Detaches everything and gives it up."""
        self.detach()
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    def _load(self) -> None:
        question = self._question
        by_stack = question.by is By.USTACK
        definitions = filter_definitions(self._tracefs) | {
            "CALL_ENTRIES": layout.CALLS_MOST,
            "OPEN_ENTRIES": layout.OPEN_ENTRIES,
            "CELL_ENTRIES": layout.CELL_ENTRIES,
            "STACK_ENTRIES": layout.STACK_ENTRIES,
        }
        source = compiled(SOURCE, definitions | ({"WITH_STACKS": 1} if by_stack else {}), WHAT)
        names = ["on_enter"] if question.at_enter else ["on_enter", "on_leave"]
        source = _for_calls(source, names, len(question.calls), _cell_entries(question))
        wanted = [name for name in source.programs if "_call_" in name]
        wanted += [] if question.at_enter else ["on_thread_exit"]
        wanted += PROCESS_PROGRAMS.values() if self._filters.pids else []
        try:
            self._loaded = LoadedPrograms(source, dict.fromkeys(wanted, syscall.PROG_TRACEPOINT), _possible_cpus())
        except syscall.VerifierError as error:
            if by_stack and "unknown func" in error.log:
                why = "this kernel has no way for programs to find the user's stack (bpf_task_pt_regs, Linux 5.15)"
                raise LockflameError(WHAT, why, "leave out --by ustack") from error
            raise

    def _attach(self) -> None:
        assert self._loaded is not None
        for number, call in enumerate(self._question.calls):
            self.maps["calls"].put(number.to_bytes(4, "little"), self._call_entry(number, call))
        # Processes are followed before they are looked for, so that no child is missed.
        self._hooks += follow_processes(self._filters, self._tracefs, self._loaded)
        apply_filters(self._filters, self.maps)
        if not self._question.at_enter:
            self._attach_to(THREAD_EXIT, "on_thread_exit")
        # Ends first, so that no call begins whose end isn't seen.
        for prefix, program in ((LEAVE, "on_leave"), (ENTER, "on_enter")):
            for number, call in enumerate(self._question.calls):
                name = _program_name(program, number)
                if name in self._loaded.programs:
                    self._attach_to(f"syscalls:{prefix}{call.name}", name)

    def _attach_to(self, event: str, program: str) -> None:
        assert self._loaded is not None
        tracepoint = self._tracefs.tracepoint(event)
        if tracepoint is None:
            raise FileNotFoundError(2, f"the kernel has no tracepoint {event}")
        self._hooks.append(attach_tracepoint(tracepoint, self._loaded.programs[program]))

    def _is_signed(self, key: bytes) -> bool:
        call: int
        measure: int
        call, measure = layout.CALL_AND_MEASURE.unpack_from(key)
        argument = self._question.arguments[call][measure]
        return argument.is_signed if argument else self._question.measures[measure] is MeasureKind.RESULT

    def _call_entry(self, number: int, call: SystemCall) -> bytes:
        entry = b""
        for kind, argument in zip(self._question.measures, self._question.arguments[number], strict=True):
            if argument is not None:
                entry += layout.MEASURE.pack(kind, argument.place, 64 - argument.bits, argument.is_signed)
            else:
                entry += layout.MEASURE.pack(kind, 0, 0, kind is MeasureKind.RESULT)
        descriptor = call.descriptor.place if call.descriptor else 0
        return entry.ljust(layout.MEASURES * layout.MEASURE.size, b"\0") + layout.FD_ARGUMENT.pack(descriptor, 0)

    def _set_question(self, measures: int) -> None:
        linear = self._question.linear
        bounds = (linear.least, linear.step, linear.count) if linear else (0, 1, 0)
        entry = layout.QUESTION.pack(measures, self._question.by, self._question.at_enter, linear is not None, *bounds)
        self.maps["this_question"].put(bytes(4), entry)


def _program_name(program: str, number: int) -> str:
    return f"{program}_call_{number}"


def _for_calls(source: Compiled, names: list[str], calls: int, cell_entries: int) -> Compiled:
    """The programs with a copy of these for each call, which holds the call's number; room for so many cells."""
    kind, key_bytes, value_bytes, _, flags = source.maps["cells"]
    programs = dict(source.programs)
    for name in names:
        code = source.programs[name]
        for number in range(calls):
            programs[_program_name(name, number)] = Code(with_number(code.instructions, number), code.maps)
    return Compiled({**source.maps, "cells": (kind, key_bytes, value_bytes, cell_entries, flags)}, programs)


def with_number(instructions: bytes, number: int) -> bytes:
    """The instructions with a number as the immediate of the one that has CALL_MARK there (struct bpf_insn)."""
    places = [
        place + 4
        for place in range(0, len(instructions), 8)
        if instructions[place + 4 : place + 8] == struct.pack("<i", layout.CALL_MARK)
    ]
    if len(places) != 1:
        raise LockflameError(WHAT, f"the compiled program has {len(places)} marks in place of one", "report this")
    return instructions[: places[0]] + struct.pack("<i", number) + instructions[places[0] + 4 :]


def _cell_entries(question: Question) -> int:
    """How many cells there is room for: each has a value for each CPU."""
    most = layout.CELL_BYTES_MOST // (layout.CELL.size * _possible_cpus())
    wanted = layout.CELL_ENTRIES
    if question.by is By.NOTHING:
        wanted = min(wanted, CELLS_A_MEASURE * len(question.calls) * len(question.measures))
    return max(1024, min(most, wanted))


def _possible_cpus() -> int:
    """One more than the highest number of a CPU that the machine could have: `0-3`, `0,2-5` (cputopology.rst)."""
    try:
        return int(Path(POSSIBLE_CPUS).read_text().strip().replace("-", ",").split(",")[-1]) + 1
    except (OSError, ValueError):
        return os.cpu_count() or 1


def _per_cpu(cells: Map) -> Map:
    """The same map, as it is read: values of all CPUs, one after the other."""
    return Map(cells.descriptor, cells.key_bytes, layout.CELL.size * _possible_cpus(), cells.entries)


def read_cell(key: bytes, value: bytes, *, is_signed: bool) -> Cell:
    """A cell of the map: the sums over all CPUs. `is_signed` tells what kind of numbers was measured."""
    call, measure, bucket, error, by = layout.KEY.unpack(key)
    count = total = 0
    maxima: list[int] = []
    for here, low, high, most in layout.CELL.iter_unpack(value):
        if here:
            count += here
            total += (high << 64) + low
            maxima.append(most - (1 << 64) if is_signed and most >> 63 else most)
    return Cell(call, measure, bucket, error, by, count, total, max(maxima, default=0))
