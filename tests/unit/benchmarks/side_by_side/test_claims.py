"""Claims are judged by rounds of both; what isn't measured is never met."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from benchmarks.side_by_side import ours, peers
from benchmarks.side_by_side.claims import (
    BCC_PROFILE,
    HELP_START,
    LOCK_WORKLOADS,
    MUST_SHOW,
    MUST_SHOW_PAIRED,
    NONE,
    OURS,
    OURS_FP,
    OURS_LOCKS,
    PERF_FP,
    PICTURE_PLAIN,
    PMLOCK,
    Claim,
    FigureName,
    Kind,
    Outcome,
    Verdict,
    badness,
    by_claim,
    by_round,
    error_points,
    judge,
    judge_all,
    judge_paired,
    lock_paths_found,
)
from benchmarks.side_by_side.model import Answer, Round, Usage
from benchmarks.side_by_side.workloads import WORKLOADS
from tests.unit.benchmarks.side_by_side.sessions import CONTENDED, made_session

LOSS = Claim(OURS_FP, PERF_FP, FigureName.LOSS, 1.0)
CPU = Claim(OURS_FP, PERF_FP, FigureName.CPU_TOTAL, 1.0)
QUIET = (-0.5, 0.5, 0.0, 0.2, -0.2, 0.1, -0.1)


def rounds_of(tool: str, losses: Sequence[float], workload: str = CONTENDED, cpu_s: float = 1.0) -> list[Round]:
    usage = Usage(cpu_s, cpu_s, 10, 10, 1, 0.2, 0.5)
    return [
        Round(workload, tool, number, 100.0, 100.0 - loss, 100.0, usage, Answer()) for number, loss in enumerate(losses)
    ]


def judged_losses(ours: Sequence[float], peer: Sequence[float], none: Sequence[float] = QUIET) -> Verdict:
    rounds = [*rounds_of(OURS_FP, ours), *rounds_of(PERF_FP, peer), *rounds_of(NONE, none)]
    (verdict,) = judge(LOSS, rounds)
    return verdict


def test_a_loss_is_judged_by_its_ratio_where_the_peers_is_clear() -> None:
    peer = (10.0, 11.0, 9.0, 10.0, 10.5, 9.5, 10.0)
    assert judged_losses([loss / 2 for loss in peer], peer).outcome is Outcome.MET
    missed = judged_losses([loss * 2 for loss in peer], peer)
    assert (missed.outcome, missed.unit, missed.is_narrow) == (Outcome.MISSED, "×", False)
    assert missed.interval is not None
    assert missed.interval.median == pytest.approx(2)


def test_a_loss_in_the_noise_is_judged_by_the_difference() -> None:
    verdict = judged_losses((0.3, 0.1, -0.2, 0.4, 0.0, 0.1, 0.2), QUIET)
    assert (verdict.outcome, verdict.is_in_noise) == (Outcome.MET, True)
    assert "noise" in verdict.why
    assert judged_losses((5.0,) * 7, QUIET).outcome is Outcome.MISSED
    assert judged_losses((-5.0,) * 7, QUIET).outcome is Outcome.MET


def test_without_a_placebo_losses_are_judged_by_the_difference_and_it_is_said() -> None:
    verdict = judged_losses((5.0,) * 7, (10.0,) * 7, ())
    assert (verdict.outcome, verdict.unit) == (Outcome.MET, "points")
    assert "no rounds without a tool" in verdict.why


def test_a_limit_within_the_interval_is_narrow() -> None:
    ours = [
        replace(one, usage=replace(one.usage, cpu_total_s=0.9 + one.number / 20))
        for one in rounds_of(OURS_FP, QUIET)
        if one.usage
    ]
    (verdict,) = judge(CPU, [*ours, *rounds_of(PERF_FP, QUIET)])
    assert (verdict.outcome, verdict.is_narrow) == (Outcome.MISSED, True)
    assert "narrowly" in verdict.why


def test_what_did_not_run_is_not_measured() -> None:
    (verdict,) = judge(CPU, rounds_of(OURS_FP, QUIET), [(CONTENDED, PERF_FP)])
    assert (verdict.outcome, verdict.why) == (Outcome.NOT_MEASURED, f"nothing from {PERF_FP}")
    (verdict,) = judge(CPU, [])
    assert (verdict.workload, verdict.outcome) == ("", Outcome.NOT_MEASURED)
    later = [replace(one, number=one.number + 100) for one in rounds_of(PERF_FP, QUIET)]
    (verdict,) = judge(CPU, [*rounds_of(OURS_FP, QUIET), *later])
    assert verdict.why == "no round in common"


def test_a_workload_that_was_not_meant_for_both_is_none_of_the_claim_unless_it_is_named() -> None:
    rounds = [
        *rounds_of(OURS_FP, QUIET),
        *rounds_of(PERF_FP, QUIET),
        *rounds_of(OURS_FP, QUIET, "fork storm"),
    ]
    assert [verdict.workload for verdict in judge(CPU, rounds)] == [CONTENDED]
    named = judge(replace(CPU, workloads=("fork",)), rounds)
    assert [(verdict.workload, verdict.outcome) for verdict in named] == [("fork storm", Outcome.NOT_MEASURED)]


def test_rounds_without_the_figure_are_left_out() -> None:
    rounds = rounds_of(OURS_FP, (1.0, 2.0, 3.0))
    rounds[0] = replace(rounds[0], usage=None)
    rounds[1] = replace(rounds[1], rate_before=0.0, rate_after=0.0)
    assert by_round(rounds, CONTENDED, OURS_FP, FigureName.CPU_TOTAL).keys() == {1, 2}
    assert by_round(rounds, CONTENDED, OURS_FP, FigureName.LOSS) == {0: pytest.approx(1.0), 2: pytest.approx(3.0)}


def test_claims_about_some_workloads_leave_out_the_others() -> None:
    claim = Claim(OURS_LOCKS, PMLOCK, FigureName.LOSS, 0.1, workloads=LOCK_WORKLOADS)
    rounds = [
        one
        for workload in (CONTENDED, "MariaDB read-write", "MariaDB point select + processlist", "fork storm")
        for tool, losses in ((OURS_LOCKS, (2.0,) * 7), (PMLOCK, (50.0,) * 7), (NONE, QUIET))
        for one in rounds_of(tool, losses, workload)
    ]
    assert [verdict.workload for verdict in judge(claim, rounds)] == [CONTENDED, "MariaDB point select + processlist"]


@pytest.mark.parametrize(
    ("ours", "found"),
    [(("c", "x", "b", "a"), 100.0), (("b", "c"), 0.0), ((), 0.0)],
)
def test_our_lock_paths_have_to_contain_the_peers_first(ours: Sequence[str], found: float) -> None:
    def with_paths(tool: str, paths: Sequence[str]) -> Round:
        return replace(rounds_of(tool, (0.0,))[0], answer=Answer(lock_paths=paths))

    rounds = [with_paths(OURS_LOCKS, ours), with_paths(PMLOCK, ("a", "b", "c", "d"))]
    assert lock_paths_found(rounds, CONTENDED, OURS_LOCKS, PMLOCK) == {0: pytest.approx(found)}
    claim = Claim(OURS_LOCKS, PMLOCK, FigureName.LOCK_PATHS, 100.0, Kind.ABSOLUTE_LEAST, "%")
    (verdict,) = judge(claim, rounds)
    assert verdict.outcome is (Outcome.MET if found == 100 else Outcome.MISSED)
    (verdict,) = judge(claim, [rounds[0], with_paths(PMLOCK, ())])
    assert verdict.outcome is Outcome.NOT_MEASURED


def test_paired_figures_are_judged_by_ratio_or_by_themselves() -> None:
    assert judge_paired(replace(PICTURE_PLAIN, ours=(0.5, 0.6), peer=(2.5, 2.4))).outcome is Outcome.MET
    assert judge_paired(replace(PICTURE_PLAIN, ours=(0.7, 0.8), peer=(2.5, 2.4))).outcome is Outcome.MISSED
    assert judge_paired(replace(HELP_START, ours=(0.16,))).outcome is Outcome.MISSED
    assert judge_paired(replace(HELP_START, ours=(0.14,))).outcome is Outcome.MET
    assert judge_paired(replace(PICTURE_PLAIN, ours=(0.5,))).outcome is Outcome.NOT_MEASURED


def test_what_was_not_handed_over_is_said_and_what_is_more_is_kept() -> None:
    extra = replace(HELP_START, what="lockflame doctor", ours=(0.1,))
    longer = replace(HELP_START, what=f"{HELP_START.what}, cold", ours=(0.2,))
    assert HELP_START not in [verdict.claim for verdict in judge_all([], [], [longer])]
    verdicts = judge_all([], [], [extra, replace(HELP_START, ours=(0.1,))])
    outcomes = {verdict.claim.title: verdict.outcome for verdict in verdicts}
    assert outcomes.pop(PICTURE_PLAIN.title) is Outcome.NOT_MEASURED
    assert outcomes.pop("lockflame --help") is Outcome.MET
    assert outcomes.pop("lockflame doctor") is Outcome.MET
    assert set(outcomes.values()) == {Outcome.NOT_MEASURED}


def test_each_must_show_is_judged_on_a_whole_session() -> None:
    session = made_session()
    failed = [(failure.workload, failure.tool) for failure in session.failures]
    groups = by_claim(judge_all(MUST_SHOW, session.rounds, session.paired, failed))
    assert len(groups) == len(MUST_SHOW) + len(MUST_SHOW_PAIRED)
    by_title = {claim.title: verdicts for claim, verdicts in groups}
    assert len(by_title[f"loss of the target, {OURS_FP} / {PERF_FP}"]) == len(session.workloads)
    assert len(by_title[f"loss of the target, {OURS_LOCKS} / {PMLOCK}"]) == 4
    not_measured = [
        verdict.workload
        for verdict in by_title[f"command to first sample, {OURS} / {BCC_PROFILE}"]
        if verdict.outcome is Outcome.NOT_MEASURED
    ]
    assert not_measured == ["Redis"]


def test_the_worst_is_the_farthest_from_its_limit() -> None:
    worse = judged_losses((9.0,) * 7, (10.0,) * 7)
    better = judged_losses((1.0,) * 7, (10.0,) * 7)
    in_noise = judged_losses((0.3,) * 7, QUIET)
    missed = judged_losses((5.0,) * 7, QUIET)
    assert sorted([worse, missed, in_noise, better], key=badness)[-2:] == [worse, missed]


@pytest.mark.parametrize(
    ("shares", "error"), [({"f": 60.0, "g": 28.0}, 2.0), ({"f": 60.0}, 30.0), ({"h": 1.0}, 60.0), ({}, None)]
)
def test_the_error_is_the_largest_of_all_functions_known(shares: Mapping[str, float], error: float | None) -> None:
    one = replace(rounds_of(OURS, (0.0,))[0], answer=Answer(shares=shares))
    assert error_points([one], {"f": 60.0, "g": 30.0}) == error
    assert error_points([one], {}) is None


def test_what_claims_name_is_there() -> None:
    """A name that changes would make a claim "not measured"."""
    for claim in MUST_SHOW:
        assert {claim.ours, claim.peer} <= {*ours.TOOLS, *peers.TOOLS, ""}
        for beginning in claim.workloads:
            assert any(name.startswith(beginning) for name in WORKLOADS)


def test_a_missed_claim_is_found_whatever_the_noise() -> None:
    """Ours loses three times what the peer does, each well above the noise: never met."""
    chance = random.Random(2)
    for _ in range(50):
        peer = [chance.gauss(8, 1) for _ in range(7)]
        ours = [chance.gauss(24, 1) for _ in range(7)]
        assert judged_losses(ours, peer, [chance.gauss(0, 0.7) for _ in range(7)]).outcome is Outcome.MISSED
