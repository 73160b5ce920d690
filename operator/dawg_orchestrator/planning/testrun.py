"""What happens to a TestRun next: pure, from the facts and a time.

The order is: settle what has ended (cancel, time-outs, group, failFast, needs), see what may start, report. Results
are applied before (progress.concluded), so this never waits for anything: it says when to look again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from dawg_orchestrator.planning.facts import RunFacts
from dawg_orchestrator.planning.order import QueuedTask
from dawg_orchestrator.planning.plan import DeleteJob, RunAction, RunPlan, StartRuns
from dawg_orchestrator.planning.ready import find_ready
from dawg_orchestrator.planning.report import ReportFacts, Waiting
from dawg_orchestrator.planning.risk import Risk, read_risk
from dawg_orchestrator.planning.settle import settle
from dawg_orchestrator.planning.step import Step
from dawg_orchestrator.planning.verdict import worst
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.verdict import GREEN, Verdict

WORKFLOW_GRACE = timedelta(minutes=5)  # how long a run waits for a Workflow that does not exist


def plan_testrun(facts: RunFacts, now: datetime) -> RunPlan:
    """The plan for a run that has no verdict on its status yet."""
    if facts.graph is None and facts.invalid is None:
        return _plan_without_content(facts, now)
    if facts.graph is None:
        return _plan_invalid(facts, now)
    step = Step(facts, facts.graph, now)
    settle(step)
    _leave_out_needless_starts(step)
    ready: list[QueuedTask] = []
    waiting: dict[int, Waiting] = {}
    if not step.all_done:
        ready, waiting = find_ready(step)
    return RunPlan(
        tuple(step.states), _report_facts(step, waiting), now, tuple(ready), tuple(step.actions), step.next_look,
        step.all_done, begun=step.begun, record_first=step.recorded_first, outputs=step.outputs,
    )  # fmt: skip


def _leave_out_needless_starts(step: Step) -> None:
    """What stops a step may be decided after what it would start."""
    step.actions = [
        action for action in step.actions
        if not (isinstance(action, StartRuns) and step.states[action.index].stopping is not None)
    ]  # fmt: skip


def _plan_without_content(facts: RunFacts, now: datetime) -> RunPlan:
    """Its Workflow is not there (yet); after a while the run ends."""
    due = facts.created + WORKFLOW_GRACE
    workflow = facts.spec.workflow_ref.name if facts.spec.workflow_ref is not None else ""
    message = f"namespace {facts.namespace} has no Workflow {workflow!r}; create it or name another"
    over: tuple[Verdict, Reason, str] | None = None
    if facts.spec.cancelled:
        over = Verdict.CANCELLED, Reason.CANCELLED, "the run was cancelled"
    elif now >= due:
        over = Verdict.INFRA_ERROR, Reason.WORKFLOW_NOT_FOUND, message
    report = ReportFacts(
        term=facts.term, generation=facts.generation, created=facts.created, cells=(), states=(),
        priority=facts.spec.priority, written=facts.written or {}, verdict=over[0] if over else None,
        why=over[1:] if over else (Reason.WORKFLOW_NOT_FOUND, message), started_at=facts.started_at,
        rerun_of=facts.rerun_of, gate=facts.gate, risk=_risk_without_tasks(facts), override=facts.override,
    )  # fmt: skip
    return RunPlan((), report, now, finished=over is not None, check_again_at=due)


def _plan_invalid(facts: RunFacts, now: datetime) -> RunPlan:
    reason, message = facts.invalid or (Reason.INVALID_SPEC, "")
    frozen = (facts.written or {}).get("workflowRevision")
    report = ReportFacts(
        term=facts.term, generation=facts.generation, created=facts.created, cells=(), states=(),
        priority=facts.spec.priority, written=facts.written or {},
        verdict=Verdict.INFRA_ERROR if reason.infrastructure else Verdict.FAILED,
        why=(reason, message), started_at=facts.started_at, rerun_of=facts.rerun_of,
        workflow_revision=frozen if isinstance(frozen, str) else None, gate=facts.gate,
        risk=_risk_without_tasks(facts), override=facts.override,
    )  # fmt: skip
    jobs = [*facts.jobs.values(), *facts.older_jobs]  # of a time when it could be carried out; nobody reads them now
    actions: list[RunAction] = [DeleteJob(job.name, job.uid) for job in jobs if not job.deleting]
    return RunPlan((), report, now, actions=tuple(actions), finished=True)


def _report_facts(step: Step, waiting: Mapping[int, Waiting]) -> ReportFacts:
    """What the status is made of."""
    facts = step.facts
    return ReportFacts(
        term=facts.term, generation=facts.generation, created=facts.created, cells=step.graph.cells,
        states=tuple(step.states), priority=facts.spec.priority, written=facts.written or {},
        verdict=_verdict(step), why=None, started_at=facts.started_at or (step.now if step.begun else None),
        commit=facts.commit, waiting=waiting, base_counts=facts.base_counts, base_failures=facts.base_failures,
        outputs={**(facts.outputs or {}), **step.outputs},
        on_flaky=facts.spec.gate.on_flaky if facts.spec.gate else "Allow", workflow_revision=facts.workflow_revision,
        rerun_of=facts.rerun_of, gate=facts.gate, risk=step.risk, override=facts.override,
    )  # fmt: skip


def _risk_without_tasks(facts: RunFacts) -> Risk | None:
    return read_risk(facts.written or {}) or facts.inherited_risk


def _verdict(step: Step) -> Verdict | None:
    """The worst over all tasks, once they have ended. What only clears away at the end is no test that has passed."""
    if not step.all_done:
        return None
    found = worst(state.verdict for state in step.states if state.verdict is not None)
    main = [
        state for cell, state in zip(step.graph.cells, step.states, strict=True)
        if step.graph.shape.is_main(cell.task.name)
    ]  # fmt: skip
    nothing_ran = found in GREEN and all(state.verdict is Verdict.SKIPPED for state in main)
    return Verdict.SKIPPED if nothing_ran else found
