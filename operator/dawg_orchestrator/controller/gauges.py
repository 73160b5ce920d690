"""The gauges, read off the desk at each scrape: never stale, and pools that are gone go."""

from __future__ import annotations

from dawg_orchestrator.controller import metrics
from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.controller.workqueue import WorkQueue


class Gauges:
    """Nothing to tell before this process leads."""

    def __init__(self) -> None:
        self._desk: Desk | None = None
        self._queue: WorkQueue | None = None

    def lead(self, desk: Desk, queue: WorkQueue) -> None:
        """From now on there is something to tell."""
        self._desk, self._queue = desk, queue

    def measure(self) -> None:
        """Bring all gauges up to date."""
        if self._desk is None or self._queue is None:
            return
        metrics.RUNS_LIVE.set(len(self._desk.runs))
        metrics.WORK_QUEUE.set(len(self._queue))
        for gauge in (metrics.QUEUE_DEPTH, metrics.AGENTS, metrics.UTILIZATION):
            gauge.clear()
        for key in self._desk.pools:
            waiting = self._desk.queue_of(key)
            for priority in ("critical", "high", "medium", "low"):
                metrics.QUEUE_DEPTH.labels(*key, priority).set(sum(task.priority == priority for task in waiting))
            for state, count in self._desk.agent_states(key).items():
                metrics.AGENTS.labels(*key, state).set(count)
            metrics.UTILIZATION.labels(*key).set(self._desk.utilization(key))
