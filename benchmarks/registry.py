"""The list of benchmarks, and what each of them hands back."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Settings:
    """How thorough to be."""

    rounds: int
    seconds: int

    @classmethod
    def full(cls) -> Settings:
        """For the record: medians of five recordings of ten seconds."""
        return cls(rounds=5, seconds=10)

    @classmethod
    def quick(cls) -> Settings:
        """For daily use: the figures are noisy."""
        return cls(rounds=2, seconds=4)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a benchmark: a quantity measured on both sides in each round.

    `peer` is empty where there is no peer to compare with, `ours` where we failed. `limit` is what `ours` may be at
    most, or, with `limit_is_ratio`, the ratio to the peer; with `limit_is_least`, at least.
    """

    what: str
    unit: str
    ours: Sequence[float]
    peer: Sequence[float] = ()
    limit: float | None = None
    limit_is_ratio: bool = False
    limit_is_least: bool = False

    @property
    def ours_median(self) -> float | None:
        """The median over the rounds."""
        return statistics.median(self.ours) if self.ours else None

    @property
    def peer_median(self) -> float | None:
        """The peer's median over the rounds."""
        return statistics.median(self.peer) if self.peer else None

    @property
    def ratio(self) -> float | None:
        """The median of ours to the peer's, round by round, as rounds are paired."""
        pairs = [mine / theirs for mine, theirs in zip(self.ours, self.peer, strict=False) if theirs]
        return statistics.median(pairs) if pairs else None

    @property
    def is_met(self) -> bool | None:
        """Whether the limit is kept; None where there is none."""
        if self.limit is None:
            return None
        measured = self.ratio if self.limit_is_ratio else self.ours_median
        if measured is None:
            return False
        return measured >= self.limit if self.limit_is_least else measured <= self.limit

    def as_record(self) -> dict[str, object]:
        """For the JSON file: the rounds and what follows from them."""
        derived = {"ours_median": self.ours_median, "peer_median": self.peer_median, "ratio": self.ratio}
        return {**dataclasses.asdict(self), **derived, "met": self.is_met}


@dataclass(frozen=True, slots=True)
class Report:
    """What a benchmark found: figures, whose peer it was, and remarks on how it went."""

    title: str
    peer_name: str
    figures: Sequence[Figure]
    remarks: Sequence[str] = field(default=())


BenchmarkFunction = Callable[[Settings], Report]
BENCHMARKS: dict[str, BenchmarkFunction] = {}


def benchmark(name: str) -> Callable[[BenchmarkFunction], BenchmarkFunction]:
    """Put a function on the list under this name."""

    def register(function: BenchmarkFunction) -> BenchmarkFunction:
        BENCHMARKS[name] = function
        return function

    return register
