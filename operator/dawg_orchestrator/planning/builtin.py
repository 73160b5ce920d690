"""The built-in steps that the controller carries out itself (gate, approve, run-tests, start-workflow), and what the
others are told. Like all of planning: decided anew at every look, from facts alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning import conditions, progress
from dawg_orchestrator.planning.facts import Approval, ChildRun, WorkflowFact
from dawg_orchestrator.planning.gate import Deciding, decide_merge
from dawg_orchestrator.planning.graph import Cell, Graph
from dawg_orchestrator.planning.needs import ended_tasks
from dawg_orchestrator.planning.plan import StartRuns, StopRuns, WantedRun
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.ready import why_run_waits
from dawg_orchestrator.planning.report import total
from dawg_orchestrator.planning.step import Step
from dawg_orchestrator.planning.verdict import worst
from dawg_orchestrator.planning.workflow import typed
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.expressions import named_tasks
from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.resources.protocol import EndedTask, StepOrder
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import FailedCase
from dawg_orchestrator.resources.steps import (
    STEPS,
    Approve,
    Inputs,
    RunTests,
    StartWorkflow,
    expressions,
    read_inputs,
    step_of,
)
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


def take_up_runs(step: Step) -> None:
    """Runs that a step has started are the proof that it has begun, where status does not say so yet."""
    for index, children in step.facts.children.items():
        state = step.states[index]
        if children and not state.running and not state.done and _starts_runs(step.graph.cells[index]):
            step.states[index] = progress.begun(state, step.now)
            step.begin()


def decide_steps(step: Step) -> None:
    """Bring every step whose turn has come as far as it goes now; none while the run waits for its group."""
    if not step.graph.has_steps or (step.facts.started_at is None and why_run_waits(step) is not None):
        return
    ended = step.tasks_where(lambda state: state.done)
    for index in step.graph.steps:
        state, cell = step.states[index], step.graph.cells[index]
        what = STEPS[cell.task.uses or ""]
        if state.done or step.graph.needs.before(cell.task.name) & ~ended:
            continue
        if what.by == "later":
            message = f"the step {cell.task.uses} is not part of this release"
            step.settle(index, Verdict.SKIPPED, Reason.NOT_AVAILABLE, message)
        elif not state.running:
            _begin(step, cell)
        elif what.by == "controller":
            _go_on(step, cell, state)


def _begin(step: Step, cell: Cell) -> None:
    try:
        inputs = _read(step, cell)
    except InvalidSpec as error:
        _give_up(step, cell, Reason.INVALID_SPEC, str(error))
        return
    if STEPS[cell.task.uses or ""].by == "agent":
        return
    step.begin()
    match inputs:
        case RunTests() | StartWorkflow():
            _start_runs(step, cell, inputs)
        case Approve():
            _ask(step, cell, inputs)
        case _:
            _decide_gate(step, cell)


def _go_on(step: Step, cell: Cell, state: TaskState) -> None:
    """A step that has started runs, or is about to. To end it must need nothing that may be lost meanwhile."""
    if state.stopping is not None:
        step.act(StopRuns(cell.index))
    elif state.reason is Reason.WAITING_FOR_RUNS:
        _follow_runs(step, cell)
    else:
        _begin(step, cell)


def _give_up(step: Step, cell: Cell, reason: Reason, message: str) -> None:
    """The step cannot do what it is asked for. Some of its runs may be there already: they are ended first."""
    state = step.states[cell.index]
    if state.running:
        step.states[cell.index] = replace(state, message=message)
        step.stop(cell.index, reason)
        step.act(StopRuns(cell.index))
    else:
        step.settle(cell.index, Verdict.INFRA_ERROR if reason.infrastructure else Verdict.FAILED, reason, message)


def _read(step: Step, cell: Cell) -> Inputs:
    """What the step is told; InvalidSpec when an expression has no value."""
    return read_inputs(f"tasks[{cell.task.name}]", cell.task, _worked_out(step, cell))


def _starts_runs(cell: Cell) -> bool:
    what = step_of(cell.task)
    return what is not None and what.inputs in (RunTests, StartWorkflow)


def step_order(step: Step, cell: Cell) -> StepOrder:
    """What an agent is told; InvalidSpec when an expression has no value any more."""
    inputs = _read(step, cell)
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
        tasks = ended_tasks(step, named_tasks(expression))
        values[name] = conditions.worked_out(field, expression, tasks, parameters)
    return values


# Gate


def _decide_gate(step: Step, cell: Cell) -> None:
    deciding = [
        Deciding(
            step.graph.cells[i].key, step.states[i].verdict, step.states[i].reason, step.graph.cells[i].task.critical
        )
        for i in step.graph.cells_of(cell.task.needs or _not_after_gates(step.graph))
    ]
    decision = decide_merge(deciding, step.facts.spec.gate.on_flaky if step.facts.spec.gate else "Allow")
    if decision.reason is Reason.TESTS_PENDING:
        step.wait(cell.index, Reason.WAITING_FOR_NEEDS, decision.message)
        return
    verdict = Verdict.PASSED if decision.allowed else Verdict.FAILED
    step.settle(cell.index, verdict, decision.reason, decision.message)


def _not_after_gates(graph: Graph) -> list[str]:
    """What a gate decides over that names no needs: all tasks but those that a gate comes before."""
    after = {task.name for task in graph.tasks if task.uses == "gate"}
    needs = {task.name: task.needs for task in graph.tasks}
    for name in graph.order:
        if not after.isdisjoint(needs[name]):
            after.add(name)
    return [task.name for task in graph.tasks if task.name not in after and graph.shape.is_main(task.name)]


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
    state = step.states[cell.index]
    if state.started_at is None:  # from now on status says it, whatever becomes of the entries of what it needs
        state = step.states[cell.index] = replace(state, started_at=_turn_came_at(step, cell))
    due = (state.started_at or step.now) + inputs.timeout
    if step.now < due:
        asked = f"{inputs.message}; " if inputs.message else ""
        step.wait(cell.index, Reason.WAITING_FOR_APPROVAL, f"{asked}approve or reject until {format_time(due)}")
        step.look_at(due)
    else:
        step.settle(cell.index, Verdict.FAILED, Reason.NOT_APPROVED, f"nobody approved until {format_time(due)}")


def _turn_came_at(step: Step, cell: Cell) -> datetime:
    """When the last of what it waits for ended."""
    needed = [name for name, bit in step.graph.needs.bits.items() if step.graph.needs.before(cell.task.name) & bit]
    ends = [ended for index in step.graph.cells_of(needed) if (ended := step.states[index].ended_at) is not None]
    return max(ends, default=step.facts.started_at or step.now)


# Runs that are started


def _start_runs(step: Step, cell: Cell, inputs: RunTests | StartWorkflow) -> None:
    state = step.states[cell.index]
    try:
        if not state.running:
            _check_limits(step)
        wanted = _wanted_runs(step, cell, inputs)
    except _CannotStart as error:
        _give_up(step, cell, error.reason, str(error))
        return
    if not state.running:
        step.states[cell.index] = progress.begun(state, step.now)
    if step.facts.spec.concurrency is not None and "startTime" not in (step.facts.written or {}):
        step.record_first()  # that the run is in: nobody of its group may start meanwhile, not even across a restart
        return
    step.act(StartRuns(cell.index, wanted))


def _follow_runs(step: Step, cell: Cell) -> None:
    children = step.facts.children.get(cell.index)
    if children is None:
        return  # they are being listed
    if not _waits(step, cell):
        _end(step, cell, Verdict.PASSED, Reason.STEP_DONE, f"started {_named(children)}", children)
        return
    open_ones = [child for child in children if child.verdict is None and not child.gone]
    if open_ones:
        message = f"waits for {_named(open_ones)}"
        step.states[cell.index] = replace(step.states[cell.index], message=message)
        return
    verdicts = dict.fromkeys(_started(step, cell)) | {child.name: child.verdict for child in children}
    bad = [(name, verdict) for name, verdict in verdicts.items() if verdict not in GREEN]
    if not bad and verdicts:
        message = f"{len(children)} runs passed: {_named(children)}"
        _end(step, cell, _worst_run(verdicts.values()), Reason.STEP_DONE, message, children)
        return
    told = f"{bad[0][0]} is {bad[0][1] or 'gone'}" if bad else "all its runs are gone"
    more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
    _end(step, cell, _worst_run(verdicts.values()), Reason.RUNS_FAILED, told + more, children)


def _waits(step: Step, cell: Cell) -> bool:
    """Whether the step ends only with its runs."""
    try:
        inputs = _read(step, cell)
    except InvalidSpec:  # what it was told is not known any more
        return True
    return not (isinstance(inputs, StartWorkflow) and not inputs.wait)


def _started(step: Step, cell: Cell) -> list[str]:
    """The names of all runs that were started, also of those that somebody has deleted since."""
    return [name for name in (step.facts.outputs or {}).get(cell.index, {}).get("runs", "").split(",") if name]


def _worst_run(verdicts: Iterable[Verdict | None]) -> Verdict:
    """The worst of the runs. One that is gone is no pass, nor is one in which nothing ran, whatever the others are."""
    known = [verdict or Verdict.INFRA_ERROR for verdict in verdicts] or [Verdict.INFRA_ERROR]
    found = worst(known)
    return Verdict.SKIPPED if found in GREEN and Verdict.SKIPPED in known else found


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


def _check_limits(step: Step) -> None:
    facts = step.facts
    if facts.depth >= DEEPEST:
        raise _CannotStart(Reason.TOO_DEEP, f"{facts.depth} runs stand above this one, which is the most there may be")
    if facts.of_root >= MOST_OF_A_ROOT:
        raise _CannotStart(
            Reason.TOO_DEEP, f"{facts.of_root} unfinished runs go back to the same one, which is the most there may be"
        )


def _wanted_runs(step: Step, cell: Cell, inputs: RunTests | StartWorkflow) -> tuple[WantedRun, ...]:
    facts = step.facts
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
