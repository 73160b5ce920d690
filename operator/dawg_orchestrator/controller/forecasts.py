"""What history says of pools to come, as smart Schedules ask it. No I/O, as all of the desk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from dawg_orchestrator.cluster.scheduled import label
from dawg_orchestrator.controller.backlog import PoolKey
from dawg_orchestrator.controller.library import Library
from dawg_orchestrator.controller.records import Pool
from dawg_orchestrator.controller.timetable import Schedule, Timetable
from dawg_orchestrator.learning.timing import NO_HISTORY, Expected, Forecast, Span, choose_start, load_key, taken_by
from dawg_orchestrator.planning.graph import pool_of
from dawg_orchestrator.planning.window import Choice, Choose, Window, unlearnt
from dawg_orchestrator.planning.workflow import merged
from dawg_orchestrator.resources.model import parse_time
from dawg_orchestrator.resources.protocol import PoolLoad
from dawg_orchestrator.resources.steps import needs_agent


class Forecasts:
    """The loads that the api has learnt; None until it has answered."""

    def __init__(self, timetable: Timetable, pools: Mapping[PoolKey, Pool], library: Library) -> None:
        self._timetable, self._pools, self._library = timetable, pools, library
        self._loads: Mapping[str, PoolLoad] | None = None

    def learn(self, loads: Mapping[str, PoolLoad]) -> None:
        """Take over the newest loads; smart Schedules look at what that changes."""
        if loads != self._loads:
            self._loads = loads
            self._timetable.wake_smart()

    def for_schedule(self, schedule: Schedule) -> Choose:
        """By which its starts are chosen."""
        smart = schedule.spec.smart
        if smart is None or self._loads is None:
            return unlearnt
        pool = self._pool_of(schedule)
        load, found = self._loads.get(load_key(*pool)), self._pools.get(pool)
        if found is None:
            return _at_once(f"pool {pool[1]} does not exist: it starts at its due time")
        if load is None:
            return _at_once(NO_HISTORY)
        forecast = Forecast(
            load, found.spec.max_agents * found.spec.slots, self._steady(schedule.namespace),
            self._expected(schedule, pool, load),
        )  # fmt: skip
        duration, objective = timedelta(seconds=taken_by(load, label(schedule.name)).seconds), smart.objective

        def choose(window: Window) -> Choice:
            announced = window.announced.start if window.announced is not None else None
            span = Span(window.due, window.opens, window.closes, announced)
            return Choice(*choose_start(forecast, objective, duration, span))

        return choose

    def _steady(self, namespace: str) -> set[str]:
        """The Schedules whose runs come as they came before: at their due times."""
        found = (one for (where, _), one in self._timetable.schedules.items() if where == namespace)
        return {label(one.name) for one in found if one.spec.smart is None and not one.spec.suspend}

    def _expected(self, schedule: Schedule, pool: PoolKey, load: PoolLoad) -> Iterator[Expected]:
        """The next runs of the other smart Schedules that use the same pool."""
        for other in self._timetable.schedules.values():
            start = other.status.get("predictedStart")
            if other.uid == schedule.uid or other.spec.smart is None or not start:
                continue
            if self._pool_of(other) == pool:
                yield Expected(parse_time(start), taken_by(load, label(other.name)))

    def _pool_of(self, schedule: Schedule) -> PoolKey:
        """Where the first of its tasks goes that an agent carries out: that is the one that waits first."""
        run = schedule.spec.run_template.spec
        named = run.workflow_ref.name if run.workflow_ref is not None else ""
        workflow = self._library.workflows.get((schedule.namespace, named))
        tasks = run.tasks or []
        if workflow is not None and workflow.spec is not None:
            run, tasks = merged(run, workflow.spec), workflow.spec.tasks
        first = next((task for task in tasks if needs_agent(task)), None)
        return schedule.namespace, pool_of(run, first) if first is not None else run.pool


def _at_once(reason: str) -> Choose:
    return lambda window: Choice(window.opens, reason)
