"""From a Workflow and a run that names it to what the run carries out: its tasks, stages and parameters, frozen.

The frozen content is ``{"spec": a TestRun's spec with tasks, "stages": {"onFailure": […], "finally": […]}, "types":
{parameter: type}, "risk": [rules, if there are any]}``; a run is planned from that alone, whatever becomes of its
Workflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning.graph import ALL_MAIN, Graph, Shape, expand
from dawg_orchestrator.resources.conditions import read_conditions, set_condition
from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.resources.parameters import BOOLEANS, check_value, parameters_of
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import TestRunSpec
from dawg_orchestrator.resources.workflow import RiskRule, WorkflowSpec

JsonObject = dict[str, Any]

_DEFAULTS = TestRunSpec()


@dataclass(frozen=True, slots=True)
class Content:
    """What a run of a Workflow carries out."""

    spec: TestRunSpec
    shape: Shape


def content_of(run: TestRunSpec, workflow: WorkflowSpec) -> Content:
    """The Workflow as this run carries it out; InvalidSpec names the parameter or field that is wrong."""
    parameters = parameters_of(workflow.parameters, run.parameters)
    content = Content(merged(run, workflow).model_copy(update={"parameters": parameters}), _shape(workflow))
    expand(content.spec, content.shape)
    return content


def merged(run: TestRunSpec, workflow: WorkflowSpec) -> TestRunSpec:
    """What the run and its Workflow say together, unchecked: all stages, one after the other.

    Of what both may say, the run's word counts where it differs from the default.
    """
    changes: JsonObject = {
        "tasks": [*workflow.tasks, *workflow.on_failure, *workflow.finally_],
        "concurrency": run.concurrency or workflow.concurrency,
        "fail_fast": run.fail_fast or workflow.fail_fast,
    }
    for name in ("pool", "priority", "timeout"):
        theirs = getattr(workflow, name)
        if getattr(run, name) == getattr(_DEFAULTS, name) and theirs is not None:
            changes[name] = theirs
    return run.model_copy(update=changes)


def freeze(content: Content) -> JsonObject:
    """The content as it is stored."""
    shape = content.shape
    frozen: JsonObject = {
        "spec": content.spec.wire(), "types": dict(shape.types),
        "stages": {"onFailure": sorted(shape.on_failure), "finally": sorted(shape.final)},
    }  # fmt: skip
    return frozen | ({"risk": [one.wire() for one in shape.risk]} if shape.risk else {})


def thaw(stored: Mapping[str, Any]) -> Content:
    """The content that was stored; InvalidSpec when it is none."""
    try:
        stages = stored.get("stages") or {}
        shape = Shape(
            frozenset(stages.get("onFailure") or ()),
            frozenset(stages.get("finally") or ()),
            dict(stored.get("types") or {}),
            tuple(RiskRule.model_validate(one) for one in stored.get("risk") or ()),
        )
        spec = TestRunSpec.model_validate(stored.get("spec") or {})
    except (AttributeError, TypeError, ValueError) as error:
        told = str(error).splitlines()[0][:300]
        raise InvalidSpec("status.workflowRevision", f"what was frozen for the run cannot be read: {told}") from error
    if not spec.tasks:
        raise InvalidSpec("status.workflowRevision", "what was frozen for the run has no tasks")
    if not (shape.on_failure | shape.final) <= {task.name for task in spec.tasks}:
        raise InvalidSpec("status.workflowRevision", "what was frozen for the run names tasks that it does not have")
    return Content(spec, shape)


def check_workflow(workflow: WorkflowSpec) -> Graph:
    """The graph of a Workflow by itself; InvalidSpec says why none of its runs could be carried out."""
    for parameter in workflow.parameters:
        if parameter.default is not None:
            check_value(f"spec.parameters[{parameter.name}].default", parameter, parameter.default)
    spec = TestRunSpec(
        tasks=[*workflow.tasks, *workflow.on_failure, *workflow.finally_], pool=workflow.pool,
        parameters={parameter.name: "" for parameter in workflow.parameters},
    )  # fmt: skip
    return expand(spec, _shape(workflow))


def typed(parameters: Mapping[str, str], types: Mapping[str, str]) -> dict[str, Any]:
    """Parameters as conditions see them: numbers and truth values where they are declared so, else text."""
    return {name: _value(types.get(name, "string"), text) for name, text in parameters.items()}


def _value(kind: str, text: str) -> Any:
    try:
        if kind == "integer":
            return int(text)
        if kind == "number":
            return float(text)
    except ValueError:
        return text
    return BOOLEANS.get(text, text) if kind == "boolean" else text


def _shape(workflow: WorkflowSpec) -> Shape:
    if not (workflow.on_failure or workflow.finally_ or workflow.parameters or workflow.risk):
        return ALL_MAIN
    return Shape(
        frozenset(task.name for task in workflow.on_failure),
        frozenset(task.name for task in workflow.finally_),
        {parameter.name: parameter.type for parameter in workflow.parameters},
        tuple(workflow.risk),
    )


@dataclass(frozen=True, slots=True)
class LastRun:
    """The run of a Workflow that ended last."""

    name: str
    verdict: str
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class WorkflowFacts:
    """All that a Workflow's status is made of; ``wrong`` says why it cannot run, ``watching`` how its watches fare."""

    generation: int
    term: int
    written: Mapping[str, Any]
    wrong: str | None
    last: LastRun | None
    triggers: Mapping[str, Any] = field(default_factory=dict)
    watching: tuple[str, Reason, str] | None = None  # the condition Watching: status, reason, message


def plan_workflow(facts: WorkflowFacts, now: datetime) -> JsonObject:
    """The status as it should stand."""
    kinds = ("Ready", "Watching") if facts.watching is not None else ("Ready",)
    known = read_conditions(facts.written.get("conditions") or (), kinds)
    if facts.wrong is None:
        answer = ("True", Reason.WORKFLOW_READY, Reason.WORKFLOW_READY.sentence)
    else:
        answer = ("False", Reason.INVALID_SPEC, facts.wrong)
    known = set_condition(known, "Ready", *answer, generation=facts.generation, now=now)  # type: ignore[arg-type]
    if facts.watching is not None:
        known = set_condition(known, "Watching", *facts.watching, generation=facts.generation, now=now)  # type: ignore[arg-type]
    status: JsonObject = {
        "term": facts.term, "observedGeneration": facts.generation,
        "conditions": [condition.wire() for condition in known],
    }  # fmt: skip
    if facts.triggers:
        status["triggers"] = dict(facts.triggers)
    if facts.last is not None:
        status |= {
            "lastRun": facts.last.name, "lastVerdict": facts.last.verdict,
            "lastRunTime": format_time(facts.last.ended_at),
        }  # fmt: skip
    else:
        status |= {key: facts.written[key] for key in ("lastRun", "lastVerdict", "lastRunTime") if key in facts.written}
    return status
