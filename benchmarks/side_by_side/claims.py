"""What has to be shown, as data, and whether the rounds show it."""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.side_by_side.intervals import (
    NO_BREAK,
    Interval,
    compare_losses,
    interval_text,
    median_interval,
    paired_ratio,
    with_unit,
)
from benchmarks.side_by_side.model import Round

NONE = "none"
OURS = "lockflame"
OURS_FP = "lockflame fp"
OURS_LOCKS = "lockflame --locks"
PERF_FP = "perf fp"
PERF_DWARF = "perf dwarf"
PMLOCK = "pmlock"
BCC_PROFILE = "profile"

TOP_LOCK_PATHS = 1
"""So many of the peer's lock paths have to be among ours, those with the longest waits: the answer to who waits most.

Of more, pmlock's order is that of how often a lock is taken, as it times calls that don't wait too."""


class FigureName(enum.Enum):
    """A figure of a round; the value is what it is called."""

    LOSS = "loss of the target"
    CPU_RECORDING = "CPU while recording"
    CPU_TOTAL = "CPU until the picture"
    PEAK_RECORDING = "peak memory while recording"
    PEAK_TOTAL = "peak memory until the picture"
    WRITTEN = "bytes written"
    FIRST_SAMPLE = "command to first sample"
    TO_PICTURE = "end of recording to picture"
    LOCK_PATHS = "the peer's first lock path among ours"


class Kind(enum.Enum):
    """What the limit is for: the paired ratio to the peer, or our own figure, at most or at least."""

    RATIO = "ratio"
    ABSOLUTE = "absolute"
    ABSOLUTE_LEAST = "absolute, at least"


class Outcome(enum.Enum):
    """Whether a claim holds."""

    MET = "met"
    MISSED = "missed"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that must show: a figure of our tool, by itself or beside a peer's, against a limit.

    `workloads` are beginnings of names; empty stands for each workload on which both were tried.
    """

    ours: str
    peer: str
    figure: FigureName
    limit: float
    kind: Kind = Kind.RATIO
    unit: str = "×"
    workloads: Sequence[str] = ()

    @property
    def title(self) -> str:
        """The claim in words, without its limit."""
        return f"{self.figure.value}, {self.ours}" + (f" / {self.peer}" if self.peer else "")

    @property
    def limit_text(self) -> str:
        """The limit with its sign and unit."""
        return limit_text(self.limit, self.unit, is_least=self.kind is Kind.ABSOLUTE_LEAST)


@dataclass(frozen=True, slots=True)
class Paired:
    """A figure that another benchmark measured, ours and the peer's in each of its rounds.

    The limit is for the ratio of both, or where nobody is the peer, for our own figure.
    """

    what: str
    ours: Sequence[float]
    peer: Sequence[float]
    limit: float
    unit: str
    peer_name: str = ""

    @property
    def title(self) -> str:
        """The claim in words, without its limit."""
        return self.what + (f", {OURS} / {self.peer_name}" if self.peer_name else "")

    @property
    def limit_text(self) -> str:
        """The limit with its sign and unit."""
        return limit_text(self.limit, "×" if self.peer_name else self.unit)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim on one workload: what was measured (in `unit`), and whether that is within the limit.

    `workload` is empty where the claim is about none, or no workload fits it. `why` says what a reader has to know.
    """

    claim: Claim | Paired
    workload: str
    outcome: Outcome
    interval: Interval | None = None
    unit: str = ""
    why: str = ""
    is_narrow: bool = False
    """Whether the interval has the limit within it: another run may say otherwise."""

    @property
    def is_in_noise(self) -> bool:
        """Whether the peer's loss can't be told from that of no tool, so that no ratio was formed."""
        return self.unit == "points"

    @property
    def measured_text(self) -> str:
        """What was measured, with its interval."""
        return interval_text(self.interval, self.unit) if self.interval else "–"


# To be handed over with `dataclasses.replace(…, ours=…, peer=…)`; the name may get longer.
PICTURE_PLAIN = Paired("end of recording to picture, 15,000 samples", (), (), 0.25, "s", "perf script --no-inline")
PICTURE_INLINED = Paired(
    "end of recording to picture with inlined frames, 15,000 samples", (), (), 0.05, "s", "perf script"
)
PICTURE_CPU = Paired("CPU of recording and picture, 15,000 samples", (), (), 1.0, "s", "perf record and script")
HELP_START = Paired("lockflame --help", (), (), 0.15, "s")
MUST_SHOW_PAIRED = (PICTURE_PLAIN, PICTURE_INLINED, PICTURE_CPU, HELP_START)

LOCK_WORKLOADS = ("contended", "MariaDB point select", "MariaDB read-write + processlist")
MUST_SHOW = (
    Claim(OURS_FP, PERF_FP, FigureName.LOSS, 1.0),
    Claim(OURS, PERF_DWARF, FigureName.LOSS, 1.0),
    Claim(OURS_FP, PERF_FP, FigureName.CPU_RECORDING, 1.0),
    Claim(OURS, PERF_DWARF, FigureName.CPU_RECORDING, 1.0),
    Claim(OURS_FP, PERF_FP, FigureName.CPU_TOTAL, 1.0),
    Claim(OURS, PERF_DWARF, FigureName.CPU_TOTAL, 1.0),
    Claim(OURS_LOCKS, PMLOCK, FigureName.LOSS, 0.1, workloads=LOCK_WORKLOADS),
    Claim(OURS_LOCKS, PMLOCK, FigureName.LOCK_PATHS, 100.0, Kind.ABSOLUTE_LEAST, "%", LOCK_WORKLOADS),
    Claim(OURS, BCC_PROFILE, FigureName.FIRST_SAMPLE, 0.1),
    Claim(OURS, BCC_PROFILE, FigureName.PEAK_RECORDING, 0.25),
    Claim(OURS, BCC_PROFILE, FigureName.PEAK_TOTAL, 0.25),
    Claim(OURS, "", FigureName.FIRST_SAMPLE, 0.35, Kind.ABSOLUTE, "s"),
)

ByRound = Mapping[int, float]
Place = tuple[str, str]
"""A workload and a tool."""

FIGURES: Mapping[FigureName, Callable[[Round], float | None]] = {
    FigureName.LOSS: lambda one: loss_percent(one),
    FigureName.CPU_RECORDING: lambda one: one.usage.cpu_recording_s if one.usage else None,
    FigureName.CPU_TOTAL: lambda one: one.usage.cpu_total_s if one.usage else None,
    FigureName.PEAK_RECORDING: lambda one: one.usage.peak_recording_mb if one.usage else None,
    FigureName.PEAK_TOTAL: lambda one: one.usage.peak_total_mb if one.usage else None,
    FigureName.WRITTEN: lambda one: one.usage.written_mb if one.usage else None,
    FigureName.FIRST_SAMPLE: lambda one: one.usage.first_sample_s if one.usage else None,
    FigureName.TO_PICTURE: lambda one: one.usage.to_picture_s if one.usage else None,
}


def limit_text(limit: float, unit: str, is_least: bool = False) -> str:
    """A limit with its sign and unit, as "≤ 0.25×" or "≤ 0.35 s"."""
    return f"{'≥' if is_least else '≤'}{NO_BREAK}{with_unit(f'{limit:g}', unit)}"


def loss_percent(one: Round) -> float | None:
    """The round's loss; None where the target stood still before and after, so that nothing can be said."""
    if one.rate_before + one.rate_after <= 0:
        return None
    loss = one.loss_percent
    return loss if math.isfinite(loss) else None


def by_round(rounds: Sequence[Round], workload: str, tool: str, figure: FigureName) -> dict[int, float]:
    """A figure of a tool on a workload, by round, where the round has it."""
    read = FIGURES[figure]
    values = {one.number: read(one) for one in rounds if one.workload == workload and one.tool == tool}
    return {number: value for number, value in values.items() if value is not None and math.isfinite(value)}


def lock_paths_found(rounds: Sequence[Round], workload: str, ours: str, peer: str) -> dict[int, float]:
    """How many percent of the peer's top lock paths are among ours, in each round in which the peer has any."""
    paths = {(one.number, one.tool): one.answer.lock_paths for one in rounds if one.workload == workload}
    found: dict[int, float] = {}
    for (number, tool), of_peer in paths.items():
        top = of_peer[:TOP_LOCK_PATHS]
        if tool == peer and top and (number, ours) in paths:
            found[number] = 100 * sum(path in paths[number, ours] for path in top) / len(top)
    return found


def error_points(rounds: Sequence[Round], truth: Mapping[str, float]) -> float | None:
    """The largest difference between a function's share and the truth, in points: the median over the rounds."""
    told = [one.answer.shares for one in rounds if one.answer.shares]
    if not truth or not told:
        return None
    return statistics.median(
        max(abs(shares.get(name, 0.0) - share) for name, share in truth.items()) for shares in told
    )


def whole_percent(rounds: Sequence[Round]) -> float | None:
    """How many percent of stacks are whole: the median over the rounds; None where none tells."""
    told = [one.answer.whole_percent for one in rounds if one.answer.whole_percent is not None]
    return statistics.median(told) if told else None


def lost_text(rounds: Sequence[Round]) -> str:
    """The samples lost in all rounds, with their share where the tool counts its samples."""
    counted = [one.answer for one in rounds if one.answer.lost is not None]
    if not counted:
        return "–"
    lost = sum(answer.lost or 0 for answer in counted)
    taken = sum(answer.samples or 0 for answer in counted)
    return f"{lost:,} ({100 * lost / (lost + taken):.1f}{NO_BREAK}%)" if lost and taken else f"{lost:,}"


def judge_all(
    claims: Sequence[Claim], rounds: Sequence[Round], paired: Sequence[Paired], failed: Sequence[Place] = ()
) -> list[Verdict]:
    """Each claim on each of its workloads, then what other benchmarks measured.

    `failed` are workloads and tools that gave nothing there. What has to be handed over may have more at the end of its
    name; where it wasn't handed over, a verdict says so.
    """
    verdicts = [verdict for claim in claims for verdict in judge(claim, rounds, failed)]
    missing = [one for one in MUST_SHOW_PAIRED if not any(given.what.startswith(one.what) for given in paired)]
    return verdicts + [judge_paired(one) for one in [*paired, *missing]]


def judge(claim: Claim, rounds: Sequence[Round], failed: Sequence[Place] = ()) -> list[Verdict]:
    """One verdict for each workload of the claim, in the order of the rounds."""
    names = _workloads_of(claim, dict.fromkeys([*((one.workload, one.tool) for one in rounds), *failed]))
    if not names:
        return [Verdict(claim, "", Outcome.NOT_MEASURED, why="no round of it")]
    return [judge_workload(claim, rounds, name) for name in names]


def judge_workload(claim: Claim, rounds: Sequence[Round], workload: str) -> Verdict:
    """The claim on this workload."""
    if claim.figure is FigureName.LOCK_PATHS:
        found = lock_paths_found(rounds, workload, claim.ours, claim.peer)
        return _against_limit(
            claim, workload, median_interval(list(found.values())), claim.unit, f"no lock paths from {claim.peer}"
        )
    ours = by_round(rounds, workload, claim.ours, claim.figure)
    if claim.kind is not Kind.RATIO:
        return _against_limit(
            claim, workload, median_interval(list(ours.values())), claim.unit, f"nothing from {claim.ours}"
        )
    peer = by_round(rounds, workload, claim.peer, claim.figure)
    missing = " and ".join(name for name, values in ((claim.ours, ours), (claim.peer, peer)) if not values)
    why = f"nothing from {missing}" if missing else "no round in common"
    if claim.figure is FigureName.LOSS:
        return _judge_loss(claim, workload, ours, peer, by_round(rounds, workload, NONE, FigureName.LOSS), why)
    return _against_limit(claim, workload, paired_ratio(ours, peer), "×", why)


def judge_paired(paired: Paired) -> Verdict:
    """A figure of another benchmark."""
    if not paired.peer_name:
        return _against_limit(paired, "", median_interval(paired.ours), paired.unit, "not handed over")
    ratio = paired_ratio(dict(enumerate(paired.ours)), dict(enumerate(paired.peer)))
    return _against_limit(paired, "", ratio, "×", "not handed over")


def by_claim(verdicts: Sequence[Verdict]) -> list[tuple[Claim | Paired, list[Verdict]]]:
    """The verdicts of each claim, in their order."""
    groups: list[tuple[Claim | Paired, list[Verdict]]] = []
    for verdict in verdicts:
        if not groups or groups[-1][0] is not verdict.claim:
            groups.append((verdict.claim, []))
        groups[-1][1].append(verdict)
    return groups


def badness(verdict: Verdict) -> tuple[bool, bool, float]:
    """Orders measured verdicts. Missed after met; ratios after differences, as these stand for losses close to none."""
    assert verdict.interval is not None
    least = isinstance(verdict.claim, Claim) and verdict.claim.kind is Kind.ABSOLUTE_LEAST
    size = -verdict.interval.median if least else verdict.interval.median
    return verdict.outcome is Outcome.MISSED, not verdict.is_in_noise, size


def _judge_loss(claim: Claim, workload: str, ours: ByRound, peer: ByRound, placebo: ByRound, why: str) -> Verdict:
    compared = compare_losses(ours, peer, placebo)
    if compared is None or compared.is_ratio:
        return _against_limit(claim, workload, compared.interval if compared else None, "×", why)
    low = compared.interval.low
    noise = f"{claim.peer}'s loss is within the noise of no tool" if placebo else "no rounds without a tool"
    outcome = Outcome.MET if low <= 0 else Outcome.MISSED
    return Verdict(claim, workload, outcome, compared.interval, "points", f"{noise}: the difference instead")


def _against_limit(claim: Claim | Paired, workload: str, interval: Interval | None, unit: str, why: str) -> Verdict:
    """Met where the median is within the limit; where the interval isn't wholly on that side, it is said."""
    if interval is None:
        return Verdict(claim, workload, Outcome.NOT_MEASURED, None, unit, why)
    at_least = isinstance(claim, Claim) and claim.kind is Kind.ABSOLUTE_LEAST
    is_met = interval.median >= claim.limit if at_least else interval.median <= claim.limit
    is_narrow = interval.low < claim.limit < interval.high
    outcome = Outcome.MET if is_met else Outcome.MISSED
    why = "narrowly: the interval has the limit within it" if is_narrow else ""
    return Verdict(claim, workload, outcome, interval, unit, why, is_narrow)


def _workloads_of(claim: Claim, tried: Collection[Place]) -> list[str]:
    """Where it has to be shown: where all its tools were tried, and of workloads that it names, where any was."""
    tools = [tool for tool in (claim.ours, claim.peer) if tool]
    enough = any if claim.workloads else all
    return [
        workload
        for workload in dict.fromkeys(workload for workload, _ in tried)
        if enough((workload, tool) in tried for tool in tools)
        and (not claim.workloads or workload.startswith(tuple(claim.workloads)))
    ]
