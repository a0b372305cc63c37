"""A whole session of the comparison as JSON, so that its report can be made again without measuring again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.registry import Figure, Report
from benchmarks.side_by_side.claims import Paired
from benchmarks.side_by_side.model import Answer, Round, Usage

FORMAT = "lockflame side by side 1"
Made = TypeVar("Made")
Record = Mapping[str, Any]


class RoundsFileError(Exception):
    """The file can't be read as a session; the message says why."""


@dataclass(frozen=True, slots=True)
class WorkloadFacts:
    """What the report says of a workload; `truth` as in `Workload`."""

    name: str
    unit: str
    what: str
    truth: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class ToolFacts:
    """What the report says of a tool: its name, the package that it is from, and whether it makes a picture."""

    name: str
    package: str
    has_picture: bool = True


@dataclass(frozen=True, slots=True)
class Failure:
    """A tool gave nothing on a workload: in this round, or in none (`number` is None)."""

    workload: str
    tool: str
    reason: str
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """All that was measured in one go. `started` is an ISO date and time (UTC); `machine` and `versions` by name.

    `method` are sentences on how it went: rounds, windows, order, warm-up. `notes` say what stands in the way where a
    claim falls short. `reports` are the other benchmarks'.
    """

    started: str
    duration_s: float
    commit: str
    workloads: Sequence[WorkloadFacts]
    tools: Sequence[ToolFacts]
    rounds: Sequence[Round]
    failures: Sequence[Failure] = ()
    paired: Sequence[Paired] = ()
    reports: Sequence[Report] = ()
    machine: Mapping[str, str] = field(default_factory=dict[str, str])
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    method: Sequence[str] = ()
    notes: Sequence[str] = ()


def save(session: Session, path: Path) -> None:
    """Write a session; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": FORMAT, **dataclasses.asdict(session)}, indent=1) + "\n")


def load(path: Path) -> Session:
    """Read a session.

    Raises RoundsFileError where the file can't be read, isn't JSON, or has not what a session has.
    """
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as problem:
        raise RoundsFileError(f"{path}: {problem}") from problem
    if not isinstance(record, dict) or record.pop("format", None) != FORMAT:
        raise RoundsFileError(f"{path}: not a file of this benchmark ({FORMAT!r})")
    try:
        return _session(record)
    except (TypeError, ValueError, KeyError, AttributeError) as problem:
        raise RoundsFileError(f"{path}: {type(problem).__name__}: {problem}") from problem


def _session(record: Record) -> Session:
    return Session(
        started=str(record["started"]),
        duration_s=float(record["duration_s"]),
        commit=str(record["commit"]),
        workloads=_each(_workload, record["workloads"]),
        tools=_each(_tool, record["tools"]),
        rounds=_each(_round, record["rounds"]),
        failures=_each(_failure, record["failures"]),
        paired=_each(_paired, record["paired"]),
        reports=_each(_report, record["reports"]),
        machine=_texts(record["machine"]),
        versions=_texts(record["versions"]),
        method=_each(str, record["method"]),
        notes=_each(str, record["notes"]),
    )


def _workload(record: Record) -> WorkloadFacts:
    return WorkloadFacts(str(record["name"]), str(record["unit"]), str(record["what"]), _shares(record["truth"]))


def _tool(record: Record) -> ToolFacts:
    return ToolFacts(str(record["name"]), str(record["package"]), bool(record["has_picture"]))


def _failure(record: Record) -> Failure:
    number = record["number"]
    where = str(record["workload"]), str(record["tool"]), str(record["reason"])
    return Failure(*where, None if number is None else int(number))


def _round(record: Record) -> Round:
    usage = record["usage"]
    return Round(
        workload=str(record["workload"]),
        tool=str(record["tool"]),
        number=int(record["number"]),
        rate_before=float(record["rate_before"]),
        rate_during=float(record["rate_during"]),
        rate_after=float(record["rate_after"]),
        usage=None if usage is None else Usage(**{name: float(value) for name, value in usage.items()}),
        answer=_answer(record["answer"]),
    )


def _answer(record: Record) -> Answer:
    samples, lost, whole = record["samples"], record["lost"], record["whole_percent"]
    return Answer(
        samples=None if samples is None else int(samples),
        lost=None if lost is None else int(lost),
        whole_percent=None if whole is None else float(whole),
        shares=_shares(record["shares"]),
        lock_paths=_each(str, record["lock_paths"]),
    )


def _paired(record: Record) -> Paired:
    return Paired(
        what=str(record["what"]),
        ours=_each(float, record["ours"]),
        peer=_each(float, record["peer"]),
        limit=float(record["limit"]),
        unit=str(record["unit"]),
        peer_name=str(record["peer_name"]),
    )


def _report(record: Record) -> Report:
    figures = _each(_figure, record["figures"])
    return Report(str(record["title"]), str(record["peer_name"]), figures, _each(str, record["remarks"]))


def _figure(record: Record) -> Figure:
    limit = record["limit"]
    return Figure(
        what=str(record["what"]),
        unit=str(record["unit"]),
        ours=_each(float, record["ours"]),
        peer=_each(float, record["peer"]),
        limit=None if limit is None else float(limit),
        limit_is_ratio=bool(record["limit_is_ratio"]),
        limit_is_least=bool(record["limit_is_least"]),
    )


def _each(make: Callable[[Any], Made], records: object) -> tuple[Made, ...]:
    if not isinstance(records, list):
        raise TypeError(f"a list was expected, not {records!r:.40}")
    return tuple(make(record) for record in records)


def _shares(record: Record) -> dict[str, float]:
    return {str(name): float(share) for name, share in record.items()}


def _texts(record: Record) -> dict[str, str]:
    return {str(name): str(text) for name, text in record.items()}
