"""What agents say, and what that changes at the desk. An agent acts only on its own leases, in its own pool."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dawg_orchestrator.controller.records import Run
from dawg_orchestrator.planning import progress
from dawg_orchestrator.planning.graph import pool_of
from dawg_orchestrator.planning.lease import Agent, is_current
from dawg_orchestrator.planning.progress import TaskState
from dawg_orchestrator.resources.protocol import (
    Acceptance,
    Alive,
    AttemptRef,
    Cancel,
    Drained,
    Finished,
    FromAgent,
    FromController,
    Hello,
    LeaseId,
    Progress,
    Published,
    Report,
    Sighting,
    Welcome,
)
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.testrun import FULL_COMMIT_PATTERN

if TYPE_CHECKING:
    from dawg_orchestrator.controller.desk import Desk, Peer


_BEGUN_IS_TOLD_AFTER = timedelta(seconds=0.2)


def hear_hello(desk: Desk, peer: Peer, hello: Hello, now: datetime) -> list[FromController]:
    """An agent opens its session: take over what it holds, look at what it has finished."""
    table = desk.table
    table.agents[peer.uid] = agent = Agent(
        peer.uid, peer.pod, peer.namespace, peer.pool, hello.slots, now, draining=hello.draining
    )
    revoked = [held.lease for held in hello.holding if not _keeps(desk, agent, held.lease, held.attempt, now)]
    answers: list[FromController] = [Welcome(term=desk.term, revoked=revoked)]
    for finished in hello.finished:
        answers += _hear_end(desk, agent, finished, now)
    said = {(held.attempt.run_uid, held.attempt.index) for held in hello.holding}
    for lease in table.of_agent(peer.uid):
        if lease.task not in said and lease.told:  # granted, but never arrived: free it for somebody else
            table.end(lease.task)
            desk.wake_task(lease)
        if lease.task not in said:
            continue
        stopping = desk.runs[lease.attempt.run_uid].states[lease.attempt.index].stopping
        if stopping is not None:  # said while the agent could not hear it
            answers.append(Cancel(lease=lease.id, reason=stopping))
    desk.wake_claimed(peer)
    desk.standing.session_changed(agent)
    desk.wake_pool((peer.namespace, peer.pool))
    return answers


def hear(desk: Desk, uid: str, message: FromAgent, now: datetime) -> list[FromController]:
    """Any later word of an agent; answers to send back at once."""
    agent = desk.table.agents.get(uid)
    if agent is None:
        return []
    agent.heard_at = now
    if isinstance(message, Alive):
        return _hear_alive(desk, agent, message)
    if isinstance(message, Report):
        finished = Finished(lease=message.lease, attempt=message.attempt, result=message.result)
        return _hear_end(desk, agent, finished, now)
    if isinstance(message, Progress):
        _hear_progress(desk, agent, message, now)
    elif isinstance(message, Sighting):
        desk.standing.hear(agent, message)
    elif isinstance(message, Published):
        desk.gates.hear(agent.uid, message, now)
    elif isinstance(message, Drained):
        agent.drained = agent.draining
        desk.wake_pool((agent.namespace, agent.pool))
    return []


def _hear_alive(desk: Desk, agent: Agent, message: Alive) -> list[FromController]:
    """Take note of its slots; revoke what it works on under a lease that has ended."""
    if message.slots is not None and message.slots != agent.slots:
        agent.slots = message.slots
        desk.wake_pool((agent.namespace, agent.pool))
    held = {lease.id for lease in desk.table.of_agent(agent.uid)}
    ended = [lease for lease in message.holding or () if lease not in held]
    return [Cancel(lease=lease, reason=Reason.CANCELLED, revoked=True) for lease in ended]


def _hear_end(desk: Desk, agent: Agent, finished: Finished, now: datetime) -> list[FromController]:
    attempt, lease = finished.attempt, finished.lease
    run = _run_of(desk, agent, attempt)
    if run is None:
        return [Acceptance(lease=lease, outcome="refused", reason="the run is finished or gone")]
    _take_up(desk, run, agent, lease, attempt, now)
    state = run.states[attempt.index]
    if state.attempt != attempt.attempt:
        return [Acceptance(lease=lease, outcome="refused", reason="another attempt has taken its place")]
    if state.running and not is_current(desk.table, lease, attempt, agent.uid):
        return [Acceptance(lease=lease, outcome="refused", reason="the lease has ended")]
    if not state.running and not _was_last(desk, run, attempt.index, lease):
        return [Acceptance(lease=lease, outcome="refused", reason="the attempt has ended another way")]
    run.awaiting[agent.uid, lease] = None  # said twice: accepted as soon as the first is on status
    if state.running:
        run.ended_by[attempt.index] = lease
        desk.conclude(run, finished, now)
    desk.wake_run(run)
    return []


def _was_last(desk: Desk, run: Run, index: int, lease: LeaseId) -> bool:
    """Whether this lease's report ended the attempt; of what former leaders accepted we only have the outcome."""
    known = run.ended_by.get(index)
    return lease == known if known is not None else lease.term < desk.term


def _hear_progress(desk: Desk, agent: Agent, message: Progress, now: datetime) -> None:
    run = _run_of(desk, agent, message.attempt)
    if run is None or not is_current(desk.table, message.lease, message.attempt, agent.uid):
        return
    state = run.states[message.attempt.index]
    if not state.running or state.attempt != message.attempt.attempt:
        return
    commit = run.commit
    take_commit(run, message.commit)
    started_at = _by_our_clock(message.started_at, state, now) if message.started_at else state.started_at
    changed = replace(state, reason=message.reason, message=message.message[:1000], started_at=started_at)
    desk.set_state(run, message.attempt.index, changed)
    # That a test has begun decides nothing: most tests of milliseconds have ended before anybody need know it.
    only_begun = message.reason is Reason.RUNNING and run.commit == commit
    desk.wake_run(run, now + _BEGUN_IS_TOLD_AFTER if only_begun else None)


def _by_our_clock(started_at: datetime, state: TaskState, now: datetime) -> datetime:
    """When a test began, by the clock that its time-out is measured with.

    A node's may be wrong by any amount: no test began before it was granted, and none begins later than we hear of it.
    """
    earliest = state.granted_at or state.started_at or started_at
    return min(max(started_at, earliest), now)


def take_commit(run: Run, commit: str | None) -> None:
    """The first full commit that any of its tasks found is the run's."""
    if commit and run.commit is None and re.fullmatch(FULL_COMMIT_PATTERN, commit):
        run.commit = commit


def _take_up(desk: Desk, run: Run, agent: Agent, lease: LeaseId, attempt: AttemptRef, now: datetime) -> None:
    """A former leader granted this to a slot and could not write it any more: the attempt is under way after all."""
    assert run.graph is not None  # noqa: S101
    cell, state = run.graph.cells[attempt.index], run.states[attempt.index]
    pool = desk.pools.get((run.namespace, pool_of(run.spec, cell.task)))
    if pool is None or pool.spec.executor == "Job" or lease.term >= desk.term:
        return
    if not (state.running or state.done) and attempt.attempt == state.attempt + 1:
        desk.set_state(run, attempt.index, progress.started(state, agent.pod, None, now))
        run.started_at = run.started_at or now


def _keeps(desk: Desk, agent: Agent, lease: LeaseId, attempt: AttemptRef, now: datetime) -> bool:
    run = _run_of(desk, agent, attempt)
    if run is None or run.graph is None:
        return False
    _take_up(desk, run, agent, lease, attempt, now)
    state = run.states[attempt.index]
    exclusive = run.graph.cells[attempt.index].task.exclusive
    if not state.running or state.attempt != attempt.attempt:
        return False
    if not desk.table.adopt(lease, attempt, agent.uid, exclusive=exclusive):
        return False
    _name_agent(desk, run, attempt.index, state, agent)
    desk.wake_run(run)
    return True


def _name_agent(desk: Desk, run: Run, index: int, state: TaskState, agent: Agent) -> None:
    if state.agent != agent.pod:
        desk.set_state(run, index, replace(state, agent=agent.pod))


def _run_of(desk: Desk, agent: Agent, attempt: AttemptRef) -> Run | None:
    """The unfinished run an agent speaks of, if the task is one of its own pool's."""
    run = desk.runs.get(attempt.run_uid)
    if run is None or run.graph is None or not 0 <= attempt.index < len(run.states):
        return None
    pool = pool_of(run.spec, run.graph.cells[attempt.index].task)
    return run if (run.namespace, pool) == (agent.namespace, agent.pool) else None
