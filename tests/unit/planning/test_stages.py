"""What comes only after a failure, and what comes at the very end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import (
    NOON,
    Reason,
    Verdict,
    a_run_of,
    a_step,
    a_task_spec,
    a_workflow,
    after,
    ended,
    running,
    waiting,
)
from dawg_orchestrator.planning.plan import RunPlan, StopAttempt
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.testrun import plan_testrun
from dawg_orchestrator.resources.workflow import WorkflowSpec

UNIT, TELL, END = 0, 1, 2
BAD = [Verdict.FAILED, Verdict.TIMED_OUT, Verdict.INFRA_ERROR, Verdict.CANCELLED]


def staged(**fields: Any) -> WorkflowSpec:
    """A test, somebody to tell when it fails, and something to clear away."""
    return a_workflow(onFailure=[a_task_spec("tell")], **{"finally": [a_task_spec("end")], **fields})


def planned(*states: TaskState, now: float = 9, spec: dict[str, Any] | None = None, **facts: Any) -> RunPlan:
    known = {"states": states, "started_at": NOON, "leased": frozenset(i for i, s in enumerate(states) if s.running)}
    return plan_testrun(a_run_of(staged(), spec, **{**known, **facts}), after(now))


def ready(plan: RunPlan) -> list[int]:
    return [task.index for task in plan.ready]


def ends(plan: RunPlan) -> list[str]:
    return [state.reason.value if state.verdict and state.reason else "" for state in plan.states]


@pytest.mark.parametrize("states", [(waiting(),), (running(),)])
def test_later_stages_wait_for_the_whole_stage_before_and_say_for_what(states: tuple[TaskState, ...]) -> None:
    plan = planned(*states, waiting(), waiting())

    assert ready(plan) in ([], [UNIT])
    told = {entry["index"]: (entry["reason"], entry.get("message")) for entry in plan.status["tasks"]}
    assert told[TELL] == ("WaitingForNeeds", "unit must end first")
    assert told[END] == ("WaitingForNeeds", "unit, tell must end first")


@pytest.mark.parametrize("verdict", [Verdict.PASSED, Verdict.FLAKY])
def test_nothing_is_told_when_nothing_failed_and_the_end_comes_at_once(verdict: Verdict) -> None:
    plan = planned(ended(verdict), waiting(), waiting())

    assert ready(plan) == [END]
    assert ends(plan)[TELL] == "NothingFailed"


@pytest.mark.parametrize("verdict", BAD)
def test_a_failure_is_told_before_the_end_comes(verdict: Verdict) -> None:
    assert ready(planned(ended(verdict), waiting(), waiting())) == [TELL]
    assert ready(planned(ended(verdict), ended(), waiting())) == [END]
    assert ready(planned(ended(verdict), ended(Verdict.FAILED), waiting())) == [END]


def test_a_task_that_was_not_wanted_is_no_failure_and_one_that_was_kept_from_running_is() -> None:
    unwanted = ended(Verdict.SKIPPED, Reason.CONDITION_FALSE)
    hidden = ended(Verdict.SKIPPED, Reason.NEED_NOT_PASSED)

    assert ready(planned(unwanted, waiting(), waiting())) == [END]
    assert ready(planned(hidden, waiting(), waiting())) == [TELL]


def test_the_failure_of_something_at_the_end_fails_the_run_and_tells_nobody() -> None:
    plan = planned(ended(), waiting(), ended(Verdict.FAILED))

    assert ends(plan)[TELL] == "NothingFailed"
    assert (plan.finished, plan.status["verdict"]) == (True, "Failed")


def test_a_run_of_which_only_the_end_ran_has_not_passed_and_may_not_be_merged() -> None:
    plan = planned(ended(Verdict.SKIPPED, Reason.CONDITION_FALSE), waiting(), ended())

    assert (plan.finished, plan.status["verdict"], plan.status["mergeBlocked"]) == (True, "Skipped", True)
    assert {c["reason"] for c in plan.status["conditions"] if c["type"] != "Seen"} == {"NothingRan"}


# Cancelled, out of time, failed fast


def test_the_end_comes_also_after_a_cancellation() -> None:
    plan = planned(running(), waiting(), waiting(), spec={"cancelled": True})
    assert [action for action in plan.actions if isinstance(action, StopAttempt)] == [StopAttempt(0, Reason.CANCELLED)]
    assert (ready(plan), ends(plan)) == ([], ["", "Cancelled", ""])

    later = planned(ended(Verdict.CANCELLED), plan.states[TELL], waiting(), spec={"cancelled": True})
    assert (ready(later), later.finished) == ([END], False)

    over = planned(ended(Verdict.CANCELLED), plan.states[TELL], ended(), spec={"cancelled": True})
    assert (over.finished, over.status["verdict"]) == (True, "Cancelled")


def test_a_run_that_gives_way_to_a_newer_one_still_has_its_end() -> None:
    plan = planned(ended(Verdict.CANCELLED, Reason.SUPERSEDED), waiting(), waiting(), superseded=True)

    assert (ready(plan), ends(plan)[TELL]) == ([END], "Superseded")


@pytest.mark.parametrize("facts", [{"spec": {"cancelled": True}}, {"superseded": True}])
def test_nothing_is_cleared_away_when_nothing_began(facts: dict[str, Any]) -> None:
    plan = planned(waiting(), waiting(), waiting(), started_at=None, **facts)

    assert plan.finished
    assert plan.status["verdict"] == "Cancelled"


def test_the_end_has_as_long_as_the_run_had_once_more() -> None:
    unit = ended(Verdict.TIMED_OUT, Reason.RUN_TIMEOUT)
    over = ended(Verdict.TIMED_OUT, Reason.RUN_TIMEOUT)
    known: dict[str, Any] = {"spec": {"timeout": "60s"}}

    first = planned(running(), waiting(), waiting(), now=60, **known)
    assert ends(first) == ["", "RunTimeout", ""]
    assert ready(planned(unit, over, waiting(), now=119, **known)) == [END]
    going = planned(unit, over, running(), now=119, **known)
    assert (going.states[END].stopping, going.check_again_at) == (None, after(120))
    assert planned(unit, over, running(), now=120, **known).states[END].stopping is Reason.RUN_TIMEOUT
    assert ends(planned(unit, over, waiting(), now=120, **known))[END] == "RunTimeout"


def test_fail_fast_ends_the_main_stage_and_nothing_else() -> None:
    workflow = a_workflow(
        a_task_spec("a"), a_task_spec("b"), a_task_spec("c"), failFast=True, onFailure=[a_task_spec("tell")],
        **{"finally": [a_task_spec("end")]},
    )  # fmt: skip
    facts = a_run_of(workflow, states=(ended(Verdict.FAILED), running(), waiting(), waiting(), waiting()),
                     started_at=NOON, leased=frozenset({1}))  # fmt: skip

    plan = plan_testrun(facts, NOON)
    assert [action for action in plan.actions if isinstance(action, StopAttempt)] == [StopAttempt(1, Reason.FAIL_FAST)]
    assert ends(plan)[2:] == ["FailFast", "", ""]

    stopped = (plan.states[0], ended(Verdict.CANCELLED, Reason.FAIL_FAST), *plan.states[2:])
    assert ready(plan_testrun(replace(facts, states=stopped, leased=frozenset()), NOON)) == [3]


def test_a_failure_at_the_end_does_not_fail_the_rest_of_it_fast() -> None:
    workflow = a_workflow(failFast=True, **{"finally": [a_task_spec("one"), a_task_spec("two")]})

    plan = plan_testrun(a_run_of(workflow, states=(ended(), ended(Verdict.FAILED), waiting()), started_at=NOON), NOON)

    assert ready(plan) == [2]


def test_tasks_of_the_end_may_need_each_other() -> None:
    workflow = a_workflow(**{"finally": [a_task_spec("one"), a_task_spec("two", needs=["one"])]})
    facts = a_run_of(workflow, states=(ended(), waiting(), waiting()), started_at=NOON)

    assert ready(plan_testrun(facts, NOON)) == [1]
    second = plan_testrun(replace(facts, states=(ended(), ended(), waiting())), NOON)
    assert ready(second) == [2]
    skipped = plan_testrun(replace(facts, states=(ended(), ended(Verdict.FAILED), waiting())), NOON)
    assert ends(skipped)[2] == "NeedNotPassed"


def test_a_step_of_the_end_decides_nothing_before_its_turn() -> None:
    workflow = a_workflow(**{"finally": [a_step("again", "start-workflow", {"workflow": "w", "wait": False})]})

    plan = plan_testrun(a_run_of(workflow, states=(running(), waiting()), leased=frozenset({0}), started_at=NOON), NOON)

    assert (plan.actions, plan.states[1]) == ((), waiting())


def test_what_waits_for_somebody_is_told_before_what_waits_for_other_tasks() -> None:
    workflow = a_workflow(a_step("gate", "gate"), a_task_spec("unit"), **{"finally": [a_task_spec("end")]})

    plan = plan_testrun(a_run_of(workflow), NOON)

    assert plan.status["queue"]["reason"] == "WaitingForAgent"
