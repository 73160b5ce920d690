"""The built-in steps that the controller carries out itself: whose turn it is, and what it does then.

Like all of planning: decided anew at every look, from facts alone.
"""

from __future__ import annotations

from dataclasses import replace

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning import progress, starting
from dawg_orchestrator.planning.approving import ask_for_approval
from dawg_orchestrator.planning.gating import decide_gate
from dawg_orchestrator.planning.graph import Cell
from dawg_orchestrator.planning.needs import did_not_pass, why_it_cannot
from dawg_orchestrator.planning.plan import StopRuns
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.ready import why_run_waits
from dawg_orchestrator.planning.step import Step
from dawg_orchestrator.planning.told import step_inputs
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.steps import STEPS, Approve, Gate, Inputs, RunTests, StartWorkflow
from dawg_orchestrator.resources.verdict import Verdict


def take_up_runs(step: Step) -> None:
    """Runs that a step has started are the proof that it has begun, where status does not say so yet."""
    for index, children in step.facts.children.items():
        state = step.states[index]
        if children and not state.running and not state.done and starting.starts_runs(step.graph.cells[index]):
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
        inputs = step_inputs(step, cell)
        if STEPS[cell.task.uses or ""].by == "controller":
            step.begin()
            _carry_out(step, cell, inputs)
    except InvalidSpec as error:
        _give_up(step, cell, Reason.INVALID_SPEC, str(error))
    except starting.CannotStart as error:
        _give_up(step, cell, error.reason, str(error))


def _carry_out(step: Step, cell: Cell, inputs: Inputs) -> None:
    match inputs:
        case RunTests() | StartWorkflow():
            starting.start_runs(step, cell, inputs)
        case Approve():
            ask_for_approval(step, cell, inputs)
        case Gate():
            decide_gate(step, cell, inputs)


def _go_on(step: Step, cell: Cell, state: TaskState) -> None:
    """A step that has started runs, or is about to. To end it must need nothing that may be lost meanwhile."""
    undermined = _why_undermined(step, cell)
    if state.stopping is not None:
        step.act(StopRuns(cell.index))
    elif undermined:
        _give_up(step, cell, Reason.NEED_NOT_PASSED, undermined)
    elif state.reason is Reason.WAITING_FOR_RUNS:
        starting.follow_runs(step, cell)
    else:
        _begin(step, cell)


def _why_undermined(step: Step, cell: Cell) -> str:
    """Why a step that has begun must end all the same; empty when it need not.

    What it needs had passed when a former leader began it, but that was lost with the leader and with the agent, and
    the next attempt did not pass.
    """
    if cell.task.when is not None:
        return ""
    needed = step.graph.cells_of(cell.task.needs)
    bad = next((index for index in needed if did_not_pass(step.states[index])), None)
    return "" if bad is None else why_it_cannot(step, bad)


def _give_up(step: Step, cell: Cell, reason: Reason, message: str) -> None:
    """The step cannot do what it is asked for. Some of its runs may be there already: they are ended first."""
    state = step.states[cell.index]
    if state.running:
        step.states[cell.index] = replace(state, message=message)
        step.stop(cell.index, reason)
        step.act(StopRuns(cell.index))
    else:
        step.settle(cell.index, Verdict.INFRA_ERROR if reason.infrastructure else Verdict.FAILED, reason, message)
