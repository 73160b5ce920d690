"""From the desk to facts: all that decides about one run or one pool, at one time."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from dawg_orchestrator.controller import records
from dawg_orchestrator.controller.backlog import PoolKey
from dawg_orchestrator.controller.records import Run
from dawg_orchestrator.planning.agentpool import PoolFacts, waiting_reason
from dawg_orchestrator.planning.facts import GroupRun, PoolFact, RunFacts
from dawg_orchestrator.planning.lease import SILENCE
from dawg_orchestrator.planning.risk import Risk, handed_down

if TYPE_CHECKING:
    from dawg_orchestrator.controller.desk import Desk


def run_facts(desk: Desk, run: Run, now: datetime) -> RunFacts:
    """All that decides about a run."""
    pools = {pool: _pool_fact(desk, (run.namespace, pool)) for pool in records.pools_of(run)}
    missing = [pool for pool, fact in pools.items() if fact is None]
    leased = desk.table.of_run(run.uid, range(len(run.states)))
    awaited = _awaited(desk, run, leased, now)
    return RunFacts(
        namespace=run.namespace, name=run.name, uid=run.uid, generation=run.generation, created=run.created,
        term=desk.term, spec=run.spec, graph=run.graph, invalid=run.invalid, states=run.states, jobs=run.jobs,
        leased=leased, pools=pools, serving_since=desk.serving_since,
        older_jobs=tuple(run.older_jobs.values()), awaited=awaited,
        unreachable=_unreachable(desk, run, leased, awaited, now),
        pools_missing_since={p: desk.missing_since.setdefault((run.namespace, p), now) for p in missing},
        group=_group_of(desk, run), unread=desk.unread_beside(run), superseded=run.superseded,
        started_at=run.started_at, commit=run.commit,
        written=run.status, base_counts=run.base_counts, base_failures=run.base_failures, outputs=run.outputs,
        workflow=run.workflow, workflow_revision=run.revision, rerun_of=run.rerun_of, approvals=run.approvals,
        depth=run.depth, of_root=desk.of_root[run.root], inherited_risk=_inherited_risk(desk, run),
        recommended=run.recommended, override=run.override, **_of_steps(desk, run),
    )  # fmt: skip


def _inherited_risk(desk: Desk, run: Run) -> Risk | None:
    """What the run has found out whose step has started this one."""
    parent = desk.runs.get(run.parent) if run.parent is not None and run.of_step else None
    if parent is None or parent.namespace != run.namespace or not parent.risk:
        return None
    return handed_down(parent.risk, parent.name)


def _of_steps(desk: Desk, run: Run) -> dict[str, Any]:
    """What only runs with built-in steps need to know."""
    if run.graph is None or not run.graph.has_steps:
        return {}
    indexes = [cell.index for cell in run.graph.cells if cell.task.uses is not None]
    return {"workflows": desk.library.facts_in(run.namespace), "children": desk.family.of(run.uid, indexes)}


def _awaited(desk: Desk, run: Run, leased: frozenset[int], now: datetime) -> frozenset[int]:
    """Running tasks that nobody holds yet, but whose agent, says status, has not spoken since we lead.

    It may come back for as long as silence takes; an exclusive task waits until its agent's pod is gone.
    """
    heard_all = now - desk.serving_since >= SILENCE
    cells = run.graph.cells if run.graph is not None else ()
    awaited = set()
    for cell, state in zip(cells, run.states, strict=False):
        if not state.running or not state.agent or cell.index in leased or (heard_all and not cell.task.exclusive):
            continue
        pod = desk.roster.pod_named(run.namespace, state.agent)
        if pod is not None and pod.uid not in desk.table.agents:
            awaited.add(cell.index)
    return frozenset(awaited)


def _unreachable(
    desk: Desk, run: Run, leased: frozenset[int], awaited: frozenset[int], now: datetime
) -> frozenset[int]:
    """Exclusive tasks whose agent has been silent for so long that others would have lost their lease."""
    silent = {lease.attempt.index for lease in desk.table.unreachable_of(run.uid, leased, now, desk.serving_since)}
    return frozenset(silent | awaited) if now - desk.serving_since >= SILENCE else frozenset(silent)


def _pool_fact(desk: Desk, key: PoolKey) -> PoolFact | None:
    pool = desk.pools.get(key)
    if pool is None:
        return None
    agents, running, waiting = list(desk.roster.of_pool(key)), desk.running_in(key), desk.backlog.waiting(key)
    reason, message = waiting_reason(pool.spec, agents, running, waiting)
    return PoolFact(pool.spec, reason, f"pool {pool.name}: {message}")


def _group_of(desk: Desk, run: Run) -> tuple[GroupRun, ...]:
    if run.group is None:
        return ()
    others = [desk.runs[uid] for uid in desk.groups[run.group] if uid != run.uid and uid in desk.runs]
    found = [GroupRun(other.name, other.uid, other.created, other.started_at is not None) for other in others]
    return tuple(sorted(found, key=lambda other: (other.created, other.uid)))


def pool_facts(desk: Desk, key: PoolKey, template_hash: str) -> PoolFacts:
    """All that decides about a pool."""
    pool = desk.pools[key]
    return PoolFacts(
        namespace=pool.namespace, name=pool.name, generation=pool.generation, term=desk.term, spec=pool.spec,
        template_hash=template_hash, deployments=tuple(desk.deployments[key].values()),
        agents=tuple(desk.roster.of_pool(key)), queued=desk.backlog.waiting(key), running=desk.backlog.running(key),
        oldest_queued=desk.backlog.oldest(key), written=pool.status, quiet_since=pool.quiet_since,
        serving_since=desk.serving_since, refused=pool.refused,
    )  # fmt: skip
