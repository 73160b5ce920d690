"""The six figures of ``dawg metrics``: from history, from pools' statuses and from the live queue."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from dawg_orchestrator.api.queue import LiveRun
from dawg_orchestrator.resources.agentpool import AgentPoolSpec, AgentPoolStatus
from dawg_orchestrator.store.runs import Figures


def summary(
    history: Figures,
    runs: Iterable[LiveRun],
    pools: Mapping[tuple[str, str], dict[str, Any]],
    namespaces: Collection[str],
) -> dict[str, Any]:
    """Rates are from 0 to 1; None means that nothing has happened yet from which to tell.

    ``successRate`` is Passed and Flaky over all finished tasks that ran; skipped and cancelled ones did not.
    """
    agents, busy, slots = 0, 0, 0
    for (namespace, _), pool in pools.items():
        if namespace in namespaces:
            ready, pool_busy, pool_slots = _load(pool)
            agents, busy, slots = agents + ready, busy + pool_busy, slots + pool_slots
    return {
        "totalTasks": history.tasks_ran,
        "successRate": round(history.tasks_green / history.tasks_ran, 4) if history.tasks_ran else None,
        "averageDurationSeconds": round(history.tasks_seconds / history.tasks_timed, 3)
        if history.tasks_timed
        else None,
        "activeAgents": agents,
        "queuedTasks": sum(len(run.waiting) for run in runs if run.namespace in namespaces),
        "agentUtilization": round(min(1.0, busy / slots), 4) if slots else 0.0,
    }


def _load(pool: dict[str, Any]) -> tuple[int, int, int]:
    """(ready agents, busy slots, all slots of ready agents) of a pool; nothing for one that cannot be read."""
    try:
        spec = AgentPoolSpec.model_validate(pool.get("spec") or {})
        status = AgentPoolStatus.model_validate(pool.get("status") or {})
    except ValidationError:
        return 0, 0, 0
    return status.ready_agents, status.busy_slots, status.ready_agents * spec.slots
