"""Which queued task goes to which agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from dawg_orchestrator.planning.order import QueuedTask, order
from dawg_orchestrator.resources.agentpool import AgentPoolSpec


@dataclass(frozen=True, slots=True)
class Assignment:
    """A queued task for an agent."""

    task: QueuedTask
    agent_uid: str


def plan_dispatch(
    spec: AgentPoolSpec, queued: Iterable[QueuedTask], free: Mapping[str, int], now: datetime
) -> tuple[Assignment, ...]:
    """Give free slots to the queue in its order, the emptiest agent first; adoptions also in a paused pool."""
    slots = {uid: count for uid, count in free.items() if count > 0}
    room = sum(slots.values())
    if not room:
        return ()
    assignments = []
    startable = (task for task in queued if task.adopt or not spec.paused)
    for task in order(startable, spec.aging, now, most=room):
        uid = max(slots, key=lambda candidate: (slots[candidate], candidate))
        slots[uid] -= 1
        assignments.append(Assignment(task, uid))
    return tuple(assignments)
