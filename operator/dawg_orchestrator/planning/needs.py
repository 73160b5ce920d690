"""Which tasks can no longer run because of what they need, or because their condition is false."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning import conditions
from dawg_orchestrator.planning.gate import HARMLESS_SKIPS
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.step import Step
from dawg_orchestrator.planning.verdict import worst
from dawg_orchestrator.planning.workflow import typed
from dawg_orchestrator.resources.expressions import named_tasks
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.task import Task
from dawg_orchestrator.resources.verdict import GREEN, Verdict

_Skip = tuple[Verdict, Reason, str]


def settle_needs(step: Step) -> None:
    """Skip what can no longer run; tasks come after what they need, so one pass is enough."""
    needs = step.graph.needs
    parameters = typed(step.facts.spec.parameters, step.graph.shape.types)
    failed: bool | None = None  # whether any of the main stage has; asked for once its tasks have ended
    ended = step.tasks_where(lambda state: state.done)
    passed = step.tasks_where(lambda state: state.verdict in GREEN)
    for name in step.graph.order:
        waiting = [
            index for index in step.graph.of_task[name]
            if not (step.states[index].done or step.states[index].attempt)
        ]  # fmt: skip
        wanted = needs.direct.get(name, 0)
        if not waiting or needs.before(name) & ~ended:
            continue
        task = step.graph.cells[waiting[0]].task
        skip = None
        if name in step.graph.shape.on_failure:
            failed = _has_failed(step) if failed is None else failed
        if name in step.graph.shape.on_failure and not failed:
            skip = Verdict.SKIPPED, Reason.NOTHING_FAILED, Reason.NOTHING_FAILED.sentence
        elif task.when is not None or (wanted & ~passed and task.uses != "gate"):
            skip = _why_skipped(step, task, parameters)
        if skip is not None:
            for index in waiting:
                step.settle(index, *skip)
            if step.has_ended(name):
                ended |= needs.bits.get(name, 0)


def did_not_pass(state: TaskState) -> bool:
    """Whether a task has no green verdict, skips that hide nothing left aside."""
    return state.verdict not in GREEN and state.reason not in HARMLESS_SKIPS


def why_it_cannot(step: Step, need: int) -> str:
    """What a task is told whose need ended in another way than it must."""
    return f"it needs {step.graph.cells[need].key}, which is {step.states[need].verdict}"


def _has_failed(step: Step) -> bool:
    """Whether a task of the main stage did not pass."""
    return any(
        did_not_pass(state)
        for cell, state in zip(step.graph.cells, step.states, strict=True)
        if step.graph.shape.is_main(cell.task.name)
    )


def _why_skipped(step: Step, task: Task, parameters: Mapping[str, Any]) -> _Skip | None:
    """Of all cells of a task whose needs have ended the same: needs and conditions name tasks, not cells."""
    condition, wrong = "", False
    if task.when is not None:
        condition = f"its condition is false: {task.when}"
        try:
            if _is_met(step, task.name, task.when, parameters):
                return None
        except InvalidSpec as error:
            condition, wrong = str(error), True
    needed = step.graph.cells_of(task.needs)
    bad = [index for index in needed if step.states[index].verdict not in GREEN]
    harmful = [index for index in bad if did_not_pass(step.states[index])]
    if wrong and not harmful:  # else what the condition asks for may be missing because of the need
        return Verdict.FAILED, Reason.INVALID_SPEC, f"tasks[{task.name}].{condition}"
    parts = [condition] if condition else []
    if bad:
        parts.append(why_it_cannot(step, (harmful or bad)[0]))
    if harmful:  # also where its own condition leaves it out: that must not hide what did not pass
        reason = Reason.NEED_NOT_PASSED
    else:
        reason = Reason.CONDITION_FALSE if task.when is not None else Reason.NEED_SKIPPED
    return Verdict.SKIPPED, reason, "; ".join(parts)


def _is_met(step: Step, name: str, condition: str, parameters: Mapping[str, Any]) -> bool:
    """Each condition is evaluated once in a look; again only if a task that it may look at has not ended."""
    named = named_tasks(condition)
    if named is not None and all(step.has_ended(task) for task in named if task in step.graph.of_task):
        known = step.met.get(name)
        if known is None:
            known = step.met[name] = conditions.is_met(condition, ended_tasks(step, named), parameters)
        return known
    return conditions.is_met(condition, ended_tasks(step, named), parameters)


def ended_tasks(step: Step, named: frozenset[str] | None) -> dict[str, dict[str, object]]:
    """What an expression sees: verdict and outputs of the tasks that it names and that have ended."""
    ended: dict[str, dict[str, object]] = {}
    former = step.facts.outputs or {}
    for name in step.graph.of_task if named is None else named:
        if name in step.graph.of_task and step.has_ended(name):
            indexes = step.graph.of_task[name]
            outputs: dict[str, str] = {}
            for index in indexes:
                outputs |= step.outputs.get(index) or former.get(index, {})
            verdicts = [step.states[index].verdict for index in indexes]
            ended[name] = {"verdict": str(worst(v for v in verdicts if v is not None)), "outputs": outputs}
    return ended
