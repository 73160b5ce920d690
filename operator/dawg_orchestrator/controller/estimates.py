"""A run's place in the queue and an honest estimate: from measured durations, and none before there is history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dawg_orchestrator.controller.desk import Desk, PoolKey
from dawg_orchestrator.controller.records import Run
from dawg_orchestrator.learning.durations import duration_key
from dawg_orchestrator.planning.order import QueuedTask, estimate_wait, order

_LINE_STANDS = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class _Line:
    """A pool's queue as it stood at a time, and the position of each run's first task in it."""

    at: datetime
    waiting: list[QueuedTask]
    positions: dict[str, int]
    work_ahead: list[tuple[float, float]]  # seconds (p50, p90) of the tasks before a position

    @property
    def known(self) -> int:
        """The last position for which all work ahead is known."""
        return len(self.work_ahead) - 1


class Estimates:
    """What history taught about durations; empty until the api has answered."""

    def __init__(self) -> None:
        self._durations: dict[str, tuple[float, float]] = {}
        self._lines: dict[PoolKey, _Line] = {}

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
        line = self._line(desk, key, pool.spec.aging, now)
        position = line.positions.get(run.uid, len(line.waiting))
        place: dict[str, Any] = {"position": position + 1}
        slots = sum(a.slots for a in desk.table.agents.values() if (a.namespace, a.pool) == key and a.connected)
        if self._durations and position <= line.known:
            running = [self._typical()] * desk.running_in(key)
            estimate = estimate_wait([line.work_ahead[position]], running, slots)
            if estimate is not None:
                place["etaSeconds"] = {"p50": estimate[0], "p90": estimate[1]}
        return place

    def _line(self, desk: Desk, key: PoolKey, aging: timedelta, now: datetime) -> _Line:
        """The pool's queue in its order; put in order at most once a second, however many runs ask for their place."""
        line = self._lines.get(key)
        if line is None or not timedelta() <= now - line.at < _LINE_STANDS:
            waiting = order(desk.queue_of(key), aging, now)
            positions: dict[str, int] = {}
            for position, task in enumerate(waiting):
                positions.setdefault(task.run_uid, position)
            line = self._lines[key] = _Line(now, waiting, positions, self._work_ahead(desk, waiting))
        return line

    def _work_ahead(self, desk: Desk, waiting: list[QueuedTask]) -> list[tuple[float, float]]:
        """The sum of what is ahead of each position, for as long as every duration on the way there is known."""
        sums = [(0.0, 0.0)]
        for task in waiting if self._durations else ():
            duration = self._duration(desk, task)
            if duration is None:
                break
            sums.append((sums[-1][0] + duration[0], sums[-1][1] + duration[1]))
        return sums

    def _duration(self, desk: Desk, task: QueuedTask) -> tuple[float, float] | None:
        run = desk.runs.get(task.run_uid)
        if run is None or run.graph is None:
            return None
        declared = run.graph.cells[task.index].task
        return self._durations.get(duration_key(run.namespace, declared.name, declared.image))

    def _typical(self) -> tuple[float, float]:
        known = sorted(self._durations.values())
        return known[len(known) // 2]
