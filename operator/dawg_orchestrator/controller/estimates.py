"""A run's place in the queue and an honest estimate: from measured durations, and none before there is history."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.controller.records import Run
from dawg_orchestrator.learning.durations import duration_key
from dawg_orchestrator.planning.order import QueuedTask, estimate_wait, order


class Estimates:
    """What history taught about durations; empty until the api has answered."""

    def __init__(self) -> None:
        self._durations: dict[str, tuple[float, float]] = {}

    def learn(self, durations: dict[str, tuple[float, float]]) -> None:
        """Take over the newest durations: seconds as (p50, p90) by task name and image."""
        self._durations = durations

    def place(self, desk: Desk, run: Run, now: datetime) -> dict[str, Any]:
        """Position (from 1) of the run's first waiting task in its pool's queue, with an estimate if there is one."""
        if not run.ready:
            return {}
        key = (run.namespace, run.ready[0].pool)
        pool = desk.pools.get(key)
        if pool is None:
            return {}
        waiting = order(desk.queue_of(key), pool.spec.aging, now)
        position = next((i for i, task in enumerate(waiting) if task.run_uid == run.uid), 0)
        place: dict[str, Any] = {"position": position + 1}
        ahead = [self._duration(desk, task) for task in waiting[:position]]
        known = [duration for duration in ahead if duration is not None]
        slots = sum(a.slots for a in desk.table.agents.values() if (a.namespace, a.pool) == key and a.connected)
        if len(known) == len(ahead) and self._durations:
            running = [self._typical()] * desk.running_in(key)
            estimate = estimate_wait(known, running, slots)
            if estimate is not None:
                place["etaSeconds"] = {"p50": estimate[0], "p90": estimate[1]}
        return place

    def _duration(self, desk: Desk, task: QueuedTask) -> tuple[float, float] | None:
        run = desk.runs.get(task.run_uid)
        if run is None or run.graph is None:
            return None
        declared = run.graph.cells[task.index].task
        return self._durations.get(duration_key(run.namespace, declared.name, declared.image))

    def _typical(self) -> tuple[float, float]:
        known = sorted(self._durations.values())
        return known[len(known) // 2]
