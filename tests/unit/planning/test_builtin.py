"""The steps that the controller carries out itself: gate, approve, run-tests, start-workflow."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from builders import (
    NOON,
    Reason,
    Verdict,
    a_pool,
    a_run,
    a_step,
    a_task_spec,
    after,
    counts,
    ended,
    running,
    waiting,
)
from dawg_orchestrator.planning.approving import read_approval
from dawg_orchestrator.planning.facts import Approval, ChildRun, GroupRun, PoolFact, RunFacts, WorkflowFact
from dawg_orchestrator.planning.plan import CancelRun, RunPlan, StartRuns, StopRuns, WantedRun
from dawg_orchestrator.planning.progress import TaskState, begun
from dawg_orchestrator.planning.restore import restore
from dawg_orchestrator.planning.settle import STOP_GRACE
from dawg_orchestrator.planning.starting import DEEPEST, MOST_OF_A_ROOT
from dawg_orchestrator.planning.testrun import plan_testrun
from dawg_orchestrator.resources.results import FailedCase

HOUR = timedelta(hours=1)
SUITES = {"a": WorkflowFact("smoke"), "b": WorkflowFact("smoke"), "c": WorkflowFact()}
RUN_TESTS = a_step("tests", "run-tests", {"suites": ["smoke"]})
FOLLOWING = replace(begun(TaskState(), NOON), reason=Reason.WAITING_FOR_RUNS)


def a_child(name: str = "child", verdict: Verdict | None = None, **fields: Any) -> ChildRun:
    return ChildRun(name, f"uid-{name}", verdict, **fields)


def starts(plan: RunPlan) -> list[tuple[int, list[str]]]:
    return [(a.index, [run.workflow for run in a.runs]) for a in plan.actions if isinstance(a, StartRuns)]


def stops(plan: RunPlan) -> list[int]:
    return [action.index for action in plan.actions if isinstance(action, StopRuns)]


def end(plan: RunPlan, index: int = 0) -> tuple[str, str] | None:
    state = plan.states[index]
    return (state.verdict.value, state.reason.value) if state.verdict and state.reason else None


def merge(plan: RunPlan) -> tuple[str, str]:
    (found,) = [entry for entry in plan.status["conditions"] if entry["type"] == "MergeAllowed"]
    return found["status"], found["reason"]


# Gate


def gated(*states: TaskState, first: dict[str, Any] | None = None, **needs: Any) -> RunPlan:
    """Tasks a and b, and a gate over both."""
    return plan_testrun(
        a_run(
            a_task_spec("a", **(first or {})), a_task_spec("b"), a_step("gate", "gate", needs=["a", "b"], **needs),
            states=(*states, waiting()), started_at=NOON,
        ), NOON,
    )  # fmt: skip


@pytest.mark.parametrize(("a", "b", "verdict"), [
    (ended(), ended(), "Passed"), (ended(), ended(Verdict.FLAKY), "Passed"),
    (ended(), ended(Verdict.FAILED), "Failed"), (ended(), ended(Verdict.INFRA_ERROR), "Failed"),
    (ended(), ended(Verdict.SKIPPED, Reason.CONDITION_FALSE), "Passed"),
    (ended(), ended(Verdict.SKIPPED, Reason.NEED_NOT_PASSED), "Failed"),
    (ended(Verdict.SKIPPED, Reason.CONDITION_FALSE), ended(Verdict.SKIPPED, Reason.CONDITION_FALSE), "Failed"),
])  # fmt: skip
def test_a_gate_decides_over_what_it_needs(a: TaskState, b: TaskState, verdict: str) -> None:
    plan = gated(a, b)

    assert (end(plan, 2) or ("",))[0] == verdict
    assert merge(plan)[0] == str(verdict == "Passed")


def test_of_what_a_gate_needs_only_the_critical_tasks_decide_where_some_are() -> None:
    assert (end(gated(ended(), ended(Verdict.FAILED), first={"critical": True}), 2) or ("",))[0] == "Passed"
    assert (end(gated(ended(Verdict.FAILED), ended(), first={"critical": True}), 2) or ("",))[0] == "Failed"


def test_a_gate_waits_for_all_that_it_needs_and_the_merge_is_blocked_meanwhile() -> None:
    plan = gated(ended(), running())

    assert end(plan, 2) is None
    assert merge(plan) == ("False", "TestsPending")


@pytest.mark.parametrize(("again", "verdict"), [
    (ended(Verdict.FAILED), "Failed"), (ended(Verdict.CANCELLED), "Failed"), (running(), ""), (ended(), "Passed"),
])  # fmt: skip
@pytest.mark.parametrize("critical", [True, False])
def test_a_gate_also_heeds_what_a_passed_task_had_needed_whose_result_was_lost(
    again: TaskState, verdict: str, critical: bool
) -> None:
    tasks = (a_task_spec("a"), a_task_spec("b", needs=["a"]), a_task_spec("c", needs=["b"], critical=critical),
             a_step("gate", "gate", needs=["c"]))  # fmt: skip

    plan = plan_testrun(a_run(*tasks, states=(again, ended(), ended(), waiting()), started_at=NOON), NOON)

    assert (end(plan, 3) or ("",))[0] == verdict


def test_what_did_not_pass_before_a_skipped_task_that_is_not_critical_shuts_no_gate() -> None:
    tasks = (a_task_spec("a", critical=True), a_task_spec("b"), a_task_spec("c", needs=["b"]),
             a_step("gate", "gate", needs=["a", "c"]))  # fmt: skip
    states = ended(), ended(Verdict.FAILED), ended(Verdict.SKIPPED, Reason.NEED_NOT_PASSED), waiting()

    assert (end(plan_testrun(a_run(*tasks, states=states, started_at=NOON), NOON), 3) or ("",))[0] == "Passed"


@pytest.mark.parametrize(("gate", "merged"), [(Verdict.PASSED, "True"), (Verdict.FAILED, "False")])
@pytest.mark.parametrize("later", [Verdict.PASSED, Verdict.FAILED, Verdict.INFRA_ERROR, Verdict.CANCELLED])
def test_later_tasks_cannot_change_what_the_gate_decided(gate: Verdict, merged: str, later: Verdict) -> None:
    tasks = a_task_spec("a"), a_step("gate", "gate", needs=["a"]), a_task_spec("after")
    reason = Reason.MERGE_ALLOWED if gate is Verdict.PASSED else Reason.MERGE_BLOCKED

    plan = plan_testrun(a_run(*tasks, states=(ended(gate), ended(gate, reason), ended(later))), NOON)

    assert plan.finished
    assert merge(plan)[0] == merged


def test_a_gate_that_its_own_condition_leaves_out_stays_shut() -> None:
    plan = gated(ended(), ended(), when="false")

    assert plan.finished
    assert merge(plan) == ("False", "MergeBlocked")


def test_a_gate_that_names_no_needs_decides_over_all_but_what_comes_after_it() -> None:
    tasks = (
        RUN_TESTS,
        a_step("gate", "gate"),
        a_task_spec("after", needs=["gate"]),
        a_task_spec("last", needs=["after"]),
    )
    known: dict[str, Any] = {"workflows": SUITES, "started_at": NOON}

    open_ = plan_testrun(a_run(*tasks, states=(FOLLOWING, *(waiting(),) * 3), **known), NOON)
    passed = plan_testrun(a_run(*tasks, states=(ended(), *(waiting(),) * 3), **known), NOON)
    failed = plan_testrun(a_run(*tasks, states=(ended(Verdict.FAILED), *(waiting(),) * 3), **known), NOON)

    assert (end(open_, 1), open_.status["tasks"][1]["reason"]) == (None, "WaitingForNeeds")
    assert end(passed, 1) == ("Passed", "MergeAllowed")
    assert [task.index for task in passed.ready] == [2]
    assert end(failed, 1) == ("Failed", "MergeBlocked")
    assert failed.status["taskVerdicts"] == "FFSS"


@pytest.mark.parametrize(("block", "expected", "told"), [
    ("true", ("Failed", "RiskTooHigh"), "tests passed, but the risk of the commit is high by rules: a.sql is backend"),
    (True, ("Failed", "RiskTooHigh"), "high by rules"), ("false", ("Passed", "MergeAllowed"), "none of them speaks"),
    ("perhaps", ("Failed", "InvalidSpec"), "tasks[gate].with.block"),
])  # fmt: skip
def test_a_gate_that_is_told_to_block_says_how_risky_the_commit_is(
    block: object, expected: tuple[str, str], told: str
) -> None:
    predict, unit = a_step("predict", "predict-risks"), a_task_spec("unit", needs=["predict"])
    gate = a_step("gate", "gate", {"block": {"cel": "tasks['predict'].outputs.block"}}, needs=["unit"])
    if block is True:
        gate["with"] = {"block": True}
    outputs = {0: {"block": str(block), "level": "high", "source": "rules", "summary": "high: a.sql is backend"}}

    plan = plan_testrun(
        a_run(predict, unit, gate, states=(ended(), ended(), waiting()), started_at=NOON, outputs=outputs), NOON
    )

    assert end(plan, 2) == expected
    assert told in plan.states[2].message
    allowed = {"MergeAllowed": ("True", "MergeAllowed"), "RiskTooHigh": ("False", "RiskTooHigh")}
    assert merge(plan) == allowed.get(expected[1], ("False", "MergeBlocked"))
    assert plan.status["mergeBlocked"] == (expected[0] == "Failed")


def test_a_gate_that_is_told_to_block_tells_of_failed_tests_first_and_waits_for_all() -> None:
    block: dict[str, Any] = {"with": {"block": True}}

    assert end(gated(ended(), running(), **block), 2) is None
    assert end(gated(ended(), ended(Verdict.FAILED), **block), 2) == ("Failed", "MergeBlocked")
    blocked = gated(ended(), ended(), **block)
    assert end(blocked, 2) == ("Failed", "RiskTooHigh")
    assert "nobody has said how risky the commit is" in blocked.states[2].message


# Approve


def asked(now: float, approvals: dict[str, Approval] | None = None, **facts: Any) -> RunPlan:
    """A build that passed 10 s after noon, and somebody who is asked for an hour."""
    known = {"states": (ended(ended_at=after(10)), waiting()), "started_at": NOON, "approvals": approvals or {}}
    tasks = a_task_spec("build"), a_step("ok", "approve", {"message": "ship it?"}, needs=["build"])
    return plan_testrun(a_run(*tasks, spec={"timeout": "9h"}, **{**known, **facts}), after(now))


def test_an_approval_is_waited_for_and_says_what_and_until_when() -> None:
    plan = asked(60)

    assert plan.status["queue"] == {
        "reason": "WaitingForApproval", "message": "ship it?; approve or reject until 2026-01-05T13:00:10Z",
    }  # fmt: skip
    assert plan.check_again_at == after(10) + HOUR


@pytest.mark.parametrize(("said", "expected", "message"), [
    (Approval("alice", True), ("Passed", "StepDone"), "approved by alice"),
    (Approval("bob", False, "too risky"), ("Failed", "Rejected"), "rejected by bob: too risky"),
])  # fmt: skip
def test_somebody_approves_or_rejects(said: Approval, expected: tuple[str, str], message: str) -> None:
    plan = asked(60, {"ok": said})

    assert end(plan, 1) == expected
    assert plan.states[1].message == message
    assert plan.outputs[1] == {"by": said.by}


def test_an_approval_of_another_task_approves_nothing() -> None:
    assert end(asked(60, {"other": Approval("alice", True)}), 1) is None


def test_an_approval_in_advance_counts_once_it_is_asked_for() -> None:
    early = asked(5, {"ok": Approval("alice", True)}, states=(running(), waiting()))

    assert end(early, 1) is None


def test_nobody_approves_in_time() -> None:
    assert end(asked(3609), 1) is None
    assert end(asked(3610), 1) == ("Failed", "NotApproved")


def test_the_time_to_approve_counts_from_its_turn_whatever_status_has_lost_and_whenever_a_leader_came() -> None:
    build = a_task_spec("build", matrix={"n": ["1", "2"]}, shards={"count": 150})
    states = (*(ended(ended_at=after(n)) for n in range(300)), waiting())
    facts = a_run(build, a_step("ok", "approve", needs=["build"]), spec={"timeout": "9h"}, started_at=NOON,
                  states=states)  # fmt: skip
    written = plan_testrun(facts, after(2000)).status
    assert facts.graph is not None

    restored = restore(facts.graph, written, {}, after(3000))
    plan = plan_testrun(replace(facts, states=restored.states, written=written), after(3000))

    assert plan.check_again_at == after(299) + HOUR


@pytest.mark.parametrize(("text", "expected"), [
    ("Approved by alice", Approval("alice", True)),
    ("Rejected by system:serviceaccount:a:ci: no: never", Approval("system:serviceaccount:a:ci", False, "no: never")),
    ("approved by alice", None), ("Approved by ", None), ("", None), ("Approved by : x", None),
])  # fmt: skip
def test_what_an_annotation_says(text: str, expected: Approval | None) -> None:
    assert read_approval(text) == expected


# run-tests and start-workflow


def following(*children: ChildRun, step: dict[str, Any] = RUN_TESTS, now: float = 9, **facts: Any) -> RunPlan:
    """A step that has started these."""
    known = {"states": (FOLLOWING,), "started_at": NOON, "workflows": SUITES, "children": {0: children}}
    return plan_testrun(a_run(step, **{**known, **facts}), after(now))


def test_a_step_starts_every_workflow_of_its_suites_once_and_is_under_way_from_then_on() -> None:
    step = a_step("tests", "run-tests", {"suites": ["smoke"], "workflows": ["c", "a"], "parameters": {"x": "1"}})

    plan = plan_testrun(a_run(step, workflows=SUITES), NOON)

    assert starts(plan) == [(0, ["c", "a", "b"])]
    (action,) = [action for action in plan.actions if isinstance(action, StartRuns)]
    assert len({run.name for run in action.runs}) == 3
    assert {run.parameters["x"] for run in action.runs} == {"1"}
    assert (plan.states[0].running, plan.begun, plan.status["phase"]) == (True, True, "Running")
    assert plan.status["startTime"] == "2026-01-05T12:00:00Z"
    again = plan_testrun(a_run(step, workflows=SUITES, states=plan.states, started_at=NOON), after(1))
    assert starts(again) == starts(plan)
    assert [action for action in again.actions if isinstance(action, StartRuns)] == [action]


def test_once_its_runs_are_there_a_step_starts_nothing_and_waits_for_them() -> None:
    plan = following(a_child("one", Verdict.PASSED), a_child("two"))

    assert (starts(plan), end(plan)) == ([], None)
    assert plan.states[0].message == "waits for two"


def test_a_step_knows_nothing_of_its_runs_until_they_are_listed() -> None:
    plan = following(children={})

    assert (end(plan), starts(plan), stops(plan)) == (None, [], [])


@pytest.mark.parametrize(("verdicts", "expected"), [
    ([Verdict.PASSED, Verdict.PASSED], ("Passed", "StepDone")),
    ([Verdict.PASSED, Verdict.FLAKY], ("Flaky", "StepDone")),
    ([Verdict.FLAKY, Verdict.FAILED], ("Failed", "RunsFailed")),
    ([Verdict.TIMED_OUT, Verdict.INFRA_ERROR], ("TimedOut", "RunsFailed")),
    ([Verdict.PASSED, Verdict.CANCELLED], ("Cancelled", "RunsFailed")),
    ([Verdict.PASSED, Verdict.SKIPPED], ("Skipped", "RunsFailed")),
])  # fmt: skip
def test_the_steps_verdict_is_the_worst_of_its_runs_and_a_run_in_which_nothing_ran_is_no_pass(
    verdicts: list[Verdict], expected: tuple[str, str]
) -> None:
    plan = following(*(a_child(f"run-{n}", verdict) for n, verdict in enumerate(verdicts)))

    assert end(plan) == expected
    assert plan.outputs[0] == {"verdict": expected[0], "runs": "run-0,run-1"}
    assert merge(plan)[0] == str(expected[1] == "StepDone")


def test_tests_and_failures_of_the_runs_are_the_steps() -> None:
    plan = following(
        a_child("one", Verdict.PASSED, tests=counts(passed=3)),
        a_child("two", Verdict.FAILED, tests=counts(passed=1, failed=1), failures=(FailedCase(test="t", message="m"),)),
    )  # fmt: skip

    assert plan.status["tests"] == {"total": 5, "passed": 4, "failed": 1, "flaky": 0, "skipped": 0}
    assert [(f["test"], f["task"]) for f in plan.status["topFailures"]] == [("two: t", "tests")]


def test_a_run_that_somebody_deletes_is_missed() -> None:
    plan = following(a_child("one", Verdict.PASSED), a_child("two", gone=True))

    assert end(plan) == ("InfraError", "RunsFailed")
    assert plan.states[0].message == "two is gone"


def test_a_run_that_was_deleted_is_missed_also_by_a_leader_that_never_saw_it() -> None:
    plan = following(a_child("one", Verdict.PASSED), outputs={0: {"runs": "one,two"}})

    assert end(plan) == ("InfraError", "RunsFailed")
    assert plan.states[0].message == "two is gone"


def test_a_step_all_of_whose_runs_were_deleted_ends() -> None:
    assert end(following()) == ("InfraError", "RunsFailed")


def test_a_step_that_does_not_wait_ends_when_its_run_is_there() -> None:
    step = a_step("tests", "start-workflow", {"workflow": "a", "wait": False})

    plan = following(a_child("one"), step=step)

    assert end(plan) == ("Passed", "StepDone")
    assert plan.outputs[0]["runs"] == "one"


@pytest.mark.parametrize(("with_", "told"), [
    ({"suites": ["load"]}, "dawg.dev/suite=load"), ({"workflows": ["nobody"]}, "no Workflow 'nobody'"),
])  # fmt: skip
def test_what_is_not_there_cannot_be_started(with_: dict[str, Any], told: str) -> None:
    plan = plan_testrun(a_run(a_step("tests", "run-tests", with_), workflows=SUITES), NOON)

    assert end(plan) == ("InfraError", "WorkflowNotFound")
    assert told in plan.states[0].message
    assert (starts(plan), merge(plan)[0]) == ([], "False")


@pytest.mark.parametrize("limit", [{"depth": DEEPEST}, {"of_root": MOST_OF_A_ROOT}])
def test_runs_that_start_runs_have_an_end(limit: dict[str, int]) -> None:
    known: dict[str, Any] = {"workflows": SUITES}

    assert end(plan_testrun(a_run(RUN_TESTS, **known, **limit), NOON)) == ("Failed", "TooDeep")
    below = {name: value - 1 for name, value in limit.items()}
    assert starts(plan_testrun(a_run(RUN_TESTS, **known, **below), NOON))


def test_runs_that_a_step_has_created_itself_do_not_keep_it_from_creating_the_rest() -> None:
    plan = plan_testrun(
        a_run(RUN_TESTS, workflows=SUITES, of_root=MOST_OF_A_ROOT, states=(begun(TaskState(), NOON),)), NOON
    )

    assert starts(plan) == [(0, ["a", "b"])]


@pytest.mark.parametrize(("own", "asked_for", "given_"), [
    ("medium", None, "medium"), ("medium", "critical", "medium"), ("medium", "low", "low"),
    ("critical", "high", "high"),
])  # fmt: skip
def test_a_run_never_starts_one_of_a_higher_priority(own: str, asked_for: str | None, given_: str) -> None:
    step = a_step("tests", "run-tests", {"workflows": ["c"], **({"priority": asked_for} if asked_for else {})})

    plan = plan_testrun(a_run(step, spec={"priority": own}, workflows=SUITES), NOON)

    (action,) = [action for action in plan.actions if isinstance(action, StartRuns)]
    assert [run.priority for run in action.runs] == [given_]


def started_by(with_: dict[str, Any], **facts: Any) -> list[WantedRun]:
    """The runs that such a step asks for."""
    plan = plan_testrun(
        a_run(a_step("tests", "run-tests", {"suites": ["smoke"], **with_}), **{"workflows": SUITES, **facts}), NOON
    )
    return [run for action in plan.actions if isinstance(action, StartRuns) for run in action.runs]


@pytest.mark.parametrize("first", [["b", "ghost"], '["b","ghost"]', "b, ghost", '["b", "b"]'])
def test_runs_that_are_likely_to_fail_are_started_and_queued_first(first: object) -> None:
    assert [(run.workflow, run.recommended) for run in started_by({"first": first})] == [("b", 1), ("a", 0)]


@pytest.mark.parametrize("first", [[], "", "[]", None])
def test_where_nothing_is_likely_to_fail_the_order_is_as_ever(first: object) -> None:
    with_ = {} if first is None else {"first": first}

    assert [(run.workflow, run.recommended) for run in started_by(with_)] == [("a", 0), ("b", 0)]


@pytest.mark.parametrize(
    "first",
    ['["b"', '["Ghost\x1b[2J", "b"]', "[1, null, [[]]]", "[" * 5000, json.dumps([*(f"g{n}" for n in range(60)), "b"])],
)
def test_what_a_step_has_left_of_what_comes_first_may_be_anything(first: str) -> None:
    predict = a_step("predict", "predict-risks")
    tests = a_step("tests", "run-tests", {"suites": ["smoke"], "first": {"cel": "tasks['predict'].outputs.suites"}},
                   needs=["predict"])  # fmt: skip

    plan = plan_testrun(a_run(predict, tests, workflows=SUITES, states=(ended(), waiting()), started_at=NOON,
                              outputs={0: {"suites": first}}), NOON)  # fmt: skip

    assert sorted(starts(plan)[0][1]) == ["a", "b"]


def test_what_should_come_first_and_is_not_started_is_named_until_the_end() -> None:
    step = a_step("tests", "run-tests", {"suites": ["smoke"], "first": ["b", "ghost", "c"]})
    runs = {run.workflow: run.name for run in started_by({})}

    waits = following(a_child(runs["a"]), a_child(runs["b"]), step=step)
    passed = following(*(a_child(runs[name], Verdict.PASSED) for name in "ab"), step=step)

    for plan in (waits, passed):
        assert plan.states[0].message.endswith("; with.first names what is not started here: ghost, c")
    assert end(passed) == ("Passed", "StepDone")


def test_tests_to_run_first_are_told_to_the_workflows_that_want_to_know() -> None:
    workflows = {"a": WorkflowFact("smoke"), "b": WorkflowFact("smoke", takes_recommended=True)}

    files = '["tests/ä.py", "b, c.py", "\\ud800", "\\u001b"]'

    told = started_by({"recommended": files, "parameters": {"x": "1"}}, workflows=workflows)
    own = started_by({"recommended": ["t.py"], "parameters": {"recommended": "mine"}}, workflows=workflows)
    nothing = started_by({"recommended": ""}, workflows=workflows)
    many = started_by({"recommended": ["t" * 300] * 50}, workflows=workflows)

    assert [run.parameters for run in told] == [{"x": "1"}, {"x": "1", "recommended": '["tests/ä.py","b, c.py"]'}]
    assert [run.parameters for run in own] == [{"recommended": "mine"}] * 2
    assert [run.parameters for run in nothing] == [{}, {}]
    assert len(json.loads(many[1].parameters["recommended"])) == 13


def test_a_step_is_not_bound_by_what_a_pool_allows() -> None:
    short = {"default": PoolFact(a_pool(maxTaskDuration="1m"), Reason.WAITING_FOR_AGENT, "")}

    assert stops(following(a_child(), pools=short, now=120)) == []
    assert end(following(a_child("one", Verdict.PASSED), pools={"default": None}, now=900)) == ("Passed", "StepDone")


# A run with runs of its own ends


def test_a_cancelled_run_cancels_the_runs_of_its_steps_and_ends_after_them() -> None:
    cancelled = {"spec": {"cancelled": True}}
    plan = plan_testrun(a_run(RUN_TESTS, **cancelled, states=(FOLLOWING,), started_at=NOON,
                              children={0: (a_child(),)}), after(9))  # fmt: skip
    assert (stops(plan), end(plan)) == ([0], None)

    much_later = after(9) + 10 * STOP_GRACE
    facts = a_run(RUN_TESTS, **cancelled, states=plan.states, started_at=NOON, children={0: (a_child(),)})
    plan = plan_testrun(facts, much_later)
    assert (stops(plan), end(plan)) == ([0], None)

    plan = plan_testrun(replace(facts, children={0: (a_child("child", Verdict.CANCELLED),)}), much_later)
    assert end(plan) == ("Cancelled", "Cancelled")
    assert plan.finished


@pytest.mark.parametrize(("changes", "expected"), [
    ({"timeout": "5s"}, ("TimedOut", "RunTimeout")), ({"failFast": True}, ("Cancelled", "FailFast")),
])  # fmt: skip
def test_time_out_and_fail_fast_end_the_runs_of_steps_too(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    failed = ended(Verdict.FAILED)
    facts = a_run(RUN_TESTS, a_task_spec("unit"), spec=changes, states=(FOLLOWING, failed), started_at=NOON,
                  children={0: (a_child(),)})  # fmt: skip

    plan = plan_testrun(facts, after(9))
    later = plan_testrun(
        replace(facts, states=plan.states, children={0: (a_child("child", Verdict.CANCELLED),)}), after(19)
    )

    assert (stops(plan), end(plan)) == ([0], None)
    assert end(later) == expected


def test_a_tasks_own_time_limit_ends_its_runs() -> None:
    plan = following(a_child(), step={**RUN_TESTS, "timeout": "5s"})

    assert stops(plan) == [0]


def test_a_step_that_is_stopped_the_moment_it_would_begin_starts_nothing() -> None:
    tasks = RUN_TESTS, a_step("wrong", "run-tests", {"workflows": ["nobody"]})

    plan = plan_testrun(a_run(*tasks, spec={"failFast": True}, workflows=SUITES), NOON)

    assert starts(plan) == []


# A leader that died


def test_runs_that_are_there_are_followed_though_status_says_nothing_of_them() -> None:
    plan = following(a_child("one"), states=(waiting(),), started_at=None)

    assert plan.states[0].running
    assert starts(plan) == [(0, ["a", "b"])]  # those that are there are found


def test_a_run_that_was_cancelled_before_status_told_of_its_runs_ends_them_too() -> None:
    plan = plan_testrun(
        a_run(RUN_TESTS, spec={"cancelled": True}, states=(waiting(),), children={0: (a_child(),)}), after(9)
    )

    assert (stops(plan), end(plan)) == ([0], None)


def test_a_step_whose_need_was_lost_and_did_not_pass_again_starts_no_more_runs_and_ends_those_it_has() -> None:
    tests = a_step("tests", "run-tests", {"suites": ["smoke"]}, needs=["build"])
    facts = a_run(a_task_spec("build"), tests, workflows=SUITES, started_at=NOON, children={1: (a_child(),)},
                  states=(running(), waiting()))  # fmt: skip

    again = plan_testrun(facts, after(9))
    failed = plan_testrun(replace(facts, states=(ended(Verdict.FAILED), again.states[1])), after(19))
    gone = replace(facts, states=failed.states, children={1: (a_child("child", Verdict.CANCELLED),)})
    later = plan_testrun(gone, after(29))

    assert (starts(again), stops(again), end(again, 1)) == ([], [], None)
    assert (starts(failed), stops(failed), end(failed, 1)) == ([], [1], None)
    assert end(later, 1) == ("Skipped", "NeedNotPassed")
    assert "it needs build, which is Failed" in later.states[1].message


def test_a_step_whose_workflows_went_away_half_way_ends_what_it_has_created() -> None:
    half = (begun(TaskState(), NOON),)
    facts = a_run(RUN_TESTS, workflows={}, states=half, started_at=NOON, children={0: (a_child(),)})

    plan = plan_testrun(facts, after(9))
    later = plan_testrun(
        replace(facts, states=plan.states, children={0: (a_child("c", Verdict.CANCELLED),)}), after(19)
    )

    assert (stops(plan), starts(plan), end(plan)) == ([0], [], None)
    assert end(later) == ("InfraError", "WorkflowNotFound")
    assert "dawg.dev/suite=smoke" in later.states[0].message


def test_a_step_ends_though_what_it_was_told_is_not_known_any_more() -> None:
    step = a_step("tests", "run-tests", {"workflows": {"cel": "tasks['plan'].outputs.names"}}, needs=["plan"])
    facts = a_run(a_task_spec("plan", outputs=["names"]), step, states=(ended(), FOLLOWING), started_at=NOON,
                  children={1: (a_child("one", Verdict.PASSED),)})  # fmt: skip

    assert end(plan_testrun(facts, NOON), 1) == ("Passed", "StepDone")
    open_ = replace(facts, children={1: (a_child("one"),)}, spec=facts.spec.model_copy(update={"cancelled": True}))
    assert stops(plan_testrun(open_, NOON)) == [1]


# Concurrency


def in_group(**facts: Any) -> RunFacts:
    policy = facts.pop("policy", "Queue")
    spec = {"concurrency": {"group": "g", "max": 1, "policy": policy}}
    return a_run(RUN_TESTS, spec=spec, workflows=SUITES, **facts)


OTHER = GroupRun("other", "uid-other", after(-9), admitted=True)


def test_nothing_is_started_before_status_says_that_the_run_is_in() -> None:
    plan = plan_testrun(in_group(), NOON)
    assert (starts(plan), plan.begun, plan.record_first) == ([], True, True)
    assert plan.status["startTime"]

    written = plan_testrun(in_group(states=plan.states, started_at=NOON, written=plan.status), NOON)
    assert (starts(written), written.record_first) == ([(0, ["a", "b"])], False)


@pytest.mark.parametrize("uses", [RUN_TESTS, a_step("ok", "approve"), a_step("gate", "gate")])
def test_no_step_begins_while_the_run_waits_for_its_group(uses: dict[str, Any]) -> None:
    spec = {"concurrency": {"group": "g", "max": 1}}

    plan = plan_testrun(a_run(uses, spec=spec, workflows=SUITES, group=(OTHER,)), NOON)

    assert (plan.begun, plan.states, starts(plan)) == (False, (waiting(),), [])
    assert plan.status["queue"]["reason"] == "WaitingForGroup"


def test_a_run_of_steps_takes_over_from_the_older_one_of_its_group() -> None:
    plan = plan_testrun(in_group(group=(OTHER,), policy="CancelInProgress"), NOON)

    assert [action.name for action in plan.actions if isinstance(action, CancelRun)] == ["other"]
    assert starts(plan) == []


def test_a_run_waits_while_another_may_be_of_its_group_and_cancels_nothing() -> None:
    plan = plan_testrun(in_group(unread=("older",), policy="CancelInProgress"), NOON)

    assert (plan.begun, plan.actions) == (False, ())
    assert "older" in plan.status["queue"]["message"]


# Expressions


def test_an_expression_is_worked_out_over_outputs_when_the_step_begins() -> None:
    plan_task = a_task_spec("plan", outputs=["names"])

    def begin(expression: str, state: TaskState) -> RunPlan:
        step = a_step("tests", "run-tests", {"workflows": {"cel": expression}}, needs=["plan"])
        known: dict[str, Any] = {"states": (state, waiting()), "workflows": SUITES, "outputs": {0: {"names": "a, c"}}}
        return plan_testrun(a_run(plan_task, step, **known), NOON)

    assert starts(begin("tasks['plan'].outputs.names", ended())) == [(1, ["a", "c"])]
    assert starts(begin("tasks['plan'].outputs.names", running())) == []
    wrong = begin("size(tasks['plan'].outputs.names)", ended())
    assert end(wrong, 1) == ("Failed", "InvalidSpec")
    assert wrong.states[1].message.startswith("tasks[tests].with.workflows: ")


def test_an_expression_without_a_value_fails_the_step_and_names_the_field() -> None:
    step = a_step("tests", "run-tests", {"workflows": {"cel": "tasks['plan'].outputs.nothing"}}, needs=["plan"])

    plan = plan_testrun(a_run(a_task_spec("plan"), step, states=(ended(), waiting()), workflows=SUITES), NOON)

    assert end(plan, 1) == ("Failed", "InvalidSpec")
    assert plan.states[1].message.startswith("tasks[tests].with.workflows: ")


def test_an_optional_step_of_a_later_release_is_left_out_and_blocks_nothing() -> None:
    plan = plan_testrun(a_run(a_task_spec("unit"), a_step("keep", "remember"), states=(ended(), waiting())), NOON)

    assert end(plan, 1) == ("Skipped", "NotAvailable")
    assert (plan.status["verdict"], merge(plan)[0]) == ("Passed", "True")
