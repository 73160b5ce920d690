"""Which runs a Workflow's triggers ask for, and that none is asked for twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from builders import LONG_AGO, NOON, a_task_spec, after
from dawg_orchestrator.planning.triggers import (
    MEMORY,
    AskedRun,
    FailedRun,
    Rollout,
    TriggerFacts,
    TriggerPlan,
    plan_triggers,
)
from dawg_orchestrator.resources.workflow import WorkflowSpec

SOURCE = {"git": {"url": "https://example.org/repo", "revision": "a" * 40}}


def facts(*triggers: dict[str, Any], parameters: tuple[str, ...] = (), **fields: Any) -> TriggerFacts:
    spec = WorkflowSpec.model_validate(
        {"tasks": [a_task_spec()], "triggers": list(triggers), "parameters": [{"name": name} for name in parameters]}
    )
    known = {"workflow": "repair", "uid": "w-1", "created": LONG_AGO, "spec": spec, "written": {}}
    return TriggerFacts(**(known | fields))


def failed(name: str = "checkout-1", uid: str = "r-1", **fields: Any) -> FailedRun:
    known = {"labels": {"team": "shop"}, "ended_at": NOON, "source": SOURCE, "fixable": None}
    return FailedRun(name, uid, **(known | fields))


def rollout(revision: str = "2", *, complete: bool = True, name: str = "web", uid: str = "d-1") -> Rollout:
    return Rollout(name, uid, revision, {"app": name}, complete, image="shop:2", since=LONG_AGO)


def asked(plan: TriggerPlan) -> list[str]:
    return [run.by for run in plan.runs]


ANY_FAILURE: dict[str, Any] = {"testRunFailed": {}}
ANY_ROLLOUT: dict[str, Any] = {"deployment": {}}


def test_a_failed_run_asks_for_one_on_the_same_commit_that_says_what_failed() -> None:
    plan = plan_triggers(facts(ANY_FAILURE, parameters=("failedRun",), failed=(failed(),)), after(1))

    (run,) = plan.runs
    assert (run.by, run.parameters, run.source, run.parent) == (
        "testRunFailed checkout-1", {"failedRun": "checkout-1"}, SOURCE, "r-1",
    )  # fmt: skip
    assert plan.triggers == {"failedRunsUntil": "2026-01-05T12:00:00Z"}


def test_what_the_workflow_does_not_declare_is_not_given() -> None:
    assert plan_triggers(facts(ANY_FAILURE, failed=(failed(),)), after(1)).runs[0].parameters == {}


@pytest.mark.parametrize(
    ("trigger", "run"),
    [
        ({"selector": {"matchLabels": {"team": "other"}}}, {}),
        ({"autoFixable": True}, {}),
        ({"autoFixable": True}, {"fixable": False}),
        ({}, {"ended_at": LONG_AGO - timedelta(seconds=1)}),  # before the Workflow was created
        ({}, {"ended_at": NOON - MEMORY}),
    ],
)
def test_a_failure_that_is_not_meant_asks_for_nothing(trigger: dict[str, Any], run: dict[str, Any]) -> None:
    assert asked(plan_triggers(facts({"testRunFailed": trigger}, failed=(failed(**run),)), after(1))) == []


def test_a_failure_asks_once_of_this_leader_and_of_the_next() -> None:
    first = plan_triggers(facts(ANY_FAILURE, failed=(failed(),)), after(1))
    same = facts(ANY_FAILURE, failed=(failed(),), written=first.triggers, answered=frozenset({first.runs[0].name}))
    much_later = facts(ANY_FAILURE, failed=(failed(), failed("late", "r-2", ended_at=after(600))), written={
        "failedRunsUntil": "2026-01-05T12:10:00Z"
    })  # fmt: skip

    assert asked(plan_triggers(same, after(2))) == []
    assert asked(plan_triggers(much_later, after(601))) == ["testRunFailed late"]
    assert plan_triggers(facts(ANY_FAILURE, failed=(failed(),)), after(9)).runs[0].name == first.runs[0].name


def test_of_two_that_end_at_about_the_same_time_none_is_lost_with_the_leader() -> None:
    noted = {"failedRunsUntil": "2026-01-05T12:00:02Z"}  # of the second one; the first had not been answered

    plan = plan_triggers(facts(ANY_FAILURE, failed=(failed(),), written=noted), after(30))

    assert asked(plan) == ["testRunFailed checkout-1"]
    assert plan.triggers == noted


def test_the_first_look_at_deployments_answers_nothing_of_the_past() -> None:
    plan = plan_triggers(facts(ANY_ROLLOUT, rollouts=(rollout(),)), NOON)

    assert asked(plan) == []
    assert plan.triggers == {"rollouts": {"web": "d-1/2"}}


def test_a_rollout_asks_once_when_it_is_complete() -> None:
    before = {"rollouts": {"web": "d-1/1"}}
    under_way = plan_triggers(facts(ANY_ROLLOUT, rollouts=(rollout(complete=False),), written=before), NOON)
    complete = plan_triggers(
        facts(ANY_ROLLOUT, rollouts=(rollout(),), written=under_way.triggers, parameters=("deployment", "image")), NOON
    )
    after_it = plan_triggers(facts(ANY_ROLLOUT, rollouts=(rollout(),), written=complete.triggers), NOON)

    assert under_way.triggers == before
    assert [asked(plan) for plan in (under_way, complete, after_it)] == [[], ["deployment web"], []]
    assert complete.runs[0].parameters == {"deployment": "web", "image": "shop:2"}


def test_a_rollout_is_given_time_until_nobody_is_sent_to_the_former_pods() -> None:
    before = {"rollouts": {"web": "d-1/1"}}
    fresh = replace(rollout(), since=NOON)
    plans = [plan_triggers(facts(ANY_ROLLOUT, rollouts=(fresh,), written=before), after(time)) for time in (0, 4.9, 5)]

    assert [asked(plan) for plan in plans] == [[], [], ["deployment web"]]
    assert [plan.triggers for plan in plans] == [before, before, {"rollouts": {"web": "d-1/2"}}]
    assert [plan.check_again_at for plan in plans] == [after(5), after(5), None]


def test_a_deployment_that_comes_later_or_anew_asks_for_its_first_revision() -> None:
    noted = {"rollouts": {"web": "d-1/1"}}

    plan = plan_triggers(
        facts(ANY_ROLLOUT, rollouts=(rollout("1", uid="d-2"), rollout("1", name="api")), written=noted), NOON
    )

    assert asked(plan) == ["deployment web", "deployment api"]


def test_only_deployments_with_the_labels_are_looked_at() -> None:
    trigger = {"deployment": {"selector": {"matchLabels": {"app": "api"}}}}

    plan = plan_triggers(facts(trigger, rollouts=(rollout(),), written={"rollouts": {}}), NOON)

    assert plan == TriggerPlan((), {"rollouts": {}})


def test_notes_that_are_none_count_as_none() -> None:
    plan = plan_triggers(
        facts(ANY_FAILURE, ANY_ROLLOUT, failed=(failed(),), written={"failedRunsUntil": 7, "rollouts": "x"}), after(1)
    )

    assert [type(run) for run in plan.runs] == [AskedRun]
