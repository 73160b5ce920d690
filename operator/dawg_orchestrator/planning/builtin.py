"""The built-in steps that the controller carries out itself (gate, approve, run-tests, start-workflow), and what the
others are told. Like all of planning: decided anew at every look, from facts alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning import conditions, progress
from dawg_orchestrator.planning.facts import Approval, ChildRun, WorkflowFact
from dawg_orchestrator.planning.gate import Deciding, decide_merge
from dawg_orchestrator.planning.graph import Cell
from dawg_orchestrator.planning.needs import ended_tasks
from dawg_orchestrator.planning.plan import StartRuns, StopRuns, WantedRun
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.report import total
from dawg_orchestrator.planning.step import Step
from dawg_orchestrator.planning.verdict import worst
from dawg_orchestrator.planning.workflow import typed
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.resources.protocol import EndedTask, StepOrder
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import FailedCase
from dawg_orchestrator.resources.steps import Approve, RunTests, StartWorkflow, expressions, read_inputs, step_of
from dawg_orchestrator.resources.testrun import MAX_TASK_ENTRIES, MAX_TOP_FAILURES
from dawg_orchestrator.resources.verdict import GREEN, Verdict

DEEPEST = 4  # runs above a run that a step starts
MOST_OF_A_ROOT = 200  # unfinished runs that go back to the same one
MOST_AT_ONCE = 50  # runs that one step starts
_PRIORITIES = ("critical", "high", "medium", "low")


def read_approval(text: str) -> Approval | None:
    """An annotation's value, ``Approved by alice`` or ``Rejected by alice: too risky``; None when it is neither."""
    for word, approved in (("Approved by ", True), ("Rejected by ", False)):
        if text.startswith(word):
            by, _, reason = text.removeprefix(word).partition(": ")
            return Approval(by, approved, reason) if by else None
    return None


def decide_steps(step: Step) -> None:
    """Bring every step whose turn has come as far as it goes now."""
    if not step.graph.has_steps:
        return
    ended = step.tasks_where(lambda state: state.done)
    for index, state in enumerate(step.states):
        cell = step.graph.cells[index]
        what = step_of(cell.task)
        if what is None or state.done or step.graph.needs.before(cell.task.name) & ~ended:
            continue
        if what.by == "later":
            message = f"the step {cell.task.uses} is not part of this release"
            step.settle(index, Verdict.SKIPPED, Reason.NOT_AVAILABLE, message)
            continue
        try:
            inputs = read_inputs(f"tasks[{cell.task.name}]", cell.task, _worked_out(step, cell))
        except InvalidSpec as error:
            if not state.running:
                step.settle(index, Verdict.FAILED, Reason.INVALID_SPEC, str(error))
            continue
        if what.by == "agent":
            continue
        step.begin()
        match inputs:
            case RunTests() | StartWorkflow():
                _start_runs(step, cell, state, inputs)
            case Approve():
                _ask(step, cell, inputs)
            case _:
                _decide_gate(step, cell)


def step_order(step: Step, cell: Cell) -> StepOrder:
    """What an agent is told; InvalidSpec when an expression has no value any more."""
    inputs = read_inputs(f"tasks[{cell.task.name}]", cell.task, _worked_out(step, cell))
    tasks: dict[str, EndedTask] = {}
    for name, indexes in step.graph.of_task.items():
        if not step.has_ended(name) or len(tasks) >= MAX_TASK_ENTRIES:
            continue
        shown = min((step.states[index] for index in indexes), key=_badness)
        tasks[name] = EndedTask(
            verdict=str(shown.verdict), reason=shown.reason.value if shown.reason else "", message=shown.message[:300]
        )
    return StepOrder(
        uses=cell.task.uses or "", inputs=inputs.wire(), workflow=step.facts.workflow, tasks=tasks
    )  # fmt: skip


def _badness(state: TaskState) -> int:
    """The lower, the sooner people want to read it."""
    return 0 if state.verdict not in (*GREEN, Verdict.SKIPPED) else 1 if state.verdict is Verdict.SKIPPED else 2


def _worked_out(step: Step, cell: Cell) -> dict[str, Any]:
    parameters = typed(step.facts.spec.parameters, step.graph.shape.types)
    values = {}
    for name, expression in expressions(cell.task).items():
        field = f"tasks[{cell.task.name}].with.{name}"
        tasks = ended_tasks(step, conditions.named_tasks(expression))
        values[name] = conditions.worked_out(field, expression, tasks, parameters)
    return values


# Gate


def _decide_gate(step: Step, cell: Cell) -> None:
    """Over what the task needs; a gate that needs nothing decides over all tasks that are no gate."""
    wanted = cell.task.needs or [task.name for task in step.graph.tasks if task.uses is None]
    deciding = [
        Deciding(
            step.graph.cells[i].key, step.states[i].verdict, step.states[i].reason, step.graph.cells[i].task.critical
        )
        for i in step.graph.cells_of(wanted)
    ]
    decision = decide_merge(deciding, step.facts.spec.gate.on_flaky if step.facts.spec.gate else "Allow")
    if decision.reason is Reason.TESTS_PENDING:
        return
    verdict = Verdict.PASSED if decision.allowed else Verdict.FAILED
    step.settle(cell.index, verdict, decision.reason, decision.message)


# Approve


def _ask(step: Step, cell: Cell, inputs: Approve) -> None:
    approval = step.facts.approvals.get(cell.task.name)
    if approval is not None:
        said = f"{'approved' if approval.approved else 'rejected'} by {approval.by}"
        message = f"{said}: {approval.reason}" if approval.reason else said
        step.outputs[cell.index] = {"by": approval.by}
        if approval.approved:
            step.settle(cell.index, Verdict.PASSED, Reason.STEP_DONE, message)
        else:
            step.settle(cell.index, Verdict.FAILED, Reason.REJECTED, message)
        return
    due = _turn_came_at(step, cell) + inputs.timeout
    if step.now < due:
        asked = f"{inputs.message}; " if inputs.message else ""
        step.wait(cell.index, Reason.WAITING_FOR_APPROVAL, f"{asked}approve or reject until {format_time(due)}")
        step.look_at(due)
    else:
        step.settle(cell.index, Verdict.FAILED, Reason.NOT_APPROVED, f"nobody approved until {format_time(due)}")


def _turn_came_at(step: Step, cell: Cell) -> datetime:
    """When the last of what it waits for ended; stands on status, so that a restart does not begin anew."""
    needed = [name for name, bit in step.graph.needs.bits.items() if step.graph.needs.before(cell.task.name) & bit]
    ends = [ended for index in step.graph.cells_of(needed) if (ended := step.states[index].ended_at) is not None]
    return max(ends, default=step.facts.started_at or step.now)


# Runs that are started


def _start_runs(step: Step, cell: Cell, state: TaskState, inputs: RunTests | StartWorkflow) -> None:
    if state.running and state.stopping is not None:
        step.act(StopRuns(cell.index))
        return
    if state.running and state.reason is Reason.WAITING_FOR_RUNS:
        _follow_runs(step, cell, inputs)
        return
    try:
        wanted = _wanted_runs(step, cell, inputs)
    except _CannotStart as error:
        verdict = Verdict.INFRA_ERROR if error.reason.infrastructure else Verdict.FAILED
        step.settle(cell.index, verdict, error.reason, str(error))
        return
    if not state.running:
        step.states[cell.index] = progress.begun(state, step.now)
    if step.facts.spec.concurrency is not None and "startTime" not in (step.facts.written or {}):
        step.look_at(step.now)  # once status says that the run is in: nobody of its group may start meanwhile
        return
    step.act(StartRuns(cell.index, wanted))


def _follow_runs(step: Step, cell: Cell, inputs: RunTests | StartWorkflow) -> None:
    children = step.facts.children.get(cell.index)
    if children is None:
        return  # they are being listed
    if isinstance(inputs, StartWorkflow) and not inputs.wait:
        _end(step, cell, Verdict.PASSED, Reason.STEP_DONE, f"started {_named(children)}", children)
        return
    open_ones = [child for child in children if child.verdict is None and not child.gone]
    if open_ones:
        message = f"waits for {_named(open_ones)}"
        step.states[cell.index] = replace(step.states[cell.index], message=message)
        return
    verdict = worst(child.verdict or Verdict.INFRA_ERROR for child in children)
    if verdict in GREEN:
        _end(step, cell, verdict, Reason.STEP_DONE, f"{len(children)} runs passed: {_named(children)}", children)
        return
    bad = [child for child in children if child.verdict not in GREEN]
    told = f"{bad[0].name} is {bad[0].verdict or 'gone'}" + (f", and {len(bad) - 1} more" if len(bad) > 1 else "")
    _end(step, cell, verdict, Reason.RUNS_FAILED, told, children)


def _end(
    step: Step, cell: Cell, verdict: Verdict, reason: Reason, message: str, children: tuple[ChildRun, ...]
) -> None:
    step.settle(cell.index, verdict, reason, message)
    counts = total(child.tests for child in children if child.tests is not None)
    failures = [
        FailedCase(test=f"{child.name}: {failure.test}"[:512], message=failure.message)
        for child in children for failure in child.failures
    ]  # fmt: skip
    step.states[cell.index] = replace(
        step.states[cell.index], counts=counts if counts.total else None,
        failures=tuple(failures[:MAX_TOP_FAILURES]),
    )  # fmt: skip
    step.outputs[cell.index] = {"verdict": str(verdict), "runs": ",".join(child.name for child in children)[:3000]}


def _named(children: tuple[ChildRun, ...] | list[ChildRun]) -> str:
    more = f" and {len(children) - 5} more" if len(children) > 5 else ""
    return ", ".join(child.name for child in children[:5]) + more


class _CannotStart(Exception):
    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _wanted_runs(step: Step, cell: Cell, inputs: RunTests | StartWorkflow) -> tuple[WantedRun, ...]:
    facts = step.facts
    if facts.depth >= DEEPEST:
        raise _CannotStart(Reason.TOO_DEEP, f"{facts.depth} runs stand above this one, which is the most there may be")
    if facts.of_root >= MOST_OF_A_ROOT:
        raise _CannotStart(
            Reason.TOO_DEEP, f"{facts.of_root} unfinished runs go back to the same one, which is the most there may be"
        )
    found = _found_workflows(facts.workflows, inputs)
    if len(found) > MOST_AT_ONCE:
        raise _CannotStart(Reason.INVALID_SPEC, f"with: {len(found)} Workflows match, {MOST_AT_ONCE} may be started")
    priority = max(inputs.priority or facts.spec.priority, facts.spec.priority, key=_PRIORITIES.index)
    return tuple(
        WantedRun(
            name=names.started_name(facts.name, facts.uid, cell.key, workflow), workflow=workflow,
            parameters=dict(inputs.parameters), priority=priority,
        )
        for workflow in found
    )  # fmt: skip


def _found_workflows(workflows: Mapping[str, WorkflowFact], inputs: RunTests | StartWorkflow) -> list[str]:
    named = [inputs.workflow] if isinstance(inputs, StartWorkflow) else list(inputs.workflows)
    for name in named:
        if name not in workflows:
            raise _CannotStart(Reason.WORKFLOW_NOT_FOUND, f"the namespace has no Workflow {name!r}")
    if isinstance(inputs, RunTests):
        for suite in inputs.suites:
            matching = sorted(name for name, workflow in workflows.items() if workflow.suite == suite)
            if not matching:
                told = f"no Workflow carries the label {names.SUITE}={suite}"
                raise _CannotStart(Reason.WORKFLOW_NOT_FOUND, told)
            named += matching
    return list(dict.fromkeys(named))
