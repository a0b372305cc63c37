"""Follows signals in the kernel: attaches the programs of `signals.bpf.c` and reads their events."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lockflame.errors import LockflameError
from sampler import procfs
from sampler.attach import online_cpus
from sampler.bpf import syscall
from sampler.bpf.hooks import attach_tracepoint, close_all
from sampler.bpf.program import LoadedPrograms, compiled
from sampler.bpf.refusals import open_tracefs, refusal
from sampler.bpf.ring_map import RingReader
from sampler.bpf.syscall import Map
from sampler.bpf.tracefs import TraceFs
from sampler.trace import signal_layout as layout
from sampler.trace.filters import (
    PROCESS_PROGRAMS,
    Filters,
    all_have_ended,
    apply_filters,
    filter_definitions,
    follow_processes,
    untracked_processes,
)
from sampler.trace.signal_layout import SignalEvent, events_of

SOURCE = Path(__file__).with_name("signals.bpf.c")
WHAT = "cannot trace signals"
NOTICE_S = 0.001

CALLS = {
    "kill": "on_kill",
    "tkill": "on_tkill",
    "tgkill": "on_tgkill",
    "rt_sigqueueinfo": "on_sigqueue",
    "rt_tgsigqueueinfo": "on_tgsigqueue",
    "pidfd_send_signal": "on_pidfd",
}
"""What runs when a system call of this name begins."""
CALL_END = "on_call_end"
GENERATE, VICTIM = "signal:signal_generate", "oom:mark_victim"
GENERATE_FIELDS = {
    "SIGNAL_NUMBER": "sig",
    "SIGNAL_CODE": "code",
    "SIGNAL_COMM": "comm",
    "SIGNAL_PID": "pid",
    "SIGNAL_GROUP": "group",
    "SIGNAL_RESULT": "result",
}
THREAD_PROGRAMS = {"task:task_newtask": "on_new_thread", "sched:sched_process_free": "on_thread_free"}
"""What follows threads: attached with -p only."""


@dataclass(frozen=True, slots=True)
class SignalChoice:
    """Which signals: of which senders or targets, by number (all if empty), only those that failed.

    `sides` is made of `SIDE_SENDER` and `SIDE_TARGET`: of whom -p and --comm have to hold. `with_children`: SIGCHLD too
    where it is the kernel's, as at each end of a process. `with_stacks`: the senders' stacks are taken.
    """

    filters: Filters
    sides: int = layout.SIDE_SENDER | layout.SIDE_TARGET
    numbers: frozenset[int] = frozenset()
    only_failed: bool = False
    with_children: bool = False
    with_stacks: bool = False


@dataclass(frozen=True, slots=True)
class SignalCounts:
    """What the programs counted.

    `lost` signals had no room in the ring; `missed` came while a program ran on the same CPU already (timers'), so that
    nothing more is known of them. `no_call_entry` calls had no room in the table of those under way, and `unfollowed`
    processes and threads of -p none in theirs. `children_hidden` are SIGCHLD of the kernel's that weren't asked for.
    """

    lost: int
    missed: int
    no_call_entry: int
    unfollowed: int
    children_hidden: int


class SignalTrace:
    """The tracer of one run: attached on creation, seeing signals from `start` on, until `stop`."""

    def __init__(self, choice: SignalChoice) -> None:
        """Compiles, loads and attaches. Raises `LockflameError`; then nothing is left attached."""
        self._choice = choice
        self._hooks: list[int] = []
        self._loaded: LoadedPrograms | None = None
        self._reader: RingReader | None = None
        self.attached: list[str] = []
        """The names of the tracepoints."""
        tracefs = open_tracefs(WHAT)
        try:
            self._attach(tracefs)
        except OSError as error:
            self.close()
            raise refusal(error, WHAT) from error
        except BaseException:
            self.close()
            raise
        finally:
            tracefs.close()

    @property
    def samples(self) -> Map:
        """Where stacks go: for `StackRings`."""
        return self._maps["samples"]

    @property
    def descriptor(self) -> int:
        """Can be polled for events."""
        assert self._reader is not None
        return self._reader.descriptor

    def start(self) -> None:
        """Signals count from now on."""
        self._set_control(is_on=True)

    def stop(self) -> None:
        """No more signals count; those that did can be read still."""
        self._set_control(is_on=False)
        # What a program on another CPU has begun with.
        time.sleep(NOTICE_S)

    def read(self) -> list[SignalEvent]:
        """Events in the order in which they happened; none if there are none, not all if there are very many."""
        assert self._reader is not None
        return events_of(self._reader.read())

    def has_no_target(self) -> bool:
        """Whether all processes of -p have ended, their children too."""
        return all_have_ended(self._choice.filters, self._maps)

    def counts(self) -> SignalCounts:
        """What was counted so far."""
        values = [
            int.from_bytes(self._maps["counts"].get(number.to_bytes(4, "little")) or b"", "little")
            for number in range(len(layout.COUNTS))
        ]
        counted = dict(zip(layout.COUNTS, values, strict=True))
        return SignalCounts(
            lost=counted["ring_full"],
            missed=syscall.missed_runs(self._programs.programs["on_signal"]),
            no_call_entry=counted["no_call_entry"],
            unfollowed=counted["no_thread_entry"] + untracked_processes(self._maps),
            children_hidden=counted["children_hidden"],
        )

    def close(self) -> None:
        """Detaches everything and gives it up."""
        close_all(self._hooks)
        self._hooks = []
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    @property
    def _maps(self) -> dict[str, Map]:
        assert self._loaded is not None
        return self._loaded.maps

    def _attach(self, tracefs: TraceFs) -> None:
        definitions = filter_definitions(tracefs) | _definitions(tracefs)
        programs = {*CALLS.values(), CALL_END, "on_signal"}
        programs |= {"on_victim"} if "VICTIM_PID" in definitions else set()
        if self._choice.filters.pids:
            programs |= {*PROCESS_PROGRAMS.values(), *THREAD_PROGRAMS.values()}
        kinds = dict.fromkeys(sorted(programs), syscall.PROG_TRACEPOINT)
        self._loaded = LoadedPrograms(compiled(SOURCE, definitions, WHAT), kinds, max(online_cpus()) + 1)
        self._reader = RingReader(self._loaded.maps["events"])
        for number in self._choice.numbers:
            self._maps["numbers"].put(number.to_bytes(4, "little"), (1).to_bytes(4, "little"))
        self._follow(tracefs)
        # Ends first, and what calls bring about last, so that no call counts of which only a part is seen.
        for call in CALLS:
            self._hook(tracefs, f"syscalls:sys_exit_{call}", CALL_END)
        for call, program in CALLS.items():
            self._hook(tracefs, f"syscalls:sys_enter_{call}", program)
        if "syscalls:sys_enter_kill" not in self.attached:
            raise LockflameError(
                WHAT,
                "the kernel has no tracepoints on system calls (CONFIG_FTRACE_SYSCALLS)",
                "use a kernel of a distribution",
            )
        self._hook(tracefs, VICTIM, "on_victim")
        self._hook(tracefs, GENERATE, "on_signal")

    def _follow(self, tracefs: TraceFs) -> None:
        """Follows the processes of -p, and the threads that aren't the first of their process."""
        filters = self._choice.filters
        if filters.pids:
            for name, program in THREAD_PROGRAMS.items():
                self._hook(tracefs, name, program)
            self._hooks += follow_processes(filters, tracefs, self._programs)
        apply_filters(filters, self._maps)
        if procfs.is_in_pid_namespace():
            return  # the numbers of threads that we see aren't those that the programs see
        for pid in {member for root in filters.pids for member in procfs.family(root)}:
            for tid in procfs.threads(pid):
                if tid != pid:
                    with suppress(FileExistsError):
                        self._maps["threads"].put(
                            tid.to_bytes(4, "little"), pid.to_bytes(4, "little"), syscall.UPDATE_NOEXIST
                        )

    @property
    def _programs(self) -> LoadedPrograms:
        assert self._loaded is not None
        return self._loaded

    def _hook(self, tracefs: TraceFs, name: str, program: str) -> None:
        tracepoint = tracefs.tracepoint(name)
        number = self._programs.programs.get(program)
        if tracepoint is not None and number is not None:
            self._hooks.append(attach_tracepoint(tracepoint, number))
            self.attached.append(name)

    def _set_control(self, *, is_on: bool) -> None:
        choice = self._choice
        flags = (choice.with_stacks, choice.only_failed, choice.with_children, bool(choice.numbers))
        self._maps["this_control"].put(bytes(4), layout.CONTROL.pack(is_on, choice.sides, *flags))


def _definitions(tracefs: TraceFs) -> dict[str, int]:
    generate, victim = tracefs.tracepoint(GENERATE), tracefs.tracepoint(VICTIM)
    if generate is None or not set(GENERATE_FIELDS.values()) <= generate.fields.keys():
        raise LockflameError(WHAT, f"the kernel has no tracepoint {GENERATE}", "use a kernel of a distribution")
    definitions = {
        "CALL_ENTRIES": layout.CALL_ENTRIES,
        "THREAD_ENTRIES": layout.THREAD_ENTRIES,
        "RING_PAGES": layout.RING_PAGES,
    }
    definitions |= {macro: generate.fields[field][0] for macro, field in GENERATE_FIELDS.items()}
    if victim is not None and "pid" in victim.fields:
        definitions["VICTIM_PID"] = victim.fields["pid"][0]
    return definitions
