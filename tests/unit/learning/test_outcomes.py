"""Which commits failed for a reason of their own."""

from __future__ import annotations

from datetime import timedelta
from itertools import count

import pytest

from builders import NOON
from dawg_orchestrator.learning.outcomes import RunOutcome, own_failures
from dawg_orchestrator.learning.risksamples import LEAST_COMMITS, is_due
from dawg_orchestrator.resources.verdict import Verdict

_MINUTES = count()


def a_run(
    commit: str, verdict: Verdict = Verdict.PASSED, *failing: str, workflow: str = "unit", ran: bool = True
) -> RunOutcome:
    """Each is a minute later than the one before."""
    created = NOON + timedelta(minutes=next(_MINUTES))
    return RunOutcome(commit, workflow, created, verdict, ran, frozenset(failing))


FAILED = Verdict.FAILED


def test_a_commit_whose_tests_fail_has_failed_and_one_whose_tests_pass_has_not() -> None:
    assert own_failures([a_run("a"), a_run("b", FAILED, "t1")]) == {"a": False, "b": True}


@pytest.mark.parametrize("verdict", [Verdict.INFRA_ERROR, Verdict.CANCELLED, Verdict.TIMED_OUT, Verdict.SKIPPED])
def test_what_ended_otherwise_says_nothing(verdict: Verdict) -> None:
    assert own_failures([a_run("a", verdict, "t1")]) == {}
    # and does not hide what was broken before it
    assert own_failures([a_run("a", FAILED, "t1"), a_run("b", verdict), a_run("c", FAILED, "t1")])["c"] is False


def test_flaky_is_no_failure() -> None:
    assert own_failures([a_run("a", Verdict.FLAKY)]) == {"a": False}


def test_a_failure_that_the_commit_before_had_too_is_not_its_own() -> None:
    runs = [a_run("a", FAILED, "t1"), a_run("b", FAILED, "t1"), a_run("c", FAILED, "t1", "t2"), a_run("d")]

    assert own_failures(runs) == {"a": True, "b": False, "c": True, "d": False}


def test_a_failure_that_was_mended_in_between_is_its_own_again() -> None:
    assert own_failures([a_run("a", FAILED, "t1"), a_run("b"), a_run("c", FAILED, "t1")])["c"] is True


def test_what_failed_in_another_workflow_was_not_broken_here() -> None:
    runs = [a_run("a", FAILED, "t1", workflow="unit"), a_run("b", FAILED, "t1", workflow="nightly")]

    assert own_failures(runs) == {"a": True, "b": True}


def test_one_workflow_that_fails_is_enough() -> None:
    runs = [a_run("a", workflow="unit"), a_run("a", FAILED, "t1", workflow="e2e"), a_run("a", workflow="lint")]

    assert own_failures(runs) == {"a": True}


def test_a_test_that_passes_in_another_run_of_the_commit_is_flaky() -> None:
    again = own_failures([a_run("a", FAILED, "t1"), a_run("a")])
    otherwise = own_failures([a_run("a", FAILED, "t1"), a_run("a", FAILED, "t2")])
    still = own_failures([a_run("a", FAILED, "t1", "t2"), a_run("a", FAILED, "t1")])

    assert (again, otherwise, still) == ({"a": False}, {"a": False}, {"a": True})


def test_a_run_again_is_compared_with_the_commit_before_and_not_with_itself() -> None:
    assert own_failures([a_run("a"), a_run("b", FAILED, "t1"), a_run("b", FAILED, "t1")])["b"] is True


def test_a_run_that_only_starts_others_has_no_say_however_it_ends() -> None:
    runs = [a_run("a", FAILED, ran=False), a_run("b", ran=False), a_run("c", FAILED)]  # c: a step failed, no test

    assert own_failures(runs) == {}


def test_the_order_of_time_counts_not_that_of_the_list() -> None:
    runs = [a_run("a", FAILED, "t1"), a_run("b", FAILED, "t1")]

    assert own_failures(reversed(runs)) == {"a": True, "b": False}


@pytest.mark.parametrize(
    ("labelled", "fitted_to", "due"),
    [
        (LEAST_COMMITS - 1, 0, False), (LEAST_COMMITS, 0, True), (519, 500, False), (525, 500, True),
        (10_499, 10_000, False), (10_500, 10_000, True),
    ],
)  # fmt: skip
def test_a_model_is_fitted_anew_when_a_twentieth_more_is_known(labelled: int, fitted_to: int, due: bool) -> None:
    assert is_due(labelled, fitted_to) is due
