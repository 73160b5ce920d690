"""What a run of a Workflow carries out: parameters, merged fields, stages, and all of it frozen."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from builders import NOON, Reason, a_run_of, a_spec, a_step, a_task_spec, a_workflow, after
from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning.graph import expand
from dawg_orchestrator.planning.testrun import plan_testrun
from dawg_orchestrator.planning.workflow import (
    LastRun,
    WorkflowFacts,
    check_workflow,
    content_of,
    freeze,
    parameters_of,
    plan_workflow,
    thaw,
    typed,
)
from dawg_orchestrator.resources.testrun import TestRunSpec
from dawg_orchestrator.resources.workflow import Parameter, WorkflowSpec
from poison import JsonObject, examples, specs


def parameter(**fields: Any) -> Parameter:
    return Parameter.model_validate({"name": "size", **fields})


def wanted(**fields: Any) -> TestRunSpec:
    return TestRunSpec.model_validate({"workflowRef": {"name": "w"}, **fields})


# Parameters


@pytest.mark.parametrize(("kind", "right", "wrong"), [
    ("integer", "-12", "1.5"), ("integer", "0", "0x7f"), ("number", "1.5e3", "nan"), ("number", "-2", "1_0"),
    ("boolean", "true", "True"), ("duration", "90s", "90"), ("integer", "7", "7\n"), ("integer", "7", "\u0661"),
])  # fmt: skip
def test_a_value_is_of_its_parameters_type_and_the_error_names_the_parameter(kind: str, right: str, wrong: str) -> None:
    assert parameters_of([parameter(type=kind)], {"size": right}) == {"size": right}

    with pytest.raises(InvalidSpec, match=f"is no {kind}") as error:
        parameters_of([parameter(type=kind)], {"size": wrong})
    assert error.value.field == "spec.parameters.size"


def test_a_value_that_is_not_given_is_the_default_or_absent() -> None:
    declared = [parameter(default="3"), parameter(name="other")]

    assert parameters_of(declared, {}) == {"size": "3"}
    assert parameters_of(declared, {"size": "4", "other": "x"}) == {"size": "4", "other": "x"}


@pytest.mark.parametrize(("declared", "given_", "told"), [
    ({"required": True}, {}, "requires this parameter"),
    ({"enum": ["s", "m"]}, {"size": "l"}, "is not one of s, m"),
    ({}, {"size": "l", "sise": "l"}, "declares no such parameter; it has: size"),
])  # fmt: skip
def test_a_missing_foreign_or_unknown_value_is_refused(declared: JsonObject, given_: dict[str, str], told: str) -> None:
    with pytest.raises(InvalidSpec, match=told):
        parameters_of([parameter(**declared)], given_)


def test_conditions_see_numbers_and_truth_values_where_they_are_declared_so() -> None:
    types = {"n": "integer", "f": "number", "b": "boolean", "d": "duration"}

    assert typed({"n": "3", "f": "0.5", "b": "true", "d": "3m", "other": "3"}, types) == {
        "n": 3, "f": 0.5, "b": True, "d": "3m", "other": "3",
    }  # fmt: skip


def test_a_condition_compares_a_declared_integer_as_a_number() -> None:
    workflow = a_workflow(
        a_task_spec("big", when="params.size > 9"), a_task_spec("small", when="params.size <= 9"),
        parameters=[{"name": "size", "type": "integer", "default": "10"}],
    )  # fmt: skip

    plan = plan_testrun(a_run_of(workflow), NOON)

    assert [task.index for task in plan.ready] == [0]


# A Workflow by itself


@pytest.mark.parametrize(("fields", "place"), [
    ({"parameters": [{"name": "n", "type": "integer", "default": "x"}]}, "spec.parameters[n].default"),
    ({"parameters": [{"name": "n", "enum": ["a"], "default": "b"}]}, "spec.parameters[n].default"),
    ({"parameters": [{"name": "a-b"}, {"name": "A_b"}]}, "spec.parameters.A_b"),
    ({"finally": [a_task_spec("unit")]}, "spec.tasks"),
    ({"finally": [a_task_spec("end", when="((")]}, "spec.finally[0].when"),
    ({"onFailure": [a_task_spec("tell", needs=["end"])], "finally": [a_task_spec("end")]}, "spec.onFailure[0].needs"),
    ({"finally": [a_task_spec("end", needs=["nobody"])]}, "spec.finally[0].needs"),
    ({"finally": [a_task_spec("a", needs=["b"]), a_task_spec("b", needs=["a"])]}, "spec.tasks[].needs"),
    ({"onFailure": [a_step("x", "run-tests", {"suites": []})]}, "spec.onFailure[0].with"),
    ({"onFailure": [a_step("x", "run-tests", {"suites": ["a"], "prio": "high"})]}, "spec.onFailure[0].with.prio"),
    ({"finally": [a_step("x", "approve", {"timeout": {"cel": "1 +"}})]}, "spec.finally[0].with.timeout.cel"),
    ({"finally": [a_step("x", "approve", {"timeout": "soon"})]}, "spec.finally[0].with.timeout"),
    ({"finally": [a_step("x", "propose-fix")]}, "spec.finally[0].uses"),
    ({"finally": [a_step("x", "gate", run="true")]}, "spec.finally[0]"),
    ({"finally": [a_step("x", "gate", exclusive=True)]}, "spec.finally[0].exclusive"),
])  # fmt: skip
def test_what_can_never_run_is_told_with_the_field_where_it_is_declared(fields: JsonObject, place: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        check_workflow(a_workflow(**fields))

    assert error.value.field == place


def test_a_task_may_not_need_one_of_a_later_stage() -> None:
    with pytest.raises(InvalidSpec, match="which come later") as error:
        check_workflow(a_workflow(a_task_spec("unit", needs=["end"]), **{"finally": [a_task_spec("end")]}))

    assert error.value.field == "spec.tasks[0].needs"


def test_a_stage_may_need_what_comes_before_it() -> None:
    graph = check_workflow(a_workflow(
        a_task_spec("unit"), onFailure=[a_task_spec("tell", needs=["unit"])],
        **{"finally": [a_task_spec("end", needs=["tell", "unit"])]},
    ))  # fmt: skip

    assert graph.order == ("unit", "tell", "end")


# Merged


def test_of_what_both_may_say_the_runs_word_counts_where_it_differs_from_the_default() -> None:
    workflow = a_workflow(pool="theirs", priority="high", timeout="30m", failFast=True,
                          concurrency={"group": "theirs"})  # fmt: skip
    quiet, loud = wanted(), wanted(pool="mine", priority="low", timeout="2h", concurrency={"group": "mine"})

    spec = content_of(quiet, workflow).spec
    assert (spec.pool, spec.priority, str(spec.timeout), spec.fail_fast) == ("theirs", "high", "0:30:00", True)
    assert spec.concurrency is not None
    assert spec.concurrency.group == "theirs"

    spec = content_of(loud, workflow).spec
    assert (spec.pool, spec.priority, str(spec.timeout)) == ("mine", "low", "2:00:00")
    assert spec.concurrency is not None
    assert spec.concurrency.group == "mine"


def test_the_tasks_of_all_stages_are_the_runs_in_the_order_of_the_stages() -> None:
    workflow = a_workflow(onFailure=[a_task_spec("tell")], **{"finally": [a_task_spec("end")]})

    content = content_of(wanted(), workflow)

    assert [task.name for task in content.spec.tasks or ()] == ["unit", "tell", "end"]
    assert (content.shape.on_failure, content.shape.final) == (frozenset({"tell"}), frozenset({"end"}))


# Frozen


def test_what_was_frozen_is_what_is_carried_out() -> None:
    workflow = a_workflow(
        a_task_spec("unit", matrix={"x": ["1", "2"]}), a_step("gate", "gate", needs=["unit"]),
        onFailure=[a_step("tell", "notify", {"webhooks": [{"secret": "HOOK"}], "healthy": {"cel": "false"}})],
        parameters=[{"name": "n", "type": "integer", "default": "3"}], **{"finally": [a_task_spec("end")]},
    )  # fmt: skip
    content = content_of(wanted(source={"git": {"url": "https://h/r", "revision": "main"}}), workflow)

    assert thaw(json.loads(json.dumps(freeze(content)))) == content


def test_rules_of_risk_are_frozen_too_and_leave_no_trace_where_there_are_none() -> None:
    rules = [{"paths": ["src/ai/**"], "level": "critical"}]
    ruled = content_of(wanted(), a_workflow(a_task_spec("unit"), risk=rules))

    again = thaw(json.loads(json.dumps(freeze(ruled))))

    assert [rule.wire() for rule in again.shape.risk] == rules
    assert "risk" not in freeze(content_of(wanted(), a_workflow(a_task_spec("unit"))))


@examples(60)
@given(specs("Workflow"))
def test_whatever_the_schema_takes_is_carried_out_as_it_was_frozen_or_refused_with_a_field(spec: JsonObject) -> None:
    workflow = WorkflowSpec.model_validate(spec)
    wrong: InvalidSpec | None = None
    try:
        content = content_of(wanted(), workflow)
    except InvalidSpec as error:
        wrong = error
    if wrong is not None:
        assert wrong.field.startswith("spec")
        return
    again = thaw(json.loads(json.dumps(freeze(content))))
    assert again == content
    assert expand(again.spec, again.shape) == expand(content.spec, content.shape)


@pytest.mark.parametrize("stored", [
    {}, {"spec": 3}, {"spec": ["x"]}, {"spec": {"tasks": "x"}}, {"stages": "x"}, {"types": 5},
    {"stages": {"finally": 5}}, {"stages": {"finally": [["a"]]}}, {"spec": {"tasks": [{"name": 3}]}},
    {"stages": {"finally": ["nobody"]}, "spec": {"tasks": [a_task_spec()]}},
])  # fmt: skip
def test_what_is_no_content_is_refused(stored: Any) -> None:
    with pytest.raises(InvalidSpec) as error:
        thaw(stored)

    assert error.value.field == "status.workflowRevision"


# Status


def test_a_workflow_says_whether_it_can_run_and_keeps_what_it_did_last() -> None:
    facts = WorkflowFacts(generation=2, term=3, written={}, wrong=None, last=LastRun("run", "Passed", NOON))
    status = plan_workflow(facts, NOON)

    later = plan_workflow(WorkflowFacts(2, 4, status, "spec.tasks: no", None), after(9))

    assert (status["lastRun"], status["lastVerdict"], status["conditions"][0]["reason"]) == (
        "run", "Passed", Reason.WORKFLOW_READY,
    )  # fmt: skip
    assert (later["lastRun"], later["conditions"][0]["status"]) == ("run", "False")
    assert later["conditions"][0]["message"] == "spec.tasks: no"


def test_an_inline_run_has_one_stage() -> None:
    graph = expand(a_spec())

    assert graph.shape.is_main("unit")
    assert not graph.has_steps
