"""What ends tasks of a run without an agent's report, and every stop that has to be asked for."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from dawg_orchestrator.planning import builtin, needs, progress
from dawg_orchestrator.planning.graph import Cell
from dawg_orchestrator.planning.lease import SILENCE
from dawg_orchestrator.planning.plan import DeleteJob, StopAttempt
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.step import Step
from dawg_orchestrator.planning.verdict import judge_lost, judge_stop
from dawg_orchestrator.resources.agentpool import AgentPoolSpec, WarmSpec
from dawg_orchestrator.resources.model import format_duration
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import TaskResult
from dawg_orchestrator.resources.task import Task
from dawg_orchestrator.resources.testrun import Source
from dawg_orchestrator.resources.verdict import GREEN, Verdict

STOP_GRACE = timedelta(seconds=90)  # how long a stopped attempt may take to report before it is settled without
POOL_GRACE = timedelta(minutes=5)  # how long a run waits for a pool that does not exist
JOB_GRACE = timedelta(seconds=10)  # how long a granted attempt may be without a Job before the Job counts as lost


def settle(step: Step) -> None:
    """All that is due, in this order; at last the Jobs that nobody needs any more."""
    builtin.take_up_runs(step)
    _mark_unreachable(step)
    _settle_lost_attempts(step)
    if step.facts.spec.cancelled:
        _end_all(step, Reason.CANCELLED, "the run was cancelled")
    elif step.facts.superseded:
        _end_all(step, Reason.SUPERSEDED, "a newer run of its concurrency group took over")
    _settle_group_skip(step)
    _settle_run_timeout(step)
    _settle_task_timeouts(step)
    _settle_missing_pools(step)
    _settle_unfit_pools(step)
    before: list[TaskState] = []
    while before != step.states:  # a task that fails here may fail the run fast, and what that skips may skip others
        before = list(step.states)
        needs.settle_needs(step)
        builtin.decide_steps(step)
        _settle_fail_fast(step)
        _settle_stopped(step)
    _drop_needless_jobs(step)


def why_unfit(cell: Cell, source: Source | None, pool: AgentPoolSpec, name: str) -> tuple[Reason, str] | None:
    """Why this pool can never run this task; None when it can."""
    if (pool.executor == "Builtin") != (cell.task.uses is not None):
        able = "built-in steps only" if pool.executor == "Builtin" else "no built-in steps; name a pool that does"
        return Reason.INVALID_SPEC, f"tasks[{cell.task.name}].pool: pool {name!r} runs {able}"
    if source is not None and source.untrusted and pool.trust != "untrusted" and pool.executor != "Builtin":
        told = "the source is a stranger's; name a pool whose trust is untrusted"
        return Reason.INVALID_SPEC, f"tasks[{cell.task.name}].pool: pool {name!r} is trusted, and {told}"
    if pool.trust == "untrusted" and cell.task.secrets:
        field = f"tasks[{cell.task.name}].secrets"
        return Reason.INVALID_SPEC, f"{field}: pool {name!r} is untrusted, its tasks get no Secrets"
    return _why_unfit_for_slots(cell.task, source, pool, name) if pool.executor == "Process" else None


def _why_unfit_for_slots(
    task: Task, source: Source | None, pool: AgentPoolSpec, name: str
) -> tuple[Reason, str] | None:
    """A slot's containers stand before the task comes: what they are made of is the pool's to say."""
    theirs = {
        "image": (task.image, "jobTemplate.image"),
        "resources": (task.resources, "jobTemplate.resources"),
        "scheduling": (task.scheduling, "template.scheduling"),
        "services": (task.services, "warm.services"),
        "secrets": (task.secrets, "warm.secrets"),
    }
    for field, (value, place) in theirs.items():
        if value:
            message = f"pool {name!r} has executor Process; set spec.{place} of the pool, or name a pool of Jobs"
            return Reason.INVALID_SPEC, f"tasks[{task.name}].{field}: {message}"
    if task.on_failure is not None and task.on_failure.hold is not None:
        message = f"pool {name!r} has executor Process and no pod to keep; name a pool of Jobs"
        return Reason.INVALID_SPEC, f"tasks[{task.name}].onFailure.hold: {message}"
    git = source.git if source is not None else None
    wanted = git.credentials_secret_ref.name if git is not None and git.credentials_secret_ref is not None else None
    if wanted is not None and wanted not in {secret.name for secret in (pool.warm or WarmSpec()).git_secrets}:
        message = f"the agents of pool {name!r} do not hold Secret {wanted!r}; add it to spec.warm.gitSecrets there"
        return Reason.INVALID_SPEC, f"source.git.credentialsSecretRef: {message}"
    return None


def _end_all(step: Step, reason: Reason, message: str) -> None:
    verdict = Verdict.SKIPPED if reason is Reason.CONCURRENCY_SKIP else Verdict.CANCELLED
    for index, state in enumerate(step.states):
        if step.goes_on(index):
            continue
        if state.running:
            step.stop(index, reason)
        elif not state.done:
            step.settle(index, verdict, reason, message)


def _mark_unreachable(step: Step) -> None:
    """An exclusive task whose agent is silent says so, and no longer once the agent has answered."""
    for index, state in enumerate(step.states):
        if not state.running:
            continue
        marked = state.reason is Reason.AGENT_UNREACHABLE
        if index in step.facts.unreachable and not marked:
            message = f"agent {state.agent} is silent; the task waits until it answers or its pod is deleted"
            step.states[index] = replace(state, reason=Reason.AGENT_UNREACHABLE, message=message)
        elif marked and index not in step.facts.unreachable:
            reason = Reason.RUNNING if state.started_at else Reason.STARTING
            step.states[index] = replace(state, reason=reason, message="")


def _settle_lost_attempts(step: Step) -> None:
    """A running attempt that no agent holds, and without a Job that another could take up: nobody will report it."""
    facts = step.facts
    for index, state in enumerate(step.states):
        job = facts.jobs.get(index)
        if not state.running or index in facts.leased or (job is not None and job.attempt == state.attempt):
            continue
        if step.is_own(step.graph.cells[index]):
            continue
        due = _lost_at(step, index, state)
        if step.now < due:
            step.look_at(due)
            continue
        agent = state.agent if state.job is None else None
        judgement = judge_lost(state.stopping, started=state.started_at is not None, agent=agent)
        step.states[index] = progress.concluded(state, step.graph.cells[index], judgement, TaskResult(), step.now)


def _lost_at(step: Step, index: int, state: TaskState) -> datetime:
    """From when on it counts as lost: what ran in an agent's own pod with its lease, a Job may not be known yet."""
    facts = step.facts
    heard_all = facts.serving_since + SILENCE
    if index in facts.awaited:
        return max(heard_all, step.now + JOB_GRACE)
    if state.job is None:
        return step.now
    return max((state.granted_at or facts.serving_since) + JOB_GRACE, heard_all)


def _settle_group_skip(step: Step) -> None:
    concurrency = step.facts.spec.concurrency
    if concurrency is None or step.facts.started_at is not None or concurrency.policy != "Skip":
        return
    others = [run for run in step.facts.group if run.admitted]
    if len(others) >= concurrency.max:
        message = f"run {others[0].name} of group {concurrency.group!r} is under way"
        _end_all(step, Reason.CONCURRENCY_SKIP, message)


def _settle_run_timeout(step: Step) -> None:
    if step.facts.started_at is None:
        return
    due = step.facts.started_at + step.facts.spec.timeout
    if step.now < due:
        step.look_at(due)
        return
    message = f"the run's timeout of {format_duration(step.facts.spec.timeout)} ended before the task could"
    last = due + step.facts.spec.timeout  # what comes at the end has as long once more
    for index, state in enumerate(step.states):
        if step.goes_on(index) and step.now < last:
            if not state.done:
                step.look_at(last)
        elif state.running:
            step.stop(index, Reason.RUN_TIMEOUT)
        elif not state.done:
            step.settle(index, Verdict.TIMED_OUT, Reason.RUN_TIMEOUT, message)


def _settle_task_timeouts(step: Step) -> None:
    for index, state in enumerate(step.states):
        if not state.running or state.started_at is None or state.stopping is not None:
            continue
        due = state.started_at + step.timeout_of(step.graph.cells[index])
        if step.now >= due:
            step.stop(index, Reason.TIMEOUT)
        else:
            step.look_at(due)


def _settle_missing_pools(step: Step) -> None:
    """A pool may come late or be replaced; after a while its tasks end, and nobody watches those that run in it."""
    facts = step.facts
    missing_since = facts.pools_missing_since or {}
    for index, state in enumerate(step.states):
        name = step.pool_of(step.graph.cells[index])
        if step.is_own(step.graph.cells[index]):
            continue
        if state.done or index in facts.leased or facts.pools.get(name) is not None:
            continue
        due = max(facts.created, missing_since.get(name, facts.created)) + POOL_GRACE
        message = f"namespace {facts.namespace} has no AgentPool {name!r}; create it or name another"
        if step.now < due:
            step.look_at(due)
        elif state.running:
            step.states[index] = replace(state, message=message)
            step.stop(index, Reason.POOL_NOT_FOUND)
        else:
            step.settle(index, Verdict.INFRA_ERROR, Reason.POOL_NOT_FOUND, message)


def _settle_unfit_pools(step: Step) -> None:
    """A pool that can never run a task says so at once."""
    for index, state in enumerate(step.states):
        cell = step.graph.cells[index]
        if state.done or state.running or step.is_own(cell):
            continue
        pool = step.facts.pools.get(step.pool_of(cell))
        source = step.facts.spec.source
        unfit = why_unfit(cell, source, pool.spec, step.pool_of(cell)) if pool is not None else None
        if unfit is not None:
            step.settle(index, Verdict.FAILED, *unfit)


def _settle_fail_fast(step: Step) -> None:
    if not step.facts.spec.fail_fast:
        return
    red = (Verdict.FAILED, Verdict.TIMED_OUT, Verdict.INFRA_ERROR)
    main = [step.graph.shape.is_main(cell.task.name) for cell in step.graph.cells]
    failed = next((index for index, state in enumerate(step.states) if main[index] and state.verdict in red), None)
    if failed is None:
        return
    message = f"{step.graph.cells[failed].key} failed and failFast is set"
    for index, state in enumerate(step.states):
        if not main[index]:
            continue
        if state.running:
            step.stop(index, Reason.FAIL_FAST)
        elif not state.done:
            step.settle(index, Verdict.CANCELLED if state.attempt else Verdict.SKIPPED, Reason.FAIL_FAST, message)


def _settle_stopped(step: Step) -> None:
    """A stopped attempt whose agent is gone or silent gets its verdict without a report."""
    for index, state in enumerate(step.states):
        if not state.running or state.stopping is None or state.stopped_at is None:
            continue
        job = step.facts.jobs.get(index)
        nobody = index not in step.facts.leased and job is None and not _has_open_runs(step, index)
        due = state.stopped_at + STOP_GRACE
        if not nobody and step.is_own(step.graph.cells[index]):
            continue  # its runs are cancelled and will end; until then it has not ended either
        if not nobody and step.now < due:
            step.look_at(due)
            if job is not None and not job.deleting and job.attempt == state.attempt:
                step.act(StopAttempt(index, state.stopping))  # its Job came to be after the first one
            continue
        waited = state.reason if state.reason is not None and state.reason.infrastructure else None
        started = state.started_at is not None
        judgement = judge_stop(state.stopping, started=started, waited=waited, message=state.message)
        step.settle(index, judgement.verdict, judgement.reason, judgement.message)


def _has_open_runs(step: Step, index: int) -> bool:
    """Whether a run that the step has started goes on, or may: it is not known yet."""
    if not step.is_own(step.graph.cells[index]):
        return False
    children = step.facts.children.get(index)
    return children is None or any(child.verdict is None and not child.gone for child in children)


def _drop_needless_jobs(step: Step) -> None:
    """Jobs of passed tasks whose log is stored go at once; failed ones stay for people until the run goes.

    A Job of an attempt that is over, or of a task that ended without its test's end, must not go on running.
    """
    for job in step.facts.older_jobs:
        if not job.deleting:
            step.act(DeleteJob(job.name, job.uid))
    for index, job in step.facts.jobs.items():
        if index >= len(step.states) or job.deleting or index in step.facts.leased:
            continue
        state = step.states[index]
        if job.attempt == state.attempt and (state.running or _is_worth_keeping(state)):
            continue
        if not any(isinstance(action, StopAttempt) and action.index == index for action in step.actions):
            step.act(DeleteJob(job.name, job.uid))


def _is_worth_keeping(state: TaskState) -> bool:
    """A test that ran to its end: for people if it failed, for its log if that is not stored yet."""
    return state.done and state.exit_code is not None and (state.verdict not in GREEN or not state.log_stored)
