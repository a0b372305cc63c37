"""The parts that are pure computing take no more instructions than their budgets allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.instructions import budgets
from benchmarks.instructions.budgets import Budget, Budgets, interpreter, judge, load
from benchmarks.instructions.counting import Counted, count_parts
from benchmarks.instructions.parts import NAMES
from benchmarks.instructions.report import TO_SET, remarks
from tests.support.needs import CannotTest

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]


@pytest.mark.slow
def test_no_part_takes_more_than_its_budget() -> None:
    ours = load().get(interpreter())
    if ours is None:
        raise CannotTest(f"no budgets for {interpreter()}: {TO_SET}")
    counted = count_parts(NAMES)
    verdicts = judge(counted, ours)
    assert all(verdict.budget for verdict in verdicts), remarks(counted, ours)
    assert not any(verdict.is_over for verdict in verdicts), remarks(counted, ours)


@pytest.mark.parametrize(
    ("instructions", "is_over", "is_too_high"),
    [(109_000_000, False, False), (111_000_000, True, False), (84_000_000, False, False), (82_000_000, False, True)],
)
def test_what_a_count_means(instructions: int, is_over: bool, is_too_high: bool) -> None:
    counted = [Counted("decode", "7 samples", "sample", 7, instructions)]
    (verdict,) = judge(counted, Budgets({}, {"decode": Budget("7 samples", 100.0)}))
    assert (verdict.is_over, verdict.is_too_high) == (is_over, is_too_high)


def test_a_budget_is_for_one_input() -> None:
    counted = [Counted("decode", "8 samples", "sample", 8, 100_000_000)]
    (verdict,) = judge(counted, Budgets({}, {"decode": Budget("7 samples", 100.0)}))
    assert verdict.budget is None


def test_budgets_are_set_by_part_and_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "budgets.json"
    monkeypatch.setattr(budgets, "versions", lambda: {"numpy": "2.2"})
    budgets.save([Counted("decode", "7 samples", "sample", 7, 100_040_000)], file)
    budgets.save([Counted("render", "9 stacks", "stack", 9, 50_000_000)], file)
    monkeypatch.setattr(budgets, "interpreter", lambda: "another")
    budgets.save([Counted("decode", "7 samples", "sample", 7, 80_000_000)], file)
    known = load(file)
    decode, render = Budget("7 samples", 100.0), Budget("9 stacks", 50.0)
    assert known[interpreter()] == Budgets({"numpy": "2.2"}, {"decode": decode, "render": render})
    assert known["another"].parts == {"decode": Budget("7 samples", 80.0)}
    assert budgets.differences(known["another"].versions, {"numpy": "2.4"}) == "numpy 2.4, not 2.2"
