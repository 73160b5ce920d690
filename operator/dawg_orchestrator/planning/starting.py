"""The built-in steps ``run-tests`` and ``start-workflow``: the runs that they start, and how they end with them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.planning import progress
from dawg_orchestrator.planning.facts import ChildRun, WorkflowFact
from dawg_orchestrator.planning.graph import Cell
from dawg_orchestrator.planning.plaintext import plain
from dawg_orchestrator.planning.plan import StartRuns, WantedRun
from dawg_orchestrator.planning.report import total
from dawg_orchestrator.planning.step import Step
from dawg_orchestrator.planning.told import step_inputs
from dawg_orchestrator.planning.verdict import worst
from dawg_orchestrator.resources import names
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import FailedCase
from dawg_orchestrator.resources.steps import RECOMMENDED_PARAMETER, Inputs, RunTests, StartWorkflow, step_of
from dawg_orchestrator.resources.testrun import MAX_PARAMETER, MAX_TOP_FAILURES
from dawg_orchestrator.resources.verdict import GREEN, Verdict

DEEPEST = 4  # runs above a run that a step starts
MOST_OF_A_ROOT = 200  # unfinished runs that go back to the same one
MOST_AT_ONCE = 50  # runs that one step starts
_PRIORITIES = ("critical", "high", "medium", "low")


class CannotStart(Exception):
    """Why a step may start no runs."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def starts_runs(cell: Cell) -> bool:
    """Whether the task is one of these steps."""
    what = step_of(cell.task)
    return what is not None and what.inputs in (RunTests, StartWorkflow)


def start_runs(step: Step, cell: Cell, inputs: RunTests | StartWorkflow) -> None:
    """Ask for the runs; CannotStart when there may be none."""
    state = step.states[cell.index]
    if not state.running:
        _check_limits(step)
    wanted = _wanted_runs(step, cell, inputs)
    if not state.running:
        step.states[cell.index] = progress.begun(state, step.now)
    if step.facts.spec.concurrency is not None and "startTime" not in (step.facts.written or {}):
        step.record_first()  # that the run is in: nobody of its group may start meanwhile, not even across a restart
        return
    step.act(StartRuns(cell.index, wanted))


def follow_runs(step: Step, cell: Cell) -> None:
    """End the step with its runs, or say which it waits for."""
    children = step.facts.children.get(cell.index)
    if children is None:
        return  # they are being listed
    if not _waits(step, cell):
        _end(step, cell, Verdict.PASSED, Reason.STEP_DONE, f"started {_named(children)}", children)
        return
    open_ones = [child for child in children if child.verdict is None and not child.gone]
    not_there = _not_there(step, cell)
    if open_ones:
        message = f"waits for {_named(open_ones)}{not_there}"
        step.states[cell.index] = replace(step.states[cell.index], message=message)
        return
    verdicts = dict.fromkeys(_started(step, cell)) | {child.name: child.verdict for child in children}
    bad = [(name, verdict) for name, verdict in verdicts.items() if verdict not in GREEN]
    if not bad and verdicts:
        message = f"{len(children)} runs passed: {_named(children)}{not_there}"
        _end(step, cell, _worst_run(verdicts.values()), Reason.STEP_DONE, message, children)
        return
    told = f"{bad[0][0]} is {bad[0][1] or 'gone'}" if bad else "all its runs are gone"
    more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
    _end(step, cell, _worst_run(verdicts.values()), Reason.RUNS_FAILED, told + more, children)


def _waits(step: Step, cell: Cell) -> bool:
    """Whether the step ends only with its runs."""
    inputs = _known_inputs(step, cell)
    return not (isinstance(inputs, StartWorkflow) and not inputs.wait)


def _known_inputs(step: Step, cell: Cell) -> Inputs | None:
    """What the step was told; None when that is not known any more."""
    try:
        return step_inputs(step, cell)
    except InvalidSpec:
        return None


def _not_there(step: Step, cell: Cell) -> str:
    """A word about what should come first, and is not among what was started."""
    inputs = _known_inputs(step, cell)
    if not isinstance(inputs, RunTests) or not inputs.first:
        return ""
    children = {child.name for child in step.facts.children.get(cell.index, ())}
    unknown = [name for name in inputs.first if _name_of_run(step, cell, name) not in children]
    if not unknown:
        return ""
    more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
    told = ", ".join(plain(name[:63]) for name in unknown[:3])
    return f"; with.first names what is not started here: {told}{more}"


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


def _check_limits(step: Step) -> None:
    facts = step.facts
    if facts.depth >= DEEPEST:
        raise CannotStart(Reason.TOO_DEEP, f"{facts.depth} runs stand above this one, which is the most there may be")
    if facts.of_root >= MOST_OF_A_ROOT:
        raise CannotStart(
            Reason.TOO_DEEP, f"{facts.of_root} unfinished runs go back to the same one, which is the most there may be"
        )


def _wanted_runs(step: Step, cell: Cell, inputs: RunTests | StartWorkflow) -> tuple[WantedRun, ...]:
    facts = step.facts
    found = _found_workflows(facts.workflows, inputs)
    if len(found) > MOST_AT_ONCE:
        raise CannotStart(Reason.INVALID_SPEC, f"with: {len(found)} Workflows match, {MOST_AT_ONCE} may be started")
    priority = max(inputs.priority or facts.spec.priority, facts.spec.priority, key=_PRIORITIES.index)
    first = list(dict.fromkeys(inputs.first)) if isinstance(inputs, RunTests) else []
    return tuple(
        WantedRun(
            name=_name_of_run(step, cell, workflow), workflow=workflow,
            parameters=_parameters(inputs, facts.workflows[workflow]), priority=priority,
            recommended=first.index(workflow) + 1 if workflow in first else 0,
        )
        for workflow in sorted(found, key=lambda name: first.index(name) if name in first else len(first))
    )  # fmt: skip


def _name_of_run(step: Step, cell: Cell, workflow: str) -> str:
    return names.started_name(step.facts.name, step.facts.uid, cell.key, workflow)


def _parameters(inputs: RunTests | StartWorkflow, workflow: WorkflowFact) -> dict[str, str]:
    """As the step says, with the tests to run first as a JSON array for a Workflow that wants to know them."""
    given = dict(inputs.parameters)
    if not isinstance(inputs, RunTests) or not inputs.recommended or not workflow.takes_recommended:
        return given
    files = [path for path in inputs.recommended if path.isprintable()]  # others cannot be passed on as they are
    while len(text := json.dumps(files, ensure_ascii=False, separators=(",", ":"))) > MAX_PARAMETER:
        files.pop()
    return {RECOMMENDED_PARAMETER: text, **given}


def _found_workflows(workflows: Mapping[str, WorkflowFact], inputs: RunTests | StartWorkflow) -> list[str]:
    named = [inputs.workflow] if isinstance(inputs, StartWorkflow) else list(inputs.workflows)
    for name in named:
        if name not in workflows:
            raise CannotStart(Reason.WORKFLOW_NOT_FOUND, f"the namespace has no Workflow {name!r}")
    if isinstance(inputs, RunTests):
        for suite in inputs.suites:
            matching = sorted(name for name, workflow in workflows.items() if workflow.suite == suite)
            if not matching:
                told = f"no Workflow carries the label {names.SUITE}={suite}"
                raise CannotStart(Reason.WORKFLOW_NOT_FOUND, told)
            named += matching
    return list(dict.fromkeys(named))
