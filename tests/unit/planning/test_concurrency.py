"""Concurrency groups: who is admitted, who waits, who gives way."""

from __future__ import annotations

from typing import Any

import pytest

from builders import NOON, a_run, a_task_spec, after, running
from dawg_orchestrator.planning.facts import GroupRun
from dawg_orchestrator.planning.plan import CancelRun
from dawg_orchestrator.planning.testrun import plan_testrun


def other(name: str, created: float, *, admitted: bool = False) -> GroupRun:
    return GroupRun(name, f"uid-{name}", after(created), admitted)


def plan(policy: str, *group: GroupRun, limit: int = 1, **facts: Any) -> Any:
    spec = {"concurrency": {"group": "checkout", "max": limit, "policy": policy}}
    return plan_testrun(a_run(a_task_spec(), spec=spec, group=group, **facts), NOON)


def cancelled(planned: Any) -> list[str]:
    return [action.name for action in planned.actions if isinstance(action, CancelRun)]


@pytest.mark.parametrize(
    ("group", "limit", "enters"),
    [
        ([], 1, True),
        ([other("older", -1)], 1, False),
        ([other("younger", 1)], 1, True),
        ([other("younger", 1, admitted=True)], 1, False),
        ([other("a", -2, admitted=True)], 2, True),
        ([other("a", -2, admitted=True), other("b", -1)], 2, False),
    ],
)
def test_queue_admits_as_many_as_the_limit_and_the_older_first(group: list[GroupRun], limit: int, enters: bool) -> None:
    planned = plan("Queue", *group, limit=limit)

    assert bool(planned.ready) == enters
    if not enters:
        assert planned.status["queue"]["reason"] == "WaitingForGroup"


def test_runs_of_the_same_second_are_told_apart() -> None:
    one, two = plan("Queue", other("a", 0), uid="uid-b"), plan("Queue", other("b", 0), uid="uid-a")

    assert sorted([bool(one.ready), bool(two.ready)]) == [False, True]


def test_a_run_under_way_never_waits_for_its_group() -> None:
    planned = plan("Queue", other("older", -5, admitted=True), started_at=NOON)

    assert planned.ready


@pytest.mark.parametrize("mine", ["uid-a", "uid-c"])
def test_cancel_in_progress_makes_a_run_of_the_same_second_give_way_that_is_under_way(mine: str) -> None:
    assert cancelled(plan("CancelInProgress", other("b", 0, admitted=True), uid=mine)) == ["b"]


def test_cancel_in_progress_makes_older_runs_give_way_and_waits_until_they_have() -> None:
    planned = plan("CancelInProgress", other("old", -2, admitted=True), other("older", -3), other("younger", 1))

    assert cancelled(planned) == ["older", "old"]
    assert not planned.ready


def test_cancel_in_progress_cancels_no_more_than_are_too_many() -> None:
    group = [other("a", -3, admitted=True), other("b", -2, admitted=True)]

    assert cancelled(plan("CancelInProgress", *group, limit=2)) == ["a"]
    assert cancelled(plan("CancelInProgress", *group, limit=3)) == []


def test_a_superseded_run_ends_and_says_by_what() -> None:
    planned = plan("CancelInProgress", superseded=True, states=(running(),), started_at=NOON)

    assert planned.status["verdict"] == "Cancelled"
    assert planned.states[0].reason.value == "Superseded"


def test_skip_ends_a_run_while_another_is_under_way() -> None:
    planned = plan("Skip", other("busy", -1, admitted=True))

    assert (planned.status["verdict"], planned.status["mergeBlocked"]) == ("Skipped", True)
    assert planned.status["conditions"][1]["reason"] == "ConcurrencySkip"


def test_skip_waits_for_an_older_run_that_has_not_begun_and_admits_one_of_two() -> None:
    younger, older = plan("Skip", other("older", -1)), plan("Skip", other("younger", 1))

    assert (bool(younger.ready), bool(older.ready)) == (False, True)
    assert not younger.finished
