"""Which tasks of a run want a slot now, and why each other one waits."""

from __future__ import annotations

import itertools

from dawg_orchestrator.planning import progress
from dawg_orchestrator.planning.facts import JobFact
from dawg_orchestrator.planning.graph import Cell
from dawg_orchestrator.planning.lease import SILENCE
from dawg_orchestrator.planning.order import QueuedTask
from dawg_orchestrator.planning.plan import CancelRun
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.planning.report import Waiting, retry_message
from dawg_orchestrator.planning.step import Step
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import Concurrency


def find_ready(step: Step) -> tuple[list[QueuedTask], dict[int, Waiting]]:
    """The tasks that want a slot now, in the order of the run, and why each other unfinished one waits."""
    ready: list[QueuedTask] = []
    waiting: dict[int, Waiting] = {}
    blocked = why_run_waits(step)
    unresolved = _is_unresolved(step)
    resolving = unresolved and any(
        state.running and cell.task.uses is None for cell, state in zip(step.graph.cells, step.states, strict=True)
    )
    ended = step.tasks_where(lambda state: state.done)
    resolvers: set[str] = set()  # pools with a task in the queue that may find out which commit it is
    for index, state in enumerate(step.states):
        cell = step.graph.cells[index]
        if state.running and _may_be_adopted(step, index, state):
            ready.append(_queued(step, cell, adopt=True))
        if index in step.facts.awaited:
            step.look_at(max(step.facts.serving_since + SILENCE, step.now + SILENCE / 3))
        if state.running or state.done:
            continue
        why = blocked or _why_task_waits(step, cell, state, ended)
        name = step.pool_of(cell)
        if why is None and step.is_own(cell):
            waiting[index] = Waiting(*step.waits.get(index, (Reason.STARTING, "")))
            continue
        checks_out = unresolved and cell.task.uses is None
        if why is None and checks_out and (resolving or name in resolvers):
            why = Waiting(Reason.RESOLVING_REVISION, Reason.RESOLVING_REVISION.sentence)
        pool = step.facts.pools.get(name)
        if why is None and pool is not None:
            if checks_out:  # one task of each pool may be first, lest a pool that stands still holds up the others
                resolvers.add(name)
            why = Waiting(pool.reason, pool.message)
            ready.append(_queued(step, cell, adopt=False))
        if why is not None:
            waiting[index] = why
    return ready, waiting


def _may_be_adopted(step: Step, index: int, state: TaskState) -> bool:
    """Its Job is under way, and whoever watched it is gone for good."""
    held = index in step.facts.leased or index in step.facts.awaited
    job: JobFact | None = step.facts.jobs.get(index)
    return not held and job is not None and job.attempt == state.attempt and state.stopping is None


def why_run_waits(step: Step) -> Waiting | None:
    """Why none of the run's tasks may start: others of its concurrency group are first."""
    concurrency = step.facts.spec.concurrency
    if concurrency is None or step.facts.started_at is not None:
        return None
    if step.facts.unread:
        message = f"which group run {step.facts.unread[0]} belongs to is not known yet"
        return Waiting(Reason.WAITING_FOR_GROUP, message)
    mine = (step.facts.created, step.facts.uid)
    if concurrency.policy == "CancelInProgress":
        _cancel_older(step, concurrency, mine)
    admitted = [run for run in step.facts.group if run.admitted]
    first = [run for run in step.facts.group if not run.admitted and (run.created, run.uid) < mine]
    if len(admitted) + len(first) < concurrency.max:
        return None
    names = ", ".join(run.name for run in [*admitted, *first][:3])
    message = f"group {concurrency.group!r} admits {concurrency.max}; first: {names}"
    return Waiting(Reason.WAITING_FOR_GROUP, message)


def _cancel_older(step: Step, concurrency: Concurrency, mine: tuple[object, str]) -> None:
    """As many older runs as are too many, the oldest first. Of the same second is older who is under way already."""
    under_way = [run for run in step.facts.group if run.admitted and run.created <= step.facts.created]
    before = [run for run in step.facts.group if run not in under_way and (run.created, run.uid) < mine]
    older = sorted([*under_way, *before], key=lambda run: (run.created, run.uid))
    for run in older[: max(0, len(older) + 1 - concurrency.max)]:
        step.act(CancelRun(run.name, run.uid))


def _why_task_waits(step: Step, cell: Cell, state: TaskState, ended: int) -> Waiting | None:
    needs = step.graph.needs
    if (before := needs.before(cell.task.name)) & ~ended:
        wanted = cell.task.needs if cell.task.name not in needs.stages else needs.bits
        first = itertools.islice((name for name in wanted if needs.bits[name] & before & ~ended), 5)
        return Waiting(Reason.WAITING_FOR_NEEDS, f"{', '.join(first)} must end first")
    if step.is_own(cell):
        return None
    pool = step.pool_of(cell)
    if step.facts.pools.get(pool) is None:
        message = f"namespace {step.facts.namespace} has no AgentPool {pool!r}; create it or name another"
        return Waiting(Reason.POOL_NOT_FOUND, message)
    due = progress.retry_at(state, cell.task.retry.backoff, f"{step.facts.uid}{cell.key}")
    if due is not None and step.now < due:
        step.look_at(due)
        return Waiting(Reason.RETRY_BACKOFF, retry_message(state, due))
    if cell.task.exclusive and _leftovers(step, cell.index):
        return Waiting(Reason.RETRY_BACKOFF, "the Job of an earlier attempt must be gone first; the task is exclusive")
    return None


def _leftovers(step: Step, index: int) -> bool:
    """Whether a Job of an attempt that is over still stands, and with it perhaps its pod."""
    return index in step.facts.jobs or any(job.index == index for job in step.facts.older_jobs)


def _is_unresolved(step: Step) -> bool:
    """Whether some task must still find out which commit the revision names."""
    source = step.facts.spec.source
    return source is not None and source.git is not None and step.facts.commit is None


def _queued(step: Step, cell: Cell, *, adopt: bool) -> QueuedTask:
    return QueuedTask(
        namespace=step.facts.namespace, run=step.facts.name, run_uid=step.facts.uid, index=cell.index,
        pool=step.pool_of(cell), priority=cell.task.priority or step.facts.spec.priority,
        since=step.facts.created, adopt=adopt, recommended=step.facts.recommended,
    )  # fmt: skip
