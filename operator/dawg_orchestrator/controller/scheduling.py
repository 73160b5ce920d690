"""One look at a Schedule: its runs as they are, a plan, runs started, then status."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import assert_never

import structlog

from dawg_orchestrator.cluster import carry_out, scheduled
from dawg_orchestrator.cluster.client import SCHEDULES, Cluster
from dawg_orchestrator.controller import metrics
from dawg_orchestrator.controller.forecasts import Forecasts
from dawg_orchestrator.controller.timetable import Schedule, ScheduleKey, Timetable, scheduled_run
from dawg_orchestrator.controller.untested import UntestedCommits
from dawg_orchestrator.controller.workqueue import Key, WorkQueue
from dawg_orchestrator.errors import ClusterError, Conflict, NotFound
from dawg_orchestrator.planning.changes import differing
from dawg_orchestrator.planning.schedule import ForgetRun, SchedulePlan, StartRun, StopRun, plan_schedule
from dawg_orchestrator.planning.untested import wants_commits

log = structlog.get_logger()

LetGo = Callable[[str, str, str], None]  # told of a run (namespace, name, uid) whose time to live is over


class Scheduling:
    """Brings Schedules to where their plans say they should be."""

    def __init__(
        self,
        cluster: Cluster,
        timetable: Timetable,
        forecasts: Forecasts,
        untested: UntestedCommits,
        term: int,
        queue: WorkQueue,
        clock: Callable[[], datetime],
        let_go: LetGo,
    ) -> None:
        self._cluster, self._timetable, self._forecasts, self._term = cluster, timetable, forecasts, term
        self._untested, self._queue, self._clock, self._let_go = untested, queue, clock, let_go

    async def look(self, key: ScheduleKey) -> None:
        """Start what is due, and write what became of it."""
        schedule = self._timetable.schedules.get(key)
        if schedule is None:
            return
        await self._find_runs(schedule)
        now = self._clock()
        branch = self._untested.look_of(schedule, now)
        pool = self._untested.pool_of(schedule)
        choose = self._untested.chooser(schedule, branch) or self._forecasts.for_schedule(schedule)
        plan = plan_schedule(schedule.facts(self._term, None, branch, pool), now, choose)
        patience = self._untested.answer_comes_until(schedule, branch, now)
        if patience is not None and _starts_by_itself(plan):
            self._queue.add(Key("Schedule", *key), patience)
            return
        try:
            await self._carry_out(schedule, plan)
        except scheduled.RunRefused as refused:
            plan = plan_schedule(schedule.facts(self._term, str(refused), branch, pool), now, choose)
            await self._carry_out(schedule, plan)
        await self._report(schedule, plan)
        if plan.check_again_at is not None:
            self._queue.add(Key("Schedule", *key), plan.check_again_at)

    async def _find_runs(self, schedule: Schedule) -> None:
        started = schedule.started
        unknown = any(run.verdict is None and run.commit is None for run in started.by_uid.values())
        if unknown and wants_commits(schedule.spec):
            started.listed = False  # by now the run under way may know its commit
        if started.listed:
            return
        started.listed = True  # at once: what ends while they are listed asks for another list
        try:
            found = await scheduled.runs_of(self._cluster, schedule.namespace, schedule.name, schedule.uid)
        except ClusterError:
            started.listed = False
            raise
        started.by_uid = {run.uid: run for run in map(scheduled_run, found)}

    async def _carry_out(self, schedule: Schedule, plan: SchedulePlan) -> None:
        where = schedule.namespace
        for action in plan.actions:
            match action:
                case StartRun():
                    about = (schedule.name, schedule.uid)
                    made = await scheduled.start_run(self._cluster, where, about, schedule.template, action)
                    run = scheduled_run(made)
                    schedule.started.by_uid[run.uid] = run
                    if action.start is not None:
                        delay = (self._clock() - action.start).total_seconds()
                        metrics.SCHEDULE_DELAY.labels(where).observe(max(0.0, delay))
                    log.info("run started", namespace=where, schedule=schedule.name, run=run.name)
                case StopRun(name, _):
                    await scheduled.stop_run(self._cluster, where, name)
                case ForgetRun(name, uid):
                    await scheduled.forget_run(self._cluster, where, name)
                    self._let_go(where, name, uid)
                    schedule.started.by_uid.pop(uid, None)
                case _:
                    assert_never(action)

    async def _report(self, schedule: Schedule, plan: SchedulePlan) -> None:
        if not differing(schedule.status, plan.status):
            return
        try:
            written = await carry_out.write_status(
                self._cluster, SCHEDULES, schedule.namespace, schedule.name, schedule.version, plan.status
            )
        except Conflict:  # somebody changed it meanwhile: the next look is made of what they wrote
            self._timetable.see(await self._cluster.get(SCHEDULES, schedule.namespace, schedule.name))
        except NotFound:
            self._timetable.drop(schedule.namespace, schedule.name)
        else:
            schedule.status, schedule.version = plan.status, int(written["resourceVersion"])


def _starts_by_itself(plan: SchedulePlan) -> bool:
    return any(isinstance(action, StartRun) and action.due is not None for action in plan.actions)
