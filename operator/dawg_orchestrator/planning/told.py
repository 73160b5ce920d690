"""What a built-in step is told: its inputs, with the expressions among them worked out."""

from __future__ import annotations

from typing import Any

from dawg_orchestrator.planning import conditions
from dawg_orchestrator.planning.graph import Cell
from dawg_orchestrator.planning.needs import ended_tasks
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.step import Step
from dawg_orchestrator.planning.workflow import typed
from dawg_orchestrator.resources.expressions import named_tasks
from dawg_orchestrator.resources.protocol import EndedTask, StepOrder
from dawg_orchestrator.resources.steps import STEPS, Inputs, expressions, read_inputs
from dawg_orchestrator.resources.testrun import MAX_TASK_ENTRIES
from dawg_orchestrator.resources.verdict import GREEN, Verdict


def step_inputs(step: Step, cell: Cell) -> Inputs:
    """What the step is told; InvalidSpec when an expression has no value."""
    return read_inputs(f"tasks[{cell.task.name}]", cell.task, _worked_out(step, cell))


def step_order(step: Step, cell: Cell) -> StepOrder:
    """What an agent is told; InvalidSpec when an expression has no value any more."""
    inputs = step_inputs(step, cell)
    tasks: dict[str, EndedTask] = {}
    for name, indexes in step.graph.of_task.items():
        if not step.has_ended(name) or len(tasks) >= MAX_TASK_ENTRIES:
            continue
        shown = min((step.states[index] for index in indexes), key=_badness)
        tasks[name] = EndedTask(
            verdict=str(shown.verdict), reason=shown.reason.value if shown.reason else "", message=shown.message[:300]
        )
    return StepOrder(
        uses=cell.task.uses or "", inputs=inputs.wire(), workflow=step.facts.workflow, tasks=tasks,
        **_source(step, cell),
    )  # fmt: skip


def _source(step: Step, cell: Cell) -> dict[str, Any]:
    """What a step that looks at the run's source is told of it."""
    what, source = STEPS[cell.task.uses or ""], step.facts.spec.source
    if not what.looks_at_source or source is None:
        return {}
    return {"git": source.git, "commit": step.facts.commit, "risk": list(step.graph.shape.risk)}


def _badness(state: TaskState) -> int:
    """The lower, the sooner people want to read it."""
    return 0 if state.verdict not in (*GREEN, Verdict.SKIPPED) else 1 if state.verdict is Verdict.SKIPPED else 2


def _worked_out(step: Step, cell: Cell) -> dict[str, Any]:
    parameters = typed(step.facts.spec.parameters, step.graph.shape.types)
    values = {}
    for name, expression in expressions(cell.task).items():
        field = f"tasks[{cell.task.name}].with.{name}"
        tasks = ended_tasks(step, named_tasks(expression))
        values[name] = conditions.worked_out(field, expression, tasks, parameters)
    return values
